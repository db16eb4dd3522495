// Package shared lets those who ask the same question at the same time share one answer.
package shared

import (
	"context"
	"sync"
)

// Call asks a question for everybody who waits for it. An answer counts for those only who came
// before it was asked, so who comes while one is under way shares the next: at most two are
// known at a time, and one is under way. The zero value is ready; any goroutine may use it.
type Call[T any] struct {
	mu            sync.Mutex
	running, next *round[T]
}

type round[T any] struct {
	ask    func() (T, error)
	done   chan struct{}
	answer T // once done is closed
	err    error
}

// Do returns what ask gives when it is called after Do was. It is the ask of the first who waits for
// that answer. Do ends with the context; ask goes on, and has to have a limit of its own.
func (c *Call[T]) Do(ctx context.Context, ask func() (T, error)) (T, error) {
	c.mu.Lock()
	if c.next == nil {
		c.next = &round[T]{ask: ask, done: make(chan struct{})}
	}
	r := c.next
	if c.running == nil {
		c.start()
	}
	c.mu.Unlock()
	select {
	case <-r.done:
		return r.answer, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// start begins the next round, with the lock held.
func (c *Call[T]) start() {
	r := c.next
	c.running, c.next = r, nil
	go func() {
		r.answer, r.err = r.ask()
		close(r.done)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.running = nil; c.next != nil {
			c.start()
		}
	}()
}
