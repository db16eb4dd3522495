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
		{"renewer-longer-pace", 3, 0, longerLease},
		{"closing-first-hint", 3, 1, voterWasCutOff},
		{"failover-sender", 3, 1, forgedMessages},
		{"failover-gossip-keyed", 3, 1, forgedMessages},
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
