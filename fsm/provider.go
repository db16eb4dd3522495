package fsm

import (
	"net/netip"
	"time"
)

// ProviderRules are the rules of the network that carries the HAVIPs, with every default
// filled in.
type ProviderRules struct {
	Name             string        `json:"name"`
	HAVIPsPerVPC     int           `json:"havips_per_vpc"`    // R26; 0 = no quota
	HAVIPsPerENI     int           `json:"havips_per_eni"`    // R27, advice; 0 = none
	RangeMembers     int           `json:"range_members"`     // R11
	AnnounceInterval time.Duration `json:"announce_interval"` // between two claims of one ENI; 0 = no limit
	Quarantine       time.Duration `json:"quarantine"`        // of a deleted HAVIP's address; 0 = none
	// FirstReserved says that the first host address is reserved even where the subnet
	// names another gateway.
	FirstReserved bool `json:"first_reserved"`
	IPv6          bool `json:"ipv6"` // whether a HAVIP may have an IPv6 address
	// MinBits and MaxBits bound the prefix of a subnet with IPv4 addresses.
	MinBits int `json:"min_bits"`
	MaxBits int `json:"max_bits"`
}

// providers are the known profiles. Figures of tencent: DOMAIN section 1.3, and the
// announce interval of its section 1.5, which rests on one public note.
var providers = map[string]ProviderRules{
	"lan": {
		Name: "lan", RangeMembers: MaxRangeMembers, Quarantine: time.Minute, IPv6: true, MinBits: 1, MaxBits: 32,
	},
	"tencent": {
		Name: "tencent", HAVIPsPerVPC: 10, HAVIPsPerENI: 5, RangeMembers: MaxRangeMembers,
		AnnounceInterval: 5 * time.Second, Quarantine: time.Minute, FirstReserved: true, MinBits: 16, MaxBits: 28,
	},
}

// Rules gives the profile's rules with the settings that win over them.
func (p Provider) Rules() ProviderRules {
	name := p.Name
	if name == "" {
		name = "lan"
	}
	r := providers[name]
	r.HAVIPsPerVPC = valueOr(p.HAVIPsPerVPC, r.HAVIPsPerVPC)
	r.HAVIPsPerENI = valueOr(p.HAVIPsPerENI, r.HAVIPsPerENI)
	r.RangeMembers = valueOr(p.RangeMembers, r.RangeMembers)
	if p.AnnounceInterval != nil {
		r.AnnounceInterval = *p.AnnounceInterval
	}
	if p.Quarantine != nil {
		r.Quarantine = *p.Quarantine
	}
	return r
}

// Usable counts the addresses of a subnet that a HAVIP may have, at most limit: all but the
// reserved ones (R7).
func (s *State) Usable(sub Subnet, limit int) int {
	n := 0
	for ip := sub.CIDR.Addr(); sub.CIDR.Contains(ip) && n < limit; ip = ip.Next() {
		if s.reserved(sub, ip) == "" {
			n++
		}
	}
	return n
}

// reserved is rule R7 under the cluster's provider profile.
func (s *State) reserved(sub Subnet, ip netip.Addr) string {
	if s.Cluster.Provider.Rules().FirstReserved && ip == sub.CIDR.Addr().Next() {
		return "gateway"
	}
	return sub.reserved(ip)
}

func valueOr(p *int, otherwise int) int {
	if p == nil {
		return otherwise
	}
	return *p
}
