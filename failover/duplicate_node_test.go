package failover

import (
	"testing"
	"time"

	"havip-cluster/fsm"
)

// A copy of a node's disk that starts on another host gets no session while the first one
// renews, and ends; the first one serves on all the time.
func TestDuplicateNode(t *testing.T) {
	runWorld(t, 3, 0, func(w *world) {
		w.boot()
		v := w.havip("web", 100)
		w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 3 })
		w.moveHere(v, "B")
		session := w.head().HAVIPs[v].Owner.Session
		me := w.head().Nodes["B"]
		for range 50 {
			refusal := w.host("A").member.MayOpen(fsm.OpenSession{Node: "B", Last: me.LastSession, Attempt: "copy"})
			if refusal == nil || refusal.Code != fsm.CodeInUse {
				t.Fatalf("a copy of B may open a session: %v", refusal)
			}
			time.Sleep(37 * time.Millisecond)
		}
		if refusal := w.host("A").member.MayOpen(fsm.OpenSession{Node: "B", Last: me.LastSession, Attempt: "again", Held: w.head().Sessions[session].Attempt}); refusal != nil {
			t.Errorf("the process that held it may not: %v", refusal)
		}
		if got := w.head().HAVIPs[v].Owner; got == nil || got.Session != session || w.who(v) != "B" {
			t.Errorf("B has lost %+v", got)
		}
	})
}

// A process that was killed and comes back at once waits for the end of its predecessor's
// lease, and no longer.
func TestRestartWithinTheLease(t *testing.T) {
	runWorld(t, 3, 0, func(w *world) {
		w.boot()
		v := w.havip("web", 100)
		w.await("all have sessions", 3*time.Second, func() bool { return len(w.head().Sessions) == 3 })
		w.moveHere(v, "B")
		w.host("B").kill()
		w.host("B").boot()
		if took := w.await("B has a session again", 5*time.Second, func() bool {
			sess, open := w.head().SessionOf("B")
			k, _ := w.host("B").member.Session.Lease()
			return open && sess.Number == k
		}); took > worldLease+worldLease/5 {
			t.Errorf("it took %v", took)
		}
	})
}
