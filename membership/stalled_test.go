package membership

import (
	"testing"
	"time"

	"havip-cluster/testbed/labtest"
)

func TestPatienceGrowsWithElections(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		p := writePatience{heartbeat: 250 * time.Millisecond}
		want := func(times int) {
			t.Helper()
			if got := p.limit(); got != time.Duration(times)*p.heartbeat {
				t.Errorf("the limit is %v, want %d heartbeats", got, times)
			}
		}
		want(1)
		p.elected()
		want(2)
		time.Sleep(time.Second)
		p.elected()
		want(3)
		time.Sleep(patienceSpan*p.heartbeat - time.Second)
		want(2) // the first is long ago
		time.Sleep(time.Second)
		want(1)
		for range 3 * patienceMax {
			p.elected()
		}
		want(patienceMax)
	})
}
