package guard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"havip-cluster/api"
	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

const (
	attemptWait  = 500 * time.Millisecond
	attemptPause = 25 * time.Millisecond
	leaderAlone  = 50 * time.Millisecond // until the others are asked, too
)

// release reports to the leader that a session is released. Whoever sends it has made sure
// that nothing of the session answers any more.
type release struct {
	id      *identity.Identity
	peers   []Peer // the one that led last comes first
	session uint64
	leader  *api.Client // found, and its connection open; nil: not found
}

func (r *release) close() {
	if r.leader != nil {
		r.leader.Close()
	}
}

// findWithin looks for the leader, but not for long.
func (r *release) findWithin(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_ = r.find(ctx) // send looks again
}

// find asks all peers until one of them shows that it leads.
func (r *release) find(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		client *api.Client
		err    error
	}
	answers := make(chan answer)
	for i, p := range r.peers {
		c := api.NewClient(p.API, r.id.ClientTLSTo(p.Node))
		wait := leaderAlone
		if i == 0 {
			wait = 0
		}
		go func() { answers <- answer{c, awaitLeading(ctx, c, p, wait)} }()
	}
	errs := []error{errors.New("no other node leads")}
	for range r.peers {
		a := <-answers
		switch {
		case a.err == nil && r.leader == nil:
			r.leader = a.client
			cancel()
			continue
		case a.err != nil:
			errs = append(errs, a.err)
		}
		a.client.Close()
	}
	if r.leader != nil {
		return nil
	}
	return errors.Join(errs...)
}

// awaitLeading asks one node again and again; it returns nil when that node leads.
func awaitLeading(ctx context.Context, c *api.Client, p Peer, wait time.Duration) error {
	var last error
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", p.API, errors.Join(last, ctx.Err()))
		case <-time.After(wait):
		}
		wait = attemptPause
		attempt, cancel := context.WithTimeout(ctx, attemptWait)
		_, err := c.ReadIndex(attempt) // only a leader that still has a majority answers
		cancel()
		if err == nil {
			return nil
		}
		last = err
	}
}

// send has the session closed: by the leader that was found, else by whoever leads then.
func (r *release) send(ctx context.Context) error {
	var last error
	for {
		if r.leader == nil {
			if err := r.find(ctx); err != nil {
				return errors.Join(last, err)
			}
		}
		attempt, cancel := context.WithTimeout(ctx, attemptWait)
		res, err := r.leader.Command(attempt, fsm.CloseSession{Session: r.session, Released: true})
		cancel()
		switch {
		case err == nil && (res.Refusal == nil || res.Refusal.Code == fsm.CodeStale):
			return nil // closed by this, or before
		case err == nil:
			return res.Refusal
		}
		last = err
		r.leader.Close()
		r.leader = nil
		select {
		case <-ctx.Done():
		case <-time.After(attemptPause):
		}
	}
}
