package membership

import (
	"testing"

	"havip-cluster/fsm"
)

// While one node runs an older program, a command that it could not read does not get into
// the log. When all have said that they read it, it does, and an older one is not let in.
func TestUpgradeOfOneNodeAfterAnother(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	leader := c.leader()
	_, err := Admit(soon(t), leader.node, leader.id, applicant(t, c, "node-2"), nil)
	check(t, err)
	s := leader.node.State()
	told := map[string]string{leader.id.NodeID: fsm.VersionWithLevel("v2")}
	r := &Reconciler{Node: leader.node, Version: func(id string) string { return told[id] }}
	ask := func() fsm.Result {
		t.Helper()
		return must[fsm.Result](t)(leader.node.Propose(soon(t), 0, "", fsm.SetCluster{Rebalance: new(fsm.RebalanceEven)}))
	}
	tell := func() {
		t.Helper()
		for range 4 { // one node in each step, whatever else the leader's own loop does
			if b, due := r.upgraded(leader.node.State()); due {
				check(t, r.propose(soon(t), 0, b))
			}
		}
	}
	tell()
	index := leader.node.State().Index
	if res := ask(); res.Refusal == nil || res.Refusal.Code != fsm.CodeLevel || leader.node.State().Index != index {
		t.Fatalf("under an older node-2: %+v at index %d, before %d", res, leader.node.State().Index, index)
	}
	node2, _ := s.NodeNamed("node-2")
	told[node2.ID] = "v1.9"
	tell()
	if res := ask(); res.Refusal == nil {
		t.Fatal("done under node-2 that says it is older")
	}
	told[node2.ID] = fsm.VersionWithLevel("v2")
	tell()
	if res := ask(); res.Refusal != nil {
		t.Fatal(res.Refusal)
	}
	_, err = Admit(soon(t), leader.node, leader.id, applicant(t, c, "node-3"), nil)
	wantRefusal(t, err, fsm.CodeLevel, "upgrade its program, then join")
	newer := applicant(t, c, "node-4")
	newer.Program = fsm.VersionWithLevel("v2")
	_, err = Admit(soon(t), leader.node, leader.id, newer, nil)
	check(t, err)
}
