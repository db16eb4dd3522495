package fsm

import (
	"encoding/json"
	"strings"
	"testing"
)

// FIELD A37: a node says of itself that its vote rests, and that it is back; once each, and no other node does.
func TestAVoteRests(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	for _, b := range []RestVote{{Node: "n-n1"}, {Node: "n-n1"}, {Node: "n-n1", Back: true}, {Node: "n-n1", Back: true}, {Node: "n-n1"}} {
		w.must(b)
		if got := w.state.Nodes["n-n1"].Resting; got == b.Back {
			t.Errorf("after %+v: resting is %t", b, got)
		}
	}
	said := 0
	for _, e := range w.state.Events {
		if strings.Contains(e.Text, "stops in order") || strings.Contains(e.Text, "runs again") {
			said++
		}
	}
	if said != 3 {
		t.Errorf("%d events, want one for each change", said)
	}
	raw, err := json.Marshal(RestVote{Node: "n-n1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, refusal := OwnCommand(w.state, "n-n1", "rest-vote", raw); refusal != nil {
		t.Error(refusal)
	}
	if _, refusal := OwnCommand(w.state, "n-n2", "rest-vote", raw); refusal == nil {
		t.Error("another node may take a vote away")
	}
}
