package membership

import "testing"

// A node is caught up once its machine has seen what was in the log at its start.
func TestCaughtUp(t *testing.T) {
	n := &Node{Machine: NewMachine(), book: &ledger{start: 5, last: 7}}
	for reached, want := range []bool{4: false, 5: true, 6: true} {
		n.reached.Store(uint64(reached))
		if got := n.CaughtUp(); got != want {
			t.Errorf("at entry %d of 5: %t", reached, got)
		}
	}
}
