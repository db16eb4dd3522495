package failover

import (
	"slices"
	"testing"

	"havip-cluster/fsm"
)

// TestAReleaseOfAnotherSession: a release counts for the session that it names. The search finds no
// history that needs this since a release counts for its sender's claims alone; it stays a rule of
// the protocol (rule 7), held by this schedule.
func TestAReleaseOfAnotherSession(t *testing.T) {
	v := fsm.HAVIP{ID: "havip-1", Epoch: 2, Enabled: true,
		Owner:    &fsm.Claim{ENI: "n1/eth0", Node: "n-1", Session: 7, Epoch: 2},
		Draining: []fsm.Claim{{ENI: "n2/eth0", Node: "n-2", Session: 6, Epoch: 1}},
	}
	s := fsm.New()
	s.HAVIPs[v.ID] = v
	h := NewHandoff(7, 0)
	kinds := func() (out []StepKind) {
		for _, step := range h.Decide(1, s) {
			out = append(out, step.Kind)
		}
		return out
	}
	for _, row := range []struct {
		from    string
		session uint64
		want    StepKind
	}{
		{"n-2", 5, StepReady}, {"n-3", 6, StepReady}, {"n-2", 6, StepActivate},
	} {
		h.HeardReleased(row.from, v.ID, 1, row.session)
		if got := kinds(); !slices.Equal(got, []StepKind{row.want}) {
			t.Errorf("after a release by %s in session %d: %v, want %v", row.from, row.session, got, row.want)
		}
	}
}
