package membership

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"havip-cluster/fsm"
)

// situation is a state and Raft's servers, built word by word.
type situation struct {
	s       *fsm.State
	servers []raft.Server
	dead    map[string]bool
}

func newSituation() *situation {
	s := fsm.New()
	s.Cluster.ID = "c-0000000000000001"
	return &situation{s: s, dead: map[string]bool{}}
}

func address(id string) raft.ServerAddress { return raft.ServerAddress("192.0.2.1:" + id[1:]) }

// node adds a member; ids are n and a port, and the port is also its time of joining.
func (x *situation) node(id string, role fsm.Role) *situation {
	var port int
	fmt.Sscanf(id, "n%d", &port)
	x.s.Nodes[id] = fsm.Node{ID: id, Name: id, Address: "192.0.2.1", RaftPort: port, Role: role, Joined: int64(port)}
	return x
}

func (x *situation) in(suffrage raft.ServerSuffrage, ids ...string) *situation {
	for _, id := range ids {
		x.servers = append(x.servers, raft.Server{Suffrage: suffrage, ID: raft.ServerID(id), Address: address(id)})
	}
	return x
}

// voters adds members that vote already.
func (x *situation) voters(ids ...string) *situation {
	for _, id := range ids {
		x.node(id, fsm.RoleVoter)
	}
	return x.in(raft.Voter, ids...)
}

func (x *situation) removing(id string, session bool) *situation {
	n := x.s.Nodes[id]
	n.Removing = true
	if session {
		n.LastSession = uint64(n.RaftPort)
		x.s.Sessions[n.LastSession] = fsm.Session{Number: n.LastSession, Node: id}
	}
	x.s.Nodes[id] = n
	return x
}

func (x *situation) resting(ids ...string) *situation {
	for _, id := range ids {
		n := x.s.Nodes[id]
		n.Resting = true
		x.s.Nodes[id] = n
	}
	return x
}

func (x *situation) lost(ids ...string) *situation {
	for _, id := range ids {
		x.dead[id] = true
	}
	return x
}

func (x *situation) joined(id string, at int64) *situation {
	n := x.s.Nodes[id]
	n.Joined = at
	x.s.Nodes[id] = n
	return x
}

func (x *situation) ready(id string) bool { return !x.dead[id] }

func TestNextChange(t *testing.T) {
	moved := newSituation().voters("n1", "n2")
	moved.servers[1].Address = "192.0.2.99:2"
	for _, tc := range []struct {
		name string
		x    *situation
		kind ChangeKind // "" = nothing is due
		node string
	}{
		{"one voter alone", newSituation().voters("n1"), "", ""},
		{"no state yet: the founder's server stays", &situation{s: fsm.New(), servers: newSituation().voters("n1").servers}, "", ""},
		{"a node joined", newSituation().voters("n1").node("n2", fsm.RoleVoter), AddReplica, "n2"},
		{"a joined node is added even while it is not there", newSituation().voters("n1").node("n2", fsm.RoleVoter).lost("n2"), AddReplica, "n2"},
		{"a replica is there and caught up", newSituation().voters("n1").node("n2", fsm.RoleVoter).in(raft.Nonvoter, "n2"), Promote, "n2"},
		{"a replica that lags or is gone waits", newSituation().voters("n1").node("n2", fsm.RoleVoter).in(raft.Nonvoter, "n2").lost("n2"), "", ""},
		{"a witness votes", newSituation().voters("n1").node("n2", fsm.RoleWitness).in(raft.Nonvoter, "n2"), Promote, "n2"},
		{"an agent never votes", newSituation().voters("n1").node("n2", fsm.RoleAgent).in(raft.Nonvoter, "n2"), "", ""},
		{"five vote: the sixth waits", newSituation().voters("n1", "n2", "n3", "n4", "n5").node("n6", fsm.RoleVoter).in(raft.Nonvoter, "n6"), "", ""},
		{"four vote: the fifth is next", newSituation().voters("n1", "n2", "n3", "n4").node("n6", fsm.RoleVoter).in(raft.Nonvoter, "n6"), Promote, "n6"},
		{
			"who joined first is promoted first, whatever the names",
			newSituation().voters("n1").node("n2", fsm.RoleVoter).node("n3", fsm.RoleVoter).in(raft.Nonvoter, "n2", "n3").joined("n2", 50).joined("n3", 40),
			Promote, "n3",
		},
		{
			"who joined first but is not there does not block the next",
			newSituation().voters("n1").node("n2", fsm.RoleVoter).node("n3", fsm.RoleVoter).in(raft.Nonvoter, "n2", "n3").lost("n2"),
			Promote, "n3",
		},
		{"removed by the operator, session open", newSituation().voters("n1", "n2", "n3").removing("n2", true), "", ""},
		{"removed by the operator, session closed", newSituation().voters("n1", "n2", "n3").removing("n2", false), Remove, "n2"},
		{"a replica is removed like a voter", newSituation().voters("n1").node("n2", fsm.RoleAgent).in(raft.Nonvoter, "n2").removing("n2", false), Remove, "n2"},
		{"a node that is being removed is not added again", newSituation().voters("n1").node("n2", fsm.RoleVoter).removing("n2", false), "", ""},
		{"nor promoted", newSituation().voters("n1").node("n2", fsm.RoleVoter).in(raft.Nonvoter, "n2").removing("n2", true), "", ""},
		{"the last voter stays, whatever was asked", newSituation().voters("n1").node("n2", fsm.RoleAgent).in(raft.Nonvoter, "n2").removing("n1", false), "", ""},
		{"dead voters stay", newSituation().voters("n1", "n2", "n3").lost("n2", "n3"), "", ""},
		{"a server without a node goes", newSituation().voters("n1").in(raft.Voter, "n9"), Remove, "n9"},
		{"an address changed", moved, Readdress, "n2"},
		{"one of two stops in order", newSituation().voters("n1", "n2").resting("n2"), Demote, "n2"},
		{"one of two stops, the other is being removed", newSituation().voters("n1", "n2").resting("n2").removing("n1", true), "", ""},
		{"both of two stop: both keep their votes", newSituation().voters("n1", "n2").resting("n1", "n2"), "", ""},
		{"one of three stops: two votes are no better than three", newSituation().voters("n1", "n2", "n3").resting("n2"), "", ""},
		{"the last voter stops: it stays the one", newSituation().voters("n1").node("n2", fsm.RoleVoter).in(raft.Nonvoter, "n2").resting("n1", "n2"), "", ""},
		{"who stops is not promoted, though it is there", newSituation().voters("n1").node("n2", fsm.RoleVoter).in(raft.Nonvoter, "n2").resting("n2"), "", ""},
		{"who runs again is", newSituation().voters("n1").node("n2", fsm.RoleVoter).in(raft.Nonvoter, "n2"), Promote, "n2"},
		{
			"leaving comes before joining: never two at a time",
			newSituation().voters("n1", "n2").removing("n2", false).node("n3", fsm.RoleVoter),
			Remove, "n2",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, due := NextChange(tc.x.s, tc.x.servers, tc.x.ready)
			if due != (tc.kind != "") || c.Kind != tc.kind || c.Node != tc.node {
				t.Fatalf("got %v %+v, want %q for %q", due, c, tc.kind, tc.node)
			}
			if due && c.Kind != Remove && c.Address != address(c.Node) {
				t.Errorf("the address is %s, want %s", c.Address, address(c.Node))
			}
			if due && c.Why == "" {
				t.Error("it does not say why")
			}
		})
	}
}

// carryOut does to a list of servers what Raft does.
func carryOut(servers []raft.Server, c Change) []raft.Server {
	out := slices.Clone(servers)
	i := slices.IndexFunc(out, func(s raft.Server) bool { return string(s.ID) == c.Node })
	switch {
	case c.Kind == Remove:
		return slices.Delete(out, i, i+1)
	case c.Kind == AddReplica:
		return append(out, raft.Server{Suffrage: raft.Nonvoter, ID: raft.ServerID(c.Node), Address: c.Address})
	case c.Kind == Promote:
		out[i].Suffrage = raft.Voter
	case c.Kind == Demote:
		out[i].Suffrage = raft.Nonvoter
	}
	out[i].Address = c.Address
	return out
}

func voterIDs(servers []raft.Server) map[raft.ServerID]bool {
	out := map[raft.ServerID]bool{}
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			out[s.ID] = true
		}
	}
	return out
}

// shareMajorities reports whether every majority of a meets every majority of b: the
// smallest of each, laid out so that they overlap as little as possible.
func shareMajorities(a, b map[raft.ServerID]bool) bool {
	common := 0
	for id := range a {
		if b[id] {
			common++
		}
	}
	needA, needB := len(a)/2+1, len(b)/2+1
	fromCommonA, fromCommonB := max(0, needA-(len(a)-common)), max(0, needB-(len(b)-common))
	return fromCommonA+fromCommonB > common
}

func drawSituation(t *rapid.T) *situation {
	x := newSituation()
	roles := []fsm.Role{fsm.RoleVoter, fsm.RoleVoter, fsm.RoleWitness, fsm.RoleAgent}
	for i := range rapid.IntRange(1, 9).Draw(t, "nodes") {
		id := fmt.Sprintf("n%d", i+1)
		if rapid.IntRange(0, 9).Draw(t, id+" known") > 0 {
			x.node(id, rapid.SampledFrom(roles).Draw(t, id+" role"))
			x.joined(id, rapid.Int64Range(1, 3).Draw(t, id+" joined"))
			if rapid.IntRange(0, 3).Draw(t, id+" removing") == 0 {
				x.removing(id, rapid.Bool().Draw(t, id+" session"))
			}
			if rapid.IntRange(0, 3).Draw(t, id+" rests") == 0 {
				x.resting(id)
			}
		}
		switch rapid.IntRange(0, 2).Draw(t, id+" server") {
		case 0:
			x.in(raft.Voter, id)
		case 1:
			x.in(raft.Nonvoter, id)
		}
		if rapid.IntRange(0, 3).Draw(t, id+" dead") == 0 {
			x.lost(id)
		}
	}
	if len(voterIDs(x.servers)) == 0 {
		x.voters("n99")
	}
	return x
}

// Whatever the cluster looks like, the changes come to an end, no two configurations in
// sequence could decide without each other, and nobody goes who was not asked to.
func TestChangesConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := drawSituation(t)
		most := max(fsm.MaxVoters, len(voterIDs(x.servers)))
		limit := 3 * (len(x.s.Nodes) + len(x.servers))
		for step := 0; ; step++ {
			c, due := NextChange(x.s, x.servers, x.ready)
			if !due {
				break
			}
			if step > limit {
				t.Fatalf("no end after %d changes, now %+v", step, c)
			}
			next := carryOut(x.servers, c)
			before, after := voterIDs(x.servers), voterIDs(next)
			n, member := x.s.Nodes[c.Node]
			_, open := x.s.SessionOf(c.Node)
			switch {
			case !shareMajorities(before, after):
				t.Fatalf("%+v: %v and %v can decide apart", c, before, after)
			case len(after) == 0 || len(after) > most:
				t.Fatalf("%+v leaves %d voters", c, len(after))
			case c.Kind == Remove && member && (!n.Removing || open):
				t.Fatalf("%+v, but the node was not removed, or has a session", c)
			case c.Kind == Promote && (x.dead[c.Node] || n.Role == fsm.RoleAgent || n.Resting):
				t.Fatalf("%+v, but it is dead, stopped or an agent", c)
			case c.Kind == Demote && (!n.Resting || len(before) != 2):
				t.Fatalf("%+v of %v, but it has not stopped, or there are others", c, before)
			}
			x.servers = next
		}
		for _, n := range x.s.Nodes {
			known := slices.ContainsFunc(x.servers, func(s raft.Server) bool { return string(s.ID) == n.ID })
			if !n.Removing && !known {
				t.Fatalf("%s was forgotten", n.ID)
			}
		}
	})
}

// The helper of the property above finds what it is for.
func TestShareMajorities(t *testing.T) {
	set := func(ids ...raft.ServerID) map[raft.ServerID]bool {
		out := map[raft.ServerID]bool{}
		for _, id := range ids {
			out[id] = true
		}
		return out
	}
	if shareMajorities(set("a", "b", "c"), set("a", "b", "c", "d", "e")) {
		t.Error("b, c and a, d, e are majorities without a common voter")
	}
	if !shareMajorities(set("a", "b", "c"), set("a", "b", "c", "d")) {
		t.Error("one more voter is safe")
	}
}
