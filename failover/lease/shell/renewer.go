package shell

import (
	"maps"
	"sync"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
)

// Fence is told until when anything may answer: one memory store.
type Fence interface {
	SetDeadline(t lease.Instant)
}

// Listener is who wants to know of the lease. Nothing blocks.
type Listener interface {
	// Wake has it look at the lease: it has begun or ended.
	Wake()
	// AnnounceAgain has everything announced once more.
	AnnounceAgain(why string)
}

// Renewer is the shell around the lease's Holder: it renews a session with the voters every fifth of
// a lease, and stores the deadline into the fence. It implements Leaseholder.
type Renewer struct {
	cfg   Config
	owner Listener
	fence Fence
	// counter moves the deadline in the fence as well, which is shared then; nil: nobody does.
	counter Counter
	shared  SharedFence

	mu      sync.Mutex // never held across a send
	holder  *lease.Holder
	newest  lease.Renewal            // the newest round, without a boot id
	boots   lease.Boots              // of the voters
	lastAck map[string]lease.Instant // by voter
	course  course                   // what renewing was like of late
	// extended is the newest deadline that has gone into course.
	extended lease.Instant
	// abandoned: the fence is another's by now.
	abandoned bool
}

// NewRenewer returns a Renewer without a session. A Counter (Config) is of use with a SharedFence only.
func NewRenewer(cfg Config, l Listener, f Fence) *Renewer {
	r := &Renewer{cfg: cfg, owner: l, fence: f, lastAck: map[string]lease.Instant{}, boots: lease.Boots{}}
	if shared, is := f.(SharedFence); is && cfg.Counter != nil {
		r.counter, r.shared = cfg.Counter, shared
	}
	return r
}

// Lease implements Leaseholder.
func (r *Renewer) Lease() (session uint64, deadline lease.Instant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Clock()
	r.counted(now)
	if r.holder == nil || !r.holder.Alive(now) {
		return 0, 0
	}
	return r.holder.Session().Number, r.holder.Deadline()
}

// Begin implements Leaseholder.
func (r *Renewer) Begin(s lease.Session, sent lease.Instant, length time.Duration) bool {
	h := lease.NewHolder(s, sent, length)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.abandoned || !h.Alive(r.cfg.Clock()) || !r.stopCounting() {
		return false
	}
	r.holder = h
	r.extended = h.Deadline()
	r.store(h.Deadline())
	return true
}

// Corrected takes a voter's word that a renewal was for another process of it, and sends it
// again if it is still the newest.
func (r *Renewer) Corrected(c lease.Correction) {
	r.mu.Lock()
	r.forgetVoters()
	now := r.cfg.Clock()
	r.counted(now)
	again := r.boots.Learn(c.From, c.Boot) && r.holder != nil && r.holder.Alive(now) &&
		c.Session == r.newest.Session && c.Round == r.newest.Round
	out := r.newest
	r.mu.Unlock()
	if again {
		out.Boot = c.Boot
		r.cfg.Mail.Send(c.From, wire.Message{Renewal: &out})
	}
}

// Ended takes a voter's word that the log has closed a session. To end one's own lease early is
// always safe; that it is over for good, the voter's log says.
func (r *Renewer) Ended(e lease.Ended) {
	r.mu.Lock()
	now := r.cfg.Clock()
	r.counted(now)
	ends := r.holder != nil && e.Session == r.holder.Session() && r.holder.Alive(now)
	if ends {
		r.end()
	}
	r.mu.Unlock()
	if ends {
		r.cfg.Logger.Warn("a voter says that the log has closed this session: it ends at once", "session", e.Session.Number, "voter", e.From)
		r.owner.Wake()
	}
}

// forgetVoters makes room for the words of new voters once as many are known as there may be nodes:
// those that vote no more go. Call with mu held.
func (r *Renewer) forgetVoters() {
	if len(r.boots) < lease.NodesMax && len(r.lastAck) < lease.NodesMax {
		return
	}
	set := r.cfg.Log.VoterSet()
	maps.DeleteFunc(r.boots, func(voter string, _ lease.BootID) bool { return !set.Has(voter) })
	maps.DeleteFunc(r.lastAck, func(voter string, _ lease.Instant) bool { return !set.Has(voter) })
}

// Ack takes a voter's acknowledgement.
func (r *Renewer) Ack(a lease.Ack) {
	now := r.cfg.Clock()
	r.mu.Lock()
	r.forgetVoters()
	if a.Boot != 0 { // a program below level 4 does not say it
		r.boots.Learn(a.From, a.Boot)
	}
	if r.holder == nil {
		r.mu.Unlock()
		return
	}
	r.counted(now)
	if r.counter != nil && !r.abandoned && a.From == r.cfg.Node && a.Answers(r.newest) {
		r.counter.OwnVote(a.Round)
	}
	if deadline, moved := r.holder.Ack(now, a); moved {
		r.extend(deadline)
	}
	left, moved := r.known(now)
	rtt, mine := now.Sub(a.Sent), a.Session == r.holder.Session()
	last, known := r.lastAck[a.From]
	back := known && now.Sub(last) > 2*r.holder.Length()
	if a.Session == r.holder.Session() && len(r.lastAck) < lease.NodesMax {
		r.lastAck[a.From] = now
	}
	r.mu.Unlock()
	if r.cfg.Renewed != nil && mine && a.From != r.cfg.Node && rtt >= 0 && rtt <= a.Length {
		r.cfg.Renewed(rtt)
	}
	if r.cfg.Extended != nil && moved && left > 0 {
		r.cfg.Extended(left)
	}
	if back {
		r.owner.AnnounceAgain("a voter is reachable again")
	}
}

// known notes a deadline that this process has not known of until now, whoever has moved it, and what was left of the one
// before; 0 and less: that was over here, and not in the fence. Call it with mu held.
func (r *Renewer) known(now lease.Instant) (left time.Duration, moved bool) {
	deadline := r.holder.Deadline()
	if !r.holder.Alive(now) || !deadline.After(r.extended) {
		return 0, false
	}
	left = r.extended.Sub(now)
	r.extended = deadline
	r.course.answered(now, now.Sub(r.holder.Renewed()), left)
	return left, true
}

// Release implements Leaseholder.
func (r *Renewer) Release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end()
}

// end ends the lease by this node's own will. Call it with mu held: a late acknowledgement finds the holder dead, or came
// before this; likewise one that a Counter takes.
func (r *Renewer) end() {
	if r.holder != nil {
		r.holder.Release()
	}
	r.store(0)
	r.stopCounting()
}

// Abandon ends renewing, and leaves the fence as it is until the deadline: for a node whose agent is
// dead. Nothing here touches the fence afterwards.
func (r *Renewer) Abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.abandoned = true
	r.stopCounting()
	if r.holder != nil {
		r.holder.Release()
	}
}

// extend tells the fence a later deadline. Call it with mu held, so that a later one is never overwritten by an
// earlier one.
func (r *Renewer) extend(t lease.Instant) {
	if r.counter == nil || r.abandoned {
		r.store(t)
		return
	}
	r.shared.Extend(t)
}

// store tells the fence the deadline. Call it with mu held.
func (r *Renewer) store(t lease.Instant) {
	if !r.abandoned {
		r.fence.SetDeadline(t)
	}
}
