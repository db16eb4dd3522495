//go:build mutants

package lease

import (
	"testing"

	"havip-cluster/internal/mutant"
)

// A checker that cannot fail proves nothing: each rule of DESIGN.md, broken, must give a
// violation in the schedule that was made for it.
func TestMutantSchedules(t *testing.T) {
	for _, s := range schedules {
		t.Run(s.mutant, func(t *testing.T) {
			mutant.Set(s.mutant)
			defer mutant.Set("")
			if v := s.run().violation; v == "" {
				t.Errorf("%s is broken and its schedule does not show it", s.rule)
			} else {
				t.Log(v)
			}
		})
	}
}

func TestMutantSearch(t *testing.T) {
	histories := searchSetting(t, "HAVIP_SEARCH_HISTORIES", 600)
	seed := searchSetting(t, "HAVIP_SEARCH_SEED", searchSeed)
	for _, m := range schedules {
		t.Run(m.mutant, func(t *testing.T) {
			mutant.Set(m.mutant)
			defer mutant.Set("")
			for i := range histories {
				s := newSim(seed+i, false)
				s.play(s.profile.duration)
				if s.violation != "" {
					t.Logf("history %d: %s", i+1, s.violation)
					return
				}
			}
			t.Logf("not found")
		})
	}
}
