package failover

import (
	"slices"
	"testing"
	"time"

	"havip-cluster/netdev"
	"havip-cluster/netdev/fence"
)

// An address that goes right after a look is missed by that look, and found by the next
// one, which comes by itself.
func TestKeepAfterAnOldLook(t *testing.T) {
	onOneHost(t, func(eni netdev.ENI, dir string) {
		r, end := newRenewing(t, fence.EBPF, 3, eni, dir)
		defer end()
		keep := func(i int) []string {
			repairs, err := r.edge.Keep(r.held[i])
			if err != nil {
				t.Fatal(err)
			}
			return repairs
		}
		for i := range r.held { // and none is due for a refresh now, which would put it back unseen
			if got := keep(i); len(got) > 0 {
				t.Fatalf("right after Up: %v", got)
			}
		}
		if err := r.edge.addrs.Remove(eni.Index, r.held[1].HAVIP.IP); err != nil {
			t.Fatal(err)
		}
		r.edge.mu.Lock()
		r.edge.changesSeen++ // what the watcher does
		r.edge.mu.Unlock()
		got := keep(1)
		if len(got) == 0 { // the look was not old enough yet
			select {
			case <-r.edge.Changes():
			case <-time.After(10 * time.Second):
				t.Fatal("nobody looks again")
			}
			got = keep(1)
		}
		if !slices.Contains(got, "the address was gone") {
			t.Errorf("the loss was not seen: %v", got)
		}
		if present, _, err := r.edge.Observe(r.held[1]); !present || err != nil {
			t.Errorf("after the repair: present %v, %v", present, err)
		}
		if got := keep(2); len(got) > 0 {
			t.Errorf("of another HAVIP: %v", got)
		}
	})
}
