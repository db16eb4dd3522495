package owner

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// Few repairs are told one by one; many of one kind are one event, not thousands of entries.
func TestManyRepairsAreOneEvent(t *testing.T) {
	for _, row := range []struct{ repairs, events int }{{1, 1}, {repairsOfAKind, repairsOfAKind}, {repairsOfAKind + 1, 1}, {5000, 1}} {
		var logs bytes.Buffer
		now := lease.Instant(time.Hour)
		a := &Agent{cfg: Config{Logger: slog.New(slog.NewTextHandler(&logs, nil)), Clock: func() lease.Instant { return now }}, activations: newActivations()}
		a.journal = newJournal(a.cfg)
		var list []Trouble
		for i := range row.repairs {
			id := fmt.Sprint("h", i)
			a.activations.by[id] = &activation{Activation: Activation{HAVIP: fsm.HAVIP{ID: id, Name: id}, ENI: fsm.ENI{ID: "n1/eth0"}}}
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
		for now < lease.Instant(time.Hour+time.Minute-time.Second) { // a program that does it each second
			now = now.Add(time.Second)
			a.tellRepairs(list)
		}
		if n := strings.Count(logs.String(), "\n"); n != row.events {
			t.Errorf("%d repairs, each second for a minute, are %d lines of the log, want %d", row.repairs, n, row.events)
		}
	}
}
