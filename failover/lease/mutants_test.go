//go:build mutants

package lease

import (
	"os"
	"slices"
	"testing"

	"havip-cluster/jepsen/mutants/mutant"
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

// searchMustFind: within mutantHistories, else the search has become blind. It finds some
// of the others in many thousands of histories; all of them have a schedule.
var searchMustFind = []string{
	"lease-first-promise",
	"lease-send-time-deadline",
	"lease-config-check",
	"lease-majority",
	"lease-config-age",
	"lease-drift-margin",
	"lease-boot",
	"lease-growth",
	"lease-hand-begins",
	"lease-hand-round",
	"lease-hand-until",
}

const mutantHistories = 3_000

// TestMutantSearch runs the search against planted bugs. With HAVIP_SEARCH_HISTORIES set it
// takes every bug that there is, and reports how far the search alone gets.
func TestMutantSearch(t *testing.T) {
	histories := searchSetting(t, "HAVIP_SEARCH_HISTORIES", mutantHistories)
	everything := os.Getenv("HAVIP_SEARCH_HISTORIES") != ""
	seed := searchSetting(t, "HAVIP_SEARCH_SEED", searchSeed)
	for _, m := range schedules {
		must := slices.Contains(searchMustFind, m.mutant)
		if !must && !everything {
			continue
		}
		t.Run(m.mutant, func(t *testing.T) {
			mutant.Set(m.mutant)
			defer mutant.Set("")
			for i := range histories {
				s := newSim(seed+i, false)
				s.counting = false // a second hand that counts rightly hides what the process does wrong
				s.play(s.profile.duration)
				if s.violation != "" {
					t.Logf("history %d: %s", i+1, s.violation)
					return
				}
			}
			t.Logf("survived %d histories", histories)
			if must {
				t.Fail()
			}
		})
	}
}
