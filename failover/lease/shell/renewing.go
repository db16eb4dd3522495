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
	// graceShare: the goroutine of Renew renews where the renewing thread is late by that part of the
	// time between two renewals.
	graceShare = 2
)

// Renew implements Leaseholder.
func (r *Renewer) Renew(ctx context.Context, leave func(context.Context) bool) {
	watch, stop := r.cfg.Log.Watch()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	r.mu.Lock()
	h := r.holder
	r.mu.Unlock()
	grace := 0
	if r.cfg.Plane != nil {
		over := make(chan struct{})
		defer close(over)
		grace = graceShare
		go r.beat(h, over)
	}
	out := new(lease.Renewal)
	for {
		select {
		case <-ctx.Done():
			r.Release()
			return
		case <-watch:
		case <-timer.C:
		}
		pause, alive := r.round(h, out, grace)
		if !alive {
			r.cfg.Logger.Warn("the lease is over", "session", h.Session().Number)
		}
		if !alive || leave(ctx) {
			return
		}
		timer.Reset(pause)
	}
}

// beat renews a session in a thread of its own, which waits in the kernel: neither a timer of Go's
// runtime nor another goroutine has to run before a renewal leaves. It ends with the session, or
// soon after over is closed, and then sends nothing: round asks the holder each time.
func (r *Renewer) beat(h *lease.Holder, over <-chan struct{}) {
	thread := r.cfg.Plane.Enter("renews")
	defer thread.Leave()
	out := new(lease.Renewal)
	for {
		select {
		case <-over:
			return
		default:
		}
		pause, alive := r.round(h, out, 0)
		if !alive {
			return
		}
		realtime.SleepUntil(int64(r.cfg.Clock().Add(min(pause, beatMost))))
		thread.Worked()
	}
}

// round sends a renewal of a session if one is due, and says when to come back. With a grace it leaves
// that to the renewing thread, until that is late by a part of the pause. out is the caller's own, for
// a pointer that costs no allocation.
func (r *Renewer) round(h *lease.Holder, out *lease.Renewal, grace int) (pause time.Duration, alive bool) {
	s := r.cfg.Log.State()
	set := r.cfg.Log.VoterSet()
	now := r.cfg.Clock()
	r.mu.Lock()
	if r.holder != h { // another session has begun
		r.mu.Unlock()
		return 0, false
	}
	if _, open := s.Sessions[h.Session().Number]; !open {
		r.end()
	}
	r.counted(now)
	wait := time.Duration(0)
	if grace > 0 {
		wait = h.Pace() / time.Duration(grace)
	}
	was, due := h.NextRenewal(), false
	authorised := r.cfg.Authorised == nil || r.cfg.Authorised(now)
	if alive = h.Alive(now); alive && authorised && !now.Before(was.Add(wait)) {
		if *out, due = h.Begin(now, set, s.Cluster.Lease); due {
			r.newest = *out
			r.begun(set)
		}
		if out.Round > 1 { // the first is due before anybody could send it
			r.course.begun(now, now.Sub(was), grace > 0)
		}
	}
	next := h.NextRenewal().Add(wait)
	pause = max(min(next, h.Deadline()).Sub(now), 0)
	if !authorised || pause == 0 && !due { // or a round that is refused, because no lease has that length
		pause = min(h.Pace(), max(h.Deadline().Sub(now), 0))
	}
	r.mu.Unlock()
	if !alive {
		return 0, false
	}
	if due {
		for _, voter := range set.Voters {
			out.Boot = r.bootOf(voter)
			r.cfg.Mail.Send(voter, wire.Message{Renewal: out})
		}
	}
	return pause, true
}

// bootOf is a voter's boot id, 0 while it is unknown.
func (r *Renewer) bootOf(voter string) lease.BootID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.boots[voter]
}
