package shell

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
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

// Fence is told until when anything may answer: one memory store.
type Fence interface {
	SetDeadline(t lease.Instant)
}

// Keeper is the shell around the lease's Holder. It has a session opened, renews it with
// the voters every fifth of a lease, and stores the deadline into the fence.
//
// It never opens a session before the owner has confirmed that this node's own side is
// clean (rule 1).
type Keeper struct {
	cfg   Config
	owner Owner
	fence Fence

	mu      sync.Mutex // never held across a send
	holder  *lease.Holder
	newest  lease.Renewal            // the newest round, without a boot id
	boots   lease.Boots              // of the voters
	lastAck map[string]lease.Instant // by voter
	course  course                   // what renewing was like of late
	ending  bool                     // Release was called; nothing is opened any more
	member  bool                     // the log knew this node once

	// Below: only the goroutine of Run.
	attempt     string        // of the session that this process had last
	occupied    lease.Instant // since when another process has the session; 0: it has not
	saidRefusal string
}

// NewKeeper returns a Keeper without a session. Nothing runs before Run.
func NewKeeper(cfg Config, o Owner, f Fence) *Keeper {
	return &Keeper{cfg: cfg, owner: o, fence: f, lastAck: map[string]lease.Instant{}, boots: lease.Boots{}}
}

// Lease returns the present session and its deadline; session 0 when there is none. The
// caller compares the deadline with its own reading of the clock.
func (k *Keeper) Lease() (session uint64, deadline lease.Instant) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.holder == nil || !k.holder.Alive(k.cfg.Clock()) {
		return 0, 0
	}
	return k.holder.Session().Number, k.holder.Deadline()
}

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
			k.renew(ctx)
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
	h := lease.NewHolder(lease.Session{Node: sess.Node, Number: sess.Number}, sent, sess.Lease)
	if !h.Alive(k.cfg.Clock()) {
		k.cfg.Logger.Info("the session came too late", "session", sess.Number)
		return false, nil
	}
	if !k.begin(h) {
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

// begin makes h the present lease, unless the node is about to end.
func (k *Keeper) begin(h *lease.Holder) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ending {
		return false
	}
	k.holder = h
	k.course.end = h.Deadline()
	k.fence.SetDeadline(h.Deadline()) // under the lock, as everywhere: see Ack
	return true
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

// Corrected takes a voter's word that a renewal was for another process of it, and sends it
// again if it is still the newest.
func (k *Keeper) Corrected(c lease.Correction) {
	k.mu.Lock()
	k.forgetVoters()
	again := k.boots.Learn(c.From, c.Boot) && k.holder != nil && k.holder.Alive(k.cfg.Clock()) &&
		c.Session == k.newest.Session && c.Round == k.newest.Round
	out := k.newest
	k.mu.Unlock()
	if again {
		out.Boot = c.Boot
		k.cfg.Mail.Send(c.From, wire.Message{Renewal: &out})
	}
}

// Ended takes a voter's word that the log has closed a session. To end one's own lease early is
// always safe; that it is over for good, the voter's log says.
func (k *Keeper) Ended(e lease.Ended) {
	k.mu.Lock()
	ends := k.holder != nil && e.Session == k.holder.Session() && k.holder.Alive(k.cfg.Clock())
	if ends {
		k.holder.Release()
		k.fence.SetDeadline(0) // under the lock, as everywhere
	}
	k.mu.Unlock()
	if ends {
		k.cfg.Logger.Warn("a voter says that the log has closed this session: it ends at once", "session", e.Session.Number, "voter", e.From)
		k.owner.Look()
	}
}

// forgetVoters makes room for the words of new voters once as many are known as there may be nodes:
// those that vote no more go. Call with mu held.
func (k *Keeper) forgetVoters() {
	if len(k.boots) < lease.NodesMax && len(k.lastAck) < lease.NodesMax {
		return
	}
	set := k.cfg.Log.VoterSet()
	maps.DeleteFunc(k.boots, func(voter string, _ lease.BootID) bool { return !set.Has(voter) })
	maps.DeleteFunc(k.lastAck, func(voter string, _ lease.Instant) bool { return !set.Has(voter) })
}

// Ack takes a voter's acknowledgement.
func (k *Keeper) Ack(a lease.Ack) {
	now := k.cfg.Clock()
	k.mu.Lock()
	k.forgetVoters()
	if a.Boot != 0 { // a program below level 4 does not say it
		k.boots.Learn(a.From, a.Boot)
	}
	if k.holder == nil {
		k.mu.Unlock()
		return
	}
	left := k.holder.Deadline().Sub(now)
	deadline, moved := k.holder.Ack(now, a)
	rtt, mine := now.Sub(a.Sent), a.Session == k.holder.Session()
	last, known := k.lastAck[a.From]
	back := known && now.Sub(last) > 2*k.holder.Length()
	if a.Session == k.holder.Session() && len(k.lastAck) < lease.NodesMax {
		k.lastAck[a.From] = now
	}
	if moved {
		// In the same critical section as the decision, so that a later, longer
		// deadline is never overwritten by an earlier one.
		k.fence.SetDeadline(deadline)
		k.course.answered(now, now.Sub(a.Sent), deadline.Sub(now))
	}
	k.mu.Unlock()
	if k.cfg.Renewed != nil && mine && a.From != k.cfg.Node && rtt >= 0 && rtt <= a.Length {
		k.cfg.Renewed(rtt)
	}
	if k.cfg.Extended != nil && moved {
		k.cfg.Extended(left)
	}
	if back {
		k.owner.AnnounceAgain("a voter is reachable again")
	}
}

// Release ends the session by this node's own will, for good when the process ends. The
// owner has taken everything down before, or does so now.
func (k *Keeper) Release() {
	k.mu.Lock()
	if k.holder != nil {
		k.holder.Release()
	}
	// Under the lock: a late acknowledgement finds the holder dead, or came before this.
	k.fence.SetDeadline(0)
	k.mu.Unlock()
	k.owner.Look()
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
