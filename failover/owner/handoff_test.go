package owner

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// A word that is ahead of the log here is kept with its sender, and counts only if the claim
// turns out to be its own.
func TestAWordAheadOfTheLog(t *testing.T) {
	for _, from := range []string{"A", "C"} {
		h := NewHandoff(7, time.Second)
		h.HeardReleased(from, "v", 4, 3)
		h.HeardReady(1, from, "v", 9)
		claim := fsm.Claim{Epoch: 4, Node: "A", Session: 3}
		if got := h.toldReleased("v", claim); got != (from == "A") {
			t.Errorf("the release said by %s counts: %t", from, got)
		}
		v := fsm.HAVIP{ID: "v", Owner: &fsm.Claim{Epoch: 9, Node: "A"}}
		if got := h.drained(1, v); got != (from == "A") {
			t.Errorf("the ready said by %s counts: %t", from, got)
		}
	}
	h := NewHandoff(7, time.Second)
	for i := range 1000 {
		h.HeardReleased(fmt.Sprint("n", i), "v", 4, 3)
		h.HeardReady(1, fmt.Sprint("n", i), "v", 4)
	}
	if len(h.heard["v"]) > heardMax || len(h.ready["v"]) > heardMax {
		t.Errorf("%d and %d words are remembered", len(h.heard["v"]), len(h.ready["v"]))
	}
}

// A successor that takes many HAVIPs in lots is waited for, as long as one lot follows the other; what it only repeats
// is no next lot, and there is an end.
func TestPatienceWithASuccessorThatTakesLots(t *testing.T) {
	const patience, step = time.Second, 100 * time.Millisecond
	for _, row := range []struct {
		name string
		word func(h *Handoff, now lease.Instant, nth int) // at each step
		want time.Duration
	}{
		{"no word", func(*Handoff, lease.Instant, int) {}, patience},
		{"three lots", func(h *Handoff, now lease.Instant, nth int) {
			if nth%8 == 0 && nth <= 24 {
				h.HeardReady(now, "B", fmt.Sprint("here-", nth), 2)
			}
		}, 24*step + patience},
		{"one word, again and again", func(h *Handoff, now lease.Instant, _ int) { h.HeardReady(now, "B", "here-1", 2) }, step + patience},
		{"HAVIPs that are not here", func(h *Handoff, now lease.Instant, nth int) { h.HeardReady(now, "B", fmt.Sprint("elsewhere-", nth), 2) }, patience},
		{"another node", func(h *Handoff, now lease.Instant, nth int) { h.HeardReady(now, "C", fmt.Sprint("here-", nth), 2) }, patience},
		{"lots without an end", func(h *Handoff, now lease.Instant, nth int) { h.HeardReady(now, "B", fmt.Sprint("here-", nth), 2) }, patienceMost},
	} {
		h := NewHandoff(7, patience)
		v := fsm.HAVIP{ID: "last", Owner: &fsm.Claim{Epoch: 2, Node: "B", Session: 8}}
		for nth := range 2 * int(patienceMost/step) {
			h.Activated(fmt.Sprint("here-", nth), fsm.Claim{Epoch: 1, Node: "A", Session: 7})
		}
		nth := 0
		begun := lease.Instant(time.Hour)
		for !h.drained(begun.Add(time.Duration(nth)*step), v) {
			nth++
			row.word(h, begun.Add(time.Duration(nth)*step), nth)
		}
		if got := time.Duration(nth) * step; got != row.want {
			t.Errorf("%s: it lets go after %v, want %v", row.name, got, row.want)
		}
	}
}

// TestAReleaseOfAnotherSession: a release counts for the session that it names. The search finds no
// history that needs this since a release counts for its sender's claims alone; it stays a rule of
// the protocol (rule 7), held by this schedule.
func TestAReleaseOfAnotherSession(t *testing.T) {
	v := fsm.HAVIP{ID: "havip-1", Epoch: 2,
		Owner:    &fsm.Claim{ENI: "n1/eth0", Node: "n-1", Session: 7, Epoch: 2},
		Draining: []fsm.Claim{{ENI: "n2/eth0", Node: "n-2", Session: 6, Epoch: 1}},
	}
	s := fsm.New()
	s.HAVIPs[v.ID] = v
	h := NewHandoff(7, 0)
	kinds := func() (out []StepKind) {
		for _, step := range h.Decide(1, s) {
			out = append(out, step.Kind)
		}
		return out
	}
	for _, row := range []struct {
		from    string
		session uint64
		want    StepKind
	}{
		{"n-2", 5, StepReady}, {"n-3", 6, StepReady}, {"n-2", 6, StepActivate},
	} {
		h.HeardReleased(row.from, v.ID, 1, row.session)
		if got := kinds(); !slices.Equal(got, []StepKind{row.want}) {
			t.Errorf("after a release by %s in session %d: %v, want %v", row.from, row.session, got, row.want)
		}
	}
}

// What is asked of a node, and what it says.
func TestRecalled(t *testing.T) {
	w := newStage(2)
	a := w.node("A")
	a.decide()
	web, db := w.head().HAVIPList()[1].ID, w.head().HAVIPList()[0].ID
	if w.head().HAVIPs[web].Name != "web" {
		web, db = db, web
	}
	w.must(w.place(web, "node-a/eth0"))
	a.see(len(w.states) - 1)
	for a.decide(); len(a.steps) > 0; {
		a.step()
	}
	epoch := w.head().HAVIPs[web].Epoch
	w.must(w.place(db, "node-a/eth0")) // and A does not see it
	for _, row := range []struct {
		name    string
		havip   string
		epoch   fsm.Epoch
		session uint64
		want    bool
	}{
		{"what it serves", web, epoch, a.session, false},
		{"a later claim of what it serves", web, epoch + 1, a.session, false},
		{"another session", db, 1, a.session + 1, false},
		{"no session", db, 1, 0, false},
		{"a HAVIP that it does not know", "havip-none", 1, a.session, false},
		{"what it does not know of", db, 1, a.session, true},
		{"the same once more", db, 1, a.session, true},
	} {
		if got := a.handoff.Recalled(a.state(), row.havip, row.epoch, row.session); got != row.want {
			t.Errorf("%s: %t", row.name, got)
		}
	}
	a.see(len(w.states) - 1) // now it sees it
	for _, s := range a.decide() {
		if s.HAVIP == db && s.Kind != StepReleased {
			t.Errorf("after its promise: %+v", s)
		}
	}
	if a.handoff.Recalled(a.state(), db, 1, a.session) {
		t.Error("what its log knows goes the ordinary way")
	}
}
