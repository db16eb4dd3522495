package realtime

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Plane is what one process has of its host for the threads that renew and answer. All methods may
// be called by any goroutine; a nil Plane asks for nothing.
type Plane struct {
	mu      sync.Mutex
	threads map[string]error // those that run now; nil: with real-time priority
	last    error            // of the newest thread
	process error            // of RaiseProcess
	asked   bool
	memory  error
	locked  uint64 // bytes of address space
	tried   bool   // to lock memory

	throttled atomic.Uint64
}

// New returns a Plane. Nothing is asked of the host before Enter and LockMemory.
func New() *Plane { return &Plane{threads: map[string]error{}} }

// raise asks for the priority of the calling thread.
func (p *Plane) raise(name string) (granted bool) {
	err := raiseThread()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.threads[name], p.last, p.asked = err, err, true
	return err == nil
}

func (p *Plane) leave(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.threads, name)
}

// Report is what a person wants to know.
type Report struct {
	// RealTime: every thread that renews or answers has real-time priority.
	RealTime bool
	// Locked: the memory of those threads is not taken away.
	Locked bool
	// LockedBytes is how much address space is locked. Only what is used of it is memory.
	LockedBytes uint64
	// Refused says what the host refuses, and the way out; "" is nothing.
	Refused string
	// Throttled is how often a thread that used too much of a core became an ordinary one for a while.
	Throttled uint64
}

// Report returns the present state.
func (p *Plane) Report() Report {
	if p == nil {
		return Report{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := Report{RealTime: p.asked && p.last == nil, Locked: p.tried && p.memory == nil, LockedBytes: p.locked, Throttled: p.throttled.Load()}
	why := p.last
	var names []string
	for name := range p.threads {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := p.threads[name]; err != nil {
			r.RealTime, why = false, err
		}
	}
	var said []string
	if why != nil {
		said = append(said, fmt.Sprintf("no real-time priority for what renews and answers: %v", why))
	}
	if why == nil && p.process != nil {
		said = append(said, fmt.Sprintf("no real-time priority for the other threads beside what renews and answers: %v", p.process))
	}
	if p.memory != nil {
		said = append(said, fmt.Sprintf("memory is not locked: %v", p.memory))
	}
	r.Refused = strings.Join(said, "; ")
	return r
}
