package owner

import (
	"context"
	"sync/atomic"
	"time"

	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
)

const (
	guardPauseMin = 20 * time.Millisecond // between two reports that did not get through
	guardPauseMax = 500 * time.Millisecond
	// unsafeLeases is for how many leases a node may keep its session whose fence does not
	// know every HAVIP, and unsafeLeast how long that is at least: new HAVIPs are known within
	// milliseconds, and a fence that somebody took away is put back.
	unsafeLeases = 2
	unsafeLeast  = time.Second
)

// guardian reports to the log up to where this node's fence knows every HAVIP. A new HAVIP is
// owned by nobody before each node with a session has said so of it: another program may have
// its address on this host already.
type guardian struct {
	cfg     Config
	guarded atomic.Uint64
	wake    chan struct{}
}

func newGuardian(cfg Config) *guardian {
	return &guardian{cfg: cfg, wake: make(chan struct{}, 1)}
}

// knows notes up to which log index the fence knows every HAVIP. It does not block.
func (g *guardian) knows(index uint64) {
	if g.guarded.Swap(index) == index {
		return
	}
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// run reports until ctx ends, whenever the log waits for it.
func (g *guardian) run(ctx context.Context) {
	watch, stop := g.cfg.Log.Watch()
	defer stop()
	pause := guardPauseMin
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
		case <-watch:
		case <-retry.C:
		}
		if g.report(ctx) {
			pause = guardPauseMin
			continue
		}
		retry.Reset(pause)
		pause = min(2*pause, guardPauseMax)
	}
}

// report tells the log if it waits. False: it must be tried again.
func (g *guardian) report(ctx context.Context) bool {
	s, known := g.cfg.Log.State(), g.guarded.Load()
	sess, open := s.SessionOf(g.cfg.Node)
	if !open || s.Level() < 3 || sess.Guarded >= s.Cluster.GuardIndex || known < s.Cluster.GuardIndex {
		return true
	}
	wait, cancel := context.WithTimeout(ctx, ports.SubmitWait)
	defer cancel()
	res, err := g.cfg.Submit(wait, fsm.ReportGuarded{Node: g.cfg.Node, Session: sess.Number, Index: known})
	if err != nil || res.Refusal != nil {
		g.cfg.Logger.Debug("cannot report what the fence knows, trying again", "err", err, "refusal", res.Refusal)
		return false
	}
	return true
}

// Guarded is the log index up to which the fence of this node knows every HAVIP.
func (a *Agent) Guarded() uint64 { return a.guardian.guarded.Load() }

// noteGuard follows what the fence knows. A node whose fence does not know every HAVIP for
// long gives its session up: it may not stand beside the owners of those.
func (a *Agent) noteGuard(r Report) {
	a.guardian.knows(r.Guarded)
	if r.Unguarded == "" {
		a.unsafe = 0
		return
	}
	now := a.cfg.Clock()
	if a.unsafe == 0 {
		a.unsafe = max(now, 1)
	}
	limit := max(unsafeLeases*a.cfg.Log.State().Cluster.LeaseMax, unsafeLeast)
	session, _ := a.lease.Lease()
	if session == 0 || now.Sub(a.unsafe) < limit {
		return
	}
	a.cfg.Logger.Error("the fence does not know every HAVIP: this node gives its session up until it does", "reason", r.Unguarded)
	a.journal.note("fault", "", "the fence of this node does not know every HAVIP: "+r.Unguarded)
	a.lease.Release()
	a.unsafe = now // said once for each time it is given up
}
