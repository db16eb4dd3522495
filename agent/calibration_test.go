package agent

import (
	"strings"
	"sync"
	"sync/atomic"
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

// TestADiskThatHangs: however often it is asked for, one flush hangs; who asks is told so in time; and when it
// ends, the next one counts.
func TestADiskThatHangs(t *testing.T) {
	var b backend
	var runs atomic.Int32
	hang := make(chan struct{})
	flush := func() (time.Duration, error) {
		runs.Add(1)
		<-hang
		return time.Second, nil
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if _, err := b.slowestSync(20*time.Millisecond, flush); err == nil || !strings.Contains(err.Error(), "still under way") {
				t.Errorf("%v", err)
			}
		})
	}
	all.Wait()
	for end := time.Now().Add(nodeWait); runs.Load() == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if n := runs.Load(); n != 1 {
		t.Errorf("%d flushes hang", n)
	}
	close(hang)
	if worst, err := b.slowestSync(nodeWait, flush); err != nil || worst != time.Second {
		t.Errorf("%v, %v", worst, err)
	}
}
