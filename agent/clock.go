package agent

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"havip-cluster/fsm"
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
	n, other := w.leader()
	text := ""
	if other {
		ctx, cancel := context.WithTimeout(ctx, clockWait)
		defer cancel()
		there, err := w.ask(ctx, n)
		if err != nil {
			return
		}
		here := w.now()
		if slip := here.Sub(there); slip.Abs() > clockSlip {
			text = fmt.Sprintf("its clock says %s, that of %s, which leads, %s: leases do not look at them, but certificates begin and end by each host's, bans and quarantines by the leader's; run chrony or systemd-timesyncd on both",
				here.UTC().Format(time.RFC3339), n.Name, there.UTC().Format(time.RFC3339))
		}
	}
	if was := w.Problem(); text != "" && was == "" {
		w.log.Warn("this host's clock differs from the leader's", "why", text)
	}
	w.problem.Store(&text)
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
