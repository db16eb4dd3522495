package owner

import (
	"log/slog"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// countedEdge counts its turns, and wants the next one after a while.
type countedEdge struct {
	quickEdge
	now   *lease.Instant
	turns int
}

func (e *countedEdge) Turn(w Wanted) Report {
	e.turns++
	r := e.quickEdge.Turn(w)
	r.Next = e.now.Add(100 * time.Millisecond)
	return r
}

func (*countedEdge) AnnounceAgain() {}

// The Edge has a turn when there can be something to do, and none for a message that changes nothing here.
func TestTheEdgeRestsWhileOthersTalk(t *testing.T) {
	w := newStage(2)
	w.must(w.place(w.web(), "node-a/eth0"))
	log := &wordLog{state: w.head()}
	now := lease.Instant(time.Hour)
	e := &countedEdge{quickEdge: quickEdge{here: map[string]bool{}}, now: &now}
	a := New(Config{
		Node: "A", Log: log, Mail: mailOf("A", log, noting(func(string) {})), Logger: slog.New(slog.DiscardHandler), Edge: e,
		Clock: func() lease.Instant { return now },
	})
	v := w.head().HAVIPs[w.web()]
	a.lease = steady{v.Owner.Session}
	a.begin(v.Owner.Session)
	a.turn()
	a.turn() // what stands now is a change of the activations
	for _, step := range []struct {
		what  string
		do    func()
		turns int
	}{
		{"nothing", func() {}, 0},
		{"a message", func() { a.handoff.HeardReady(1, "B", "another", 7) }, 0},
		{"the instant that it waits for", func() { now = now.Add(100 * time.Millisecond) }, 1},
		{"somewhat later", func() { now = now.Add(10 * time.Millisecond) }, 0},
		{"announce again", a.announceAgain, 1},
		{"another state", func() { next := *log.state; log.state = &next }, 1},
		{"the ENI has changed", func() {
			next := *log.state
			next.ENIs = map[string]fsm.ENI{}
			for id, eni := range log.state.ENIs {
				eni.Fault = "no carrier"
				next.ENIs[id] = eni
			}
			log.state = &next
		}, 1},
		{"it is given up", func() { a.giveUp(a.activations.by[v.ID], "no route") }, 1},
		{"another session", func() { a.begin(v.Owner.Session) }, 1},
	} {
		before := e.turns
		step.do()
		if a.turn(); e.turns-before != step.turns {
			t.Errorf("%s: %d turns, want %d", step.what, e.turns-before, step.turns)
		}
	}
}
