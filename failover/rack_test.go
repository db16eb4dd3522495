package failover

import (
	"fmt"
	"testing"
	"time"
)

// TestARackGoesDown: hosts that die together have renewed at different times, so their leases end up to
// a fifth of a lease apart. What the first of them had goes to none of the others, and the leader's
// inbox does not wait for them one by one.
func TestARackGoesDown(t *testing.T) {
	runWorld(t, 3, 6, func(w *world) {
		w.atLevel(false)
		w.boot()
		all := func() bool { return len(w.head().Sessions) == 9 }
		w.await("all have sessions", 3*time.Second, all)
		for i, h := range w.hosts[4:8] { // they renew at different times
			h.kill()
			time.Sleep(2*worldLease + time.Duration(i)*worldLease/20)
			h.boot()
			w.await("all have sessions", 3*time.Second, all)
		}
		var ids []string
		for i := range 36 {
			ids = append(ids, w.havip(fmt.Sprint("s", i), byte(100+i)))
		}
		w.await("all are served", 5*time.Second, w.allServed)
		rack := map[string]bool{}
		for _, h := range w.hosts[4:8] {
			rack[h.node.ID] = true
		}
		before, since, lost := w.head(), w.now(), 0
		for _, id := range ids {
			if rack[before.HAVIPs[id].Owner.Node] {
				lost++
			}
		}
		if lost < 8 {
			t.Fatalf("the rack had %d HAVIPs: this test tries nothing", lost)
		}
		for _, h := range w.hosts[4:8] {
			h.kill()
		}
		w.await("all are served by others", 2*time.Second, func() bool { return w.allServed() && len(w.head().Sessions) == 5 })
		twice := 0
		for _, id := range ids {
			was, is := before.HAVIPs[id], w.head().HAVIPs[id]
			if rack[was.Owner.Node] && is.Epoch != was.Epoch+1 || !rack[was.Owner.Node] && is.Epoch != was.Epoch {
				twice++
			}
		}
		if twice > 0 {
			t.Errorf("%d of %d HAVIPs were given to a host that was dead already", twice, lost)
		}
		if gap := w.longestGap(ids, since); gap > worldLease/2 {
			t.Errorf("one of them was dark for %v beside the lease, which is %v", gap, worldLease)
		}
	})
}
