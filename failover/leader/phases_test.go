package leader

import (
	"slices"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// TestPhasesOfATimeline: what the timeline of a crash records is taken apart into the phases of the
// metrics, and a new step between two others changes none of their sums. So are records of members
// below level 4, which did not name their steps; a planned change has no phases.
func TestPhasesOfATimeline(t *testing.T) {
	at := func(ms int) lease.Instant { return lease.Instant(time.Duration(1000+ms) * time.Millisecond) }
	story := func() (*timeline, *openFailover) {
		tl := newTimeline()
		f := &openFailover{havip: "h", name: "web", from: "n1/eth0", epoch: 7, kind: fsm.ChangeCrash}
		f.died(&deadSession{heard: at(0), hinted: at(400), asked: at(401), endorsed: at(403)})
		tl.begin(at(410), f, &fsm.Claim{ENI: "n2/eth0", Node: "n2"})
		return tl, f
	}
	for _, level := range []int{3, 4} {
		s := &fsm.State{Cluster: fsm.Cluster{Level: level}}
		tl, f := story()
		if got := Phases(tl.record(at(411), f, 0, s, "n2")); len(got) != 4 {
			t.Errorf("level %d, without the owner's word: %v", level, got)
		}
		tl.activated(at(415), wire.ActivatedMessage{HAVIP: "h", Epoch: 7, Took: time.Millisecond})
		done := tl.record(at(415), f, 0, s, "n2")
		want := []Phase{
			{PhaseDetect, 400 * time.Millisecond}, {PhaseAsk, time.Millisecond}, {PhaseEndorse, 2 * time.Millisecond},
			{PhaseCommit, 7 * time.Millisecond}, {PhaseActivate, 5 * time.Millisecond}, {PhaseTotal, 415 * time.Millisecond},
		}
		if got := Phases(done); !slices.Equal(got, want) {
			t.Errorf("level %d: %v, want %v", level, got, want)
		}
		done.Steps = slices.Insert(done.Steps, 2, fsm.FailoverStep{What: "something new", After: 400500 * time.Microsecond})
		if got := Phases(done); !slices.Equal(got, want) {
			t.Errorf("level %d, with a new step: %v", level, got)
		}
		if level == 4 { // the cloud's part is a phase of its own
			sent := done
			sent.Steps = append(slices.Clone(done.Steps), fsm.FailoverStep{Step: fsm.StepClaimed, What: "the cloud sends the address there", After: 1415 * time.Millisecond})
			want := append(slices.Clone(want[:5]), Phase{PhaseClaim, time.Second}, Phase{PhaseTotal, 1415 * time.Millisecond})
			if got := Phases(sent); !slices.Equal(got, want) {
				t.Errorf("with the cloud's part: %v, want %v", got, want)
			}
		}
		if done.Kind = fsm.ChangeDrain; Phases(done) != nil {
			t.Errorf("level %d: a drain has the phases %v", level, Phases(done))
		}
	}
}
