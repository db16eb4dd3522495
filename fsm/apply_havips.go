package fsm

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// checkName is rule R1.
func checkName(name string) (string, *Refusal) {
	name = strings.TrimSpace(name)
	switch {
	case name == "":
		return "", Refuse(CodeMissing, "a HAVIP needs a name")
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return "", Refuse(CodeMalformed, "%q has control characters or is not UTF-8; use plain text", name)
	case utf8.RuneCountInString(name) > MaxNameRunes:
		return "", Refuse(CodeTooLong, "the name has %d characters, at most %d", utf8.RuneCountInString(name), MaxNameRunes)
	case strings.HasPrefix(name, "havip-"):
		return "", Refuse(CodeMalformed, "%q looks like an id; choose a name that does not start with havip-", name)
	}
	return name, nil
}

func (s *State) createHAVIP(c Command, b CreateHAVIP) (string, *Refusal) {
	name, refusal := checkName(b.Name)
	if refusal != nil {
		return "", refusal
	}
	if len(s.HAVIPs) >= MaxHAVIPs {
		return "", Refuse(CodeLimit, "the cluster has %d HAVIPs, at most %d", len(s.HAVIPs), MaxHAVIPs)
	}
	sub, refusal := s.subnetFor(b)
	if refusal != nil {
		return "", refusal
	}
	v := HAVIP{
		ID: s.newID("havip-"), Name: name, Subnet: sub.Name, VPC: sub.VPC,
		Created: c.At, Since: c.At, Reason: "new",
	}
	if _, taken := s.HAVIPs[v.ID]; taken && s.Level() >= 4 {
		v.ID = s.otherID("havip-", v.ID, func(id string) bool { _, taken := s.HAVIPs[id]; return taken })
	}
	if _, taken := s.HAVIPs[v.ID]; taken {
		return "", Refuse(CodeDuplicate, "the id %s is taken; try again", v.ID)
	}
	if refusal := s.quotaLeft(sub.VPC); refusal != nil {
		return "", refusal
	}
	if b.IP.IsValid() {
		if refusal := s.addressFree(sub, b.IP, c.At, b.ReuseNow); refusal != nil {
			return "", refusal
		}
		v.IP = b.IP
	} else if v.IP, refusal = s.chooseAddress(&sub, c.At, b.ReuseNow); refusal != nil {
		return "", refusal
	}
	s.Subnets[sub.Name] = sub
	if refusal := s.setHAVIP(&v, UpdateHAVIP{Range: &b.Range}); refusal != nil {
		return "", refusal
	}
	if refusal := s.setSpec(&v, b.Spec); refusal != nil {
		return "", refusal
	}
	if b.EIP.IsValid() {
		if refusal := s.setEIP(&v, b.EIP); refusal != nil {
			return "", refusal
		}
	}
	v.Free = b.Force
	delete(s.Quarantine, Quarantined{VPC: v.VPC, IP: v.IP}.key())
	s.guard(&v)
	s.HAVIPs[v.ID] = v
	s.batch.created(v)
	s.note(c, "havip-created", v.Name, "", fmt.Sprintf("HAVIP %s (%s) was created in subnet %s", v.Name, v.IP, v.Subnet))
	s.noteWarnings(c, v)
	return v.ID, nil
}

// subnetFor is rules R3, R4 and R6: the subnet that was named, else the one that holds
// the address.
func (s *State) subnetFor(b CreateHAVIP) (Subnet, *Refusal) {
	if b.Subnet != "" {
		sub, ok := s.Subnets[b.Subnet]
		switch {
		case !ok:
			return sub, Refuse(CodeSubnetNotExist, "no subnet is called %q; `subnet list` shows those there are", b.Subnet)
		case b.VPC != "" && b.VPC != sub.VPC:
			return sub, Refuse(CodeParameter, "subnet %s belongs to %s, not %s", sub.Name, sub.VPC, b.VPC)
		case b.IP.IsValid() && !sub.CIDR.Contains(b.IP):
			return sub, Refuse(CodeRange, "%s is not in subnet %s (%s)", b.IP, sub.Name, sub.CIDR)
		}
		return sub, nil
	}
	if !b.IP.IsValid() {
		return Subnet{}, Refuse(CodeMissing, "say which address (--ip) or which subnet (--subnet)")
	}
	for _, sub := range s.SubnetList() {
		if sub.CIDR.Contains(b.IP) && (b.VPC == "" || b.VPC == sub.VPC) {
			return sub, nil
		}
	}
	if untold := s.Untold(); len(untold) > 0 && b.VPC == "" {
		return Subnet{}, Refuse(CodeRange, "no subnet that is known holds %s, and node %s has not told of its networks yet; is its agent running? `subnet create` makes one by hand", b.IP, strings.Join(untold, ", "))
	}
	if b.VPC != "" {
		return Subnet{}, Refuse(CodeRange, "no subnet of %s holds %s; `subnet list` shows those there are, `subnet create` makes one", clip(b.VPC, MaxReason/2), b.IP)
	}
	return Subnet{}, Refuse(CodeRange, "no subnet holds %s; `subnet list` shows those there are, `subnet create` makes one", b.IP)
}

func (s *State) updateHAVIP(c Command, b UpdateHAVIP) (string, *Refusal) {
	v, refusal := s.living(b.ID)
	if refusal != nil {
		return "", refusal
	}
	if refusal := s.setHAVIP(&v, b); refusal != nil {
		return "", refusal
	}
	s.HAVIPs[v.ID] = v
	s.note(c, "havip-changed", v.Name, "", fmt.Sprintf("HAVIP %s was changed", v.Name))
	if v.Disabled && v.Owner != nil {
		return v.ID, s.assign(c, Assignment{HAVIP: v.ID, FromEpoch: v.Epoch, Reason: "the HAVIP was disabled"})
	}
	if b.Range != nil {
		return v.ID, s.ownerInRange(c, v, b.Evict)
	}
	return v.ID, nil
}

// setHAVIP checks and sets what is not nil.
func (s *State) setHAVIP(v *HAVIP, b UpdateHAVIP) *Refusal {
	if b.Name != nil {
		name, refusal := checkName(*b.Name)
		if refusal != nil {
			return refusal
		}
		v.Name = name
	}
	if b.Range != nil {
		r, refusal := s.checkRange(*v, *b.Range)
		if refusal != nil {
			return refusal
		}
		v.Range = r
	}
	if b.Bans != nil {
		if refusal := s.checkBans(v.Bans, *b.Bans); refusal != nil {
			return refusal
		}
		*v = v.withBans(slices.Compact(slices.Sorted(slices.Values(*b.Bans))))
	}
	if b.Change != (Change{}) {
		if refusal := s.setSpec(v, v.Spec.With(b.Change)); refusal != nil {
			return refusal
		}
	}
	if b.Force {
		v.Free, v.GaveUp = true, nil // so that who gave it up tries again
	}
	return nil
}

// setSpec checks the settings and gives a HAVIP these.
func (s *State) setSpec(v *HAVIP, spec Spec) *Refusal {
	spec = spec.Clean()
	if refusal := s.checkSettings(v.Name, v.Spec, spec); refusal != nil {
		return refusal
	}
	if refusal := s.checkProbe(v, spec); refusal != nil {
		return refusal
	}
	if v.Disabled && !spec.Disabled {
		v.Free = false // somebody may have taken the address meanwhile
	}
	v.Spec = spec
	return nil
}

// checkTargets allows a target that was named before: it may have gone since.
func (s *State) checkTargets(before, targets []string) *Refusal {
	for _, who := range targets {
		if slices.Contains(before, who) {
			continue
		}
		if refusal := s.checkTarget(who); refusal != nil {
			return refusal
		}
	}
	return nil
}

// checkFailback is about the text alone. At level 1 a window is refused, as a program of
// that level refuses it.
func (s *State) checkFailback(text string) *Refusal {
	f, refusal := ParseFailback(text)
	if refusal == nil && f.Kind == FailbackWindow && s.Level() < 2 {
		return s.belowLevel(2)
	}
	return refusal
}

// checkBans allows a target that was banned before: it may have gone since.
func (s *State) checkBans(before, bans []string) *Refusal {
	if len(bans) > MaxBans {
		return Refuse(CodeLimit, "%d bans, at most %d", len(bans), MaxBans)
	}
	return s.checkTargets(before, bans)
}

// checkTarget refuses what is neither a node's name nor an ENI's id.
func (s *State) checkTarget(who string) *Refusal {
	if n, ok := s.NodeNamed(who); ok && n.Name == who {
		return nil
	}
	if _, ok := s.ENIs[who]; ok {
		return nil
	}
	return Refuse(CodeNotFound, "%q is neither a node nor an ENI; `node list` and `eni list` show those there are", who)
}

// checkRange is rules R11 and R13 to R17. A member that was in the range before may have
// gone since; only new ones are checked against the inventory.
func (s *State) checkRange(v HAVIP, r Range) (Range, *Refusal) {
	if most := s.Cluster.Provider.Rules().RangeMembers; len(r.Members) > most && len(r.Members) > len(v.Range.Members) {
		return r, Refuse(CodeLimit, "a range holds %d members, %d asked", most, len(r.Members))
	}
	if len(r.Members) == 0 {
		return Range{Limit: r.Limit}, nil
	}
	if r.Type != RangeCVM && r.Type != RangeENI {
		return r, Refuse(CodeParameter, "%q is not a type of range: cvm or eni", r.Type)
	}
	members := slices.Sorted(slices.Values(r.Members))
	if len(slices.Compact(slices.Clone(members))) != len(members) {
		return r, Refuse(CodeDuplicate, "the range names a member twice: %s", strings.Join(members, ", "))
	}
	for _, m := range members {
		if v.Range.Type == r.Type && slices.Contains(v.Range.Members, m) {
			continue
		}
		if refusal := s.checkMember(v, r.Type, m); refusal != nil {
			return r, refusal
		}
	}
	return Range{Type: r.Type, Members: members, Limit: r.Limit}, nil
}

func (s *State) checkMember(v HAVIP, t RangeType, m string) *Refusal {
	if t == RangeENI {
		e, ok := s.ENIs[m]
		_, isNode := s.NodeNamed(m)
		switch {
		case !ok && isNode:
			return Refuse(CodeMismatch, "%q is a node, and a range of type eni holds ENIs (R13): name ENIs as `eni list` shows them, or use type cvm", m)
		case !ok:
			return Refuse(CodeNotFound, "no ENI has the id %q; `eni list` shows those there are", m)
		case e.Detached:
			return Refuse(CodeParameter, "ENI %s is not attached to its node", m)
		case e.IsPrimary():
			return Refuse(CodeParameter, "ENI %s is the primary ENI of node %s; use a range of type cvm", m, s.NodeName(e.Node))
		case !s.InSubnet(e, v.Subnet):
			return Refuse(CodeParameter, "ENI %s is in subnet %s; the HAVIP is in %s", m, named(e.Subnet), v.Subnet)
		}
		return nil
	}
	if _, isENI := s.ENIs[m]; isENI {
		return Refuse(CodeMismatch, "%q is an ENI, and a range of type cvm holds nodes (R13): name nodes, or use type eni", m)
	}
	n, ok := s.NodeNamed(m)
	if !ok || n.Name != m {
		return Refuse(CodeNotFound, "no node is called %q; `node list` shows those there are", m)
	}
	if n.Role == RoleWitness {
		return Refuse(CodeParameter, "node %s is a witness and owns nothing", m)
	}
	told := false
	for _, e := range s.ENIs { // whichever comes first
		if e.Node != n.ID {
			continue
		}
		if told = true; s.InSubnet(e, v.Subnet) {
			return nil
		}
	}
	if !told && s.Level() >= 4 {
		return nil // it has not said yet what it has, and owns nothing until then
	}
	return Refuse(CodeParameter, "node %s has no ENI in subnet %s", m, v.Subnet)
}

func (s *State) deleteHAVIP(c Command, b DeleteHAVIP) (string, *Refusal) {
	v, ok := s.HAVIPs[b.ID]
	if !ok {
		return "", Refuse(CodeNotFound, "no HAVIP has the id %q", b.ID)
	}
	if v.EIP.IsValid() {
		return "", Refuse(CodeUnsupported, "HAVIP %s has EIP %s; unbind that first with `havip unbind-eip %s`", v.Name, v.EIP, v.Name)
	}
	if v.Owner != nil && !b.Force {
		return "", Refuse(CodeUnsupported, "HAVIP %s is owned by %s; disable it first, or delete it with --force, which lets the owner release it first", v.Name, v.Owner.ENI)
	}
	v.Deleting = true
	if v.Owner == nil {
		s.putClaims(c, v)
		return v.ID, nil
	}
	s.HAVIPs[v.ID] = v
	return v.ID, s.assign(c, Assignment{HAVIP: v.ID, FromEpoch: v.Epoch, Reason: "the HAVIP is being deleted"})
}
