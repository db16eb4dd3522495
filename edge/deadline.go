package edge

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"havip-cluster/netdev/fence"
)

// deadlines takes the deadline of the lease to the fence. It goes past the Loop: whatever that
// is busy with, a renewal is a memory store.
type deadlines struct {
	log    *slog.Logger
	fence  fence.Fence // nil: none
	newest atomic.Int64
	wake   chan struct{}
	mu     sync.Mutex // held while the newest is taken to a fence that takes its time
	// failed is called when the fence did not take it: somebody has damaged it.
	failed func()
	said   time.Time // of run: when that was logged the last time
}

func newDeadlines(log *slog.Logger, f fence.Fence, failed func()) *deadlines {
	return &deadlines{log: log, fence: f, wake: make(chan struct{}, 1), failed: failed}
}

// set stores a deadline: at once with eBPF, and soon with a fence for which it is a
// transaction. That it arrives late only makes that fence shut earlier.
func (d *deadlines) set(t Instant) {
	if d.fence == nil {
		return
	}
	d.newest.Store(int64(t))
	if d.fence.Kind() == fence.EBPF {
		if err := d.fence.SetDeadline(int64(t)); err != nil {
			d.log.Error("the fence did not take the deadline", "err", err)
		}
		return
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// again gives the newest deadline to a fence that loses it when its rules are made anew.
func (d *deadlines) again() error {
	if d.fence.Kind() == fence.EBPF {
		return nil
	}
	return d.take()
}

// take is for a fence for which a deadline is a transaction.
func (d *deadlines) take() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fence.SetDeadline(d.newest.Load())
}

// run gives the newest deadline to a fence that takes its time, until ctx ends.
func (d *deadlines) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		}
		if err := d.take(); err != nil {
			if time.Since(d.said) >= sayAgain {
				d.said = time.Now()
				d.log.Warn("the fence did not take the deadline", "err", err)
			}
			d.failed()
		}
	}
}
