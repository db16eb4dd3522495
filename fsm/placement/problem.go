package placement

import (
	"cmp"
	"strings"

	"havip-cluster/havip"
)

// Problem is everything a placement depends on, and nothing else: the same problem gives
// the same answer in a cluster (State.Problem of package fsm) and from a file (`plan --offline`). Any value is
// legal: names that nobody bears, duplicates and contradictions never fail, they leave
// HAVIPs without an owner. The order of the lists does not matter as long as ids are unique.
type Problem struct {
	Now    int64 // unix nanoseconds; matters for bans, pauses and failback that end by themselves
	Nodes  []Node
	ENIs   []ENI
	HAVIPs []HAVIP
	Groups []Group
	Limits Limits
	// Even: an uneven spread is reason enough to move what has stickiness 0.
	Even bool
	// Maintenance freezes everything: nothing is placed, moved or taken away.
	Maintenance bool
}

// Node is a member as the placement sees it.
type Node struct {
	Name  string
	Role  Role
	Alive bool  // it has an open session
	Since int64 // when that was opened, unix nanoseconds
	// Leaving: its session is ending by its own wish. Draining: an operator's `node drain`.
	Leaving, Draining, Removing, Standby, Maintenance bool

	Score        int // is added for each HAVIP on it
	Health       Health
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
	ID, Name, Subnet string
	Range            Range
	Spec             // a Failback that cannot be read counts as never
	Bans             []Ban
	GaveUp           map[string]GaveUp // by ENI id
	Fails            map[string]Fails  // by node name; what is left of them now
	Deleting         bool
	Owner            string // ENI that owns it now, "" for nobody
	// Lapsed is the ENI of a claim whose session is not its node's present one: it is as good as
	// none, and has to be taken away all the same. Only without an Owner.
	Lapsed   string
	Last     string // ENI that owned it last, when nobody does now
	Draining int    // earlier owners that have not released it yet
	// Waits names the nodes whose fence does not know it yet: it goes nowhere before.
	Waits []string
	// Checked is what the checks of services say, by node name; a node without a line has nothing
	// against it. It may be shared by several HAVIPs, nobody writes to it.
	Checked map[string]Verdict
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
	Kind   GroupKind
	Hard   bool
	HAVIPs []string
}

func (v *HAVIP) weight() int     { return min(max(0, v.Takes()), havip.ScoreLimit) }
func (v *HAVIP) stickiness() int { return max(0, v.Sticky()) }

// barredByFails says whether the failures on a node bar it.
func (v *HAVIP) barredByFails(node string) bool {
	limit := v.FailureLimit()
	return limit > 0 && len(v.Fails) > 0 && v.Fails[node].Count >= limit
}

// ban returns the ban that holds for a target now.
func (v *HAVIP) ban(now int64, target string) (Ban, bool) {
	for _, b := range v.Bans {
		if b.Target == target && (b.Until == 0 || b.Until > now) {
			return b, true
		}
	}
	return Ban{}, false
}

// mayMove says whether the policy allows a move for a wish now.
func mayMove(f Failback, now int64) bool {
	return f.Kind != FailbackNever && (f.Kind != FailbackWindow || f.InWindow(now))
}

// settled says whether a node has been up for the delay of the policy.
func settled(f Failback, now int64, n *Node) bool {
	return f.Kind != FailbackDelay || now-n.Since >= int64(f.Delay)
}

// byPriority is the order in which HAVIPs are served.
func byPriority(a, b *HAVIP) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
}
