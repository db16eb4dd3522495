package sim

import (
	"sync"
	"sync/atomic"
	"time"
)

// gate is where a process that is stopped (SIGSTOP) stands still. A goroutine cannot be
// stopped from outside, so each way out of the process leads through pass: network, disk,
// kernel, log. Between two of them a goroutine may run on, but nothing of that is seen by
// anyone, and the clock that it reads is the one of the moment of the stop.
type gate struct {
	dead   chan struct{} // closed when the process is killed
	frozen atomic.Bool   // for those who only look

	mu    sync.Mutex
	thaw  chan struct{} // closed at the end of the stop; nil while none is
	later []func()      // what the kernel gets at the thaw: stores that do not wait
	armed map[string]time.Duration
	// stop is called for a stop that was armed.
	stop func(d time.Duration)
}

func newGate(stop func(time.Duration)) *gate {
	return &gate{dead: make(chan struct{}), armed: map[string]time.Duration{}, stop: stop}
}

// arm stops the process when it comes to a seam the next time.
func (g *gate) arm(seam string, d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed[seam] = d
}

// disarm forgets stops that have not begun.
func (g *gate) disarm() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.armed)
}

// trip begins a stop that was armed for a seam.
func (g *gate) trip(seam string) {
	g.mu.Lock()
	d, armed := g.armed[seam]
	delete(g.armed, seam)
	g.mu.Unlock()
	if armed {
		g.stop(d)
	}
}

// pass waits while the process is stopped; false when it is dead.
func (g *gate) pass(seam string) bool {
	g.trip(seam)
	for {
		select {
		case <-g.dead:
			return false
		default:
		}
		if !g.frozen.Load() {
			return true
		}
		g.mu.Lock()
		thaw := g.thaw
		g.mu.Unlock()
		if thaw == nil {
			continue
		}
		select {
		case <-g.dead:
			return false
		case <-thaw:
		}
	}
}

// store carries out a memory store into the kernel: at once, or at the thaw. It never
// waits, because it is made with a lock held.
func (g *gate) store(f func()) {
	g.trip("deadline")
	g.mu.Lock()
	if g.thaw != nil {
		g.later = append(g.later, f)
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	if !g.isDead() {
		f()
	}
}

// sleep waits; false when the process is dead before the end.
func (g *gate) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.dead:
		return false
	}
}

func (g *gate) isDead() bool {
	select {
	case <-g.dead:
		return true
	default:
		return false
	}
}

// freeze begins a stop; false if one has begun before.
func (g *gate) freeze() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.thaw != nil || g.isDead() {
		return false
	}
	g.thaw = make(chan struct{})
	g.frozen.Store(true)
	return true
}

// resume ends a stop. What was stored meanwhile reaches the kernel first.
func (g *gate) resume() {
	g.mu.Lock()
	thaw, later := g.thaw, g.later
	g.thaw, g.later = nil, nil
	g.mu.Unlock()
	if thaw == nil {
		return
	}
	for _, f := range later {
		if !g.isDead() {
			f()
		}
	}
	g.frozen.Store(false)
	close(thaw)
}
