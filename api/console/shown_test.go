package console

import (
	"reflect"
	"testing"

	"havip-cluster/api"
)

// What a form was shown with is read beside what is there now, and leaves that alone: also maps and lists,
// which encoding/json fills where they are.
func TestWasLeavesNowAlone(t *testing.T) {
	shown := shownHAVIP{Prefer: map[string]int{"n1": 100}, Range: api.Range{Members: []string{"n1/eth0"}}}
	now := shownHAVIP{Prefer: map[string]int{"n1": 100, "n2": 50}, Range: api.Range{Members: []string{"n2/eth0"}}}
	before := shownHAVIP{Prefer: map[string]int{"n1": 100, "n2": 50}, Range: api.Range{Members: []string{"n2/eth0"}}}
	text := asText(shown)
	if got := was(text, now); !reflect.DeepEqual(got.Prefer, shown.Prefer) || !reflect.DeepEqual(got.Range.Members, shown.Range.Members) {
		t.Errorf("it was shown with %+v", got)
	}
	if !reflect.DeepEqual(now, before) {
		t.Errorf("what is there now became %+v", now)
	}
	mine := shownHAVIP{Name: "new", Prefer: map[string]int{"n1": 1}, Range: api.Range{Members: []string{"n3/eth0"}}}
	if contested(was(text, now), now, mine) == nil {
		t.Error("both changed the wish and the range, and nobody is told")
	}
}
