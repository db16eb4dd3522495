package leader

import (
	"fmt"
	"testing"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// manyNodes is how many nodes come and go in the life of one process.
const manyNodes = 10_000

// TestTheLeadersMemoryStaysSmall: nodes and sessions come and go; what is known of those that are gone
// goes too.
func TestTheLeadersMemoryStaysSmall(t *testing.T) {
	b := newBench(t, 6)
	b.turn()
	for i := range manyNodes {
		s := *b.state
		node := fmt.Sprint("n-x", i)
		s.Nodes = map[string]fsm.Node{"n-n1": {}, "n-n2": {}, "n-n3": {}, node: {}}
		b.c.heard(b.now, &s, node, 1)
	}
	if n := len(b.c.applied); n > 8 {
		t.Errorf("applied has %d nodes", n)
	}
	for i := range manyNodes { // a majority endorsed their end, and they ended by their own word
		s := lease.Session{Node: "n-n1", Number: uint64(1_000_000 + i)}
		b.c.leadership.asking[s] = lease.NewInquiry(b.now)
		b.c.leadership.asking[s].Endorsed()
		b.c.timeline.dead(b.now, s.Number, b.now, b.now)
		if i%100 == 0 {
			b.turn()
		}
	}
	b.turn()
	if n, m := len(b.c.timeline.sessions), len(b.c.leadership.asking); n+m > 0 {
		t.Errorf("the timeline has %d sessions, %d are asked about", n, m)
	}
}
