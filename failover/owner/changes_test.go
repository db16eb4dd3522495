package owner

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// quickEdge does all that is wanted within one turn.
type quickEdge struct {
	Edge
	here map[string]bool
}

func (e *quickEdge) Turn(w Wanted) Report {
	r := Report{Next: w.Deadline}
	for _, h := range w.Activations {
		if id := h.HAVIP.ID; !e.here[id] {
			e.here[id] = true
			r.Serving = append(r.Serving, id)
		}
	}
	for id := range e.here {
		if !slices.ContainsFunc(w.Activations, func(h Activation) bool { return h.HAVIP.ID == id }) {
			delete(e.here, id)
			r.Gone = append(r.Gone, id)
		}
	}
	return r
}

// steady is a lease that does not end.
type steady struct{ session uint64 }

func (l steady) Lease() (uint64, lease.Instant) { return l.session, lease.Instant(2 * time.Hour) }
func (steady) Release()                         {}

// noting is a post that notes to whom something was sent.
type noting func(string)

func (p noting) Send(to fsm.Node, _ []byte) error { p("a message to " + to.ID); return nil }

// A successor waits for the word that a HAVIP has left, and hooks and log lines of many HAVIPs take their
// time: the word goes first. What is told of a HAVIP takes turns all the same.
func TestMessagesLeaveBeforeTheTurnIsTold(t *testing.T) {
	w := newStage(2)
	w.must(w.place(w.web(), "node-a/eth0"))
	log := &wordLog{state: w.head()}
	var order []string
	note := func(what string) { order = append(order, what) }
	a := New(Config{
		Node: "A", Log: log, Mail: mailOf("A", log, noting(note)), Logger: slog.New(slog.DiscardHandler), Edge: &quickEdge{here: map[string]bool{}},
		Clock:   func() lease.Instant { return lease.Instant(time.Hour) },
		Changed: func(c Change) { note(fmt.Sprint(c.Kind, " ", c.HAVIP.Name, " ", c.Claim.Epoch)) },
	})
	v := w.head().HAVIPs[w.web()]
	a.lease = steady{v.Owner.Session}
	a.begin(v.Owner.Session)
	a.turn()
	w.must(w.place(v.ID, "node-b/eth0"))
	log.state = w.head()
	moved := w.head().HAVIPs[v.ID]
	a.handoff.HeardReady(1, "B", v.ID, moved.Epoch)
	a.turn()
	want := []string{fmt.Sprint("acquire web ", v.Epoch), "a message to B", fmt.Sprint("release web ", v.Epoch)}
	if !slices.Equal(order, want) {
		t.Errorf("in this order:\n%q, want\n%q", order, want)
	}
}
