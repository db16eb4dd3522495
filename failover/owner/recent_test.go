package owner

import (
	"fmt"
	"testing"
	"time"

	"havip-cluster/failover/lease"
)

func TestRecentSaysOnceAMinute(t *testing.T) {
	var l recent
	said := 0
	for now := lease.Instant(time.Hour); now < lease.Instant(time.Hour+10*time.Minute); now = now.Add(50 * time.Millisecond) {
		if l.fresh(now, "a fault") {
			said++
		}
	}
	if said != 10 {
		t.Errorf("said %d times in 10 minutes", said)
	}
	for n := range 10 * latelyMax {
		if !l.fresh(0, fmt.Sprint(n)) {
			t.Fatalf("%d was not said", n)
		}
	}
	if len(l.at) > latelyMax {
		t.Errorf("%d are remembered", len(l.at))
	}
}
