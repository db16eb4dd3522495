package labtest

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Bubble is synctest.Test, and the way in which every test here enters a bubble. While one is open under the race
// detector, the process computes on one core. Go 1.26 gives a bubble one context of the race detector for all its
// timers (runtime.(*timer).unlockAndRun). Two goroutines that look at their timer's channel at the same instant, on two
// cores, count in it without a lock, and the program ends with a SIGSEGV, by chance and long after. What the detector
// finds does not depend on the number of cores.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if Race {
		bubbles.enter()
		defer bubbles.leave()
	}
	synctest.Test(t, f)
}

var bubbles oneCore

// oneCore holds the process to one core while anybody is inside.
type oneCore struct {
	mu     sync.Mutex
	inside int
	cores  int
}

func (o *oneCore) enter() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.inside++; o.inside == 1 {
		o.cores = runtime.GOMAXPROCS(1)
	}
}

func (o *oneCore) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.inside--; o.inside == 0 {
		runtime.GOMAXPROCS(o.cores)
	}
}
