package placement

import (
	"cmp"
	"slices"
	"strings"

	"havip-cluster/fsm"
)

// Problem is everything a placement depends on, and nothing else: the same problem gives
// the same answer in a cluster (FromState) and from a file (`plan --offline`). Any value is
// legal: names that nobody bears, duplicates and contradictions never fail, they leave
// HAVIPs without an owner. The order of the lists does not matter as long as ids are unique.
type Problem struct {
	Now    int64 // unix nanoseconds; matters for bans, pauses and failback that end by themselves
	Nodes  []Node
	ENIs   []ENI
	HAVIPs []HAVIP
	Groups []Group
	Limits fsm.Limits
	// Even: an uneven spread is reason enough to move what has stickiness 0.
	Even bool
	// Maintenance freezes everything: nothing is placed, moved or taken away.
	Maintenance bool
}

// Node is a member as the placement sees it.
type Node struct {
	Name  string
	Role  fsm.Role
	Alive bool  // it has an open session
	Since int64 // when that was opened, unix nanoseconds
	// Leaving: its session is ending by its own wish. Draining: an operator's `node drain`.
	Leaving, Draining, Removing, Standby, Maintenance bool

	Score        int // is added for each HAVIP on it
	Health       fsm.Health
	HealthReason string
	Flapping     bool // it lost several sessions lately: nothing goes there for a wish
	// Unheard: the leader hears nothing of it, though it keeps its lease with others. It would
	// learn late that something is its own, so it counts as Flapping does. No state knows this.
	Unheard bool
	// Behind is the entry since which it does not apply the log, 0 = it does: nothing new goes there.
	Behind   uint64
	Capacity *int // bounds the sum of weights; nil = no bound
}

// ENI is an interface of a node.
type ENI struct {
	ID, Node string   // Node is a name
	Subnets  []string // those that it is in, the main one first
	Primary  bool
	Up       bool
	Detached bool   // no longer reported
	Fault    string // why its own node does not trust it, "" if it does
}

// HAVIP is an address with its rules and wishes. Zero values mean the defaults.
type HAVIP struct {
	ID, Name, Subnet   string
	Range              fsm.Range
	Require, Forbid    []string // node names or ENI ids
	Bans               []fsm.Ban
	Prefer             map[string]int        // by node name or ENI id
	GaveUp             map[string]fsm.GaveUp // by ENI id
	Fails              map[string]Fails      // by node name; what is left of them now
	FailLimit          *int                  // nil = fsm.DefaultFailLimit, 0 = no bar
	Stickiness         *int                  // nil = fsm.DefaultStickiness
	Weight             *int                  // nil = fsm.DefaultWeight
	Priority           int
	Failback           string // as fsm.ParseFailback reads it; anything else counts as never
	Disabled, Deleting bool
	Unmanaged          bool
	Maintenance        bool
	Owner              string // ENI that owns it now, "" for nobody
	Last               string // ENI that owned it last, when nobody does now
	Draining           int    // earlier owners that have not released it yet
	// Waits names the nodes whose fence does not know it yet: it goes nowhere before.
	Waits []string
	// OwnAddress says that a member has its address as its own; "" = nobody has.
	OwnAddress string
}

// Fails is how often a HAVIP failed on a node lately.
type Fails struct {
	Count int
	// Ends is when it will be one less, unix nanoseconds; 0 = unknown.
	Ends int64
}

// Group is HAVIPs, by id, that are placed together on one node or on no two the same.
type Group struct {
	Name   string
	Kind   fsm.GroupKind
	Hard   bool
	HAVIPs []string
}

func orDefault(p *int, otherwise int) int {
	if p == nil {
		return otherwise
	}
	return *p
}

func (v *HAVIP) weight() int {
	return min(max(0, orDefault(v.Weight, fsm.DefaultWeight)), fsm.ScoreLimit)
}
func (v *HAVIP) stickiness() int { return max(0, orDefault(v.Stickiness, fsm.DefaultStickiness)) }
func (v *HAVIP) failLimit() int  { return orDefault(v.FailLimit, fsm.DefaultFailLimit) }

// barredByFails says whether the failures on a node bar it.
func (v *HAVIP) barredByFails(node string) bool {
	limit := v.failLimit()
	return limit > 0 && len(v.Fails) > 0 && v.Fails[node].Count >= limit
}

// ban returns the ban that holds for a target now.
func (v *HAVIP) ban(now int64, target string) (fsm.Ban, bool) {
	for _, b := range v.Bans {
		if b.Target == target && (b.Until == 0 || b.Until > now) {
			return b, true
		}
	}
	return fsm.Ban{}, false
}

// mayMove says whether the policy allows a move for a wish now.
func mayMove(f fsm.Failback, now int64) bool {
	return f.Kind != fsm.FailbackNever && (f.Kind != fsm.FailbackWindow || f.InWindow(now))
}

// settled says whether a node has been up for the delay of the policy.
func settled(f fsm.Failback, now int64, n *Node) bool {
	return f.Kind != fsm.FailbackDelay || now-n.Since >= int64(f.Delay)
}

// FromState reads a problem off a cluster's state. at is the reader's clock in unix
// nanoseconds.
func FromState(s *fsm.State, at int64) Problem {
	p := Problem{
		Now: at, Limits: s.Cluster.Limits, Even: s.Cluster.Rebalance == fsm.RebalanceEven, Maintenance: s.Cluster.Maintenance,
		Nodes: make([]Node, 0, len(s.Nodes)), ENIs: make([]ENI, 0, len(s.ENIs)), HAVIPs: make([]HAVIP, 0, len(s.HAVIPs)),
	}
	for _, n := range s.Nodes {
		sess, open := s.SessionOf(n.ID)
		p.Nodes = append(p.Nodes, Node{
			Name: n.Name, Role: n.Role, Alive: open, Since: sess.Opened, Leaving: sess.Draining, Behind: sess.Behind, Draining: n.Draining,
			Removing: n.Removing, Standby: n.Standby, Maintenance: n.Maintenance, Score: n.Score,
			Health: n.HealthNow(), HealthReason: n.HealthReason, Flapping: n.Flapping(at), Capacity: n.Capacity,
		})
	}
	for _, e := range s.ENIs {
		p.ENIs = append(p.ENIs, ENI{
			ID: e.ID, Node: s.NodeName(e.Node), Subnets: subnetsOf(s, e), Primary: e.IsPrimary(), Up: e.Up, Detached: e.Detached, Fault: e.Fault,
		})
	}
	guarded := s.GuardedUpTo()
	for _, v := range s.HAVIPs {
		out := fromHAVIP(s, &v, at)
		if v.Guard > guarded {
			out.Waits = s.Unguarded(v)
		}
		if node, mine := s.OwnAddress(v.IP); mine {
			out.OwnAddress = fsm.OwnAddressText(v.IP, node)
		}
		p.HAVIPs = append(p.HAVIPs, out)
	}
	for _, g := range s.Groups {
		p.Groups = append(p.Groups, Group{Name: g.Name, Kind: g.Kind, Hard: g.Hard, HAVIPs: g.HAVIPs})
	}
	slices.SortFunc(p.Nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(p.ENIs, func(a, b ENI) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(p.Groups, func(a, b Group) int { return strings.Compare(a.Name, b.Name) })
	return p
}

// subnetsOf lists what fsm.State.InSubnet says yes to.
func subnetsOf(s *fsm.State, e fsm.ENI) []string {
	out := []string{e.Subnet}
	if e.SetSubnet != "" {
		return out
	}
	for _, p := range e.Prefixes {
		for name, sub := range s.Subnets {
			if sub.CIDR.Contains(p.Addr()) && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out[1:])
	return out
}

func fromHAVIP(s *fsm.State, v *fsm.HAVIP, at int64) HAVIP {
	out := HAVIP{
		ID: v.ID, Name: v.Name, Subnet: v.Subnet, Range: v.Range, Require: v.Require, Forbid: v.Forbid,
		Prefer: v.Prefer, GaveUp: v.GaveUp, FailLimit: v.FailLimit, Stickiness: v.Stickiness, Weight: v.Weight,
		Priority: v.Priority, Failback: v.Failback, Disabled: !v.Enabled, Deleting: v.Deleting,
		Unmanaged: v.Unmanaged, Maintenance: v.Maintenance, Last: v.Last, Draining: len(v.Draining),
	}
	if len(v.Bans) > 0 {
		out.Bans = v.BanList(at)
	}
	if len(v.Fails) > 0 {
		out.Fails = make(map[string]Fails, len(v.Fails))
		for node, f := range v.Fails {
			if n := f.Effective(at); n > 0 {
				gone := int64(f.Count - n)
				out.Fails[node] = Fails{Count: n, Ends: f.LastAt + (gone+1)*int64(fsm.FailDecay)}
			}
		}
	}
	if v.Owner != nil {
		out.Last = ""
		// A claim of a session that is not its node's present one is as good as none.
		if n := s.Nodes[v.Owner.Node]; n.LastSession == v.Owner.Session && s.ENIs[v.Owner.ENI].Node == v.Owner.Node {
			if _, open := s.SessionOf(v.Owner.Node); open {
				out.Owner = v.Owner.ENI
			}
		}
	}
	return out
}

// byPriority is the order in which HAVIPs are served.
func byPriority(a, b *HAVIP) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
}
