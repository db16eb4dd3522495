package placement_test

import (
	"testing"

	"havip-cluster/fsm"
)

// A HAVIP leaves an ENI that its own node does not trust, while there is a better one; it
// does not go back by itself, and where all have a fault nothing moves.
func TestFaultyENI(t *testing.T) {
	w := cluster(t, 2)
	w.havip(fsm.CreateHAVIP{Name: "web", Range: fsm.Range{Type: fsm.RangeCVM, Members: []string{"n1", "n2"}, Limit: true}})
	w.put("web", "n1/eth0")
	for _, step := range []struct {
		name, node, fault, want string
	}{
		{"the owner's gateway is gone", "n1", "gateway", "n1/eth1"},
		{"the other node's too, which concerns nobody", "n2", "gateway", "n1/eth1"},
		{"the first one is back", "n1", "", "n1/eth1"},
	} {
		w.fault(step.node, step.fault)
		w.carryOut()
		w.settle()
		if got := w.get("web").Owner.ENI; got != step.want {
			t.Errorf("%s: on %s, want %s", step.name, got, step.want)
		}
	}
}

// After a restart of everything, each HAVIP goes back to where it was, not to whoever owns
// least at that moment.
func TestBackToTheLastOwner(t *testing.T) {
	w := cluster(t, 2)
	for _, name := range []string{"a", "b"} {
		w.havip(fsm.CreateHAVIP{Name: name})
		w.put(name, "n2/eth1")
	}
	w.down("n1")
	w.open("n1")
	w.open("n2") // closes the session in which n2 owned both
	for _, name := range []string{"a", "b"} {
		if d := w.decision(name); d.To != "n2/eth1" || d.Reason != "n2/eth1 owned it last" {
			t.Errorf("%s goes to %s: %s", name, d.To, d.Reason)
		}
	}
}
