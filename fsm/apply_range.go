package fsm

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// living finds a HAVIP that may be changed.
func (s *State) living(id string) (HAVIP, *Refusal) {
	v, ok := s.HAVIPs[id]
	switch {
	case !ok:
		return v, Refuse(CodeNotFound, "no HAVIP has the id %q", id)
	case v.Deleting:
		return v, Refuse(CodeUnsupported, "HAVIP %s is being deleted", v.Name)
	}
	return v, nil
}

func (s *State) changeRange(c Command, b ChangeRange) (string, *Refusal) {
	v, refusal := s.living(b.ID)
	if refusal != nil {
		return "", refusal
	}
	r, refusal := changedRange(v, b)
	if refusal != nil {
		return "", refusal
	}
	if v.Range, refusal = s.checkRange(v, r); refusal != nil {
		return "", refusal
	}
	s.HAVIPs[v.ID] = v
	s.note(c, "havip-changed", v.Name, "", fmt.Sprintf("the range of HAVIP %s has %d members now: added %s, removed %s",
		v.Name, len(v.Range.Members), listed(b.Add), listed(b.Remove)))
	return v.ID, s.ownerInRange(c, v, b.Evict)
}

// changedRange is the range as it would be, not checked against the inventory yet.
func changedRange(v HAVIP, b ChangeRange) (Range, *Refusal) {
	r := Range{Type: v.Range.Type, Limit: v.Range.Limit}
	if len(b.Add)+len(b.Remove) == 0 {
		return r, Refuse(CodeMissing, "say which members to add or to remove")
	}
	for i, m := range b.Remove {
		switch {
		case slices.Contains(b.Remove[:i], m) || slices.Contains(b.Add, m):
			return r, Refuse(CodeDuplicate, "the request names %q twice", m)
		case !slices.Contains(v.Range.Members, m):
			return r, Refuse(CodeNotFound, "%q is not in the range of HAVIP %s, which holds %s", m, v.Name, listed(v.Range.Members))
		}
	}
	for i, m := range b.Add {
		switch {
		case slices.Contains(b.Add[:i], m):
			return r, Refuse(CodeDuplicate, "the request names %q twice", m)
		case slices.Contains(v.Range.Members, m):
			return r, Refuse(CodeAssociated, "%q is in the range of HAVIP %s already", m, v.Name)
		}
	}
	left := slices.DeleteFunc(slices.Clone(v.Range.Members), func(m string) bool { return slices.Contains(b.Remove, m) })
	switch {
	case len(left) == 0:
		if r.Type = b.Type; b.Type == "" && len(b.Add) > 0 {
			r.Type = v.Range.Type
		}
	case b.Type != "" && b.Type != v.Range.Type && len(b.Add) > 0:
		return r, Refuse(CodeParameter, "the range of HAVIP %s is of type %s; a range never mixes types (R13): empty it first, or replace it as a whole", v.Name, v.Range.Type)
	}
	r.Members = slices.Concat(left, b.Add)
	return r, nil
}

// ownerInRange is rule R22: the owner stays in the range, or releases first when evict
// says so. v is in the state already.
func (s *State) ownerInRange(c Command, v HAVIP, evict bool) *Refusal {
	if v.Owner == nil || v.Disabled || s.outOfRange(v) == "" {
		return nil
	}
	if !evict {
		return Refuse(CodeInUse, "%s owns HAVIP %s and would leave its range; move it first with `havip move %s --to ...`, or use --evict", v.Owner.ENI, v.Name, v.Name)
	}
	return s.assign(c, Assignment{HAVIP: v.ID, FromEpoch: v.Epoch, Reason: "its owner was taken out of the range"})
}

// outOfRange is the rule of an enforced range that the present owner breaks, "" if none.
func (s *State) outOfRange(v HAVIP) string {
	return v.Range.Denies(s.Nodes[v.Owner.Node].Name, v.Owner.ENI, s.ENIs[v.Owner.ENI].IsPrimary())
}

func listed(members []string) string {
	if len(members) == 0 {
		return "nothing"
	}
	return strings.Join(members, ", ")
}

func (s *State) banHAVIP(c Command, b BanHAVIP) (string, *Refusal) {
	v, refusal := s.living(b.ID)
	if refusal != nil {
		return "", refusal
	}
	if b.For < 0 || b.For > BanMax {
		return "", Refuse(CodeRange, "a ban of %s is not possible: up to %s, or without an end", b.For, BanMax)
	}
	v = v.withoutEndedBans(c.At)
	bans := v.Bans
	if !slices.Contains(bans, b.Target) {
		bans = append(slices.Clone(bans), b.Target)
	}
	if refusal := s.checkBans(v.Bans, bans); refusal != nil {
		return "", refusal
	}
	v.Bans, v.BanEnds = slices.Sorted(slices.Values(bans)), maps.Clone(v.BanEnds)
	delete(v.BanEnds, b.Target)
	until := "until it is taken back"
	if b.For > 0 {
		if v.BanEnds == nil {
			v.BanEnds = map[string]int64{}
		}
		v.BanEnds[b.Target] = later(c.At, b.For)
		until = "for " + b.For.String()
	}
	s.HAVIPs[v.ID] = v
	s.note(c, "havip-changed", v.Name, "", fmt.Sprintf("HAVIP %s is banned from %s %s", v.Name, b.Target, until))
	return v.ID, nil
}

func (s *State) unbanHAVIP(c Command, b UnbanHAVIP) (string, *Refusal) {
	v, refusal := s.living(b.ID)
	if refusal != nil {
		return "", refusal
	}
	if !slices.Contains(v.Bans, b.Target) {
		return "", Refuse(CodeNotFound, "HAVIP %s is not banned from %q; it is from %s", v.Name, b.Target, listed(v.Bans))
	}
	v = v.withBans(slices.DeleteFunc(slices.Clone(v.Bans), func(t string) bool { return t == b.Target }))
	s.HAVIPs[v.ID] = v
	s.note(c, "havip-changed", v.Name, "", fmt.Sprintf("HAVIP %s is no longer banned from %s", v.Name, b.Target))
	return v.ID, nil
}

// withBans replaces the bans, which are sorted; those that stay keep their end.
func (v HAVIP) withBans(bans []string) HAVIP {
	ends := maps.Clone(v.BanEnds)
	maps.DeleteFunc(ends, func(target string, _ int64) bool { return !slices.Contains(bans, target) })
	if v.BanEnds = ends; len(ends) == 0 {
		v.BanEnds = nil
	}
	v.Bans = bans
	return v
}

// withoutEndedBans drops the bans that ended before a time.
func (v HAVIP) withoutEndedBans(at int64) HAVIP {
	var hold []string
	for _, b := range v.BanList(at) {
		hold = append(hold, b.Target)
	}
	return v.withBans(hold)
}

// later is a clock reading plus a duration, without running over.
func later(at int64, d time.Duration) int64 {
	if sum := at + int64(d); sum >= at {
		return sum
	}
	return 1<<63 - 1
}

func (s *State) bindEIP(c Command, b BindEIP) (string, *Refusal) {
	v, refusal := s.living(b.ID)
	if refusal != nil {
		return "", refusal
	}
	if refusal := s.setEIP(&v, b.EIP); refusal != nil {
		return "", refusal
	}
	s.HAVIPs[v.ID] = v
	s.note(c, "eip", v.Name, "", fmt.Sprintf("EIP %s is bound to HAVIP %s", v.EIP, v.Name))
	return v.ID, nil
}

// setEIP is rule R23. The same address once more is no fault.
func (s *State) setEIP(v *HAVIP, eip netip.Addr) *Refusal {
	switch {
	case !eip.Is4() || eip.IsUnspecified() || eip.IsMulticast() || eip.IsLoopback():
		return Refuse(CodeMalformed, "%q is not an elastic address: name its IPv4 address", eip)
	case v.EIP.IsValid() && v.EIP != eip:
		return Refuse(CodeBindEIP, "HAVIP %s already has EIP %s; unbind that first", v.Name, v.EIP)
	}
	if other, ok := s.eipOf(eip); ok && other.ID != v.ID {
		return Refuse(CodeInUse, "EIP %s is bound to HAVIP %s (%s); unbind it there first", eip, other.Name, other.ID)
	}
	v.EIP = eip
	return nil
}

// eipOf finds the HAVIP that has an EIP; no two share one.
func (s *State) eipOf(eip netip.Addr) (HAVIP, bool) {
	if s.batch != nil {
		v, ok := s.HAVIPs[s.batch.eips[eip]]
		return v, ok && v.EIP == eip
	}
	for _, v := range s.HAVIPs {
		if v.EIP == eip {
			return v, true
		}
	}
	return HAVIP{}, false
}

func (s *State) unbindEIP(c Command, b UnbindEIP) (string, *Refusal) {
	v, refusal := s.living(b.ID)
	if refusal != nil {
		return "", refusal
	}
	if !v.EIP.IsValid() {
		return "", Refuse(CodeUnbindEIP, "HAVIP %s has no EIP", v.Name)
	}
	s.note(c, "eip", v.Name, "", fmt.Sprintf("EIP %s is unbound from HAVIP %s: public traffic to it stops", v.EIP, v.Name))
	v.EIP = netip.Addr{}
	s.HAVIPs[v.ID] = v
	return v.ID, nil
}
