package leader

import (
	"fmt"
	"testing"

	"havip-cluster/fsm"
)

// drainState has the node A, which drains, and B; A owns count HAVIPs.
func drainState(count int) (*fsm.State, []fsm.Assignment) {
	s := fsm.New()
	s.Nodes["A"] = fsm.Node{ID: "A", Name: "a", LastSession: 1, Draining: true}
	s.Nodes["B"] = fsm.Node{ID: "B", Name: "b", LastSession: 2}
	s.Sessions[1], s.Sessions[2] = fsm.Session{Number: 1, Node: "A"}, fsm.Session{Number: 2, Node: "B"}
	var moves []fsm.Assignment
	for i := range count {
		id := fmt.Sprintf("havip-%d", i)
		s.HAVIPs[id] = fsm.HAVIP{ID: id, Epoch: 1, Owner: &fsm.Claim{Epoch: 1, Node: "A", Session: 1, ENI: "a/eth0"}}
		moves = append(moves, fsm.Assignment{HAVIP: id, FromEpoch: 1, Node: "B", Session: 2, ENI: "b/eth0"})
	}
	return s, moves
}

func TestADrainMovesOneAfterAnother(t *testing.T) {
	cases := []struct {
		name   string
		change func(s *fsm.State, moves []fsm.Assignment)
		want   int // of three moves
	}{
		{"only the first leaves", func(*fsm.State, []fsm.Assignment) {}, 1},
		{"none while one has not been released", func(s *fsm.State, _ []fsm.Assignment) {
			s.HAVIPs["gone"] = fsm.HAVIP{ID: "gone", Draining: []fsm.Claim{{Node: "A", Session: 1}}}
		}, 0},
		{"what another node has to release does not matter", func(s *fsm.State, _ []fsm.Assignment) {
			s.HAVIPs["gone"] = fsm.HAVIP{ID: "gone", Draining: []fsm.Claim{{Node: "B", Session: 2}}}
		}, 1},
		{"what has no other place stays", func(_ *fsm.State, moves []fsm.Assignment) {
			for i := range moves {
				moves[i].Node, moves[i].ENI = "", ""
			}
		}, 0},
		{"the one behind what must stay goes", func(_ *fsm.State, moves []fsm.Assignment) { moves[0].Node, moves[0].ENI = "", "" }, 1},
		{"standby does not wait", func(s *fsm.State, _ []fsm.Assignment) { set(s, func(n *fsm.Node) { n.Standby = true }) }, 3},
		{"nor does a removal", func(s *fsm.State, _ []fsm.Assignment) { set(s, func(n *fsm.Node) { n.Removing = true }) }, 3},
		{"nor does the node's own end", func(s *fsm.State, _ []fsm.Assignment) {
			s.Sessions[1] = fsm.Session{Number: 1, Node: "A", Draining: true}
		}, 3},
		{"without a drain nothing waits", func(s *fsm.State, _ []fsm.Assignment) { set(s, func(n *fsm.Node) { n.Draining = false }) }, 3},
		{"a HAVIP that is deleted goes at once", func(s *fsm.State, moves []fsm.Assignment) {
			for i := range moves {
				v := s.HAVIPs[moves[i].HAVIP]
				v.Deleting = true
				s.HAVIPs[v.ID], moves[i].Node = v, ""
			}
		}, 3},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, moves := drainState(3)
			c.change(s, moves)
			if got := drainStep(s, moves); len(got) != c.want {
				t.Errorf("%d moves go on, want %d: %+v", len(got), c.want, got)
			}
		})
	}
}

func set(s *fsm.State, change func(*fsm.Node)) {
	n := s.Nodes["A"]
	change(&n)
	s.Nodes["A"] = n
}

func TestEndOfADrain(t *testing.T) {
	cases := []struct {
		name   string
		change func(s *fsm.State)
		want   string // result, "" = it goes on
	}{
		{"it owns something", func(*fsm.State) {}, ""},
		{"it owns nothing", func(s *fsm.State) { clear(s.HAVIPs) }, fsm.DrainDone},
		{"it has not released the last one", func(s *fsm.State) {
			s.HAVIPs["havip-0"] = fsm.HAVIP{ID: "havip-0", Draining: []fsm.Claim{{Node: "A"}}}
		}, ""},
		{"the time is up", func(s *fsm.State) { set(s, func(n *fsm.Node) { n.Drain.Deadline = 100 }) }, fsm.DrainDeadline},
		{"the time is not up", func(s *fsm.State) { set(s, func(n *fsm.Node) { n.Drain.Deadline = 101 }) }, ""},
		{"done at the last moment is done", func(s *fsm.State) {
			clear(s.HAVIPs)
			set(s, func(n *fsm.Node) { n.Drain.Deadline = 100 })
		}, fsm.DrainDone},
		{"it ended before", func(s *fsm.State) {
			set(s, func(n *fsm.Node) { n.Drain.Deadline, n.Drain.Result = 100, fsm.DrainDeadline })
		}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, _ := drainState(1)
			c.change(s)
			got := ""
			for _, end := range endedDrains(s, 100) {
				got += end.Result
			}
			if got != c.want {
				t.Errorf("result %q, want %q", got, c.want)
			}
		})
	}
}
