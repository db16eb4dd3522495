package fsm

import (
	"encoding/json"
	"testing"
)

// A key counts on beside the next one, until that one is said to be alone; and all of them end
// with the node.
func TestKeysOfANode(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	keys := func(want ...NodeKey) {
		t.Helper()
		got := w.state.Nodes[nodeID("n1")].Keys
		if len(got) != len(want) {
			t.Fatalf("%d keys, want %d: %v", len(got), len(want), got)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("key %d is %v, want %v", i, got[i], want[i])
			}
		}
	}
	register := func(n byte, alone bool) {
		t.Helper()
		w.must(RegisterKey{Node: nodeID("n1"), Key: nodeKey(n), LeasePort: 7403, Alone: alone})
	}
	if w.state.Nodes[nodeID("n1")].Speaks() {
		t.Error("it speaks without a key")
	}
	register(1, false)
	keys(nodeKey(1))
	register(2, false)
	keys(nodeKey(2), nodeKey(1))
	register(2, false)
	keys(nodeKey(2), nodeKey(1))
	register(3, false)
	keys(nodeKey(3), nodeKey(2))
	register(2, false) // a restored backup
	keys(nodeKey(2), nodeKey(3))
	register(2, true)
	keys(nodeKey(2))
	if n := w.state.Nodes[nodeID("n1")]; !n.Speaks() || n.LeasePort != 7403 {
		t.Errorf("%+v", n)
	}
	w.must(CloseSession{Session: w.session("n1"), Released: true})
	w.must(RemoveNode{nodeID("n1")})
	w.must(RegisterKey{Node: nodeID("n2"), Key: nodeKey(2), LeasePort: 7403}) // nobody has it any more
}

// A node registers its own key and nobody else's.
func TestOwnCommandsOfLevel4(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	raw, err := json.Marshal(RegisterKey{Node: nodeID("n1"), Key: nodeKey(1), LeasePort: 7403})
	if err != nil {
		t.Fatal(err)
	}
	for node, may := range map[string]bool{"n-n1": true, "n-n2": false, "": false} {
		if _, refusal := OwnCommand(w.state, node, "register-key", raw); (refusal == nil) != may {
			t.Errorf("node %q: %v", node, refusal)
		}
	}
}
