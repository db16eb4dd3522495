package fsm

import (
	"testing"
	"time"

	"havip-cluster/internal/limits"
)

// Rules 1 and 8: a first lease that is longer than those of the cluster stays in force like a change of length
// and back, and each one has the settling begin again.
func TestALongerFirstLease(t *testing.T) {
	w := trio(t)
	w.upgrade3()
	w.refuses(OpenSession{Node: nodeID("n1"), Last: w.session("n1"), Attempt: "slow", Guarded: w.state.Index, Lease: 300 * time.Millisecond}, CodeLevel, "upgrade it first")
	w.upgrade4()
	for _, bad := range []time.Duration{-time.Millisecond, 30*time.Millisecond + 1, limits.OpeningLongest + time.Millisecond} {
		w.refuses(OpenSession{Node: nodeID("n1"), Last: w.session("n1"), Attempt: "slow", Guarded: w.state.Index, Lease: bad}, CodeRange, "a first lease of "+bad.String()+" is not possible: whole milliseconds up to 500ms")
	}
	open := func(node string, length time.Duration) (s Session, c Cluster) {
		w.must(OpenSession{Node: nodeID(node), Last: w.session(node), Attempt: "slow", Guarded: w.state.Index, Lease: length})
		return w.state.Sessions[w.session(node)], w.state.Cluster
	}
	w.must(SetLease{Lease: 20 * time.Millisecond})
	w.must(SettleLease{Index: w.state.Cluster.LeaseIndex})
	for _, c := range []struct {
		node               string
		ask, gets, longest time.Duration
		settles            bool // anew
	}{
		{"n1", 0, 20 * time.Millisecond, 20 * time.Millisecond, false},
		{"n1", 20 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond, false},
		{"n1", 5 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond, false},
		{"n1", 21 * time.Millisecond, 21 * time.Millisecond, 21 * time.Millisecond, true},
		{"n2", limits.OpeningLongest, limits.OpeningLongest, limits.OpeningLongest, true},
		{"n3", 300 * time.Millisecond, 300 * time.Millisecond, limits.OpeningLongest, true},
		{"n1", 0, 20 * time.Millisecond, limits.OpeningLongest, false},
	} {
		before := w.state.Cluster.LeaseIndex
		sess, cl := open(c.node, c.ask)
		if sess.Lease != c.gets || cl.LeaseMax != c.longest || cl.Lease != 20*time.Millisecond || (cl.LeaseIndex != before) != c.settles {
			t.Errorf("%s asks for %v: session %v, cluster %v, longest %v, settling from %d (before: %d)", c.node, c.ask, sess.Lease, cl.Lease, cl.LeaseMax, cl.LeaseIndex, before)
		}
		if c.settles {
			w.refuses(SettleLease{Index: before}, CodeStale, "changed again")
		}
	}
	w.must(SettleLease{Index: w.state.Cluster.LeaseIndex})
	if c := w.state.Cluster; c.LeaseMax != 20*time.Millisecond {
		t.Errorf("settled, and the longest is %v", c.LeaseMax)
	}
}
