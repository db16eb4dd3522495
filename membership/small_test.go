package membership

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
	"havip-cluster/testbed/labtest"
)

// manyNodes is how many nodes come and go in the life of one process.
const manyNodes = 10_000

// TestGossipForgetsWhoIsGone: a node that is no member and not there; a member that is down stays.
func TestGossipForgetsWhoIsGone(t *testing.T) {
	g := &Gossip{cfg: GossipConfig{Changed: func() {}}, seen: map[string]sighting{}, bye: map[string]bool{}}
	d := gossipDelegate{g}
	for i := range manyNodes {
		n := &memberlist.Node{Name: fmt.Sprint("n-x", i)}
		d.NotifyJoin(n)
		if i%2 == 0 {
			g.goodBye(n.Name)
		}
		d.NotifyLeave(n)
	}
	for _, id := range []string{"n-1", "n-new"} {
		d.NotifyJoin(&memberlist.Node{Name: id})
	}
	d.NotifyJoin(&memberlist.Node{Name: "n-down"})
	d.NotifyLeave(&memberlist.Node{Name: "n-down"})
	g.goodBye("n-new")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.RunRejoin(ctx, func() *fsm.State {
		s := fsm.New()
		s.Nodes = map[string]fsm.Node{"n-1": {ID: "n-1"}, "n-down": {ID: "n-down"}}
		return s
	})
	if len(g.seen) != 3 || g.Status("n-down") != statusLost || g.Status("n-new") != statusAlive || len(g.bye) != 1 {
		t.Errorf("%d nodes seen, %d said good-bye; n-down is %q, n-new %q", len(g.seen), len(g.bye), g.Status("n-down"), g.Status("n-new"))
	}
}

// TestHeartbeatsOfServersThatAreGone: their times are forgotten, and those of the others count.
func TestHeartbeatsOfServersThatAreGone(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		wire := &sentAt{from: time.Now()}
		p := newPacedHeartbeats(wire, 400*time.Millisecond/heartbeatPart, nil)
		for i := range manyNodes {
			check(t, p.AppendEntries(raft.ServerID(fmt.Sprint(i)), "", &raft.AppendEntriesRequest{Term: 1}, nil))
			time.Sleep(time.Millisecond)
		}
		if n := len(p.last); n > 2*fsm.MaxNodes {
			t.Errorf("%d servers", n)
		}
		check(t, p.AppendEntries("9999", "", &raft.AppendEntriesRequest{Term: 1}, nil))
		if gap := wire.when[manyNodes] - wire.when[manyNodes-1]; gap <= 0 || gap > 100*time.Millisecond {
			t.Errorf("the next one to a server leaves after %v", gap)
		}
	})
}

// TestReadsForgetServersThatAreGone: nothing is kept of whom no request is under way to.
func TestReadsForgetServersThatAreGone(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		e := newElectorate(func(raft.ServerID) (uint64, error) { return 7, nil })
		for i := range manyNodes {
			e.voters = func() []raft.Server { return []raft.Server{{ID: "self"}, {ID: raft.ServerID(fmt.Sprint(i))}} }
			check(t, e.confirm(t.Context(), 7))
		}
		synctest.Wait()
		if n := len(e.lanes); n != 0 {
			t.Errorf("%d lanes", n)
		}
	})
}
