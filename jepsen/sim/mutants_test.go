//go:build mutants

package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestMutantSim plays seeds until one shows the bug that HAVIP_MUTANT plants.
func TestMutantSim(t *testing.T) {
	name := planted(t)
	var total Stats
	for i := range *seedsFlag {
		st, v := play(t, Generate(*seedFlag+uint64(i), *durationFlag), nil)
		total.Add(st)
		if v != nil {
			fmt.Printf("caught: %s, seed %d after %.1f cluster-hours: %v\n", v.Rule, *seedFlag+uint64(i), total.Virtual.Hours(), v)
			return
		}
	}
	t.Errorf("%s survived %d seeds, %.1f cluster-hours", name, *seedsFlag, total.Virtual.Hours())
}

const directedPlays = 20 // raft's luck differs a little from play to play

// TestMutantDirected plays the schedule that was made for the bug that HAVIP_MUTANT plants.
func TestMutantDirected(t *testing.T) {
	name := planted(t)
	s := read(t, filepath.Join("testdata", name+".txt"))
	for i := range directedPlays {
		var rec recorder
		if _, v := play(t, s, rec.add); v != nil && v.Rule != "schedule" {
			fmt.Printf("caught: %s, play %d of its schedule: %v\n", v.Rule, i+1, v)
			return
		}
		if i == 0 {
			t.Log(&rec)
		}
	}
	t.Errorf("%s survived its schedule %d times", name, directedPlays)
}

func planted(t *testing.T) string {
	t.Helper()
	name := os.Getenv("HAVIP_MUTANT")
	if name == "" {
		t.Skip("HAVIP_MUTANT names no planted bug; make mutants sets it")
	}
	return name
}
