package sim

import (
	"testing"
	"time"
)

// Clusters of two voters, of which one or the other is stopped in order most of the time, under every fault:
// never a violation, and service again after the faults. More: -sim.seeds.
func TestSimTwoVoters(t *testing.T) {
	seeds := max(4, *seedsFlag)
	if testing.Short() {
		seeds = 1
	}
	for i := range seeds {
		s := GenerateTwo(*seedFlag+uint64(i)**stepFlag, time.Minute)
		s.begin(t)
		_, v := play(t, s, nil)
		if v != nil {
			report(t, s, v)
		}
	}
}
