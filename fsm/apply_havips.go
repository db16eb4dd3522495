package fsm

import (
	"fmt"
	"maps"
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
		Enabled: true, Created: c.At, Since: c.At, Reason: "new",
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
	if refusal := s.setHAVIP(&v, UpdateHAVIP{
		Range: &b.Range, Prefer: &b.Prefer, Failback: &b.Failback, Priority: &b.Priority, Require: &b.Require, Forbid: &b.Forbid,
		Stickiness: b.Stickiness, Weight: b.Weight, FailLimit: b.FailLimit, Unmanaged: &b.Unmanaged, Maintenance: &b.Maintenance,
	}); refusal != nil {
		return "", refusal
	}
	if b.EIP.IsValid() {
		if refusal := s.setEIP(&v, b.EIP); refusal != nil {
			return "", refusal
		}
	}
	v.Enabled, v.Free = !b.Disabled, b.Force
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
	if !v.Enabled && v.Owner != nil {
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
	if b.Prefer != nil {
		if refusal := s.checkScores(v.Prefer, *b.Prefer); refusal != nil {
			return refusal
		}
		v.Prefer = maps.Clone(*b.Prefer)
	}
	if b.Bans != nil {
		if refusal := s.checkBans(v.Bans, *b.Bans); refusal != nil {
			return refusal
		}
		*v = v.withBans(slices.Compact(slices.Sorted(slices.Values(*b.Bans))))
	}
	if b.Failback != nil {
		if refusal := s.checkFailback(*b.Failback); refusal != nil {
			return refusal
		}
		if v.Failback = *b.Failback; v.Failback == "" {
			v.Failback = "never"
		}
	}
	if b.Priority != nil {
		if *b.Priority < -ScoreLimit || *b.Priority > ScoreLimit {
			return Refuse(CodeRange, "priority %d is not between %d and %d", *b.Priority, -ScoreLimit, ScoreLimit)
		}
		v.Priority = *b.Priority
	}
	if b.Enabled != nil {
		if *b.Enabled && !v.Enabled {
			v.Free = false // somebody may have taken the address meanwhile
		}
		v.Enabled = *b.Enabled
	}
	if b.Force {
		v.Free, v.GaveUp = true, nil // so that who gave it up tries again
	}
	return s.setPolicy(v, b)
}

// setPolicy is setHAVIP for what level 2 added.
func (s *State) setPolicy(v *HAVIP, b UpdateHAVIP) *Refusal {
	for _, words := range []struct {
		what string
		into *[]string
		say  *[]string
	}{{"required", &v.Require, b.Require}, {"forbidden", &v.Forbid, b.Forbid}} {
		if words.say == nil {
			continue
		}
		targets := slices.Compact(slices.Sorted(slices.Values(*words.say)))
		if refusal := s.checkTargets(words.what, *words.into, targets); refusal != nil {
			return refusal
		}
		*words.into = targets
	}
	for _, target := range v.Require {
		if slices.Contains(v.Forbid, target) {
			return Refuse(CodeParameter, "%s is both required and forbidden for HAVIP %s; say one of the two", target, v.Name)
		}
	}
	for _, n := range []struct {
		what string
		into **int
		say  *int
	}{{"stickiness", &v.Stickiness, b.Stickiness}, {"weight", &v.Weight, b.Weight}, {"failure limit", &v.FailLimit, b.FailLimit}} {
		if n.say == nil {
			continue
		}
		if *n.say < 0 || *n.say > ScoreLimit {
			return Refuse(CodeRange, "a %s of %d is not possible: 0 to %d", n.what, *n.say, ScoreLimit)
		}
		*n.into = n.say
	}
	if b.Unmanaged != nil {
		v.Unmanaged = *b.Unmanaged
	}
	if b.Maintenance != nil {
		v.Maintenance = *b.Maintenance
	}
	return nil
}

// checkTargets allows a target that was named before: it may have gone since.
func (s *State) checkTargets(what string, before, targets []string) *Refusal {
	if len(targets) > MaxTargets {
		return Refuse(CodeLimit, "%d %s nodes and ENIs, at most %d", len(targets), what, MaxTargets)
	}
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

// checkScores allows a target that had a score before: it may have gone since.
func (s *State) checkScores(before, scores map[string]int) *Refusal {
	if len(scores) > MaxPrefer {
		return Refuse(CodeLimit, "%d preferences, at most %d", len(scores), MaxPrefer)
	}
	for _, who := range slices.Sorted(maps.Keys(scores)) {
		if _, known := before[who]; !known {
			if refusal := s.checkTarget(who); refusal != nil {
				return refusal
			}
		}
		if n := scores[who]; n < -ScoreLimit || n > ScoreLimit {
			return Refuse(CodeRange, "the score %d for %s is not between %d and %d", n, who, -ScoreLimit, ScoreLimit)
		}
	}
	return nil
}

// checkBans allows a target that was banned before: it may have gone since.
func (s *State) checkBans(before, bans []string) *Refusal {
	if len(bans) > MaxBans {
		return Refuse(CodeLimit, "%d bans, at most %d", len(bans), MaxBans)
	}
	return s.checkTargets("banned", before, bans)
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
	for _, e := range s.ENIs { // whichever comes first
		if e.Node == n.ID && s.InSubnet(e, v.Subnet) {
			return nil
		}
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
