package failover

import (
	"testing"
	"time"

	"havip-cluster/fsm"
)

// TestServedWhenTheCloudSendsItThere: where a call moves an address, the log says that a HAVIP is served
// only when the cloud sends it to its owner. The owner has it before, and nothing waits for the cloud:
// neither the move nor the lease, nor the next move.
func TestServedWhenTheCloudSendsItThere(t *testing.T) {
	runOldWorld(t, 3, 0, func(w *world) {
		w.atLevel(false)
		ids := w.manyOn("B")
		id := ids[7]
		w.await("all are served", 5*time.Second, w.allServed)
		w.mu.Lock()
		w.unsent = map[string]bool{id: true}
		w.mu.Unlock()
		for _, to := range []string{"C", "A", "C"} {
			w.moveTo(id, w.host(to).node.Name)
			took := w.await("it is at "+to, time.Second, func() bool { return w.who(id) == to && w.settled() })
			if took > worldLease {
				t.Errorf("the move to %s took %v: it waited for the cloud", to, took)
			}
			time.Sleep(5 * worldLease)
			if s := w.head(); w.who(id) != to || s.Serving(s.HAVIPs[id]) != fsm.Pending {
				t.Errorf("at %s, and the cloud does not send it there: the log says %v", to, s.Serving(s.HAVIPs[id]))
			}
		}
		w.mu.Lock()
		w.unsent = nil
		w.mu.Unlock()
		h := w.host("C")
		w.await("the log says that it is served", time.Second, func() bool {
			h.member.Agent.SentHere(id, w.head().HAVIPs[id].Epoch)
			return w.allServed()
		})
	})
}
