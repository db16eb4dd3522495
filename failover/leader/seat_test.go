package leader

import (
	"errors"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// seated is a state of three voters with sessions, in which n-n1 owns a HAVIP.
func seated() (*fsm.State, lease.VoterSet) {
	s := fsm.New()
	s.Cluster.Lease, s.Cluster.LeaseMax = time.Second, time.Second
	ids := []string{"n-n1", "n-n2", "n-n3"}
	for i, id := range ids {
		s.Nodes[id] = fsm.Node{ID: id, Name: id, LastSession: uint64(i + 1)}
		s.Sessions[uint64(i+1)] = fsm.Session{Number: uint64(i + 1), Node: id}
	}
	own(s, "h-1", "n-n1", 1)
	return s, lease.NewVoterSet(ids)
}

func own(s *fsm.State, havip, node string, session uint64) {
	s.HAVIPs[havip] = fsm.HAVIP{ID: havip, Name: havip, Served: 1, Owner: &fsm.Claim{Node: node, Session: session, Epoch: 1}}
}

// Leadership goes to the first voter that owns nothing, and stays when anything is under way.
func TestBetterSeat(t *testing.T) {
	node := func(id string, change func(*fsm.Node)) func(*fsm.State) {
		return func(s *fsm.State) {
			n := s.Nodes[id]
			change(&n)
			s.Nodes[id] = n
		}
	}
	for name, c := range map[string]struct {
		change func(*fsm.State)
		deaf   string
		want   string
	}{
		"plain":            {func(*fsm.State) {}, "", "n-n2"},
		"the first owns":   {func(s *fsm.State) { own(s, "h-2", "n-n2", 2) }, "", "n-n3"},
		"all own":          {func(s *fsm.State) { own(s, "h-2", "n-n2", 2); own(s, "h-3", "n-n3", 3) }, "", ""},
		"I own nothing":    {func(s *fsm.State) { own(s, "h-1", "n-n2", 2) }, "", ""},
		"no session there": {func(s *fsm.State) { delete(s.Sessions, 2) }, "", "n-n3"},
		"a witness": {func(s *fsm.State) {
			delete(s.Sessions, 2)
			node("n-n2", func(n *fsm.Node) { n.Role = fsm.RoleWitness })(s)
		}, "", "n-n2"},
		"one lags":          {func(*fsm.State) {}, "n-n3", ""},
		"one is in standby": {node("n-n3", func(n *fsm.Node) { n.Standby = true }), "", ""},
		"one is removed":    {node("n-n3", func(n *fsm.Node) { n.Removing = true }), "", ""},
		"maintenance":       {func(s *fsm.State) { s.Cluster.Maintenance = true }, "", ""},
		"a rotation":        {func(s *fsm.State) { s.Cluster.Keys.CA.Phase = fsm.PhaseSpread }, "", ""},
		"a longer lease":    {func(s *fsm.State) { s.Cluster.LeaseMax = 2 * time.Second }, "", ""},
		"not served yet": {func(s *fsm.State) {
			v := s.HAVIPs["h-1"]
			v.Served = 0
			s.HAVIPs["h-1"] = v
		}, "", ""},
		"a move": {func(s *fsm.State) {
			v := s.HAVIPs["h-1"]
			v.Draining = []fsm.Claim{{Node: "n-n2", Session: 2}}
			s.HAVIPs["h-1"] = v
		}, "", ""},
	} {
		s, set := seated()
		c.change(s)
		if got := betterSeat(s, set, "n-n1", func(n string) bool { return n != c.deaf }); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// It is given away only when all was quiet for a while, and not again for long after.
func TestLeadershipMovesInQuietTimes(t *testing.T) {
	b := newBench(t, 10)
	b.turn() // its leadership begins
	s, _ := seated()
	s.Index = 50
	own(s, "h-1", "n-n3", 3) // the bench leads as n-n3
	b.state = s
	var given []string
	b.c.cfg.Yield = func(node string) error { given = append(given, node); return errors.New("not now") }
	pass := func(d time.Duration) {
		for end := b.now.Add(d); b.now.Before(end); {
			b.pass(controlTick)
			for _, id := range []string{"n-n1", "n-n2", "n-n3"} {
				b.c.heard(b.now, b.state, id, b.state.Index)
			}
			b.c.yield()
		}
	}
	pass(seatQuiet - time.Second)
	next := *s
	next.Index++
	b.state = &next
	pass(seatQuiet - time.Second)
	if len(given) != 0 {
		t.Fatalf("in a hurry: %v", given)
	}
	pass(seatPoll + 2*time.Second)
	if len(given) != 1 || given[0] != "n-n1" {
		t.Fatalf("in a quiet time: %v", given)
	}
	pass(seatAgain - seatPoll - 5*time.Second)
	if len(given) != 1 {
		t.Fatalf("again at once: %v", given)
	}
	pass(2*seatPoll + 5*time.Second)
	if len(given) != 2 {
		t.Errorf("never again: %v", given)
	}
}
