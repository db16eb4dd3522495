package failover

import (
	"fmt"
	"log/slog"
	"testing"

	"havip-cluster/fsm"
)

// Few repairs are told one by one; many of one kind are one event, not thousands of entries.
func TestManyRepairsAreOneEvent(t *testing.T) {
	for _, row := range []struct{ repairs, events int }{{1, 1}, {repairsOfAKind, repairsOfAKind}, {repairsOfAKind + 1, 1}, {5000, 1}} {
		a := &Agent{cfg: Config{Logger: slog.New(slog.DiscardHandler)}, holdings: map[string]*holding{}}
		a.journal = newJournal(a.cfg)
		var list []Trouble
		for i := range row.repairs {
			id := fmt.Sprint("h", i)
			a.holdings[id] = &holding{Holding: Holding{HAVIP: fsm.HAVIP{ID: id, Name: id}, ENI: fsm.ENI{ID: "n1/eth0"}}}
			list = append(list, Trouble{HAVIP: id, Text: "the address was gone"})
		}
		list = append(list, Trouble{HAVIP: "left meanwhile", Text: "the address was gone"})
		a.tellRepairs(list)
		if n := len(a.journal.queue); n != row.events {
			t.Errorf("%d repairs are %d events, want %d", row.repairs, n, row.events)
		}
		if e := <-a.journal.queue; row.repairs > repairsOfAKind && e.Text != fmt.Sprintf("n1/eth0: the address was gone, of %d HAVIPs, h0 is one", row.repairs) {
			t.Error(e.Text)
		}
	}
}
