package shell

import (
	"context"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// looking is an owner that counts how often it is told to look.
type looking struct{ looked int }

func (*looking) Clean(context.Context, bool) error { return nil }
func (*looking) Guarded() uint64                   { return 0 }
func (o *looking) Wake()                           { o.looked++ }
func (*looking) AnnounceAgain(string)              {}

// A guest that was paused, its clock too: the others have closed its session meanwhile, and by its own
// clock and log the lease still runs. With the first renewal after it wakes it falls silent.
func TestAPausedGuestEndsWithItsFirstRenewal(t *testing.T) {
	r := newRenewing(t, 1)
	owner := &looking{}
	r.renewer.owner = owner
	r.renew()
	others := *r.log.state
	others.Sessions, others.Nodes = map[uint64]fsm.Session{}, map[string]fsm.Node{}
	for id, n := range r.log.state.Nodes {
		if id == "n-1" {
			n.LastSession = 7
		}
		others.Nodes[id] = n
	}
	for i, v := range r.voters {
		if v.cfg.Node != "n-1" { // its own log stood still as well
			r.voters[i].cfg.Log = &still{state: &others, set: r.log.set}
		}
	}
	before := r.fence.deadline.Load()
	if before <= int64(r.now) {
		t.Fatal("it did not answer before")
	}
	r.now = r.now.Add(time.Millisecond) // its clock has hardly moved
	if _, deadline := r.renewer.Lease(); deadline == 0 {
		t.Fatal("it knew without a renewal")
	}
	r.renew()
	if session, _ := r.renewer.Lease(); session != 0 || r.fence.deadline.Load() != 0 || owner.looked != 1 {
		t.Errorf("session %d, deadline %d, looked %d times", session, r.fence.deadline.Load(), owner.looked)
	}
}

// A voter says so of what its log has closed alone: not of a session that it has not heard of yet, nor of an open one.
func TestWhatIsClosed(t *testing.T) {
	s := fsm.New()
	s.Nodes["n-1"] = fsm.Node{ID: "n-1", LastSession: 9}
	s.Sessions[9] = fsm.Session{Number: 9, Node: "n-1"}
	for number, want := range map[uint64]bool{0: false, 7: true, 9: false, 12: false} {
		if got := closed(s, lease.Session{Node: "n-1", Number: number}); got != want {
			t.Errorf("session %d: %v", number, got)
		}
	}
	if closed(s, lease.Session{Node: "n-2", Number: 3}) {
		t.Error("a session of a node that is unknown")
	}
}

// The word ends its own session alone, and once.
func TestEndedIsForOneSession(t *testing.T) {
	r := newRenewing(t, 1)
	owner := &looking{}
	r.renewer.owner = owner
	r.renew()
	r.renewer.Ended(lease.Ended{Session: lease.Session{Node: "n-1", Number: 6}, From: "n-2"})
	if session, _ := r.renewer.Lease(); session != 7 || owner.looked != 0 {
		t.Fatalf("session %d", session)
	}
	for range 2 {
		r.renewer.Ended(lease.Ended{Session: lease.Session{Node: "n-1", Number: 7}, From: "n-2"})
	}
	if session, _ := r.renewer.Lease(); session != 0 || owner.looked != 1 {
		t.Errorf("session %d, looked %d times", session, owner.looked)
	}
}
