package api

import (
	"fmt"
	"testing"
	"time"
)

// forget makes a limiter new, for tests of something else.
func (l *joinLimiter) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.failures)
}

// Ten refused tries at once, then one every six seconds, for each address on its own; a table of
// addresses that is full takes none until one has been quiet for a minute.
func TestRefusedTriesAreLimited(t *testing.T) {
	var l joinLimiter
	now := time.Unix(1_000_000, 0)
	refuse := func(addr string) (refused int) {
		for ; refused < 100 && l.wait(addr, now) == 0; refused++ {
			l.failed(addr, now)
		}
		return refused
	}
	for i, row := range []struct {
		after time.Duration
		addr  string
		want  int
	}{
		{0, "a", joinFailuresMax},
		{0, "a", 0},
		{0, "b", joinFailuresMax},
		{joinFailurePause - time.Millisecond, "a", 0},
		{time.Millisecond, "a", 1},
		{3 * joinFailurePause, "a", 3},
		{time.Hour, "a", joinFailuresMax},
	} {
		now = now.Add(row.after)
		if got := refuse(row.addr); got != row.want {
			t.Errorf("%d: %d tries of %s, want %d", i, got, row.addr, row.want)
		}
	}
	if wait := l.wait("a", now); wait <= joinFailurePause-time.Second || wait > joinFailurePause || seconds(wait) != "6" {
		t.Errorf("it waits %v", wait)
	}
	for i := range 2 * joinAddressesMax {
		if addr := fmt.Sprint(i); l.wait(addr, now) == 0 {
			l.failed(addr, now)
		}
	}
	if n := len(l.failures); n != joinAddressesMax || l.wait("new", now) == 0 {
		t.Errorf("%d addresses are kept, and a new one waits %v", n, l.wait("new", now))
	}
	if now = now.Add(joinFailuresMax * joinFailurePause); l.wait("new", now) != 0 || len(l.failures) != 0 {
		t.Errorf("a minute later %d are kept, and a new one waits %v", len(l.failures), l.wait("new", now))
	}
}
