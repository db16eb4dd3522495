package lease

import "testing"

// What another hand has counted moves the deadline as a counted round does: never back, and not of a lease that is over.
func TestCountedElsewhere(t *testing.T) {
	h := NewHolder(Session{"A", 7}, 0, length)
	first, _ := h.Begin(10*Instant(ms), abc, length)
	second, _ := h.Begin(20*Instant(ms), abc, length)
	h.Counted(first.Sent.Add(length))
	if want := Instant(10 * ms).Add(length); h.Deadline() != want || !h.Alive(want-1) {
		t.Fatalf("deadline %d, want %d", h.Deadline(), want)
	}
	if h.Counted(Instant(5 * ms).Add(length)); h.Deadline() != first.Sent.Add(length) {
		t.Error("moved back")
	}
	for _, voter := range []string{"A", "B"} { // the process hears the same answers
		h.Ack(30*Instant(ms), Ack{first.Session, first.Round, first.Sent, first.Length, first.Config, voter, 1})
	}
	if h.Deadline() != first.Sent.Add(length) {
		t.Error("a round that was counted counts again")
	}
	for _, voter := range []string{"A", "B"} {
		h.Ack(40*Instant(ms), Ack{second.Session, second.Round, second.Sent, second.Length, second.Config, voter, 1})
	}
	if h.Deadline() != second.Sent.Add(length) {
		t.Error("the next round does not count")
	}
	if h.Alive(h.Deadline()) {
		t.Fatal("alive at its deadline")
	}
	passed := h.Deadline()
	if h.Counted(passed.Add(length)); h.Alive(passed-1) || h.Deadline() != passed {
		t.Error("a lease that is over lives again")
	}
}

// The pace is that of the length which gave the deadline (rule 8), whoever has counted.
func TestPaceOfALengthCountedElsewhere(t *testing.T) {
	h := NewHolder(Session{"A", 7}, 0, short)
	r, _ := h.Begin(Instant(ms), abc, long)
	if h.Pace() != short/renewalsPerLease {
		t.Fatalf("pace %v before the longer length is promised", h.Pace())
	}
	if h.Counted(r.Sent.Add(long)); h.Pace() != long/renewalsPerLease {
		t.Errorf("pace %v, want %v", h.Pace(), long/renewalsPerLease)
	}
}
