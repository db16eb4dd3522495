package shell

import (
	"context"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/internal/realtime"
)

const (
	// beatMost is how long the renewing thread sleeps at most, so that it notices the end of a session.
	beatMost = 100 * time.Millisecond
	// graceShare: the goroutine of Run renews where the renewing thread is late by that part of the
	// time between two renewals.
	graceShare = 2
)

// renew keeps the session alive until it is over: not renewed in time, closed by the
// log, or released.
func (k *Keeper) renew(ctx context.Context) {
	watch, stop := k.cfg.Log.Watch()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	grace := 0
	if k.cfg.Plane != nil {
		over := make(chan struct{})
		defer close(over)
		grace = graceShare
		k.mu.Lock()
		h := k.holder
		k.mu.Unlock()
		go k.beat(h, over)
	}
	out := new(lease.Renewal)
	for {
		select {
		case <-ctx.Done():
			k.Release()
			return
		case <-watch:
		case <-timer.C:
		}
		pause, alive := k.round(k.holder, out, grace)
		if !alive {
			k.cfg.Logger.Warn("the lease is over", "session", k.holder.Session().Number)
		}
		if !alive || k.leave(ctx) {
			return
		}
		timer.Reset(pause)
	}
}

// beat renews a session in a thread of its own, which waits in the kernel: neither a timer of Go's
// runtime nor another goroutine has to run before a renewal leaves. It ends with the session, or
// soon after over is closed, and then sends nothing: round asks the holder each time.
func (k *Keeper) beat(h *lease.Holder, over <-chan struct{}) {
	thread := k.cfg.Plane.Enter("renews")
	defer thread.Leave()
	out := new(lease.Renewal)
	for {
		select {
		case <-over:
			return
		default:
		}
		pause, alive := k.round(h, out, 0)
		if !alive {
			return
		}
		realtime.SleepUntil(int64(k.cfg.Clock().Add(min(pause, beatMost))))
		thread.Worked()
	}
}

// round sends a renewal of a session if one is due, and says when to come back. With a grace it leaves
// that to the renewing thread, until that is late by a part of the pause. out is the caller's own, for
// a pointer that costs no allocation.
func (k *Keeper) round(h *lease.Holder, out *lease.Renewal, grace int) (pause time.Duration, alive bool) {
	s := k.cfg.Log.State()
	set := k.cfg.Log.VoterSet()
	now := k.cfg.Clock()
	k.mu.Lock()
	if k.holder != h { // another session has begun
		k.mu.Unlock()
		return 0, false
	}
	if _, open := s.Sessions[h.Session().Number]; !open {
		h.Release()
		k.fence.SetDeadline(0)
	}
	wait := time.Duration(0)
	if grace > 0 {
		wait = h.Pace() / time.Duration(grace)
	}
	was, due := h.NextRenewal(), false
	if alive = h.Alive(now); alive && !now.Before(was.Add(wait)) {
		*out, due = h.Begin(now, set, s.Cluster.Lease)
		k.newest = *out
		if out.Round > 1 { // the first is due before anybody could send it
			k.course.begun(now, now.Sub(was), grace > 0)
		}
	}
	next := h.NextRenewal().Add(wait)
	pause = max(min(next, h.Deadline()).Sub(now), 0)
	k.mu.Unlock()
	if !alive {
		return 0, false
	}
	if due {
		for _, voter := range set.Voters {
			out.Boot = k.bootOf(voter)
			k.cfg.Mail.Send(voter, wire.Message{Renewal: out})
		}
	}
	return pause, true
}

// bootOf is a voter's boot id, 0 while it is unknown.
func (k *Keeper) bootOf(voter string) lease.BootID {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.boots[voter]
}
