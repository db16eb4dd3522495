//go:build mutants

package failover

import (
	"testing"

	"havip-cluster/jepsen/mutants/mutant"
)

// TestMutantWorld: bugs of the shells, each with the test that is made for it.
func TestMutantWorld(t *testing.T) {
	for _, m := range []struct {
		name           string
		voters, agents int
		body           func(w *world)
	}{
		{"agent-release-early", 3, 0, downFails},
		{"keeper-longer-pace", 3, 0, longerLease},
		{"closing-first-hint", 3, 1, voterWasCutOff},
		{"failover-sender", 3, 1, forgedWords},
		{"failover-gossip-keyed", 3, 1, forgedWords},
	} {
		t.Run(m.name, func(t *testing.T) {
			mutant.Set(m.name)
			defer mutant.Set("")
			v := playWorld(t, m.voters, m.agents, true, m.body)
			if t.Log(v); v == "" {
				t.Error("it survived")
			}
		})
	}
}

// mutantHistories: within so many the search must notice each planted bug. That is a
// third of what an ordinary run plays, so that it does not become blind unnoticed.
const mutantHistories = searchHistories / 3

// TestMutantHandoff: each part of rules 6 and 7, broken, must give two owners or a claim
// that nobody ever releases: in the schedule that was made for it, or else in the search.
func TestMutantHandoff(t *testing.T) {
	for _, m := range []string{
		"handoff-early", "handoff-last-only", "handoff-relabel-early",
		"handoff-forget-release", "handoff-reactivate", "handoff-never-activated",
		"handoff-recall-active", "handoff-recall-forget",
		"shell-release-early", "shell-activate-over",
	} {
		t.Run(m, func(t *testing.T) {
			mutant.Set(m)
			defer mutant.Set("")
			if play, made := directed[m]; made {
				s := newStage(2)
				play(s)
				if t.Log(s.violation); s.violation == "" {
					t.Error("it survived its schedule")
				}
				return
			}
			seed := setting(t, "HAVIP_HANDOFF_SEED", searchSeed)
			for i := range setting(t, "HAVIP_HANDOFF_HISTORIES", mutantHistories) {
				h := newHistory(seed + i)
				if bad := h.run(); bad != "" {
					t.Logf("history %d: %s", i+1, bad)
					return
				}
			}
			t.Error("it survived")
		})
	}
}
