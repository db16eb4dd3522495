package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

const (
	clockEvery = 2 * time.Minute
	clockFirst = 10 * time.Second // after the start, at most
	clockWait  = 2 * time.Second  // for the leader's answer
	// clockSlip is how far two wall clocks may be apart before a person hears of it. Leases do not look at them.
	clockSlip = 5 * time.Second
)

// wallClock compares this host's wall clock with the leader's, which bans, quarantines and limits of failures end by.
type wallClock struct {
	leader func() (n fsm.Node, other bool) // other: it is not this node
	ask    func(ctx context.Context, n fsm.Node) (time.Time, error)
	now    func() time.Time
	log    *slog.Logger

	problem atomic.Pointer[string]
}

// Problem says what is wrong, "" if nothing is known.
func (w *wallClock) Problem() string {
	if p := w.problem.Load(); p != nil {
		return *p
	}
	return ""
}

func (w *wallClock) run(ctx context.Context) error {
	timer := time.NewTimer(rand.N(clockFirst))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		w.look(ctx)
		timer.Reset(clockEvery + rand.N(clockEvery/4))
	}
}

// look asks once. Without an answer the last finding stays; a leader has nobody to ask.
func (w *wallClock) look(ctx context.Context) {
	text := ""
	if n, other := w.leader(); other {
		found, answered := w.compare(ctx, n)
		if !answered {
			return
		}
		text = found
	}
	if was := w.Problem(); text != "" && was == "" {
		w.log.Warn("this host's clock differs from the leader's", "why", text)
	}
	w.problem.Store(&text)
}

// compare says what is wrong with this host's clock beside that of a node, "" for nothing; false: that node
// did not say.
func (w *wallClock) compare(ctx context.Context, n fsm.Node) (text string, answered bool) {
	ctx, cancel := context.WithTimeout(ctx, clockWait)
	defer cancel()
	there, err := w.ask(ctx, n)
	if errors.Is(err, identity.ErrExpired) { // it names both times, and the way out
		return fmt.Sprintf("by it no certificate of %s, which leads, is valid: %v", n.Name, err), true
	}
	if err != nil {
		return "", false
	}
	here := w.now()
	if here.Sub(there).Abs() <= clockSlip {
		return "", true
	}
	return fmt.Sprintf("its clock says %s, that of %s, which leads, %s: leases do not look at them, but certificates begin and end by each host's, bans and quarantines by the leader's; run chrony or systemd-timesyncd on both",
		here.UTC().Format(time.RFC3339), n.Name, there.UTC().Format(time.RFC3339)), true
}

func (a *node) newWallClock() *wallClock {
	return &wallClock{
		leader: func() (fsm.Node, bool) {
			n, known := a.backend.Leader()
			return n, known && n.ID != a.id.NodeID
		},
		ask: func(ctx context.Context, n fsm.Node) (time.Time, error) { return a.backend.client(n).Clock(ctx) },
		now: time.Now,
		log: a.log,
	}
}
