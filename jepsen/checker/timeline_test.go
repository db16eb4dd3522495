package checker

import (
	"slices"
	"testing"

	"havip-cluster/jepsen/history"
)

func TestTimelines(t *testing.T) {
	planned := []string{"noticed", "committed", "applied", "address", "fence", "announced", "confirmed"}
	crash := append([]string{"heard", "deadline", "noticed", "endorsed"}, planned[1:]...)
	change := func(epoch uint64, kind string, steps []string, without ...string) history.Change {
		c := history.Change{HAVIP: "web", Epoch: epoch, Kind: kind, From: "a/eth0", To: "b/eth0"}
		for _, s := range steps {
			if !slices.Contains(without, s) {
				c.Steps, c.Nodes = append(c.Steps, s), append(c.Nodes, "a")
			}
		}
		return c
	}
	nobody := change(2, "move", planned)
	nobody.Nodes[3] = ""
	for _, c := range []struct {
		name    string
		epoch   uint64
		changes []history.Change
		want    Validity
	}{
		{"nothing", 0, nil, Unknown},
		{"nothing but the first placement", 1, []history.Change{change(1, "first", planned)}, Unknown},
		{"a move and a crash", 3, []history.Change{change(1, "first", planned), change(2, "move", planned), change(3, "crash", crash)}, Valid},
		{"overtaken", 2, []history.Change{change(1, "first", planned), change(2, "move", []string{"noticed", "committed", "overtaken"})}, Valid},
		{"the leader changed", 2, []history.Change{change(1, "first", planned), change(2, "move", []string{"noticed", "committed", "adopted", "confirmed"})}, Valid},
		{"planted: one is missing", 3, []history.Change{change(1, "first", planned), change(3, "crash", crash)}, Invalid},
		{"planted: the last is missing", 3, []history.Change{change(1, "first", planned), change(2, "move", planned)}, Invalid},
		{"planted: never announced", 2, []history.Change{change(1, "first", planned), change(2, "move", planned, "announced")}, Invalid},
		{"planted: never noticed", 2, []history.Change{change(1, "first", planned), change(2, "move", planned, "noticed")}, Invalid},
		{"planted: a crash that nobody endorsed", 2, []history.Change{change(1, "first", planned), change(2, "crash", crash, "endorsed")}, Invalid},
		{"planted: a crash without a deadline", 2, []history.Change{change(1, "first", planned), change(2, "crash", crash, "deadline")}, Invalid},
		{"planted: the owner said nothing", 2, []history.Change{change(1, "first", planned), change(2, "move", []string{"noticed", "committed", "silent"})}, Invalid},
		{"planted: a step of nobody", 2, []history.Change{change(1, "first", planned), nobody}, Invalid},
		{"planted: no kind", 2, []history.Change{change(1, "first", planned), change(2, "", planned)}, Invalid},
	} {
		h := &history.History{Changes: c.changes}
		if c.epoch > 0 {
			h.Marks = []history.Mark{{Kind: history.MarkEpoch, Text: "web", Value: c.epoch}}
		}
		if got := Timelines(h); got.Valid != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
