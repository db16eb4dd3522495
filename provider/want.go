package provider

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"havip-cluster/fsm"
)

// Want is a HAVIP of the log in the cloud's terms.
type Want struct {
	ID, Name string
	Address  netip.Addr
	Subnet   string // the log's name of it
	EIP      netip.Addr
	Limited  bool // the range is enforced
	Primary  bool // the range is of type CVM, or there is none
	// Candidates are the ENIs that may own it by range and subnet, sorted by ENI.
	Candidates []Candidate
	Owner      *Owner // desired; nil without one
	// Near are all ENIs of its subnet, sorted: they tell where it belongs while nobody may own it.
	Near []Candidate
}

// Candidate is an ENI of the cluster.
type Candidate struct {
	Node, ENI string // the cluster's names
	Cloud     ENI    // its id is "" while the cloud has not named it
	Carries   bool   // its subnet has HAVIPs
}

// Owner is who should answer for a HAVIP.
type Owner struct {
	Candidate
	Epoch   uint64
	Serving bool      // it has said that it serves
	Since   time.Time // of the decision, by the leader's clock of then
}

// Cluster is what the log says, as far as a cloud is concerned.
type Cluster struct {
	Wants []Want // sorted by name, then id
	// ENIs are all that a node has in some subnet, sorted by id.
	ENIs []Candidate
	// Quota is how many HAVIPs a VPC may have; 0 = none is known.
	Quota int
	// Caps are those of the cloud. ClusterOf leaves them as those of one that keeps HAVIPs and moves them by announcement.
	Caps Capabilities
}

// ClusterOf reads the log's state. cloud are the ENIs that the cloud has named by MAC; where it has none, what the
// node reported of its own stands.
func ClusterOf(s *fsm.State, cloud []ENI) Cluster {
	byMAC := make(map[string]ENI, len(cloud))
	for _, e := range cloud {
		byMAC[strings.ToLower(e.MAC)] = e
	}
	named := func(e fsm.ENI) Candidate {
		c := Candidate{Node: s.NodeName(e.Node), ENI: e.ID, Cloud: byMAC[strings.ToLower(e.MAC)]}
		if c.Cloud.ID == "" && e.Cloud.ID != "" {
			c.Cloud = ENI{ID: e.Cloud.ID, MAC: e.MAC, Instance: e.Cloud.Instance, VPC: e.Cloud.VPC, Subnet: e.Cloud.Subnet}
		}
		return c
	}
	out := Cluster{Quota: s.Cluster.Provider.Rules().HAVIPsPerVPC}
	used, at := map[string]bool{}, map[string][]fsm.ENI{}
	enis := s.ENIList()
	for _, e := range enis {
		if !e.Detached {
			at[e.Subnet] = append(at[e.Subnet], e)
		}
	}
	for _, v := range s.HAVIPList() {
		if v.Deleting {
			continue
		}
		used[v.Subnet] = true
		w := Want{
			ID: v.ID, Name: v.Name, Address: v.IP, Subnet: v.Subnet, EIP: v.EIP, Limited: v.Range.Limit, Primary: v.Range.Type != fsm.RangeENI || !v.Range.Limit,
		}
		for _, e := range at[v.Subnet] {
			w.Near = append(w.Near, named(e))
			if v.Range.Denies(s.NodeName(e.Node), e.ID, e.IsPrimary()) == "" {
				w.Candidates = append(w.Candidates, named(e))
			}
		}
		if v.Owner != nil {
			w.Owner = &Owner{Candidate: named(s.ENIs[v.Owner.ENI]), Epoch: uint64(v.Owner.Epoch), Serving: s.Serving(v) == fsm.Available, Since: time.Unix(0, v.Since)}
		}
		out.Wants = append(out.Wants, w)
	}
	slices.SortFunc(out.Wants, func(a, b Want) int { return strings.Compare(a.Name+"\x00"+a.ID, b.Name+"\x00"+b.ID) })
	for _, e := range enis {
		if e.Subnet != "" && !e.Detached {
			c := named(e)
			c.Carries = used[e.Subnet]
			out.ENIs = append(out.ENIs, c)
		}
	}
	return out
}

// members are the range that the cloud should have: each candidate's instance, or the ENI itself where the range
// names ENIs. unknown are the candidates that the cloud has not named.
func (w Want) members() (in []Member, unknown []string) {
	for _, c := range w.Candidates {
		m := Member{MemberCVM, c.Cloud.Instance}
		if !w.Primary {
			m = Member{MemberENI, c.Cloud.ID}
		}
		if m.ID == "" {
			unknown = append(unknown, c.ENI)
			continue
		}
		in = append(in, m)
	}
	slices.SortFunc(in, compareMembers)
	return slices.Compact(in), unknown
}

// place is where in the cloud the HAVIP belongs: the subnet of its candidates, or of the ENIs near it while it has none.
// ok is false while it is not known, or not one.
func (w Want) place() (vpc, subnet string, ok bool) {
	list := w.Candidates
	if len(list) == 0 {
		list = w.Near
	}
	for _, c := range list {
		if c.Cloud.Subnet == "" {
			continue
		}
		if subnet != "" && c.Cloud.Subnet != subnet {
			return "", "", false
		}
		vpc, subnet = c.Cloud.VPC, c.Cloud.Subnet
	}
	return vpc, subnet, subnet != ""
}

func compareMembers(a, b Member) int { return strings.Compare(a.Type+" "+a.ID, b.Type+" "+b.ID) }

// permits says whether the cloud lets a candidate own the HAVIP.
func (o Observed) permits(c Candidate) bool {
	if o.Enforced == nil || !*o.Enforced || !o.RangeKnown {
		return true
	}
	return slices.Contains(o.Range, Member{MemberCVM, c.Cloud.Instance}) || slices.Contains(o.Range, Member{MemberENI, c.Cloud.ID})
}
