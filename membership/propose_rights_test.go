package membership

import (
	"testing"

	"havip-cluster/fsm"
)

// Where it is proposed, a command is refused that its caller may not ask for; what a node does by
// itself has no caller, and is not asked.
func TestTheLeaderAsksForRights(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	leader := c.leader()
	on := true
	body := fsm.UpdateNode{ID: leader.id.NodeID, Standby: &on}
	index := leader.node.State().Index
	res, err := leader.node.Propose(WithCaller(soon(t), fsm.Caller{Principal: "token:see", Right: fsm.RightViewer}), 0, "", body)
	if err != nil || res.Refusal == nil || res.Refusal.Code != fsm.CodeDenied {
		t.Errorf("a viewer: %+v, %v", res, err)
	}
	wantRefusal(t, RemoveNode(WithCaller(soon(t), fsm.Caller{Principal: "token:ops", Right: fsm.RightOperator}), leader.node, c.join("node-2", "voter").id.Name, true, func(string) bool { return true }), fsm.CodeDenied, "role admin")
	if n := leader.node.State().Nodes[leader.id.NodeID]; n.Standby || leader.node.State().Index < index {
		t.Error("it was done all the same")
	}
	if res, err = leader.node.Propose(WithCaller(soon(t), fsm.Caller{Principal: "token:ops", Right: fsm.RightOperator}), 0, "", body); err != nil || res.Refusal != nil {
		t.Errorf("an operator: %+v, %v", res, err)
	}
}
