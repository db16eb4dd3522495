package reach

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	tryTimeout = time.Second // of one try; a node of the same cluster answers within milliseconds
	turnLeast  = 500 * time.Millisecond
)

// Prober tries the doors of the other members at a low rate, and keeps what fails.
type Prober struct {
	// Peers returns the members that seem to be up, this node not among them.
	Peers func() []Peer
	// Try finds out whether a door is reached, and is called for several at a time. Where another part
	// of the program has just reached it, Try makes no connection.
	Try func(ctx context.Context, p Probe) error
	// Changed is called when something else fails than before. It may take a second.
	Changed func([]Failure)

	mu   sync.Mutex
	last []Failure
}

// Failures returns what fails, sorted.
func (p *Prober) Failures() []Failure {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.last)
}

// Run works until ctx ends. It may be called once.
func (p *Prober) Run(ctx context.Context) {
	var t Table
	timer := time.NewTimer(time.Duration(rand.Float64() * float64(turnEvery)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		t.Meet(p.Peers())
		due := t.Due(time.Now(), rand.Float64())
		outcome := p.try(ctx, due)
		now := time.Now()
		for i, why := range outcome {
			t.Note(now, due[i], why)
		}
		p.tell(t.Failures(now))
		timer.Reset(max(time.Until(t.Next()), turnLeast))
	}
}

// try makes the tries of one turn, side by side: there are at most turnPeers times the doors.
func (p *Prober) try(ctx context.Context, due []Probe) []Why {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	out := make([]Why, len(due))
	var all sync.WaitGroup
	for i, d := range due {
		all.Go(func() { out[i] = reason(p.Try(ctx, d)) })
	}
	all.Wait()
	return out
}

func (p *Prober) tell(now []Failure) {
	p.mu.Lock()
	same := slices.Equal(p.last, now)
	p.last = now
	p.mu.Unlock()
	if !same {
		p.Changed(now)
	}
}

// ErrNoAnswer is the outcome of a try by datagrams.
var ErrNoAnswer = errors.New("no answer")

func reason(err error) Why {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrNoAnswer):
		return NoAnswer
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return Unreachable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return TimedOut
	}
	return Failed
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// Connect makes a TCP connection, writes what makes the other side take its end for nothing
// unusual, and ends it.
func Connect(ctx context.Context, d *net.Dialer, address string, first []byte) error {
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	if len(first) > 0 {
		if _, err = c.Write(first); errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
			err = nil // it was there, and is at its limit of connections
		}
	}
	return errors.Join(err, c.Close())
}
