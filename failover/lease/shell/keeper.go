package shell

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
)

// ErrRemoved is returned by Keeper.Run when the cluster no longer knows this node.
var ErrRemoved = errors.New("failover: this node was removed from the cluster; to come back, move its data directory away and join with a new token")

// ErrTwin is returned by Keeper.Run when another process keeps the session of this node alive.
var ErrTwin = errors.New("failover: another process runs as this node: if this disk is a copy of another host's, wipe the data directory and join as a new node")

const (
	// twinLeases is for how many leases a process is refused a session because another one
	// renews it, before it ends.
	twinLeases = 10

	openPauseMin = 20 * time.Millisecond // between two attempts to open a session
	openPauseMax = 200 * time.Millisecond
)

// Owner is what this node answers for. Nothing blocks but Clean.
type Owner interface {
	// Clean returns when nothing of ours answers on this node; with guarded, also its fence must
	// know every HAVIP. The error is that of ctx.
	Clean(ctx context.Context, guarded bool) error
	// Guarded is the log index up to which the fence of this node knows every HAVIP.
	Guarded() uint64
	// Look has it look at the lease: it has begun or ended.
	Look()
	// AnnounceAgain has everything announced once more.
	AnnounceAgain(why string)
}

// Leaseholder renews a session with the voters, and shuts the fence when that ends. It may be in
// another process.
type Leaseholder interface {
	// Begin takes over a session that was asked for at sent, for Renew. False: it is over already.
	Begin(s lease.Session, sent lease.Instant, length time.Duration) bool
	// Renew keeps the session that was begun until it is over or ctx ends, or leave, which is asked at every
	// change of the log, has ended it.
	Renew(ctx context.Context, leave func(context.Context) bool)
	// Lease returns the present session and its deadline; session 0 when there is none. The
	// caller compares the deadline with its own reading of the clock.
	Lease() (session uint64, deadline lease.Instant)
	// Release ends the session by this node's own will: the fence is shut when it returns.
	Release()
	// Course returns how the renewals of the seconds from a time on went (Renewer.Course).
	Course(from int64) []Second
}

// Keeper has a session opened, and gives it to the Leaseholder.
//
// It never opens a session before the owner has confirmed that this node's own side is
// clean (rule 1).
type Keeper struct {
	cfg    Config
	owner  Owner
	holder Leaseholder

	mu     sync.Mutex
	ending bool // Release was called; nothing is opened any more
	member bool // the log knew this node once

	// Below: only the goroutine of Run.
	attempt     string        // of the session that this process had last
	occupied    lease.Instant // since when another process has the session; 0: it has not
	saidRefusal string
}

// NewKeeper returns a Keeper without a session. Nothing runs before Run.
func NewKeeper(cfg Config, o Owner, h Leaseholder) *Keeper {
	return &Keeper{cfg: cfg, owner: o, holder: h}
}

// Lease returns the present session and its deadline, as the Leaseholder has it.
func (k *Keeper) Lease() (session uint64, deadline lease.Instant) { return k.holder.Lease() }

// Release ends the session by this node's own will. The owner has taken everything down before, or
// does so now.
func (k *Keeper) Release() {
	k.holder.Release()
	k.owner.Look()
}

// Course returns how the renewals of the seconds from a time on went.
func (k *Keeper) Course(from int64) []Second { return k.holder.Course(from) }

// Run opens and keeps sessions until ctx ends. The error is ErrRemoved or ErrTwin.
func (k *Keeper) Run(ctx context.Context) error {
	pause := openPauseMin
	for {
		if err := k.owner.Clean(ctx, true); err != nil {
			return nil // only when ctx has ended
		}
		leader := k.cfg.Log.LeaderID()
		opened, err := k.open(ctx)
		if err != nil {
			return err
		}
		if opened {
			pause = openPauseMin
			k.holder.Renew(ctx, k.leave)
			k.owner.Look()
		}
		if !k.rest(ctx, pause, leader) {
			return nil
		}
		if pause = min(2*pause, openPauseMax); k.occupied != 0 {
			pause = openPauseMin // it ends within a lease
		}
	}
}

// rest waits between two attempts, but no longer than until there is another leader to
// ask than before the last one. False means that ctx has ended.
func (k *Keeper) rest(ctx context.Context, pause time.Duration, leader string) bool {
	watch, stop := k.cfg.Log.Watch()
	defer stop()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-watch:
			if k.newLeader(leader) {
				return true
			}
		}
	}
}

// newLeader reports whether somebody else leads by now.
func (k *Keeper) newLeader(before string) bool {
	now := k.cfg.Log.LeaderID()
	return now != "" && now != before
}

// open asks for a new session. The deadline counts from before the request was sent.
func (k *Keeper) open(ctx context.Context) (bool, error) {
	s := k.cfg.Log.State()
	me, known := s.Nodes[k.cfg.Node]
	k.mu.Lock()
	ending, removed := k.ending, k.member && !known
	k.member = k.member || known
	k.mu.Unlock()
	switch {
	case removed: // the log came as far as its own removal
		return false, ErrRemoved
	case !known || ending:
		return false, nil
	}
	attempt := rand.Text()
	request := fsm.OpenSession{Node: k.cfg.Node, Last: me.LastSession, Attempt: attempt}
	if s.Level() > 2 {
		request.Guarded, request.Held = k.owner.Guarded(), k.attempt
	}
	leader := k.cfg.Log.LeaderID()
	sent := k.cfg.Clock()
	wait, cancel := context.WithTimeout(ctx, ports.SubmitWait)
	defer cancel()
	res, err := k.cfg.Submit(wait, request)
	switch {
	case err == nil && res.Refusal != nil && res.Refusal.Code == fsm.CodeNotFound:
		return false, fmt.Errorf("%w: %w", ErrRemoved, res.Refusal)
	case err == nil && res.Refusal != nil:
		return false, k.refused(res.Refusal)
	case err != nil:
		k.cfg.Logger.Debug("no session yet", "reason", err)
	}
	// The answer may be lost and the session opened all the same: the log tells.
	sess, ok := k.await(wait, attempt, func() bool { return err != nil && k.newLeader(leader) })
	if !ok {
		return false, nil
	}
	if !k.begin(lease.Session{Node: sess.Node, Number: sess.Number}, sent, sess.Lease) {
		k.cfg.Logger.Info("the session came too late", "session", sess.Number)
		return false, nil
	}
	k.attempt, k.occupied, k.saidRefusal = attempt, 0, ""
	k.cfg.Logger.Info("session opened", "session", sess.Number, "lease", sess.Lease)
	k.owner.Look()
	return true, nil
}

// refused notes why there is no session yet. The error is ErrTwin.
func (k *Keeper) refused(r *fsm.Refusal) error {
	cause := string(r.Code) + r.Message
	if r.Code == fsm.CodeInUse {
		cause = string(r.Code) // the words say for how long already: other ones each time
	}
	if cause != k.saidRefusal {
		k.saidRefusal = cause
		k.cfg.Logger.Info("no session yet", "reason", r.Message)
	}
	if r.Code != fsm.CodeInUse {
		k.occupied = 0
		return nil
	}
	now := k.cfg.Clock()
	if k.occupied == 0 {
		k.occupied = max(now, 1)
	}
	if now.Sub(k.occupied) < twinLeases*max(k.cfg.Log.State().Cluster.LeaseMax, k.cfg.Lease) {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrTwin, r)
}

// begin gives the session to the holder, unless the node is about to end.
func (k *Keeper) begin(s lease.Session, sent lease.Instant, length time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.ending && k.holder.Begin(s, sent, length)
}

// await waits until the log shows the session of an attempt, at most one lease long, or
// until it is better to ask again.
func (k *Keeper) await(ctx context.Context, attempt string, askAgain func() bool) (fsm.Session, bool) {
	watch, stop := k.cfg.Log.Watch()
	defer stop()
	limit := time.NewTimer(max(k.cfg.Log.State().Cluster.LeaseMax, k.cfg.Lease))
	defer limit.Stop()
	for {
		if sess, ok := k.cfg.Log.State().SessionOf(k.cfg.Node); ok && sess.Attempt == attempt {
			return sess, true
		}
		if askAgain() {
			return fsm.Session{}, false
		}
		select {
		case <-ctx.Done():
			return fsm.Session{}, false
		case <-limit.C:
			return fsm.Session{}, false
		case <-watch:
		}
	}
}

// leave ends the session of a node that is being removed, once it owns nothing (rule 9).
func (k *Keeper) leave(ctx context.Context) bool {
	s := k.cfg.Log.State()
	session, _ := k.Lease()
	if !s.Nodes[k.cfg.Node].Removing || session == 0 || len(s.Claimed(session)) > 0 {
		return false
	}
	k.cfg.Logger.Info("this node is being removed and owns nothing any more", "session", session)
	wait, cancel := context.WithTimeout(ctx, ports.SubmitWait)
	defer cancel()
	if err := k.Close(wait); err != nil {
		k.cfg.Logger.Warn("the session could not be ended; it ends with its lease", "err", err)
	}
	k.mu.Lock()
	k.ending = false // open finds out whether the removal is complete
	k.mu.Unlock()
	return true
}

// Close hands over and ends the session: the leader moves every HAVIP away, one trip
// each, and then closes the session without waiting for a lease to run out. It returns
// when nothing is owned any more, or with an error when ctx ends first; the fence is shut
// in both cases.
func (k *Keeper) Close(ctx context.Context) error {
	k.mu.Lock()
	k.ending = true
	k.mu.Unlock()
	session, _ := k.Lease()
	if session == 0 {
		return nil
	}
	hand, cancel := mostOf(ctx)
	defer cancel()
	_, err := k.cfg.Submit(hand, fsm.DrainSession{Node: k.cfg.Node, Session: session})
	if err == nil {
		err = k.awaitNothing(hand, session)
	}
	k.Release()
	if cleanErr := k.owner.Clean(ctx, false); cleanErr != nil {
		return errors.Join(err, cleanErr)
	}
	if _, closeErr := k.cfg.Submit(ctx, fsm.CloseSession{Session: session, Released: true}); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	return err
}

// mostOf ends before ctx does: a session that could not hand over is better closed by its
// own word, in the time that is left, than by the end of its lease.
func mostOf(ctx context.Context) (context.Context, context.CancelFunc) {
	end, limited := ctx.Deadline()
	if !limited {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, end.Add(-time.Until(end)/4))
}

func (k *Keeper) awaitNothing(ctx context.Context, session uint64) error {
	watch, stop := k.cfg.Log.Watch()
	defer stop()
	for {
		if s := k.cfg.Log.State(); len(s.Claimed(session)) == 0 {
			return nil
		}
		select {
		case <-watch:
		case <-ctx.Done():
			return fmt.Errorf("failover: session %d still owns something: %w", session, ctx.Err())
		}
	}
}
