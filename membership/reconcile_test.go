package membership

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

func everybody(string) bool { return true }

func TestTheFounderInitialisesOnce(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	p := c.leader()
	s := p.node.State()
	if s.Cluster.ID != p.id.ClusterID || len(s.Nodes) != 1 {
		t.Fatalf("cluster %+v, nodes %v", s.Cluster, s.Nodes)
	}
	p.close()
	p.open()
	p.reconcile(c.all) // with Founder set, as at each start of that node
	p = c.leader()
	throughout(t, 3*reconcileEvery, "nothing is initialised again", func() bool { return p.node.State().Index == s.Index })
}

// A founder whose command is refused says why.
func TestAFounderThatIsRefused(t *testing.T) {
	p := newFounder(t).open()
	eventually(t, "it leads", func() bool { _, ok := p.node.Leading(); return ok })
	r := &Reconciler{Node: p.node, Founder: &fsm.InitCluster{ID: "c-1", Lease: time.Hour, Node: p.asNode()}}
	wantRefusal(t, r.step(soon(t)), fsm.CodeParameter, "lease")
	r.Founder = nil
	check(t, r.step(soon(t)))
}

func TestRolesInRaft(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	w := c.join("witness-1", identity.RoleWitness)
	a := c.join("agent-1", identity.RoleAgent)
	if w.id.Authority() != nil || a.id.Authority() != nil || c.join("voter-2", identity.RoleVoter).id.Authority() == nil {
		t.Error("who may lead and own has the CA's key, and nobody else")
	}
	want := map[string]string{c.leader().id.NodeID: "voter", w.id.NodeID: "voter", a.id.NodeID: "nonvoter"}
	eventually(t, "witness votes, agent does not", func() bool {
		got := c.leader().node.Suffrages()
		return len(got) == 4 && got[w.id.NodeID] == want[w.id.NodeID] && got[a.id.NodeID] == want[a.id.NodeID]
	})
	throughout(t, 3*reconcileEvery, "and never will", func() bool { return c.leader().node.Suffrages()[a.id.NodeID] == "nonvoter" })
}

// A node that is known to be dead keeps its place and its vote.
func TestADeadNodeStays(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	dead := c.followers()[0]
	dead.close()
	leader := c.leader()
	throughout(t, 4*reconcileEvery, "three voters", func() bool { ids, _ := leader.node.Voters(); return len(ids) == 3 })
}

func TestRemoveNode(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	leader, gone := c.leader(), c.followers()[0]
	session := c.openSession(gone.id.NodeID)
	short, cancel := context.WithTimeout(context.Background(), 4*reconcileEvery)
	defer cancel()
	err := RemoveNode(short, leader.node, gone.id.Name, true, everybody)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("with a session open: %v", err)
	}
	if ids, _ := leader.node.Voters(); !slices.Contains(ids, gone.id.NodeID) {
		t.Fatal("it left Raft with its session open (lease protocol, rule 9)")
	}
	done := make(chan error, 1)
	go func() { done <- c.removal(gone.id.Name, false) }() // again, it goes on
	c.do(fsm.CloseSession{Session: session, Released: true})
	check(t, <-done)
	leader = c.leader()
	ids, _ := leader.node.Voters()
	if _, there := leader.node.State().Nodes[gone.id.NodeID]; there || slices.Contains(ids, gone.id.NodeID) {
		t.Errorf("it is still there; voters %v", ids)
	}
	wantRefusal(t, RemoveNode(soon(t), leader.node, gone.id.Name, false, everybody), fsm.CodeNotFound, gone.id.Name)
	c.do(subnet(1))
}

// The leader hands over before it goes.
func TestTheLeaderRemovesItself(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	leader := c.leader()
	if err := RemoveNode(soon(t), leader.node, leader.id.Name, false, everybody); err != nil && !errors.Is(err, ErrUnknownOutcome) {
		t.Fatal(err)
	}
	eventually(t, "another one leads without it", func() bool {
		now := c.leader()
		ids, _ := now.node.Voters()
		_, there := now.node.State().Nodes[leader.id.NodeID]
		return now != leader && len(ids) == 2 && !there
	})
}

// Removals that do not know of each other must not leave a cluster without a voter. Each
// asks again whoever leads, as a client does: the leader may hand over to remove itself.
func TestRemovalsAtOneMomentLeaveAVoter(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	first := c.leader()
	var wg sync.WaitGroup
	for _, p := range c.all() {
		wg.Go(func() {
			asked := first
			for ctx := soon(t); ctx.Err() == nil; asked = c.leader() {
				if err := RemoveNode(ctx, asked.node, p.id.Name, true, everybody); !errors.Is(err, ErrNotLeader) {
					return
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "one member stays", func() bool {
		nodes := c.leader().node.State().Nodes
		for _, n := range nodes {
			if n.Removing {
				return false
			}
		}
		return len(nodes) == 1
	})
}

func TestRemoveNodeRefuses(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	leader := c.leader()
	wantRefusal(t, RemoveNode(soon(t), leader.node, "nobody", true, everybody), fsm.CodeNotFound, "nobody")
	for _, force := range []bool{false, true} {
		wantRefusal(t, RemoveNode(soon(t), leader.node, leader.id.Name, force, everybody), fsm.CodeUnsupported, "last voter")
	}
	if leader.node.State().Nodes[leader.id.NodeID].Removing {
		t.Error("a refusal marked the node")
	}
}

// A vote that comes back waits for the silence each time, not only the first time.
func TestReadyWaitsAgain(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	back := c.followers()[0]
	votes := c.rest(back)
	at := time.Now()
	c.do(fsm.RestVote{Node: back.id.NodeID, Back: true})
	eventually(t, "it votes again", votes)
	if took := time.Since(at); took < silence(testLease) {
		t.Fatalf("it was made a voter %v after it was back, and is silent for %v", took, silence(testLease))
	}
}

// A leader that no longer leads knows of nobody's presence; nor does one of those who vote or rest.
func TestReadyStartsAnew(t *testing.T) {
	x := newSituation().voters("n1", "n2").node("n3", fsm.RoleVoter).node("n4", fsm.RoleVoter).in(raft.Nonvoter, "n3", "n4").resting("n4")
	r := &Reconciler{Node: &Node{Machine: NewMachine()}, since: map[string]time.Time{"n2": {}, "n3": {}, "n4": {}}}
	r.startAnew(x.s, x.servers)
	if _, waits := r.since["n3"]; !waits || len(r.since) != 1 {
		t.Errorf("left: %v", r.since)
	}
	check(t, r.step(t.Context()))
	if r.since != nil {
		t.Errorf("it does not lead, and knows %v", r.since)
	}
}

// owned is a situation in which n1 owns a HAVIP, and n2 and n3 may or may not take it.
func owned(may ...string) *situation {
	x := newSituation().voters("n1", "n2", "n3")
	v := fsm.HAVIP{ID: "havip-1", Name: "web", Subnet: "net", IP: netip.MustParseAddr("10.0.0.9")}
	for i, id := range []string{"n1", "n2", "n3"} {
		n := x.s.Nodes[id]
		n.LastSession = uint64(i + 1)
		x.s.Nodes[id] = n
		x.s.Sessions[n.LastSession] = fsm.Session{Number: n.LastSession, Node: id}
		eni := fsm.ENI{ID: id + "/eth0", Node: id, Device: "eth0", Subnet: "net", Up: slices.Contains(may, id)}
		x.s.ENIs[eni.ID] = eni
	}
	v.Owner = &fsm.Claim{Node: "n1", Session: 1, ENI: "n1/eth0", Epoch: 1}
	x.s.HAVIPs[v.ID] = v
	return x
}

// freeze changes the state and its HAVIP.
func (x *situation) freeze(change func(*fsm.State, *fsm.HAVIP)) *situation {
	v := x.s.HAVIPs["havip-1"]
	change(x.s, &v)
	x.s.HAVIPs[v.ID] = v
	return x
}

func TestMayRemove(t *testing.T) {
	three := []string{"n1", "n2", "n3"}
	ending := func(x *situation, ids ...string) *situation {
		for _, id := range ids {
			x.removing(id, false)
		}
		return x
	}
	for _, tc := range []struct {
		name        string
		x           *situation
		voters      []string
		node        string
		refused     string // "" = allowed
		evenByForce bool
	}{
		{"one of three", owned("n2"), three, "n2", "", false},
		{"the owner, and another can take over", owned("n1", "n2"), three, "n1", "", false},
		{"the owner, and nobody can", owned("n1"), three, "n1", "web would have no owner", false},
		{"the owner, while the only other one is going", owned("n1", "n2").removing("n2", false), three, "n1", "web would have no owner", false},
		{"a voter, while another is dead", owned().lost("n3"), three, "n2", "no majority", false},
		{"the dead voter", owned().lost("n3"), three, "n3", "", false},
		{"the last voter", owned(), []string{"n2"}, "n2", "last voter", true},
		{"the last one that is not going already", ending(owned(), "n1", "n3"), three, "n2", "last voter", true},
		{"the only other one stops", owned("n1", "n2").resting("n2"), []string{"n1", "n2"}, "n1", "the vote of n2 rests", true},
		{"the one that stops itself", owned("n1", "n2").resting("n2"), []string{"n1", "n2"}, "n2", "", false},
		{"one of the two others stops, though it still answers", owned("n1", "n2").resting("n3"), three, "n1", "only 1 of 2", false},
		{"both others stop", owned("n1", "n2").resting("n2", "n3"), three, "n1", "the vote of n2 and n3 rests", true},
		{"an agent", owned(), []string{"n1", "n2"}, "n3", "", false},
		{"in maintenance itself", owned("n1", "n2").freeze(func(s *fsm.State, _ *fsm.HAVIP) {
			n := s.Nodes["n1"]
			n.Maintenance = true
			s.Nodes["n1"] = n
		}), three, "n1", "", false},
		{"of a HAVIP in maintenance", owned("n1", "n2").freeze(func(_ *fsm.State, v *fsm.HAVIP) { v.Maintenance = true }), three, "n1", "havip maintenance web off", true},
		{"of a HAVIP that is not managed", owned("n1", "n2").freeze(func(_ *fsm.State, v *fsm.HAVIP) { v.Unmanaged = true }), three, "n1", "not managed", true},
		{"in a cluster in maintenance", owned("n1", "n2").freeze(func(s *fsm.State, _ *fsm.HAVIP) { s.Cluster.Maintenance = true }), three, "n1", "cluster maintenance off", true},
		{"another than the owner, in a cluster in maintenance", owned("n1", "n2").freeze(func(s *fsm.State, _ *fsm.HAVIP) { s.Cluster.Maintenance = true }), three, "n3", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, force := range []bool{false, true} {
				want := tc.refused
				if force && !tc.evenByForce {
					want = ""
				}
				got := mayRemove(tc.x.s, tc.voters, tc.x.s.Nodes[tc.node], force, tc.x.ready)
				switch {
				case want == "" && got != nil:
					t.Errorf("force %v: refused: %s", force, got.Message)
				case want != "":
					var err error
					if got != nil {
						err = got
					}
					wantRefusal(t, err, codeOf(got), want)
				}
			}
		})
	}
}

func codeOf(r *fsm.Refusal) fsm.Code {
	if r == nil {
		return ""
	}
	return r.Code
}
