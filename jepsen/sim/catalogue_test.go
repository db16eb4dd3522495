package sim

import (
	"maps"
	"slices"
	"testing"

	"havip-cluster/jepsen/faults"
)

// What a schedule can say is a fault of the catalogue, or a demand or an aid of directed schedules.
func TestTheCatalogueIsPlayed(t *testing.T) {
	aids := []string{"lead", "own", "repeat", "align", "back", "steady", "idle", "recalled", "answered"}
	listed := map[string]bool{}
	for _, f := range faults.Catalogue {
		for _, word := range f.Sim {
			listed[word] = true
			if _, ok := ops[word]; !ok {
				t.Errorf("%s: a schedule has no word %q", f.Name, word)
			}
		}
	}
	for _, word := range slices.Sorted(maps.Keys(ops)) {
		if listed[word] == slices.Contains(aids, word) {
			t.Errorf("%q: a fault without a row in the catalogue, or an aid that has one", word)
		}
	}
}
