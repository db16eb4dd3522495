package labtest

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestTimersOfABubble: with two cores and the race detector this ends the process within a second.
func TestTimersOfABubble(t *testing.T) {
	cores := runtime.GOMAXPROCS(0)
	Bubble(t, func(t *testing.T) {
		if n := runtime.GOMAXPROCS(0); Race && n != 1 {
			t.Fatalf("%d cores in a bubble under the race detector, want 1", n)
		}
		for range 50 {
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					for range 2000 {
						timer := time.NewTimer(0)
						select {
						case <-timer.C:
						default:
						}
					}
				})
			}
			both.Wait()
			rung := make(chan struct{})
			time.AfterFunc(time.Millisecond, func() { close(rung) })
			<-rung
		}
	})
	if n := runtime.GOMAXPROCS(0); n != cores {
		t.Errorf("%d cores after the bubble, want the %d from before", n, cores)
	}
}
