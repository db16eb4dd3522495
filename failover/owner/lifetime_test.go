package owner

import (
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
)

// Renewals of lifetimes stay few, whatever the number of addresses and the lease; few addresses live a second above
// the lease, as ever.
func TestLifetimeOfManyAddresses(t *testing.T) {
	for _, lease := range []time.Duration{20 * time.Millisecond, 500 * time.Millisecond, 5 * time.Second} {
		s := &fsm.State{}
		s.Cluster.LeaseMax = lease
		for n := 1; n <= limits.HAVIPs; n++ {
			got := lifetimeOf(s, n)
			if n < 1000 && got != lease+time.Second {
				t.Fatalf("%d addresses, lease %v: %v", n, lease, got)
			}
			// Each is renewed when between a third and half of it has passed (package edge).
			if perSecond := float64(n) / (got.Seconds() / 3); perSecond > 3000 {
				t.Fatalf("%d addresses, lease %v: %v, %.0f renewals a second", n, lease, got, perSecond)
			}
		}
	}
}
