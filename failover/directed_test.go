package failover

import "testing"

// directed has a schedule for each planted bug that the search meets too seldom to be relied on.
// With the bug it ends in a violation, and without it never does.
var directed = map[string]func(*stage){
	"handoff-relabel-early": thereAndBackTwice,
}

func TestDirected(t *testing.T) {
	for name, play := range directed {
		t.Run(name, func(t *testing.T) {
			s := newStage(2)
			play(s)
			if s.violation != "" {
				t.Error(s.violation)
			}
			if !s.node("A").answers[answer{s.web(), "node-a/eth0"}] || len(s.node("B").answers) != 0 {
				t.Errorf("A answers for %v, B for %v: it is A that should", s.node("A").answers, s.node("B").answers)
			}
		})
	}
}

// thereAndBackTwice is A to B, to A, to B, where A applies everything and B only the first move. If
// A takes epoch 3 before B has said that it never uses epoch 2, then epoch 1 is a claim of A's that A
// does not use. A says so to B, its successor of epoch 4, and epoch 1 was all that B waited for.
func thereAndBackTwice(s *stage) {
	a, b := s.node("A"), s.node("B")
	move := func(to string) {
		s.must(s.place(s.web(), to))
		a.see(len(s.states) - 1)
		s.turn(a)
	}
	move("node-a/eth0")
	s.must(s.place(s.web(), "node-b/eth0"))
	first := len(s.states) - 1
	move("node-a/eth0")
	move("node-b/eth0")
	b.see(first)
	for _, m := range s.heap {
		if m.to == b.id {
			s.deliver(m)
		}
	}
	s.turn(b)
}

func (w *stage) web() string {
	v, _ := w.head().HAVIPNamed("web")
	return v.ID
}

// turn has a node decide and do all of it.
func (w *stage) turn(n *actor) {
	for range n.decide() {
		n.step()
	}
	w.check()
}
