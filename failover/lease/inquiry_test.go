package lease

import (
	"testing"
	"time"
)

// TestWhoIsAskedWhen plays one inquiry of three voters: nobody is asked on the hint of one, on
// old hints or on those of others than voters, and a question is repeated with growing pauses.
func TestWhoIsAskedWhen(t *testing.T) {
	const long = 800 * time.Millisecond
	set := NewVoterSet([]string{"A", "B", "C"})
	at := func(ms int) Instant { return Instant(time.Hour).Add(time.Duration(ms) * time.Millisecond) }
	q := NewInquiry(at(0))
	due := func(ms int, want bool, wantWait time.Duration) {
		t.Helper()
		if ask, wait := q.Due(at(ms), set, long); ask != want || wait != wantWait {
			t.Errorf("at %d ms: ask %t, wait %v, want %t, %v", ms, ask, wait, want, wantWait)
		}
	}
	q.Hint(at(0), "A", set)
	q.Hint(at(0), "A", set)
	q.Hint(at(0), "D", set)
	due(0, false, 0)
	q.Hint(at(400), "B", set) // A's is half a lease old, and counts for the last time
	due(400, true, 0)
	due(401, false, 0)
	q.Hint(at(410), "C", set)
	ms := 410
	for _, pause := range []int{10, 20, 40, 80, 100, 100, 100} {
		q.Hint(at(ms), "B", set)
		q.Hint(at(ms), "C", set)
		due(ms, true, 0)
		if got := q.Asked(at(ms), long); got != time.Duration(pause)*time.Millisecond {
			t.Errorf("at %d ms it is asked again after %v, want %d ms", ms, got, pause)
		}
		due(ms+pause-1, false, time.Millisecond)
		ms += pause
	}
	last := ms - 100
	if q.Over(at(last+400), long) {
		t.Error("over while voters hint")
	}
	if !q.Over(at(2000), long) {
		t.Error("not over, and nobody hints")
	}
	q.Hint(at(2000), "A", set)
	q.Hint(at(2000), "B", set)
	due(2000, true, 0)
	q.Endorsed()
	due(2000, false, 0)
	if hinted, asked := q.Times(); hinted != at(0) || asked != at(last) || !q.Dead() {
		t.Errorf("first hint %d, asked %d, dead %t", hinted, asked, q.Dead())
	}
}
