package agent

import (
	"testing"
	"time"
)

// The eighth figure of the line of all cores, in hundredths of a second (proc(5)).
func TestSteal(t *testing.T) {
	for stat, want := range map[string]time.Duration{
		"cpu  10 20 30 40 50 60 70 123 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n": 1230 * time.Millisecond,
		"cpu  10 20 30 40\n": 0, "": 0, "intr 1 2 3 4 5 6 7 8 9\n": 0, "cpu  1 2 3 4 5 6 7 x 9\n": 0,
	} {
		if got := stealOf(stat); got != want {
			t.Errorf("%q: %v, want %v", stat, got, want)
		}
	}
}
