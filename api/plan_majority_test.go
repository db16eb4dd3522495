package api

import (
	"strings"
	"testing"

	"havip-cluster/fsm"
)

// FIELD N3: the majority is part of the plan.
func TestPlanCountsTheMajority(t *testing.T) {
	st, live := fsm.New(), map[string]Live{}
	add := func(name, suffrage, status string) {
		st.Nodes["n-"+name] = fsm.Node{ID: "n-" + name, Name: name}
		live["n-"+name] = Live{Suffrage: suffrage, Status: status}
	}
	add("a", "voter", StatusAlive)
	add("b", "voter", StatusAlive)
	add("c", "nonvoter", StatusAlive)
	for _, row := range []struct {
		down, up string
		want     string
	}{{"", "", ""}, {"c", "", ""}, {"b", "", "no majority: 1 of 2 voters"}, {"a,b", "b", "no majority: 0 of 2"}} {
		got := noMajority(st, live, strings.Split(row.down, ","), strings.Split(row.up, ","))
		if row.want == "" && got != "" || !strings.Contains(got, row.want) {
			t.Errorf("down %s: %q, want %q", row.down, got, row.want)
		}
	}
	var two Plan
	planMajority(&two, st, live, PlanSpec{NMinusOne: true})
	if two.NoMajority != "" || strings.Join(two.LastVoters, ",") != "a,b" {
		t.Errorf("two voters: %+v", two)
	}
	add("d", "voter", StatusLost)
	if got := noMajority(st, live, []string{"a"}, nil); !strings.Contains(got, "1 of 3") {
		t.Errorf("one is lost already: %q", got)
	}
	if got := noMajority(st, live, []string{"a"}, []string{"d"}); got != "" {
		t.Errorf("it comes back: %q", got)
	}
}
