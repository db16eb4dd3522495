package identity

import (
	"testing"
	"time"
)

func TestWarnSteps(t *testing.T) {
	const day, long = 24 * time.Hour, 2 * 365 * 24 * time.Hour
	for _, tc := range []struct {
		left, life time.Duration
		want       int
	}{
		{61 * day, long, 0}, {59 * day, long, 1}, {29 * day, long, 2}, {6 * day, long, 3}, {0, long, WarnEnded}, {-day, long, WarnEnded},
		{25 * time.Second, 75 * time.Second, 0}, {18 * time.Second, 75 * time.Second, 1}, {9 * time.Second, 75 * time.Second, 2}, {4 * time.Second, 75 * time.Second, 3},
	} {
		if got := WarnStep(tc.left, tc.life); got != tc.want {
			t.Errorf("%s of %s left: step %d, want %d", tc.left, tc.life, got, tc.want)
		}
	}
}
