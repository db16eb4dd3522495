package api

import (
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
)

// FIELD A37, N5: without a leader the status says who has to be there, and with one vote why there is only one.
func TestWhoHasToBeThere(t *testing.T) {
	for _, row := range []struct {
		name string
		l    Local
		want string
	}{
		{"the other alone votes", Local{Voters: []string{"node-1"}}, "node-1 alone votes: start it"},
		{"two vote", Local{Voters: []string{"node-1"}, Votes: true}, "this node and node-1, and both have to be there"},
		{"three vote", Local{Voters: []string{"node-1", "node-2"}, Votes: true}, "a majority of the voters"},
		{"nothing is known", Local{}, "a majority of the voters"},
	} {
		h := &health{&Status{}, map[string]int{}}
		h.leaderless(row.l)
		if len(h.out.Problems) != 1 || h.out.Health != HealthRed || !strings.Contains(h.out.Problems[0], row.want) {
			t.Errorf("%s: %s %q, want %q", row.name, h.out.Health, h.out.Problems, row.want)
		}
	}
	if ago := heardAgo(Local{Heard: time.Now().Add(-time.Minute)}); ago == nil || *ago < 60_000 {
		t.Errorf("heard a minute ago: %v ms", ago)
	}
	if heardAgo(Local{}) != nil {
		t.Error("never heard, and yet an age")
	}
	st := fsm.New()
	st.Nodes["n-2"] = fsm.Node{ID: "n-2", Name: "node-2", Role: fsm.RoleVoter}
	for resting, want := range map[bool]string{true: "start node-2 again", false: "add nodes until there are 3"} {
		n := st.Nodes["n-2"]
		n.Resting = resting
		st.Nodes["n-2"] = n
		h := &health{&Status{Cluster: Cluster{Voters: 1}}, map[string]int{}}
		h.fewVoters(st)
		if len(h.out.Problems) != 1 || !strings.Contains(h.out.Problems[0], want) {
			t.Errorf("resting %t: %q, want %q", resting, h.out.Problems, want)
		}
	}
	n := st.Nodes["n-2"]
	n.Resting = true
	st.Nodes["n-2"] = n
	h := &health{&Status{Cluster: Cluster{Voters: 1}, Members: []Node{{Name: "node-2", Suffrage: "voter"}}}, map[string]int{}}
	h.fewVoters(st)
	if len(h.out.Problems) != 1 || strings.Contains(h.out.Problems[0], "handed its vote over") {
		t.Errorf("the one that is just back votes alone: %q", h.out.Problems)
	}
}
