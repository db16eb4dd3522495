package fsm

import (
	"net/netip"
	"slices"
	"time"
)

// reserved is rule R7, of the provider profile lan: network, gateway and broadcast,
// counted from the prefix. The first host address is the gateway unless one is named.
func (sub Subnet) reserved(ip netip.Addr) string {
	switch {
	case ip == sub.CIDR.Addr():
		return "network"
	case ip == sub.Gateway, !sub.Gateway.IsValid() && ip == sub.CIDR.Addr().Next():
		return "gateway"
	case ip.Is4() && sub.CIDR.Bits() <= 30 && ip == lastAddr(sub.CIDR):
		return "broadcast"
	case slices.Contains(sub.Reserved, ip):
		return "by its subnet"
	}
	return ""
}

// lastAddr is the highest address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// addressAllowed is rule R7 and what the provider says of addresses.
func (s *State) addressAllowed(sub Subnet, ip netip.Addr) *Refusal {
	if why := s.reserved(sub, ip); why != "" {
		return Refuse(CodeReserved, "%s is reserved (%s) in subnet %s (%s)", ip, why, sub.Name, sub.CIDR)
	}
	if rules := s.Cluster.Provider.Rules(); !ip.Is4() && !rules.IPv6 {
		return Refuse(CodeMalformed, "%s is not an IPv4 address, and provider %s has no others for a HAVIP", ip, rules.Name)
	}
	return nil
}

// addressFree is rules R7 and R8. reuse takes an address out of its quarantine.
func (s *State) addressFree(sub Subnet, ip netip.Addr, at int64, reuse bool) *Refusal {
	if refusal := s.addressAllowed(sub, ip); refusal != nil {
		return refusal
	}
	if user, ok := s.addressUsers(sub.VPC)[ip]; ok {
		return Refuse(CodeInUse, "%s is used by %s", ip, user)
	}
	if q, ok := s.quarantined(sub.VPC, ip, at); ok && !reuse {
		return Refuse(CodeInUse, "%s is in quarantine for %s more, because HAVIP %s that had it was deleted; wait, or use --reuse-now", ip, time.Duration(q.Until-at).Round(time.Second), q.HAVIP)
	}
	return nil
}

// quarantined finds the quarantine that keeps an address from being given out.
func (s *State) quarantined(vpc string, ip netip.Addr, at int64) (Quarantined, bool) {
	q, ok := s.Quarantine[Quarantined{VPC: vpc, IP: ip}.key()]
	return q, ok && q.Until > at
}

// intoQuarantine keeps the address of a deleted HAVIP for a while, and forgets those whose
// time is up. When there are too many, the one that would end first goes early.
func (s *State) intoQuarantine(c Command, v HAVIP) {
	d := s.Cluster.Provider.Rules().Quarantine
	if s.Level() < 2 || d == 0 {
		return
	}
	first := Quarantined{Until: 1<<63 - 1}
	for key, q := range s.Quarantine {
		if q.Until <= c.At {
			delete(s.Quarantine, key)
		} else if q.Until < first.Until || q.Until == first.Until && key < first.key() {
			first = q
		}
	}
	if len(s.Quarantine) >= MaxQuarantine {
		delete(s.Quarantine, first.key())
	}
	q := Quarantined{VPC: v.VPC, IP: v.IP, Until: later(c.At, d), HAVIP: v.Name}
	s.Quarantine[q.key()] = q
}

// addressUsers maps each address that is taken in a VPC to the one who uses it. The
// addresses of nodes and ENIs count in every VPC.
func (s *State) addressUsers(vpc string) map[netip.Addr]string {
	if users, ok := s.batch.usersOf(vpc); ok {
		return users
	}
	users := make(map[netip.Addr]string, len(s.HAVIPs)+len(s.ENIs))
	for _, n := range s.NodeList() {
		if ip, err := netip.ParseAddr(n.Address); err == nil {
			users[ip] = "node " + n.Name
		}
	}
	for _, e := range s.ENIList() {
		for _, p := range e.Prefixes {
			users[p.Addr()] = "ENI " + e.ID + " (node " + s.NodeName(e.Node) + ")"
		}
	}
	for id, v := range s.HAVIPs { // no two share an address
		if v.VPC == vpc {
			users[v.IP] = "HAVIP " + v.Name + " (" + id + ")"
			if v.Deleting {
				users[v.IP] += ", which is being deleted and waits for its owner's release"
			}
		}
	}
	s.batch.remember(vpc, users)
	return users
}

// chooseTries bounds the search for a free address.
const chooseTries = 1 << 16

// chooseAddress is rule R5: the lowest free address above the cursor, then from the
// start of the subnet.
func (s *State) chooseAddress(sub *Subnet, at int64, reuse bool) (netip.Addr, *Refusal) {
	start := sub.Cursor
	if !start.IsValid() {
		start = sub.CIDR.Addr()
	}
	users := s.addressUsers(sub.VPC)
	ip := start
	for range chooseTries {
		if ip = ip.Next(); !sub.CIDR.Contains(ip) {
			ip = sub.CIDR.Addr()
		}
		_, taken := users[ip]
		if _, waits := s.quarantined(sub.VPC, ip, at); !taken && (!waits || reuse) && s.addressAllowed(*sub, ip) == nil {
			sub.Cursor = ip
			return ip, nil
		}
		if ip == start {
			break // once around
		}
	}
	return netip.Addr{}, Refuse(CodeInsufficient, "subnet %s (%s) has no free address", sub.Name, sub.CIDR)
}

// quotaLeft is rule R26.
func (s *State) quotaLeft(vpc string) *Refusal {
	quota := s.Cluster.Provider.Rules().HAVIPsPerVPC
	if quota == 0 {
		return nil
	}
	n := 0
	for id := range s.HAVIPs {
		if s.HAVIPs[id].VPC == vpc {
			n++
		}
	}
	if n >= quota {
		return Refuse(CodeLimit, "%s has %d of %d HAVIPs; delete one, or raise the quota of the provider profile if the cloud has raised it", vpc, n, quota)
	}
	return nil
}
