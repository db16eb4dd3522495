package scenario

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"havip-cluster/jepsen/netns"
)

// The guard renews while the agent is stopped for a moment, also with the shortest lease: no failover, and
// no client notices. An agent that stays stopped is replaced within its authorisation (500 ms) and a lease,
// and never are there two.
func TestStopOfTheAgentAlone(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	if _, err := b.Cluster.CLI(1, "cluster", "set", "lease=20ms", "--force"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * Lease) // the longer one may still be in force
	b.Eventually("every node to be alive, though its session began with a longer lease", func() bool {
		nodes, err := b.Cluster.Nodes()
		return err == nil && !slices.ContainsFunc(nodes, func(n netns.NodeStatus) bool { return n.Status != "alive" })
	})
	b.Place(b.other(b.Leader()))
	owner := b.Owner()
	moment := &Series{Name: "SIGSTOP of the agent alone for 400 ms, lease 20 ms"}
	runs, kept := Runs(3), 0
	for range runs {
		b.WaitSessions(3)
		b.Place(owner)
		session := b.session(owner)
		m := b.Watch(func() {
			b.signalAgent(owner, syscall.SIGSTOP)
			time.Sleep(400 * time.Millisecond)
			b.signalAgent(owner, syscall.SIGCONT)
			time.Sleep(2 * Lease)
		})
		noDual(t, m)
		moment.Add(m)
		if now := b.session(owner); now == session {
			kept++
		} else { // a busy host may stand still for longer than such a lease
			timely(t, "session %d became %d", session, now)
		}
	}
	if kept == 0 {
		t.Errorf("the session was lost each of %d times", runs)
	}
	report(t, moment, 50*time.Millisecond)

	longer := &Series{Name: "SIGSTOP of the agent alone for 2 s, lease 20 ms"}
	m := b.Watch(func() {
		b.signalAgent(owner, syscall.SIGSTOP)
		b.NewOwner(b.other(owner), owner)
		time.Sleep(2 * time.Second)
		b.signalAgent(owner, syscall.SIGCONT)
		time.Sleep(2 * Lease)
	})
	noDual(t, m)
	longer.Add(m)
	report(t, longer, time.Second)
}
