package membership

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// A key is registered when the state has another one, or none; beside the one before at first, and
// alone when that has had its time. Below level 4 nothing is said.
func TestRegistrar(t *testing.T) {
	key := func(digit string) fsm.NodeKey { return fsm.NodeKey{Certificate: digit, Public: digit} }
	s := fsm.New()
	present, port := key("1"), 7403
	var asked []fsm.RegisterKey
	r := &Registrar{
		Node: "n-a", State: func() *fsm.State { return s }, Logger: slog.New(slog.DiscardHandler),
		Key: func() (fsm.NodeKey, int, error) { return present, port, nil },
		Submit: func(_ context.Context, b fsm.Body) (fsm.Result, error) {
			asked = append(asked, b.(fsm.RegisterKey))
			return fsm.Result{}, nil
		},
	}
	now := time.Unix(1000, 0)
	r.Now = func() time.Time { return now }
	steps := func(what string, want ...fsm.RegisterKey) {
		t.Helper()
		asked = nil
		if !r.step(t.Context()) {
			t.Errorf("%s: to be tried again", what)
		}
		if len(asked) != len(want) || len(want) == 1 && asked[0] != want[0] {
			t.Errorf("%s: %+v, want %+v", what, asked, want)
		}
	}
	has := func(level, port int, keys ...fsm.NodeKey) {
		s.Cluster.Level = level
		s.Nodes["n-a"] = fsm.Node{ID: "n-a", LeasePort: port, Keys: keys}
	}
	steps("no member")
	has(3, 0)
	steps("level 3")
	has(4, 0)
	first := fsm.RegisterKey{Node: "n-a", Key: key("1"), LeasePort: 7403}
	steps("no key yet", first)
	has(4, 7403, key("1"))
	steps("registered")
	port = 7404
	steps("another port", fsm.RegisterKey{Node: "n-a", Key: key("1"), LeasePort: 7404})
	port, present = 7403, key("2")
	steps("a new certificate", fsm.RegisterKey{Node: "n-a", Key: key("2"), LeasePort: 7403})
	has(4, 7403, key("2"), key("1"))
	steps("both")
	now = now.Add(keyGrace - 1)
	steps("both, for a while")
	now = now.Add(1)
	steps("the old one has had its time", fsm.RegisterKey{Node: "n-a", Key: key("2"), LeasePort: 7403, Alone: true})
}

// Whoever joins with a lease port has its key in the state from its first moment: that of the certificate
// it gets. One that repeats its request gets another certificate, and the key stays.
func TestAdmittedWithItsKey(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	leader := c.leader()
	version := fsm.VersionWithLevel("v")
	res, err := leader.node.Propose(soon(t), 0, "", fsm.UpdateNode{ID: leader.id.NodeID, Version: &version})
	check(t, err)
	if res.Refusal != nil {
		t.Fatal(res.Refusal)
	}
	a := applicant(t, c, "node-2")
	a.Program = version
	a.Ports.Lease = 7403
	first := must[Admitted](t)(Admit(soon(t), leader.node, leader.id, a, nil))
	cert, err := identity.ParseCert("the certificate", first.Cert)
	check(t, err)
	want, err := keyOf(cert)
	check(t, err)
	n := leader.node.State().Nodes[first.Node.ID]
	if len(n.Keys) != 1 || n.Keys[0] != want || n.LeasePort != 7403 || !n.Speaks() {
		t.Errorf("admitted as %+v, want the key %+v", n, want)
	}
	again := must[Admitted](t)(Admit(soon(t), leader.node, leader.id, a, nil))
	if again.Node.ID != first.Node.ID {
		t.Errorf("the same request again makes node %s of %s", again.Node.ID, first.Node.ID)
	}
	without := applicant(t, c, "node-3") // its program has no lease port
	without.Program = version
	third := must[Admitted](t)(Admit(soon(t), leader.node, leader.id, without, nil))
	if leader.node.State().Nodes[third.Node.ID].Speaks() {
		t.Error("a node without a lease port speaks")
	}
}
