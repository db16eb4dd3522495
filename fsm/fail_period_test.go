package fsm

import (
	"testing"
	"time"
)

// A failure is forgotten after the period that the HAVIP says, and after ten minutes when it says none.
func TestFailPeriod(t *testing.T) {
	w := probeStory(t)
	for name, period := range map[string]time.Duration{"back": time.Hour, "front": FailDecay} {
		id := w.get(name).ID
		for range 2 {
			w.must(RecordFailure{HAVIP: id, Node: nodeID("n1"), Reason: "as the test says"})
		}
		at := w.get(name).Fails["n1"].LastAt
		for _, c := range []struct {
			after time.Duration
			want  int
		}{{period - 1, 2}, {period, 1}, {2*period - 1, 1}, {2 * period, 0}} {
			if got := w.get(name).FailsOn("n1", at+int64(c.after)); got != c.want {
				t.Errorf("%s after %v: %d failures, want %d", name, c.after, got, c.want)
			}
		}
		if f := w.state.viewHAVIP(ptr(w.get(name)), at+1).Fails["n1"]; f.Count != 2 || f.Ends != at+int64(period) {
			t.Errorf("%s: the placement sees %+v", name, f)
		}
	}
	w.refuses(UpdateHAVIP{ID: w.get("back").ID, Change: Change{FailPeriod: ptr(-1)}}, CodeRange, "a failure period of -1 is not possible")
}
