package console

import (
	"net/url"
	"reflect"
	"testing"

	"havip-cluster/api"
)

// What a form was shown with is read beside what is there now, and leaves that alone: also maps and lists,
// which encoding/json fills where they are.
func TestWasLeavesNowAlone(t *testing.T) {
	shown := shownHAVIP{View: api.View{Prefer: map[string]int{"n1": 100}}, Range: api.Range{Members: []string{"n1/eth0"}}}
	now := shownHAVIP{View: api.View{Prefer: map[string]int{"n1": 100, "n2": 50}}, Range: api.Range{Members: []string{"n2/eth0"}}}
	before := shownHAVIP{View: api.View{Prefer: map[string]int{"n1": 100, "n2": 50}}, Range: api.Range{Members: []string{"n2/eth0"}}}
	text := asText(shown)
	if got := was(text, now); !reflect.DeepEqual(got.Prefer, shown.Prefer) || !reflect.DeepEqual(got.Range.Members, shown.Range.Members) {
		t.Errorf("it was shown with %+v", got)
	}
	if !reflect.DeepEqual(now, before) {
		t.Errorf("what is there now became %+v", now)
	}
	mine := shownHAVIP{Name: "new", View: api.View{Prefer: map[string]int{"n1": 1}}, Range: api.Range{Members: []string{"n3/eth0"}}}
	if contested(was(text, now), now, mine) == nil {
		t.Error("both changed the wish and the range, and nobody is told")
	}
}

// What a form showed as empty was shown, too: what somebody else has set since stays, and is not emptied by who left the
// field as it was.
func TestWasKnowsWhatWasEmpty(t *testing.T) {
	zero, one := 0, 1
	now := api.HAVIP{View: api.View{Description: "of the others", Failback: "immediate", Priority: one, Stickiness: one, Weight: one, FailLimit: one, Prefer: map[string]int{"n1": 1}, Managed: true, Maintenance: true}}
	shown := was(asText(shownOf(api.HAVIP{View: api.View{Priority: zero}})), shownOf(now)).over(now)
	form := url.Values{"priority": {"0"}, "stickiness": {"0"}, "weight": {"0"}, "fail_limit": {"0"}}
	change, err := changeFrom(shown, form)
	if err != nil {
		t.Fatal(err)
	}
	change.Range = nil // which a form always names
	if !reflect.DeepEqual(change, api.HAVIPChange{}) {
		t.Errorf("a form that was left as it was shown says %s", asText(change))
	}
}
