package shell

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
)

// ErrRemoved is returned by SessionClient.Run when the cluster no longer knows this node.
var ErrRemoved = errors.New("failover: this node was removed from the cluster; to come back, move its data directory away and join with a new token")

// ErrDuplicateNode is returned by SessionClient.Run when another process keeps the session of this node alive.
var ErrDuplicateNode = errors.New("failover: another process runs as this node: if this disk is a copy of another host's, wipe the data directory and join as a new node")

const (
	// duplicateLeases is for how many leases a process is refused a session because another one
	// renews it, before it ends.
	duplicateLeases = 10

	openPauseMin = 20 * time.Millisecond // between two attempts to open a session
	openPauseMax = 200 * time.Millisecond

	// waitsQuietly is for how long a node without a session says nothing of what passes by itself: a start, an election.
	waitsQuietly = 5 * time.Second
)

// Owner is what this node answers for. Nothing blocks but Clean.
type Owner interface {
	// Clean returns when nothing of ours answers on this node; with guarded, also its fence must
	// know every HAVIP. The error is that of ctx.
	Clean(ctx context.Context, guarded bool) error
	// Guarded is the log index up to which the fence of this node knows every HAVIP.
	Guarded() uint64
	// Wake has it look at the lease: it has begun or ended.
	Wake()
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

// SessionClient has a session opened, and gives it to the Leaseholder.
//
// It never opens a session before the owner has confirmed that this node's own side is
// clean (rule 1).
type SessionClient struct {
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
	waiting     lease.Instant // since when no leader has answered; 0: one has
	saidWaiting bool
	opening     time.Duration // length that the next first lease needs; 0: that of the cluster will do
}

// NewSessionClient returns a SessionClient without a session. Nothing runs before Run.
func NewSessionClient(cfg Config, o Owner, h Leaseholder) *SessionClient {
	return &SessionClient{cfg: cfg, owner: o, holder: h}
}

// Lease returns the present session and its deadline, as the Leaseholder has it.
func (c *SessionClient) Lease() (session uint64, deadline lease.Instant) { return c.holder.Lease() }

// Release ends the session by this node's own will. The owner has taken everything down before, or
// does so now.
func (c *SessionClient) Release() {
	c.holder.Release()
	c.owner.Wake()
}

// Course returns how the renewals of the seconds from a time on went.
func (c *SessionClient) Course(from int64) []Second { return c.holder.Course(from) }

// Run opens and keeps sessions until ctx ends. The error is ErrRemoved or ErrDuplicateNode.
func (c *SessionClient) Run(ctx context.Context) error {
	pause := openPauseMin
	for {
		if err := c.owner.Clean(ctx, true); err != nil {
			return nil // only when ctx has ended
		}
		leader := c.cfg.Log.LeaderID()
		opened, err := c.open(ctx)
		if err != nil {
			return err
		}
		if opened {
			pause = openPauseMin
			c.holder.Renew(ctx, c.leave)
			c.owner.Wake()
		}
		if !c.rest(ctx, pause, leader) {
			return nil
		}
		if pause = min(2*pause, openPauseMax); c.occupied != 0 {
			pause = openPauseMin // it ends within a lease
		}
	}
}

// rest waits between two attempts, but no longer than until there is another leader to
// ask than before the last one. False means that ctx has ended.
func (c *SessionClient) rest(ctx context.Context, pause time.Duration, leader string) bool {
	watch, stop := c.cfg.Log.Watch()
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
			if c.newLeader(leader) {
				return true
			}
		}
	}
}

// newLeader reports whether somebody else leads by now.
func (c *SessionClient) newLeader(before string) bool {
	now := c.cfg.Log.LeaderID()
	return now != "" && now != before
}

// open asks for a new session. The deadline counts from before the request was sent.
func (c *SessionClient) open(ctx context.Context) (bool, error) {
	s := c.cfg.Log.State()
	me, known := s.Nodes[c.cfg.Node]
	c.mu.Lock()
	ending, removed := c.ending, c.member && !known
	c.member = c.member || known
	c.mu.Unlock()
	switch {
	case removed: // the log came as far as its own removal
		return false, ErrRemoved
	case ending:
		return false, nil
	case !c.cfg.Log.CaughtUp(): // an old state names an old session, and would be refused for each one that it comes to
		c.waits("the log of this node is read again")
		return false, nil
	case !known:
		c.waits("no leader has sent what the log of this node lacks; it does not have the node yet")
		return false, nil
	}
	attempt := rand.Text()
	request := fsm.OpenSession{Node: c.cfg.Node, Last: me.LastSession, Attempt: attempt}
	if s.Level() > 2 {
		request.Guarded, request.Held = c.owner.Guarded(), c.attempt
	}
	if s.Level() > 3 && c.opening > s.Cluster.Lease {
		request.Lease = c.opening
	}
	leader := c.cfg.Log.LeaderID()
	sent := c.cfg.Clock()
	wait, cancel := context.WithTimeout(ctx, ports.SubmitWait)
	defer cancel()
	res, err := c.cfg.Submit(wait, request)
	switch {
	case err == nil && res.Refusal != nil && res.Refusal.Code == fsm.CodeNotFound:
		return false, fmt.Errorf("%w: %w", ErrRemoved, res.Refusal)
	case err == nil && res.Refusal != nil:
		return false, c.refused(res.Refusal)
	case err != nil:
		c.waits(err.Error())
	default:
		c.waiting = 0
	}
	// The answer may be lost and the session opened all the same: the log tells.
	sess, ok := c.await(wait, attempt, request.Lease, func() bool { return err != nil && c.newLeader(leader) })
	if ok || err == nil {
		c.opening = firstLease(c.cfg.Clock().Sub(sent), s.Cluster.Lease)
	}
	if !ok {
		return false, nil
	}
	c.attempt = attempt // also of one that came too late: it is this process's own
	if !c.begin(lease.Session{Node: sess.Node, Number: sess.Number}, sent, sess.Lease) {
		c.cfg.Logger.Info("the session came too late", "session", sess.Number)
		return false, nil
	}
	c.occupied, c.saidRefusal = 0, ""
	c.cfg.Logger.Info("session opened", "session", sess.Number, "lease", sess.Lease)
	c.owner.Wake()
	return true, nil
}

// firstLease is what the next opening asks for after one that took so long to come back from the log: 0, the
// length of the cluster, where that is twice as long. The first lease counts from before the request was sent, so
// with a log slower than a lease each session would be over before its holder hears of it, for as long as that lasts.
func firstLease(took, lease time.Duration) time.Duration {
	const ms = time.Millisecond
	if 2*took <= lease {
		return 0
	}
	return min((2*took + ms - 1).Truncate(ms), limits.OpeningLongest)
}

// waits says once, when that has lasted, why no leader is asked for a session or answers.
func (c *SessionClient) waits(reason string) {
	now := c.cfg.Clock()
	switch {
	case c.waiting == 0:
		c.waiting, c.saidWaiting = max(now, 1), false
	case !c.saidWaiting && now.Sub(c.waiting) >= waitsQuietly:
		c.saidWaiting = true
		c.cfg.Logger.Warn("no session yet", "reason", reason, "for", waitsQuietly.String()+" and more")
	}
}

// refused notes why there is no session yet. The error is ErrDuplicateNode.
func (c *SessionClient) refused(r *fsm.Refusal) error {
	cause := string(r.Code) + r.Message
	if r.Code == fsm.CodeInUse {
		cause = string(r.Code) // the words say for how long already: other ones each time
	}
	c.waiting = 0
	if cause != c.saidRefusal {
		c.saidRefusal = cause
		c.cfg.Logger.Info("no session yet", "reason", r.Message)
	}
	if r.Code != fsm.CodeInUse {
		c.occupied = 0
		return nil
	}
	now := c.cfg.Clock()
	if c.occupied == 0 {
		c.occupied = max(now, 1)
	}
	if now.Sub(c.occupied) < duplicateLeases*max(c.cfg.Log.State().Cluster.LeaseMax, c.cfg.Lease) {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrDuplicateNode, r)
}

// begin gives the session to the holder, unless the node is about to end.
func (c *SessionClient) begin(s lease.Session, sent lease.Instant, length time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.ending && c.holder.Begin(s, sent, length)
}

// await waits until the log shows the session of an attempt, at most one lease long (first, where that is longer), or
// until it is better to ask again.
func (c *SessionClient) await(ctx context.Context, attempt string, first time.Duration, askAgain func() bool) (fsm.Session, bool) {
	watch, stop := c.cfg.Log.Watch()
	defer stop()
	limit := time.NewTimer(max(c.cfg.Log.State().Cluster.LeaseMax, c.cfg.Lease, first))
	defer limit.Stop()
	for {
		if sess, ok := c.cfg.Log.State().SessionOf(c.cfg.Node); ok && sess.Attempt == attempt {
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
func (c *SessionClient) leave(ctx context.Context) bool {
	s := c.cfg.Log.State()
	session, _ := c.Lease()
	if !s.Nodes[c.cfg.Node].Removing || session == 0 || len(s.Claimed(session)) > 0 {
		return false
	}
	c.cfg.Logger.Info("this node is being removed and owns nothing any more", "session", session)
	wait, cancel := context.WithTimeout(ctx, ports.SubmitWait)
	defer cancel()
	if err := c.Close(wait); err != nil {
		c.cfg.Logger.Warn("the session could not be ended; it ends with its lease", "err", err)
	}
	c.mu.Lock()
	c.ending = false // open finds out whether the removal is complete
	c.mu.Unlock()
	return true
}

// Close hands over and ends the session: the leader moves every HAVIP away, one trip
// each, and then closes the session without waiting for a lease to run out. It returns
// when nothing is owned any more, or with an error when ctx ends first, or when nothing has left for
// handOverStuck; the fence is shut in all cases.
func (c *SessionClient) Close(ctx context.Context) error {
	c.mu.Lock()
	c.ending = true
	c.mu.Unlock()
	session, _ := c.Lease()
	if session == 0 {
		return nil
	}
	hand, cancel := mostOf(ctx)
	defer cancel()
	_, err := c.cfg.Submit(hand, fsm.DrainSession{Node: c.cfg.Node, Session: session})
	if err == nil {
		err = c.awaitNothing(hand, session)
	}
	c.Release()
	if cleanErr := c.owner.Clean(ctx, false); cleanErr != nil {
		return errors.Join(err, cleanErr)
	}
	if _, closeErr := c.cfg.Submit(ctx, fsm.CloseSession{Session: session, Released: true}); closeErr != nil {
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

// handOverStuck is how long the hand-over goes on without one HAVIP less: what is left has no other place, or
// nobody moves it.
const handOverStuck = 5 * time.Second

func (c *SessionClient) awaitNothing(ctx context.Context, session uint64) error {
	watch, stop := c.cfg.Log.Watch()
	defer stop()
	stuck := time.NewTimer(handOverStuck)
	defer stuck.Stop()
	least := math.MaxInt
	for {
		left := len(c.cfg.Log.State().Claimed(session))
		if left == 0 {
			return nil
		}
		if left < least {
			least = left
			stuck.Reset(handOverStuck)
		}
		select {
		case <-watch:
		case <-stuck.C:
			return fmt.Errorf("failover: session %d still owns %d HAVIPs, and none has left for %v", session, left, handOverStuck)
		case <-ctx.Done():
			return fmt.Errorf("failover: session %d still owns %d HAVIPs: %w", session, left, ctx.Err())
		}
	}
}
