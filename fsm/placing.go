package fsm

import (
	"slices"
	"strings"

	"havip-cluster/fsm/placement"
)

// The state as the placement sees it. What the placement decides comes back as assignments
// for the log.

// Problem is what the placement has to solve. at is the reader's clock in unix nanoseconds.
func (s *State) Problem(at int64) placement.Problem {
	p := placement.Problem{
		Now: at, Limits: s.Cluster.Limits, Even: s.Cluster.Rebalance == RebalanceEven, Maintenance: s.Cluster.Maintenance,
		Nodes: make([]placement.Node, 0, len(s.Nodes)), ENIs: make([]placement.ENI, 0, len(s.ENIs)), HAVIPs: make([]placement.HAVIP, 0, len(s.HAVIPs)),
	}
	for _, n := range s.Nodes {
		p.Nodes = append(p.Nodes, s.viewNode(n, at))
	}
	for _, e := range s.ENIs {
		p.ENIs = append(p.ENIs, s.viewENI(e, s.subnetsOf(e)))
	}
	guarded := s.GuardedUpTo()
	for _, v := range s.HAVIPs {
		out := s.viewHAVIP(&v, at)
		if v.Guard > guarded {
			out.Waits = s.Unguarded(v)
		}
		p.HAVIPs = append(p.HAVIPs, out)
	}
	for _, g := range s.Groups {
		p.Groups = append(p.Groups, placement.Group{Name: g.Name, Kind: g.Kind, Hard: g.Hard, HAVIPs: g.HAVIPs})
	}
	slices.SortFunc(p.Nodes, func(a, b placement.Node) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(p.ENIs, func(a, b placement.ENI) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(p.Groups, func(a, b placement.Group) int { return strings.Compare(a.Name, b.Name) })
	return p
}

// Explain decides for every HAVIP and explains each decision in full, by priority, name and
// id. at is the reader's clock in unix nanoseconds.
func (s *State) Explain(at int64) []placement.Decision { return placement.Explain(s.Problem(at)) }

// ExplainOne is Explain for one HAVIP, by id; false if there is none.
func (s *State) ExplainOne(at int64, havip string) (placement.Decision, bool) {
	return placement.ExplainOne(s.Problem(at), havip)
}

// Moves is what Explain would change, as commands for the log. The leader asks it again and
// again. unheard are the ids of nodes of which the leader hears nothing, see
// placement.Node.Unheard.
func (s *State) Moves(at int64, unheard map[string]bool) []Assignment {
	p := s.Problem(at)
	for id := range unheard {
		for i := range p.Nodes {
			p.Nodes[i].Unheard = p.Nodes[i].Unheard || p.Nodes[i].Name == s.NodeName(id)
		}
	}
	var out []Assignment
	for _, d := range placement.Moves(p) {
		out = append(out, s.Assignment(d))
	}
	return out
}

// Assignment ties a decision that was made for this state to its claims and sessions.
func (s *State) Assignment(d placement.Decision) Assignment {
	a := Assignment{HAVIP: d.HAVIP, FromEpoch: s.HAVIPs[d.HAVIP].Epoch, Reason: clip(d.Reason, MaxReason)}
	if s.Level() >= 2 && d.Candidates != nil { // older members cannot read it
		a.Detail = d.Detail()
	}
	if d.To != "" {
		e := s.ENIs[d.To]
		sess, _ := s.SessionOf(e.Node)
		a.Node, a.Session, a.ENI = e.Node, sess.Number, d.To
	}
	return a
}

func (s *State) viewNode(n Node, at int64) placement.Node {
	sess, open := s.SessionOf(n.ID)
	return placement.Node{
		Name: n.Name, Role: n.Role, Alive: open, Since: sess.Opened, Leaving: sess.Draining, Behind: sess.Behind, Draining: n.Draining,
		Removing: n.Removing, Standby: n.Standby, Maintenance: n.Maintenance, Score: n.Score,
		Health: n.HealthNow(), HealthReason: n.HealthReason, Flapping: n.Flapping(at), Capacity: n.Capacity,
	}
}

func (s *State) viewENI(e ENI, subnets []string) placement.ENI {
	return placement.ENI{ID: e.ID, Node: s.NodeName(e.Node), Subnets: subnets, Primary: e.IsPrimary(), Up: e.Up, Detached: e.Detached, Fault: e.Fault}
}

// subnetsOf lists the subnets that an ENI is in, the main one first.
func (s *State) subnetsOf(e ENI) []string {
	out := []string{e.Subnet}
	for name, sub := range s.Subnets {
		if name != e.Subnet && e.in(name, sub.CIDR) {
			out = append(out, name)
		}
	}
	slices.Sort(out[1:])
	return out
}

// viewHAVIP is a HAVIP as the placement sees it, all but HAVIP.Waits.
func (s *State) viewHAVIP(v *HAVIP, at int64) placement.HAVIP {
	out := placement.HAVIP{
		ID: v.ID, Name: v.Name, Subnet: v.Subnet, Range: v.Range, Spec: v.Spec, GaveUp: v.GaveUp,
		Deleting: v.Deleting, Last: v.Last, Draining: len(v.Draining),
	}
	if node, mine := s.OwnAddress(v.IP); mine {
		out.OwnAddress = OwnAddressText(v.IP, node)
	}
	out.Checked = s.verdicts(v.ID)
	if len(v.Bans) > 0 {
		out.Bans = v.BanList(at)
	}
	if len(v.Fails) > 0 {
		out.Fails = make(map[string]placement.Fails, len(v.Fails))
		for node, f := range v.Fails {
			if n := f.Effective(at, v.FailsAfter()); n > 0 {
				gone := int64(f.Count - n)
				out.Fails[node] = placement.Fails{Count: n, Ends: f.LastAt + (gone+1)*int64(v.FailsAfter())}
			}
		}
	}
	if v.Owner != nil {
		out.Last, out.Lapsed = "", v.Owner.ENI
		// A claim of a session that is not its node's present one is as good as none.
		if n := s.Nodes[v.Owner.Node]; n.LastSession == v.Owner.Session && s.ENIs[v.Owner.ENI].Node == v.Owner.Node {
			if _, open := s.SessionOf(v.Owner.Node); open {
				out.Owner, out.Lapsed = v.Owner.ENI, ""
			}
		}
	}
	return out
}
