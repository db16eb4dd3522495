package api

import (
	"strings"
	"testing"

	"havip-cluster/fsm"
)

// spare is a cluster of two nodes with a session each and a HAVIP that either may own.
func spare() *fsm.State {
	st := fsm.New()
	for i, name := range []string{"n1", "n2"} {
		st.Nodes[name] = fsm.Node{ID: name, Name: name, Role: fsm.RoleVoter, LastSession: uint64(i + 1)}
		st.Sessions[uint64(i+1)] = fsm.Session{Number: uint64(i + 1), Node: name}
	}
	st.HAVIPs["h1"] = fsm.HAVIP{ID: "h1", Name: "web", Range: fsm.Range{Type: fsm.RangeCVM, Members: []string{"n1", "n2"}, Limit: true}}
	return st
}

// TestNotes: what works and could not lose anything more, each with the command that gives it a margin.
func TestNotes(t *testing.T) {
	node := func(st *fsm.State, change func(*fsm.Node)) {
		n := st.Nodes["n2"]
		change(&n)
		st.Nodes["n2"] = n
	}
	alone := func(name string, change func(*fsm.HAVIP)) func(*fsm.State) {
		return func(st *fsm.State) {
			v := fsm.HAVIP{ID: name, Name: name, Range: fsm.Range{Type: fsm.RangeCVM, Members: []string{"n1"}, Limit: true}}
			if change != nil {
				change(&v)
			}
			st.HAVIPs[name] = v
		}
	}
	const (
		noSpare   = "there is no spare; `havip-cluster node add NAME`"
		oneMember = "may be on one node alone, so it has no failover; `havip-cluster havip range add"
	)
	for _, c := range []struct {
		name  string
		given func(*fsm.State)
		says  string // "" = nothing
	}{
		{"all is well", func(*fsm.State) {}, ""},
		{"a node without a session", func(st *fsm.State) { delete(st.Sessions, 2) }, noSpare},
		{"a node in standby", func(st *fsm.State) { node(st, func(n *fsm.Node) { n.Standby = true }) }, noSpare},
		{"a node that is drained", func(st *fsm.State) { node(st, func(n *fsm.Node) { n.Draining = true }) }, noSpare},
		{"a node that leaves", func(st *fsm.State) { node(st, func(n *fsm.Node) { n.Removing = true }) }, noSpare},
		{"a witness is no spare", func(st *fsm.State) { node(st, func(n *fsm.Node) { n.Role = fsm.RoleWitness }) }, noSpare},
		{"nothing to own", func(st *fsm.State) { delete(st.Sessions, 2); st.HAVIPs = nil }, ""},
		{"one member", alone("db", nil), "HAVIP db " + oneMember + " db"},
		{"two of one member", func(st *fsm.State) { alone("db", nil)(st); alone("api", nil)(st) }, "HAVIP api (and 1 more) " + oneMember + " api"},
		{"one member, disabled", alone("db", func(v *fsm.HAVIP) { v.Disabled = true }), ""},
		{"one member, being deleted", alone("db", func(v *fsm.HAVIP) { v.Deleting = true }), ""},
		{"one member, not enforced", alone("db", func(v *fsm.HAVIP) { v.Range.Limit = false }), ""},
		{"a webhook that fails", func(st *fsm.State) { st.Webhooks["ops"] = fsm.Webhook{Name: "ops", Failure: "503"} }, "webhook ops is not taken: 503; `havip-cluster webhook test ops`"},
		{"a webhook that is taken", func(st *fsm.State) { st.Webhooks["ops"] = fsm.Webhook{Name: "ops"} }, ""},
	} {
		st := spare()
		c.given(st)
		got := margins(st)
		if c.says == "" && len(got) > 0 || c.says != "" && (len(got) != 1 || !strings.Contains(got[0], c.says)) {
			t.Errorf("%s: %q, want %q", c.name, got, c.says)
		}
	}
}
