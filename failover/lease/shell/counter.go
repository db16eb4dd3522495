package shell

import "havip-cluster/failover/lease"

// Counter counts the answers to a Renewer's rounds beside it, where they come in, and moves the deadline in the fence by
// them: a program in the kernel, which needs no process to get a turn. It goes by the rules of lease.Holder; the
// Renewer sees the same answers, and whoever is first moves the deadline. Nothing here blocks for long. All methods are called with the
// Renewer's lock held.
type Counter interface {
	// CountBy has it count for a session by a voter set: before each round.
	CountBy(s lease.Session, set lease.VoterSet, now lease.Instant)
	// Round tells it of a round before that is sent: answers to others count for nothing.
	Round(r lease.Renewal)
	// OwnVote tells it that this node's own voter has acknowledged that round.
	OwnVote(round uint64)
	// StopCounting ends that: when it returns, the deadline stays where it is. An error: that is not sure.
	StopCounting() error
}

// SharedFence is a Fence whose deadline a Counter moves, too. A deadline of 0 is moved by nobody but SetDeadline, so what
// one of them has found over is over for both (lease rule 3).
type SharedFence interface {
	Fence
	// Extend moves the deadline on; not back, and not from 0.
	Extend(t lease.Instant)
	// Expire returns the deadline, or makes it 0 if it has passed at now.
	Expire(now lease.Instant) lease.Instant
}

// counted takes over what the Counter has counted, and has it move no deadline that has passed at now. Call it
// with mu held, before the holder is asked anything.
func (r *Renewer) counted(now lease.Instant) {
	if r.counter == nil || r.holder == nil || r.abandoned {
		return
	}
	deadline := r.shared.Expire(now)
	if deadline == 0 { // for good, also if somebody else has stored that: a lease that nothing extends is none
		r.holder.Release()
	}
	r.holder.Counted(deadline)
}

// begun has the Counter know of a round before it is sent. Call it with mu held.
func (r *Renewer) begun(set lease.VoterSet) {
	if r.counter != nil && !r.abandoned {
		r.counter.CountBy(r.newest.Session, set, r.newest.Sent)
		r.counter.Round(r.newest)
	}
}

// stopCounting ends what the Counter does for the present session; false: that is not sure. Call it with mu held.
func (r *Renewer) stopCounting() bool {
	if r.counter == nil {
		return true
	}
	err := r.counter.StopCounting()
	if err != nil {
		// Not here: who reads the log may stand still.
		go r.cfg.Logger.Error("the kernel may still count answers to renewals: no session begins", "err", err)
	}
	return err == nil
}
