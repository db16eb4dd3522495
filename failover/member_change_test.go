package failover

import (
	"slices"
	"testing"
	"time"

	"havip-cluster/fsm"
)

// TestLeaseChanges: no lease is lost by it, and LeaseMax follows once all know (rule 8).
func TestLeaseChanges(t *testing.T) {
	runWorld(t, 3, 1, func(w *world) {
		w.boot()
		v := w.havip("web", 100)
		w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 4 })
		time.Sleep(4 * time.Second) // a voter is silent for the length in force since its start
		since, before := w.now(), w.head().SessionList()
		w.do(fsm.SetLease{Lease: 3 * time.Second})
		time.Sleep(10 * time.Second)
		w.mu.Lock()
		w.cut[[2]string{"C", "A"}] = true // the leader does not hear that C knows
		w.mu.Unlock()
		time.Sleep(2 * time.Second)
		w.do(fsm.SetLease{Lease: 150 * time.Millisecond})
		time.Sleep(15 * time.Second)
		if c := w.head().Cluster; c.LeaseMax != 3*time.Second {
			t.Errorf("settled before every voter was known to know: %+v", c)
		}
		w.heal()
		w.await("it is settled", 9*time.Second, func() bool { return w.head().Cluster.LeaseMax == 150*time.Millisecond })
		time.Sleep(time.Second)
		if gap := w.gap(v, since); gap != 0 || !slices.Equal(w.head().SessionList(), before) {
			t.Errorf("a gap of %v, sessions %+v, before %+v", gap, w.head().SessionList(), before)
		}
		old := w.owner(v)
		if old.node.ID == "A" {
			w.elect("B")
		}
		since = w.now()
		old.kill()
		w.await("another answers", time.Second, func() bool { return w.who(v) != "" && w.who(v) != old.node.ID })
		if took := w.now() - since; took > 200*time.Millisecond {
			t.Errorf("with a lease of 150 ms a failover takes %v", took)
		}
	})
}

// longerLease: while the voters apply a longer lease late, nobody loses the shorter one.
func longerLease(w *world) {
	w.boot()
	v := w.havip("web", 100)
	w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 3 })
	w.mu.Lock()
	w.host("B").lag, w.host("C").lag = 150*time.Millisecond, 150*time.Millisecond
	w.mu.Unlock()
	w.moveHere(v, "A")
	time.Sleep(21 * time.Second) // a voter is silent for the length in force since its start
	since, before := w.now(), w.head().SessionList()
	w.do(fsm.SetLease{Lease: 20 * time.Second})
	time.Sleep(5 * time.Second)
	if gap := w.gap(v, since); gap != 0 || !slices.Equal(w.head().SessionList(), before) {
		w.fault("a longer lease cost a gap of %v", gap)
	}
}

func TestLongerLease(t *testing.T) { runWorld(t, 3, 0, longerLease) }

// voterWasCutOff: a voter that did not hear of the holders for some leases acknowledges
// them again afterwards, so that the next one may fail.
func voterWasCutOff(w *world) {
	w.boot()
	v := w.havip("web", 100)
	w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 4 })
	w.moveHere(v, "D")
	since := w.now()
	for _, voter := range []string{"B", "C", "B"} {
		w.mu.Lock()
		w.cut[[2]string{"D", voter}] = true
		w.mu.Unlock()
		time.Sleep(4 * worldLease)
		w.heal()
		time.Sleep(worldLease)
	}
	if gap := w.gap(v, since); gap != 0 {
		w.fault("one voter at a time was cut off, and that cost a gap of %v", gap)
	}
}

func TestVoterWasCutOff(t *testing.T) { runWorld(t, 3, 1, voterWasCutOff) }

// TestVotersRestart: one after the other, with time for its silence. No lease is lost.
func TestVotersRestart(t *testing.T) {
	runWorld(t, 3, 1, func(w *world) {
		w.boot()
		v := w.havip("web", 100)
		w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 4 })
		w.moveHere(v, "D")
		since, before := w.now(), w.head().Nodes["D"].LastSession
		for _, id := range []string{"B", "C", "B", "C"} {
			w.host(id).kill()
			time.Sleep(30 * time.Millisecond)
			w.host(id).boot()
			time.Sleep(4 * worldLease)
		}
		if gap := w.gap(v, since); gap != 0 || w.head().Nodes["D"].LastSession != before {
			t.Errorf("a gap of %v, session %d, before %d", gap, w.head().Nodes["D"].LastSession, before)
		}
	})
}

// TestWitness votes, and owns nothing.
func TestWitness(t *testing.T) {
	runWorld(t, 2, 0, func(w *world) {
		w.commit(fsm.CreateToken{Token: fsm.Token{ID: "C", SecretHash: "s", Node: "c", Role: fsm.RoleWitness, Expires: 1 << 62}})
		n := fsm.Node{ID: "C", Name: "c", Address: "192.0.2.3", APIPort: 1, RaftPort: 2, GossipPort: 3, Role: fsm.RoleWitness, KeyHash: "C", Version: fsm.VersionWithLevel("world"), LeasePort: 4, Keys: []fsm.NodeKey{worldKey("C")}}
		w.commit(fsm.AddNode{Token: "C", SecretHash: "s", Node: n})
		w.hosts = append(w.hosts, &host{
			w: w, node: n, watchers: map[chan struct{}]bool{}, kernel: map[string]map[string]bool{}, fails: map[string]bool{}, calls: map[string]int{},
		})
		w.boot()
		v := w.havip("web", 100)
		w.await("both owners have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 2 })
		if m := w.host("C").member; m.Session != nil || m.Agent != nil {
			t.Error("a witness has a SessionClient or an Agent")
		}
		old := w.owner(v)
		if old.node.ID == "A" {
			w.elect("B")
		}
		old.kill() // the other and the witness are a majority
		w.await("the other answers", worldLease*5/4, func() bool { return w.who(v) != "" && w.who(v) != old.node.ID })
	})
}
