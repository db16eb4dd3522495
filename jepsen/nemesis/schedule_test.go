package nemesis

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"havip-cluster/jepsen/faults"
)

func TestScheduleFollowsFromTheSeed(t *testing.T) {
	one, again, other := Schedule(7, Names(), 5, 60), Schedule(7, Names(), 5, 60), Schedule(8, Names(), 5, 60)
	if diff := cmp.Diff(one, again); diff != "" {
		t.Errorf("one seed, two schedules: %s", diff)
	}
	if cmp.Equal(one, other) {
		t.Error("two seeds, one schedule")
	}
	if diff := cmp.Diff(one[:10], Schedule(7, Names(), 5, 10)); diff != "" {
		t.Errorf("a shorter run is another one: %s", diff)
	}
}

// Each kind alone once before any pair, and over a long run each as often as any other.
func TestScheduleLeavesNoKindOut(t *testing.T) {
	names := Names()
	count := map[string]int{}
	for i, e := range Schedule(3, names, 5, len(names)*5) {
		if alone := i < len(names); alone != (len(e.Faults) == 1) {
			t.Errorf("episode %d has %d faults", e.Number, len(e.Faults))
		}
		seen := map[string]bool{}
		for _, f := range e.Faults {
			if seen[f.Kind] {
				t.Errorf("episode %d: %s twice", e.Number, f.Kind)
			}
			seen[f.Kind] = true
			count[f.Kind]++
			if f.Node < 1 || f.Node > 5 || f.Length < lengthMin || f.Length > lengthMax || f.After < 0 || f.After > afterMax {
				t.Errorf("episode %d: %v", e.Number, f)
			}
		}
		if i == len(names)-1 && len(count) != len(names) {
			t.Errorf("%d of %d kinds alone", len(count), len(names))
		}
	}
	for _, name := range names {
		if count[name] < 8 || count[name] > 10 {
			t.Errorf("%s: %d times", name, count[name])
		}
	}
	if !slices.Contains(names, "kill all") {
		t.Error("the worst one is missing")
	}
}

// One kind alone must not hang the drawing of pairs.
func TestScheduleOfOneKind(t *testing.T) {
	for _, e := range Schedule(1, []string{"stop"}, 3, 4) {
		if e.Faults[0].Kind != "stop" {
			t.Errorf("%v", e)
		}
	}
}

// Trials play what the catalogue says, and nothing else.
func TestTheCatalogueIsPlayed(t *testing.T) {
	if diff := cmp.Diff(slices.Sorted(slices.Values(faults.Trials())), slices.Sorted(maps.Keys(begins))); diff != "" {
		t.Error(diff)
	}
}
