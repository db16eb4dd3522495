package agent

import (
	"slices"
	"testing"

	"havip-cluster/agent/guard"
	"havip-cluster/fsm"
)

func TestPeersNamesTheLeaderFirst(t *testing.T) {
	s := fsm.New()
	for i, role := range []fsm.Role{fsm.RoleVoter, fsm.RoleVoter, fsm.RoleAgent, fsm.RoleWitness} {
		id := "n-" + string(rune('a'+i))
		s.Nodes[id] = fsm.Node{ID: id, Name: id, Role: role, Address: "10.0.0.1", APIPort: 7400 + i}
	}
	got := peers(s, "n-a", "n-d")
	if want := []guard.Peer{{Node: "n-d", API: "10.0.0.1:7403"}, {Node: "n-b", API: "10.0.0.1:7401"}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := peers(s, "n-d", "n-d"); len(got) != 2 || got[0].Node != "n-a" {
		t.Errorf("of the leader itself: %v", got)
	}
}
