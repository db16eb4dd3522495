package membership

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/testbed/labtest"
)

// A follower stands in place of a leader that is gone, and leads; while the leader is heard, or for
// another one, it does not.
func TestStand(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader()
	gone := leader.id.NodeID
	var one *peer
	for _, p := range c.followers() {
		one = p
	}
	eventually(t, "the follower knows its leader", func() bool { return one.node.LeaderID() == gone })
	if leader.node.Stand(gone, 0) {
		t.Error("a leader stood for itself")
	}
	heard := one.node.LeaderHeard()
	if one.node.Stand(gone, 0) && time.Since(heard) < deaf(testHeartbeat/heartbeatPart) { // a busy host may have held up more
		t.Error("it stood though it hears the leader")
	}
	if one.node.Stand("n-nobody", 0) {
		t.Error("it stood for a leader that it does not know")
	}
	leader.close()
	for end := time.Now().Add(testHeartbeat * 9 / 10); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if one.node.Stand(gone, 0) {
			break
		}
	}
	eventually(t, "another one leads", func() bool {
		for _, p := range c.followers() {
			if p.node.LeaderID() != "" && p.node.LeaderID() != gone {
				return true
			}
		}
		return false
	})
}

// While heartbeats come when they should nobody stands, at no moment; when the leader is gone, half a time-out after its last
// word everybody would, and not before.
func TestHowMuchSilenceMakesOneStand(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		v := newVirtual(t, 3)
		defer v.close()
		leader, follower := v.leader()
		n, gone := v.nodes[follower], string(v.id(leader))
		v.until("it knows its leader", func() bool { return n.LeaderID() == gone })
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(7 * time.Millisecond) {
			if n.Stand(gone, 0) {
				t.Fatal("it stood though heartbeats come")
			}
		}
		v.cut(leader)
		heard := n.LeaderHeard()
		const later = 7 * time.Millisecond
		v.until("it stands", func() bool {
			if n.Stand(gone, later) {
				t.Fatal("who stands later stands before who stands first")
			}
			return n.Stand(gone, 0)
		})
		if silence := time.Since(heard); silence < deaf(virtualHeartbeat/heartbeatPart) || silence > deaf(virtualHeartbeat/heartbeatPart)+2*time.Millisecond {
			t.Errorf("it stood after %v of silence", silence)
		}
		v.until("it leads", func() bool { _, leads := n.Leading(); return leads })
	})
}

// With a short lease heartbeats come more often, and less silence is enough.
func TestHeartbeatsOfAShortLease(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		timeout, lease time.Duration
		part           int
	}{
		{100 * ms, 20 * ms, shortPart}, {100 * ms, 10 * ms, shortPart}, {200 * ms, 20 * ms, shortPart}, {100 * ms, 62 * ms, shortPart},
		{80 * ms, 50 * ms, heartbeatPart}, {100 * ms, 63 * ms, heartbeatPart}, {240 * ms, 150 * ms, heartbeatPart}, {250 * ms, 500 * ms, heartbeatPart},
		{100 * ms, 0, heartbeatPart},
	} {
		if every, want := heartbeatEvery(c.timeout, c.lease), c.timeout/time.Duration(c.part); every != want {
			t.Errorf("a time-out of %v, a lease of %v: a heartbeat each %v, want %v", c.timeout, c.lease, every, want)
		}
	}
	c := startCluster(t, 1)
	n := c.leader().node
	for _, lease := range []time.Duration{testHeartbeat / 10, 10 * testHeartbeat} {
		must[time.Duration](t)(n.SetTimers(testHeartbeat, lease))
		if got := n.pace.interval(); got != heartbeatEvery(testHeartbeat, lease) {
			t.Errorf("with a lease of %v heartbeats leave %v apart", lease, got)
		}
	}
}

// When a node heard a leader last: lately while there is one, never while it leads itself, and as long ago as the leader is gone.
func TestLeaderHeard(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		v := newVirtual(t, 3)
		defer v.close()
		leader, follower := v.leader()
		v.until("it knows its leader", func() bool { return v.nodes[follower].LeaderID() == string(v.id(leader)) })
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(7 * time.Millisecond) {
			if ago := time.Since(v.nodes[follower].LeaderHeard()); ago > virtualHeartbeat/2 {
				t.Fatalf("it heard its leader %v ago", ago)
			}
			if at := v.nodes[leader].LeaderHeard(); !at.IsZero() {
				t.Fatalf("the leader heard one at %v", at)
			}
		}
		for i := range v.nodes {
			v.cut(i)
		}
		cut := time.Now()
		time.Sleep(time.Minute)
		if at := v.nodes[follower].LeaderHeard(); at.After(cut) || cut.Sub(at) > virtualHeartbeat/2 {
			t.Errorf("cut off at %v it heard a leader at %v", cut, at)
		}
		if at := v.nodes[leader].LeaderHeard(); at.Before(cut) || at.Sub(cut) > 2*virtualHeartbeat {
			t.Errorf("cut off at %v the leader stepped down at %v", cut, at)
		}
	})
	_, wire := raft.NewInmemTransport("10.9.8.1:1")
	store, snaps := memoryStore{raft.NewInmemStore()}, raft.NewInmemSnapshotStore()
	conf := raft.DefaultConfig()
	conf.LocalID, conf.LogOutput = "n-alone", io.Discard
	check(t, raft.BootstrapCluster(conf, store, store, snaps, wire, raft.Configuration{Servers: []raft.Server{{ID: "n-alone", Address: "10.9.8.1:1"}, {ID: "n-other", Address: "10.9.8.2:1"}}}))
	n := must[*Node](t)(OpenOn(Config{Dir: t.TempDir(), Node: "n-alone", Heartbeat: time.Minute, LeaderLease: time.Minute, Logger: slog.New(slog.DiscardHandler)}, Parts{Store: store, Snapshots: snaps, Transport: wire}))
	defer n.Close()
	if at := n.LeaderHeard(); !at.IsZero() {
		t.Errorf("since its start it heard a leader at %v", at)
	}
}

// Leadership goes to the voter that is named, and to nobody else.
func TestYieldTo(t *testing.T) {
	c := startCluster(t, 3)
	if err := c.leader().node.YieldTo("n-nobody"); err == nil {
		t.Error("it was given to nobody")
	}
	to := c.followers()[0]
	eventually(t, "the other one leads", func() bool {
		leader := c.leader()
		if leader != to {
			_ = leader.node.YieldTo(to.id.NodeID)
		}
		return leader == to
	})
}

// A commit is told to all at once, without an entry of its own.
func TestACommitIsTold(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader()
	before, err := leader.node.parts.Store.LastIndex()
	check(t, err)
	const changes = 20
	for i := range changes {
		res := c.do(subnet(i + 1))
		eventually(t, "the followers have applied it", func() bool {
			for _, p := range c.followers() {
				if p.node.State().Index < res.Index {
					return false
				}
			}
			return true
		})
	}
	after, err := leader.node.parts.Store.LastIndex()
	check(t, err)
	if after-before < changes || after-before > changes*3/2 {
		t.Errorf("%d entries for %d changes", after-before, changes)
	}
}
