package fsm

import (
	"cmp"
	"fmt"
	"time"
)

// Bounds of the settings of a provider profile.
const (
	AnnounceIntervalMax = time.Minute
	QuarantineMax       = 24 * time.Hour
	QuotaMax            = MaxHAVIPs
)

func (s *State) setCluster(c Command, b SetCluster) *Refusal {
	if b.Limits != nil {
		if l := *b.Limits; l.PerENI < 0 || l.PerENI > MaxHAVIPs || l.PerNode < 0 || l.PerNode > MaxHAVIPs {
			return Refuse(CodeRange, "limits of %d per ENI and %d per node are not possible: 0 (none) to %d", l.PerENI, l.PerNode, MaxHAVIPs)
		}
		s.Cluster.Limits = *b.Limits
	}
	if b.Rebalance != nil {
		switch *b.Rebalance {
		case RebalanceNever, "":
			s.Cluster.Rebalance = ""
		case RebalanceEven:
			s.Cluster.Rebalance = RebalanceEven
		default:
			return Refuse(CodeParameter, "%q is not a rebalance: never or even", *b.Rebalance)
		}
	}
	if b.Provider != nil {
		if refusal := s.setProvider(*b.Provider); refusal != nil {
			return refusal
		}
	}
	if b.CertificateLife != nil {
		if d := *b.CertificateLife; d != 0 && (d < CertificateLifeMin || d > CertificateLifeMax) {
			return Refuse(CodeRange, "certificates cannot be made for %s: %s to %s, or 0 for 2 years", d, CertificateLifeMin, CertificateLifeMax)
		}
		s.Cluster.Keys.CertificateLife = *b.CertificateLife
	}
	if b.Maintenance != nil {
		s.Cluster.Maintenance = *b.Maintenance
	}
	if b.CAHolders != nil {
		if n := *b.CAHolders; n < 1 || n > MaxVoters {
			return Refuse(CodeRange, "%d holders of the CA's key are not possible: 1 to %d", n, MaxVoters)
		}
		s.Cluster.CAHolders = *b.CAHolders
	}
	if b.Snapshots != nil {
		if refusal := s.setSnapshots(c, *b.Snapshots); refusal != nil {
			return refusal
		}
		if b == (SetCluster{Snapshots: b.Snapshots}) {
			return nil
		}
	}
	s.note(c, "cluster-changed", "", "", fmt.Sprintf("cluster: maintenance %t, at most %d per ENI and %d per node, rebalance %s, provider %s",
		s.Cluster.Maintenance, s.Cluster.Limits.PerENI, s.Cluster.Limits.PerNode, cmp.Or(s.Cluster.Rebalance, RebalanceNever), s.Cluster.Provider.Rules().Name))
	return nil
}

func (s *State) setProvider(p Provider) *Refusal {
	if p.Name == "lan" {
		p.Name = ""
	}
	if _, ok := providers[cmp.Or(p.Name, "lan")]; !ok {
		return Refuse(CodeParameter, "%q is not a provider profile: lan or tencent", p.Name)
	}
	for _, n := range []struct {
		what     string
		value    *int
		low, top int
	}{
		{"HAVIPs per VPC", p.HAVIPsPerVPC, 0, QuotaMax},
		{"HAVIPs per ENI", p.HAVIPsPerENI, 0, QuotaMax},
		{"members of a range", p.RangeMembers, 1, RangeMembersCap},
	} {
		if n.value != nil && (*n.value < n.low || *n.value > n.top) {
			return Refuse(CodeRange, "%d %s are not possible: %d to %d", *n.value, n.what, n.low, n.top)
		}
	}
	if d := p.AnnounceInterval; d != nil && (*d < 0 || *d > AnnounceIntervalMax) {
		return Refuse(CodeRange, "an announce interval of %s is not possible: up to %s", *d, AnnounceIntervalMax)
	}
	if d := p.Quarantine; d != nil && (*d < 0 || *d > QuarantineMax) {
		return Refuse(CodeRange, "a quarantine of %s is not possible: up to %s", *d, QuarantineMax)
	}
	s.Cluster.Provider = p
	for _, v := range s.HAVIPList() {
		if refusal := s.addressAllowed(s.Subnets[v.Subnet], v.IP); refusal != nil {
			return Refuse(CodeInUse, "HAVIP %s could not be there under provider %s: %s", v.Name, p.Rules().Name, refusal.Message)
		}
	}
	return nil
}
