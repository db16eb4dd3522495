package datagram

import (
	"runtime"
	"testing"
	"time"

	"havip-cluster/testbed/labtest"
)

// TestAMessageAllocatesNothing: from Send through two real sockets to Receive. So a renewal on the real
// wire costs what failover's test of it says.
func TestAMessageAllocatesNothing(t *testing.T) {
	if labtest.Race {
		t.Skip("the race detector allocates, too")
	}
	c := newCompany(t, "n-a", "n-b")
	c.say("n-a", "n-b", "before")
	a, b := c.nodes["n-a"].sock, c.nodes["n-b"]
	b.counting.Store(true)
	to, message := c.state.Load().Nodes["n-b"], make([]byte, 100)
	const together = 20
	lost := 0
	allocs := testing.AllocsPerRun(100, func() {
		all := b.counted.Load() + together
		for range together {
			if err := a.Send(to, message); err != nil {
				t.Fatal(err)
			}
		}
		for end := time.Now().Add(time.Second); b.counted.Load() < all; runtime.Gosched() {
			if time.Now().After(end) {
				lost++
				return
			}
		}
	})
	if allocs > 2 || lost > 20 { // the two sockets say hello meanwhile
		t.Errorf("%v allocations for %d messages; %d times one was lost", allocs, together, lost)
	}
}
