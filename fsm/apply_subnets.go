package fsm

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
)

var subnetName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,59}$`)

func (s *State) createSubnet(c Command, b CreateSubnet) (string, *Refusal) {
	sub := b.Subnet
	if sub.VPC == "" {
		sub.VPC = DefaultVPC
	}
	rules := s.Cluster.Provider.Rules()
	switch {
	case !subnetName.MatchString(sub.Name):
		return "", Refuse(CodeMalformed, "%q cannot name a subnet: use 1 to 60 letters, digits, '.', '_' and '-'", sub.Name)
	case !subnetName.MatchString(sub.VPC):
		return "", Refuse(CodeMalformed, "%q cannot name a VPC: use 1 to 60 letters, digits, '.', '_' and '-'", sub.VPC)
	case !sub.CIDR.IsValid() || sub.CIDR != sub.CIDR.Masked():
		return "", Refuse(CodeMalformed, "%q is not a network in CIDR form, such as 10.0.0.0/24 (host bits must be zero)", sub.CIDR)
	case !possibleSubnet(sub.CIDR):
		return "", Refuse(CodeRange, "%s cannot be a subnet", sub.CIDR)
	case sub.CIDR.Addr().Is4() && (sub.CIDR.Bits() < rules.MinBits || sub.CIDR.Bits() > rules.MaxBits):
		return "", Refuse(CodeRange, "%s cannot be a subnet of provider %s: /%d to /%d", sub.CIDR, rules.Name, rules.MinBits, rules.MaxBits)
	case sub.Gateway.IsValid() && !sub.CIDR.Contains(sub.Gateway):
		return "", Refuse(CodeRange, "gateway %s is not in %s", sub.Gateway, sub.CIDR)
	case len(sub.Reserved) > MaxReserved:
		return "", Refuse(CodeLimit, "%d reserved addresses, at most %d", len(sub.Reserved), MaxReserved)
	case len(s.Subnets) >= MaxSubnets:
		return "", Refuse(CodeLimit, "the cluster has %d subnets, at most %d", len(s.Subnets), MaxSubnets)
	}
	for _, r := range sub.Reserved {
		if !sub.CIDR.Contains(r) {
			return "", Refuse(CodeRange, "reserved address %s is not in %s", r, sub.CIDR)
		}
	}
	if _, ok := s.Subnets[sub.Name]; ok {
		return "", Refuse(CodeDuplicate, "subnet %s exists already", sub.Name)
	}
	for _, old := range s.SubnetList() {
		if old.VPC != sub.VPC || !old.CIDR.Overlaps(sub.CIDR) {
			continue
		}
		if !old.Auto || s.subnetInUse(old.Name) != nil {
			return "", Refuse(CodeInUse, "%s overlaps subnet %s (%s) of %s", sub.CIDR, old.Name, old.CIDR, old.VPC)
		}
		delete(s.Subnets, old.Name) // the operator's word replaces what a node registered
	}
	sub.Reserved = slices.SortedFunc(slices.Values(sub.Reserved), netip.Addr.Compare)
	sub.Auto, sub.Cursor = false, netip.Addr{}
	s.Subnets[sub.Name] = sub
	s.refreshSubnets()
	s.note(c, "subnet-created", "", "", fmt.Sprintf("subnet %s (%s) was created", sub.Name, sub.CIDR))
	return sub.Name, nil
}

// possibleSubnet says whether hosts can share a network. A v4-mapped one would hold the
// same addresses as its IPv4 form under another spelling (R6).
func possibleSubnet(p netip.Prefix) bool {
	a := p.Addr()
	return p.IsValid() && p.Bits() > 0 && !a.IsMulticast() && !a.IsLoopback() && !a.Is4In6()
}

// refreshSubnets looks up every ENI's subnet again after the subnets changed.
func (s *State) refreshSubnets() {
	subnets := s.SubnetList()
	for id, e := range s.ENIs {
		if _, ok := s.Subnets[e.SetSubnet]; !ok {
			e.SetSubnet = ""
		}
		e.Subnet = subnetOf(e, subnets)
		s.ENIs[id] = e
	}
}

func (s *State) subnetInUse(name string) *Refusal {
	for _, v := range s.HAVIPList() {
		if v.Subnet == name {
			return Refuse(CodeInUse, "subnet %s holds HAVIP %s (%s); delete that first", name, v.Name, v.IP)
		}
	}
	return nil
}

func (s *State) deleteSubnet(c Command, b DeleteSubnet) (string, *Refusal) {
	if _, ok := s.Subnets[b.Name]; !ok {
		return "", Refuse(CodeNotFound, "no subnet is called %q; `subnet list` shows those there are", b.Name)
	}
	if r := s.subnetInUse(b.Name); r != nil {
		return "", r
	}
	delete(s.Subnets, b.Name)
	s.refreshSubnets()
	s.note(c, "subnet-deleted", "", "", fmt.Sprintf("subnet %s was deleted", b.Name))
	return b.Name, nil
}
