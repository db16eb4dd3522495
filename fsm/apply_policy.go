package fsm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// maxCount bounds a counter of failures, so that it can decay within a foreseeable time.
const maxCount = 1000

// counted is a counter with one more failure, and what has decayed taken off.
func (f FailCount) counted(at int64, period time.Duration) FailCount {
	return FailCount{Count: min(f.Effective(at, period)+1, maxCount), LastAt: max(at, f.LastAt)}
}

// failed counts a failure on a node and returns the new count.
func (s *State) failed(c Command, v HAVIP, node string) (HAVIP, int) {
	fails := map[string]FailCount{}
	for who, f := range v.Fails {
		if f.Effective(c.At, v.FailsAfter()) > 0 && (who == node || len(v.Fails) < MaxFails) {
			fails[who] = f
		}
	}
	fails[node] = fails[node].counted(c.At, v.FailsAfter())
	v.Fails = fails
	return v, fails[node].Count
}

// pause is how long an ENI is not eligible after the nth failure: it doubles each time.
func pause(n int) time.Duration {
	p := GiveUpPause
	for ; n > 1 && p < GiveUpMax; n-- {
		p *= 2
	}
	return min(p, GiveUpMax)
}

func (s *State) recordFailure(c Command, b RecordFailure) (string, *Refusal) {
	v, refusal := s.living(b.HAVIP)
	if refusal != nil {
		return "", refusal
	}
	n, ok := s.Nodes[b.Node]
	if !ok {
		return "", Refuse(CodeNotFound, "node %s is not a member of this cluster", b.Node)
	}
	v, count := s.failed(c, v, n.Name)
	s.HAVIPs[v.ID] = v
	s.note(c, "failure", v.Name, n.Name, fmt.Sprintf("HAVIP %s failed on node %s (%d of %d): %s", v.Name, n.Name, count, v.FailureLimit(), b.Reason))
	return v.ID, nil
}

func (s *State) resetFailures(c Command, b ResetFailures) (string, *Refusal) {
	if b.HAVIP != "" {
		if _, refusal := s.living(b.HAVIP); refusal != nil {
			return "", refusal
		}
	}
	if _, ok := s.Nodes[b.Node]; !ok && b.Node != "" {
		return "", Refuse(CodeNotFound, "no node has the id %q", b.Node)
	}
	name := s.Nodes[b.Node].Name
	for id, v := range s.HAVIPs {
		if b.HAVIP == "" || b.HAVIP == id {
			s.HAVIPs[id] = v.withoutFailures(func(node string) bool { return name == "" || name == node }, s)
		}
	}
	for id, n := range s.Nodes {
		if b.HAVIP == "" && (b.Node == "" || b.Node == id) {
			n.Flaps = FailCount{}
			s.Nodes[id] = n
		}
	}
	s.note(c, "failures-cleared", s.HAVIPs[b.HAVIP].Name, name, fmt.Sprintf("failures cleared: %s on %s",
		cmp.Or(s.HAVIPs[b.HAVIP].Name, "every HAVIP"), cmp.Or(name, "every node")))
	return b.HAVIP, nil
}

// withoutFailures forgets the failures and pauses on some nodes.
func (v HAVIP) withoutFailures(on func(node string) bool, s *State) HAVIP {
	fails, gaveUp := maps.Clone(v.Fails), maps.Clone(v.GaveUp)
	maps.DeleteFunc(fails, func(node string, _ FailCount) bool { return on(node) })
	maps.DeleteFunc(gaveUp, func(eni string, _ GaveUp) bool { return on(s.NodeName(s.ENIs[eni].Node)) })
	if v.Fails = fails; len(fails) == 0 {
		v.Fails = nil
	}
	if v.GaveUp = gaveUp; len(gaveUp) == 0 {
		v.GaveUp = nil
	}
	return v
}

func (s *State) reportHealth(c Command, b ReportHealth) (string, *Refusal) {
	n, ok := s.Nodes[b.Node]
	if !ok {
		return "", Refuse(CodeNotFound, "node %s is not a member of this cluster", b.Node)
	}
	if !slices.Contains([]Health{HealthGreen, HealthYellow, HealthRed}, b.Health) {
		return "", Refuse(CodeParameter, "%q is not a node's health: green, yellow or red", b.Health)
	}
	if b.Health == HealthGreen {
		b.Health = ""
	}
	reason := clip(b.Reason, MaxReason)
	if b.Health != n.Health {
		n.Health = b.Health
		s.note(c, "health", "", n.Name, fmt.Sprintf("node %s is %s: %s", n.Name, n.HealthNow(), cmp.Or(reason, "no reason given")))
	}
	if n.HealthReason = reason; n.Health == "" {
		n.HealthReason = ""
	}
	s.Nodes[n.ID] = n
	return n.ID, nil
}

// ownedBy counts the HAVIPs that a node owns or has not released yet.
func (s *State) ownedBy(node string) int {
	owned := 0
	for _, v := range s.HAVIPs {
		if slices.ContainsFunc(v.Claims(), func(cl Claim) bool { return cl.Node == node }) {
			owned++
		}
	}
	return owned
}

func (s *State) drainNode(c Command, b DrainNode) (string, *Refusal) {
	n, ok := s.Nodes[b.ID]
	switch {
	case !ok:
		return "", Refuse(CodeNotFound, "no node has the id %q", b.ID)
	case b.For < 0 || b.For > DrainMax:
		return "", Refuse(CodeRange, "a deadline of %s is not possible: up to %s, or none", b.For, DrainMax)
	case n.Removing:
		return "", Refuse(CodeUnsupported, "node %s is being removed, which drains it", n.Name)
	case n.Draining && n.Drain.Result == "":
		return "", Refuse(CodeUnsupported, "node %s is being drained already; `node activate %s` ends that", n.Name, n.Name)
	}
	n.Draining, n.Drain = true, Drain{Started: c.At, Total: s.ownedBy(n.ID)}
	if b.For > 0 {
		n.Drain.Deadline = later(c.At, b.For)
	}
	s.Nodes[n.ID] = n
	s.note(c, "drain", "", n.Name, fmt.Sprintf("node %s is being drained of %d HAVIPs", n.Name, n.Drain.Total))
	return n.ID, nil
}

func (s *State) endDrain(c Command, b EndDrain) (string, *Refusal) {
	n, ok := s.Nodes[b.ID]
	switch {
	case !ok:
		return "", Refuse(CodeNotFound, "no node has the id %q", b.ID)
	case b.Result != DrainDone && b.Result != DrainDeadline:
		return "", Refuse(CodeParameter, "%q is not a result of a drain: done or deadline", b.Result)
	case !n.Draining || n.Drain.Result != "":
		return "", Refuse(CodeStale, "node %s is not being drained", n.Name)
	case b.Result == DrainDone && s.ownedBy(n.ID) > 0:
		return "", Refuse(CodeInUse, "node %s still has %d HAVIPs", n.Name, s.ownedBy(n.ID))
	case b.Result == DrainDeadline && (n.Drain.Deadline == 0 || c.At < n.Drain.Deadline):
		return "", Refuse(CodeStale, "the deadline of node %s has not passed", n.Name)
	}
	n.Drain.Result, n.Drain.Ended = b.Result, c.At
	s.Nodes[n.ID] = n
	s.note(c, "drain", "", n.Name, fmt.Sprintf("the drain of node %s ended: %s, %d of %d HAVIPs left", n.Name, b.Result, s.ownedBy(n.ID), n.Drain.Total))
	return n.ID, nil
}

func (s *State) activateNode(c Command, b ActivateNode) (string, *Refusal) {
	n, ok := s.Nodes[b.ID]
	if !ok {
		return "", Refuse(CodeNotFound, "no node has the id %q", b.ID)
	}
	if !n.Standby && !n.Draining {
		return n.ID, nil
	}
	if n.Draining && n.Drain.Result == "" {
		n.Drain.Result, n.Drain.Ended = DrainCancelled, c.At
	}
	n.Standby, n.Draining = false, false
	s.Nodes[n.ID] = n
	s.note(c, "node-changed", "", n.Name, fmt.Sprintf("node %s may own HAVIPs again", n.Name))
	return n.ID, nil
}

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
