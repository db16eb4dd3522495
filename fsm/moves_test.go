package fsm

import (
	"slices"
	"testing"
	"time"
)

// reasons applies a command and returns the reasons of the moves in it.
func (w *world) reasons(c Command) []MoveReason {
	w.t.Helper()
	before := w.state
	next, res, err := Apply(before, before.Index+1, c)
	if err != nil || res.Refusal != nil {
		w.t.Fatalf("%s: %v, %+v", c.Kind, err, res.Refusal)
	}
	w.state = next
	var out []MoveReason
	EachMove(before, next, c, func(r MoveReason) { out = append(out, r) })
	return out
}

// TestReasonsOfMoves: each way to another owner counts once, under its own reason.
func TestReasonsOfMoves(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	w.havip("web", "10.0.0.100")
	w.guarded()
	plain := func(body Body) Command { w.t.Helper(); w.at++; return w.command("", body) }
	place := func(eni string) Command { w.t.Helper(); return plain(Place{[]Assignment{w.to("web", eni)}}) }
	asked := func(eni string) Command {
		c := place(eni)
		c.Caller = &Caller{Principal: "root@n1", Right: RightAdmin}
		return c
	}
	is := func(got []MoveReason, want ...MoveReason) {
		w.t.Helper()
		if !slices.Equal(got, want) {
			w.t.Fatalf("%q, want %q", got, want)
		}
		w.releaseAll()
	}
	is(w.reasons(place("n1/eth0")), MovePlaced)
	is(w.reasons(asked("n2/eth0")), MoveAsked)
	is(w.reasons(place("n1/eth0")), MoveWish)
	w.must(UpdateNode{ID: nodeID("n1"), Standby: ptr(true)})
	is(w.reasons(place("n2/eth0")), MoveHandover)
	w.must(UpdateNode{ID: nodeID("n1"), Standby: ptr(false)})
	w.must(DrainSession{Node: nodeID("n2"), Session: w.session("n2")})
	is(w.reasons(place("n1/eth0")), MoveHandover)
	w.must(BanHAVIP{ID: w.get("web").ID, Target: "n1"})
	is(w.reasons(place("n3/eth0")), MoveUnfit)
	w.must(UnbanHAVIP{ID: w.get("web").ID, Target: "n1"})

	// A failover in one entry, and one in two.
	to := w.to("web", "n1/eth0")
	is(w.reasons(plain(CloseSessions{Sessions: []uint64{w.session("n3")}, Place: []Assignment{to}})), MoveFailover)
	is(w.reasons(plain(CloseSession{Session: w.session("n1")})))
	w.open("n3")
	is(w.reasons(place("n3/eth0")), MoveFailover)
	// What takes it away is no move, and neither is another kind of command.
	off := Assignment{HAVIP: w.get("web").ID, FromEpoch: w.get("web").Epoch, Reason: "test"}
	is(w.reasons(plain(Place{[]Assignment{off}})))
	is(w.reasons(plain(UpdateHAVIP{ID: w.get("web").ID, Change: Change{Priority: ptr(3)}})))
}

// TestCandidates: the nodes that may own a HAVIP by its own rules, each once.
func TestCandidates(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	id := w.havip("web", "10.0.0.100").ID
	w.guarded()
	want := func(n int) {
		t.Helper()
		if got := w.state.Candidates(w.at)[id]; got != n {
			t.Errorf("%d candidates, want %d", got, n)
		}
	}
	want(3) // each node has two ENIs
	w.must(UpdateNode{ID: nodeID("n1"), Standby: ptr(true)})
	want(2)
	w.must(BanHAVIP{ID: id, Target: "n2/eth0"})
	want(2) // n2 has another ENI
	w.must(BanHAVIP{ID: id, Target: "n2", For: time.Hour})
	want(1)
	w.at += 2 * int64(time.Hour)
	want(2)
	w.must(UpdateHAVIP{ID: id, Change: Change{Enabled: ptr(false)}})
	want(0)
}
