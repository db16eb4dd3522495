package fsm

import (
	"strings"
	"testing"
)

// FIELD S4: a node that does not apply the log gets nothing new, whatever it was given before stays,
// and everybody can read why.
func TestWhoDoesNotApplyGetsNothingNew(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	web(w)
	w.guarded()
	w.havip("db", "10.0.0.101")
	w.guarded()
	w.place("web", "n1/eth0")
	inputs := w.state.PlacementInputs()
	w.must(ReportBehind{Session: w.session("n1"), Behind: 7})
	if w.state.PlacementInputs() == inputs {
		t.Error("no reason to place anew")
	}
	barred := func(name string) string {
		if o := w.state.Ineligible(w.get(name), w.state.ENIs["n1/eth0"], w.at); o != nil {
			return o.Rule + ": " + o.Text
		}
		return ""
	}
	if got := barred("db"); !strings.HasPrefix(got, "behind: node n1 keeps its lease but does not apply the log since entry 7") {
		t.Errorf("db: %q", got)
	}
	if got := barred("web"); got != "" {
		t.Errorf("what it serves stays, not %q", got)
	}
	if o := w.state.Ineligible(w.get("web"), w.state.ENIs["n1/eth1"], w.at); o == nil || o.Rule != "behind" {
		t.Errorf("its other ENI: %+v", o)
	}
	w.must(ReportBehind{Session: w.session("n1"), Behind: 9}) // once more: no second event
	w.must(ReportBehind{Session: w.session("n1")})
	if got := barred("db"); got != "" {
		t.Errorf("up to date again: %q", got)
	}
	var said []string
	for _, e := range w.state.Events {
		if e.Kind == "behind" {
			said = append(said, e.Text)
		}
	}
	if len(said) != 2 || !strings.Contains(said[1], "applies the log again") {
		t.Errorf("events: %q", said)
	}
}
