package main

import (
	"sync"
	"time"

	"havip-cluster/api"
)

const (
	// pictureAge is how old the last reading of the kernel may be before another one is made.
	pictureAge = time.Second
	// pictureWait is how long a reader waits for one that is on its way; then it gets the last.
	pictureWait = 20 * time.Millisecond
)

// picture is the last reading of what the kernel shows. Readers never wait long for the
// kernel, and however many they are, one at a time reads it.
type picture struct {
	mu      sync.Mutex
	seen    []api.Observation
	at      time.Time
	reading chan struct{} // closed when the reading on its way is done; nil: there is none
}

// latest gives the last reading, of read, and has a new one made when it is old.
func (p *picture) latest(read func() []api.Observation) []api.Observation {
	p.mu.Lock()
	if time.Since(p.at) < pictureAge {
		defer p.mu.Unlock()
		return p.seen
	}
	if p.reading == nil {
		p.reading = make(chan struct{})
		go p.take(read, p.reading)
	}
	done := p.reading
	p.mu.Unlock()
	wait := time.NewTimer(pictureWait)
	defer wait.Stop()
	select {
	case <-done:
	case <-wait.C:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

func (p *picture) take(read func() []api.Observation, done chan struct{}) {
	seen := read()
	p.mu.Lock()
	p.seen, p.at, p.reading = seen, time.Now(), nil
	p.mu.Unlock()
	close(done)
}
