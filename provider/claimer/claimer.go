// Package claimer makes the calls with which a node claims what it serves, where a call of the cloud
// moves an address. It decides nothing (provider.Claims does) and nobody waits for it: neither the
// lease, nor a hand-off, nor another HAVIP.
package claimer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"havip-cluster/provider"
)

const (
	// callTimeout bounds one call.
	callTimeout = 15 * time.Second
	// idle is how often the shell looks without news.
	idle = time.Second
	// saidAgain is how long the same failure of one HAVIP is not logged again.
	saidAgain = time.Minute
	saidMax   = 1024
)

// Config is what a Claimer works with. All functions must not block.
type Config struct {
	// Claimer is the present cloud, nil where no call moves an address.
	Claimer func() provider.Claimer
	// Serving lists what stands on this node under a lease that runs, with its deadline; empty without one.
	Serving func() []provider.Claim
	// Stands hears that the cloud shows a claim here for the first time.
	Stands func(c provider.Claim)
	Log    *slog.Logger
}

// Claimer is one node's.
type Claimer struct {
	cfg  Config
	wake chan struct{}

	mu     sync.Mutex
	claims *provider.Claims
	ends   map[string]running // calls under way, by HAVIP, which has one
	said   map[string]time.Time
	calls  uint64
	failed uint64
}

// running is a call that may be cut off.
type running struct {
	call provider.Call
	end  context.CancelFunc
}

// New makes one. It does nothing before Run.
func New(cfg Config) *Claimer {
	return &Claimer{cfg: cfg, wake: make(chan struct{}, 1), claims: provider.NewClaims(), ends: map[string]running{}, said: map[string]time.Time{}}
}

// Wake has it look at once. It does not block.
func (c *Claimer) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Stands reports whether a HAVIP that is served under an epoch is where clients find it: at once where
// announcements move an address, else when the cloud has shown it here.
func (c *Claimer) Stands(havip string, epoch uint64) bool {
	if c.cfg.Claimer() == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.claims.Stands(havip, epoch)
}

// Waiting lists what the cloud has not followed yet.
func (c *Claimer) Waiting() []provider.Waiting {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.claims.Waiting()
}

// Counts are the calls that were made, and those of them that failed.
func (c *Claimer) Counts() (calls, failed uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls, c.failed
}

// Run claims until ctx ends.
func (c *Claimer) Run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		cloud := c.cfg.Claimer()
		for _, call := range c.due(ctx, cloud) {
			group.Go(func() { c.call(ctx, cloud, call) })
		}
		timer.Reset(c.rest())
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
	}
}

// due takes what is served, cuts off the calls whose result counts no more, and gives those to be made.
func (c *Claimer) due(ctx context.Context, cloud provider.Claimer) []provider.Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if cloud == nil || ctx.Err() != nil {
		c.claims.Forget()
	} else {
		c.claims.Serve(now, c.cfg.Serving())
	}
	for _, r := range c.ends {
		if c.claims.Void(r.call) {
			r.end() // not a call more in the way of the owner, whoever that is
		}
	}
	return c.claims.Due(now)
}

func (c *Claimer) rest() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.claims.Next()
	if at.IsZero() {
		return idle
	}
	return min(max(time.Until(at), time.Millisecond), idle)
}

func (c *Claimer) call(ctx context.Context, cloud provider.Claimer, call provider.Call) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	id := call.Claim.HAVIP
	c.mu.Lock()
	c.calls++
	c.ends[id] = running{call, cancel}
	c.mu.Unlock()
	var place provider.Place
	var err error
	switch call.Kind {
	case provider.CallClaim:
		err = cloud.Claim(ctx, call.Claim)
	case provider.CallRelease:
		err = cloud.Release(ctx, call.Claim)
	default:
		place, err = cloud.Where(ctx, call.Claim)
	}
	c.mu.Lock()
	delete(c.ends, id)
	if err != nil && !errors.Is(err, context.Canceled) {
		c.failed++
	}
	out := c.claims.Done(time.Now(), call, place, err)
	say := out.Failed && c.fresh(id+string(call.Kind))
	c.mu.Unlock()
	c.tell(call, place, out, say, err)
	c.Wake()
}

// fresh reports whether something has not been said for a while.
func (c *Claimer) fresh(what string) bool {
	now := time.Now()
	if at, before := c.said[what]; before && now.Sub(at) < saidAgain {
		return false
	}
	if len(c.said) >= saidMax {
		clear(c.said)
	}
	c.said[what] = now
	return true
}

func (c *Claimer) tell(call provider.Call, place provider.Place, out provider.Effect, say bool, err error) {
	about := []any{"havip", call.Claim.Name, "ip", call.Claim.Address, "epoch", call.Claim.Epoch}
	switch {
	case out.Confirmed:
		c.cfg.Log.Info("the cloud sends a HAVIP here", about...)
		c.cfg.Stands(call.Claim)
	case out.Lost:
		c.cfg.Log.Warn("the cloud sends a HAVIP elsewhere that this node serves; it is claimed again", append(about, "where", place.Where)...)
	case say:
		c.cfg.Log.Warn("a call of the cloud failed; it is made again", append(about, "call", string(call.Kind), "err", err)...)
	}
}
