package leader

import (
	"strings"
	"time"

	"havip-cluster/fsm"
)

// Phases of a failover, as metrics name them.
const (
	PhaseDetect   = "detect"   // from the last renewal until the first voter's promise ran out
	PhaseAsk      = "ask"      // until the leader asked the voters
	PhaseEndorse  = "endorse"  // until a majority endorsed the end
	PhaseCommit   = "commit"   // until the close and the new place were committed
	PhaseActivate = "activate" // until the new owner said that it answers
	PhaseClaim    = "claim"    // until the cloud sent the address there, where a call moves it
	PhaseTotal    = "total"    // from the last renewal until then
)

// PhaseNames lists them in their order.
func PhaseNames() []string {
	return []string{PhaseDetect, PhaseAsk, PhaseEndorse, PhaseCommit, PhaseActivate, PhaseClaim, PhaseTotal}
}

// phaseEnds are the steps of a timeline with which a phase ends, by name and, as members below level 4
// wrote them, by the beginning of their words.
var phaseEnds = []struct{ step, words, phase string }{
	{fsm.StepDeadline, "first voter's promise ran out", PhaseDetect},
	{fsm.StepNoticed, "leader asked the voters", PhaseAsk},
	{fsm.StepEndorsed, "majority endorsed the end", PhaseEndorse},
	{fsm.StepCommitted, "close and new place committed", PhaseCommit},
	{fsm.StepAnnounced, "new owner put the address up and announced it", PhaseActivate},
	{fsm.StepClaimed, "the cloud sends the address there", PhaseClaim},
}

// Phase is how long one part of a failover took.
type Phase struct {
	Name string
	Took time.Duration
}

// Phases takes the timeline of a crash apart, in the order of its steps; nothing for a planned change.
// Steps that it does not know are passed over; the total is there only when the new owner has said
// that it answers.
func Phases(f fsm.Failover) []Phase {
	if f.Kind != "" && f.Kind != fsm.ChangeCrash && f.Kind != fsm.ChangeGuard { // "": below level 4
		return nil
	}
	var out []Phase
	last, total, served := time.Duration(0), time.Duration(0), false
	for _, step := range f.Steps {
		for _, e := range phaseEnds {
			if step.Step != e.step && (step.Step != "" || !strings.HasPrefix(step.What, e.words)) {
				continue
			}
			out = append(out, Phase{e.phase, max(step.After-last, 0)})
			last = step.After
			if served = served || e.phase == PhaseActivate; served {
				total = step.After
			}
		}
	}
	if served {
		out = append(out, Phase{PhaseTotal, total})
	}
	return out
}
