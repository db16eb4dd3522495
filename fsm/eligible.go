package fsm

import (
	"net/netip"
	"slices"

	"havip-cluster/fsm/placement"
)

// Obstacle is the first reason why an ENI may not own a HAVIP.
type Obstacle = placement.Obstacle

func codeOf(o *Obstacle) Code {
	if o.Rule == placement.RuleNotInRange {
		return CodeRangeDenied
	}
	return CodeUnsupported
}

// Ineligible returns why eni must not own v, or nil. The rules are those of the placement,
// which asks them before it decides; Apply asks them again. at is the proposer's clock in
// unix nanoseconds. It looks at this HAVIP, this ENI and its node alone.
func (s *State) Ineligible(v HAVIP, eni ENI, at int64) *Obstacle {
	havip := s.viewHAVIP(&v, at)
	if v.Owner != nil { // also that of a session that is over
		havip.Owner = v.Owner.ENI
	}
	if v.Guard > 0 && havip.Owner != eni.ID { // it stays where it is in the meantime
		havip.Waits = s.Unguarded(v)
	}
	subnets := []string{eni.Subnet}
	if v.Subnet != eni.Subnet && s.InSubnet(eni, v.Subnet) {
		subnets = append(subnets, v.Subnet)
	}
	site, view := s.viewENI(eni, subnets), placement.Node{}
	n, known := s.Nodes[eni.Node]
	if !known {
		return placement.Ineligible(at, &havip, &site, nil)
	}
	view = s.viewNode(n, at)
	return placement.Ineligible(at, &havip, &site, &view)
}

func named(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// InSubnet reports whether an ENI is in a subnet: in that which it is said to be in, or,
// unless an operator said so, in each that holds one of its addresses. An ENI with IPv4 and
// IPv6 is in two.
func (s *State) InSubnet(e ENI, subnet string) bool {
	return e.in(subnet, s.Subnets[subnet].CIDR)
}

func (e ENI) in(subnet string, cidr netip.Prefix) bool {
	if e.Subnet == subnet || e.SetSubnet != "" {
		return e.Subnet == subnet
	}
	return slices.ContainsFunc(e.Prefixes, func(p netip.Prefix) bool { return cidr.Contains(p.Addr()) })
}
