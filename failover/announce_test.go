package failover

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// paceWorld announces what is due in steps of 100 ms and writes down who spoke when.
func paceWorld(interval, span time.Duration, holdings map[string]*holding) map[string][]time.Duration {
	said, p := map[string][]time.Duration{}, pace{}
	for now := time.Duration(0); now < span; now += 100 * time.Millisecond {
		at := lease.Instant(1) + lease.Instant(now)
		for _, h := range p.due(at, holdings) {
			if at < p.next(h) {
				continue
			}
			said[h.HAVIP.ID] = append(said[h.HAVIP.ID], now)
			p.spoken(h.ENI.ID, at, interval)
			h.announced, h.nextAnnounce = true, at.Add(announceSlow)
		}
	}
	return said
}

func holdingsOn(enis ...string) map[string]*holding {
	out := map[string]*holding{}
	for i, eni := range enis {
		id := fmt.Sprintf("havip-%d", i)
		out[id] = &holding{Holding: Holding{HAVIP: fsm.HAVIP{ID: id}, ENI: fsm.ENI{ID: eni}}}
	}
	return out
}

func TestClaimsOfOneENIKeepTheInterval(t *testing.T) {
	const interval = 5 * time.Second
	holdings := holdingsOn("n/eth0", "n/eth0", "n/eth0", "n/eth1")
	said := paceWorld(interval, time.Minute, holdings)
	var shared []time.Duration
	for id, times := range said {
		if len(times) < 3 {
			t.Errorf("%s was announced %d times in a minute; nobody may be forgotten", id, len(times))
		}
		if holdings[id].ENI.ID == "n/eth0" {
			shared = append(shared, times...)
		}
	}
	slices.Sort(shared)
	for i := 1; i < len(shared); i++ {
		if gap := shared[i] - shared[i-1]; gap < interval {
			t.Errorf("two claims of one ENI within %s", gap)
		}
	}
	if said["havip-3"][0] != 0 {
		t.Errorf("the other ENI waited until %s", said["havip-3"][0])
	}
}

func TestWithoutAnIntervalNobodyWaits(t *testing.T) {
	for id, times := range paceWorld(0, time.Second, holdingsOn("n/eth0", "n/eth0", "n/eth0")) {
		if times[0] != 0 {
			t.Errorf("%s waited until %s", id, times[0])
		}
	}
}

// What has just come is known to nobody: it goes before the slow refresh of the others.
func TestTheNewcomerSpeaksFirst(t *testing.T) {
	holdings := holdingsOn("n/eth0", "n/eth0", "n/eth0")
	for id, h := range holdings {
		h.announced, h.nextAnnounce = id != "havip-1", 10
	}
	holdings["havip-1"].nextAnnounce = 50
	if due := (pace{}).due(100, holdings); len(due) != 3 || due[0].HAVIP.ID != "havip-1" {
		t.Errorf("order %v", due)
	}
	holdings["havip-1"].givenUp = true
	if due := (pace{}).due(100, holdings); len(due) != 2 {
		t.Errorf("what is given up is announced: %v", due)
	}
}
