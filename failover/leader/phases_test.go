package leader

import (
	"slices"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// TestPhasesOfATimeline: what the timeline records is taken apart into the phases of the metrics,
// and a new step between two others changes none of their sums.
func TestPhasesOfATimeline(t *testing.T) {
	at := func(ms int) lease.Instant { return lease.Instant(time.Duration(1000+ms) * time.Millisecond) }
	f := &openFailover{
		havip: "h", name: "web", from: "n1/eth0", to: "n2/eth0", epoch: 7,
		heard: at(0), hinted: at(400), asked: at(401), endorsed: at(403), committed: at(410),
	}
	tl := newTimeline()
	tl.open, tl.newest["h"] = append(tl.open, f), f
	if got := Phases(f.record(0)); len(got) != 4 {
		t.Errorf("without the owner's word: %v", got)
	}
	tl.activated(at(415), wire.ActivatedWord{HAVIP: "h", Epoch: 7, Took: time.Millisecond})
	done := tl.complete(at(415), 0)
	if len(done) != 1 {
		t.Fatalf("%d records", len(done))
	}
	want := []Phase{
		{PhaseDetect, 400 * time.Millisecond}, {PhaseAsk, time.Millisecond}, {PhaseEndorse, 2 * time.Millisecond},
		{PhaseCommit, 7 * time.Millisecond}, {PhaseActivate, 5 * time.Millisecond}, {PhaseTotal, 415 * time.Millisecond},
	}
	if got := Phases(done[0]); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	more := done[0]
	more.Steps = slices.Insert(slices.Clone(more.Steps), 2, fsm.FailoverStep{What: "something new", After: 400500 * time.Microsecond})
	if got := Phases(more); !slices.Equal(got, want) {
		t.Errorf("with a new step: %v", got)
	}
}
