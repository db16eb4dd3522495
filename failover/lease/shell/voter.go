package shell

import (
	"context"
	"slices"
	"sync"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// Voter is the shell around the lease's Acceptor. It feeds it from the log, answers
// renewals and questions, and tells the leader when a promise runs out.
type Voter struct {
	cfg      Config
	mu       sync.Mutex // never held across a send
	acceptor *lease.Acceptor
	fed      *fsm.State // what the acceptor knows
	set      lease.VoterSet
	// delegated are the sessions whose promise is with cfg.Delegate, with the length of their renewals; mark is from
	// before set was looked at; lost: one cannot be taken back, or this voter was stopped.
	delegated map[lease.Session]time.Duration
	mark      int64
	lost      bool
	refusals  map[lease.Refusal]uint64
	granted   uint64
}

// idlePause is how long a voter with no promise to wait for sleeps at most.
const idlePause = time.Second

// NewVoter returns the voter of this process, which starts now.
func NewVoter(cfg Config) *Voter {
	return &Voter{
		cfg:      cfg,
		acceptor: lease.NewAcceptor(cfg.Node, cfg.Boot, cfg.Clock(), cfg.Lease),
		fed:      fsm.New(),
		refusals: map[lease.Refusal]uint64{}, delegated: map[lease.Session]time.Duration{},
	}
}

// prepare brings the acceptor up to date; call it with mu held, before each use. The clock is read after the
// message has come and after the log was looked at, as the lease package demands: a voter set is not older, and
// a first promise not earlier, than what was seen.
func (v *Voter) prepare() lease.Instant {
	if v.cfg.Delegate != nil {
		v.mark = v.cfg.Delegate.Mark()
	}
	set, caughtUp, s := v.cfg.Log.VoterSet(), v.cfg.Log.CaughtUp(), v.cfg.Log.State()
	var back map[lease.Session]time.Duration
	if s != v.fed || set.ID != v.set.ID || set.Index != v.set.Index {
		back = v.recallAll() // before anything changes by which the acceptor would answer otherwise
	}
	now := v.cfg.Clock()
	v.set = set
	v.acceptor.UseVoterSet(now, set)
	if caughtUp {
		v.acceptor.CaughtUp(now)
	}
	if s != v.fed {
		v.feed(now, s)
	}
	for session, length := range back {
		v.delegate(now, session, length)
	}
	return now
}

// feed tells the acceptor what a state of the log has that it does not know.
func (v *Voter) feed(now lease.Instant, s *fsm.State) {
	if s.Cluster.LeaseMax != v.fed.Cluster.LeaseMax {
		v.acceptor.SetLongest(now, s.Cluster.LeaseMax)
	}
	for _, known := range v.acceptor.Sessions() {
		if _, open := s.Sessions[known.Number]; !open {
			v.acceptor.Closed(now, known)
		}
	}
	for _, sess := range s.SessionList() {
		if _, known := v.fed.Sessions[sess.Number]; !known {
			v.acceptor.Opened(now, lease.Session{Node: sess.Node, Number: sess.Number}, sess.Lease)
		}
	}
	v.fed = s
}

// Renewal answers a renewal. The holder is told of a promise, or of the boot id that it should have named.
func (v *Voter) Renewal(r lease.Renewal) {
	v.mu.Lock()
	now := v.prepare()
	if !v.recall(r.Session) {
		v.mu.Unlock()
		return
	}
	ack, refusal := v.acceptor.Renew(now, r)
	if refusal != "" {
		v.refusals[refusal]++
	} else {
		v.granted++
	}
	if refusal == "" || refusal == lease.RefusedStale { // a copy of an old one does not keep the next from the kernel
		v.delegate(now, r.Session, r.Length)
	}
	ended := refusal != "" && closed(v.fed, r.Session)
	v.mu.Unlock()
	if refusal == lease.RefusedBoot {
		v.correct(r)
	}
	if ended {
		v.cfg.Mail.Send(r.Session.Node, wire.Message{Ended: &lease.Ended{Session: r.Session, From: v.cfg.Node}})
	}
	if refusal == "" {
		out := acks.Get().(*lease.Ack)
		*out = ack
		v.cfg.Mail.Send(r.Session.Node, wire.Message{Ack: out})
		acks.Put(out)
	}
}

// closed reports whether the log has opened a session and closed it since. One that it has not opened
// yet is not: this node may lag.
func closed(s *fsm.State, session lease.Session) bool {
	_, open := s.Sessions[session.Number]
	return !open && session.Number != 0 && s.Nodes[session.Node].LastSession >= session.Number
}

// correct tells a holder for which process of this voter a renewal has to be.
func (v *Voter) correct(r lease.Renewal) {
	v.mu.Lock()
	c := v.acceptor.Correct(r)
	v.mu.Unlock()
	v.cfg.Mail.Send(r.Session.Node, wire.Message{Correction: &c})
}

// acks holds what Voter.Renewal sends: nobody keeps an acknowledgement after send.
var acks = sync.Pool{New: func() any { return new(lease.Ack) }}

// Question answers a leader's question.
func (v *Voter) Question(from string, q lease.Question) {
	v.mu.Lock()
	now := v.prepare()
	length := v.delegated[q.Session]
	if !v.recall(q.Session) {
		v.mu.Unlock()
		return
	}
	e, refusal := v.acceptor.Endorse(now, q)
	if refusal != "" {
		v.refusals[refusal]++
		if length != 0 {
			v.delegate(now, q.Session, length)
		}
	}
	v.mu.Unlock()
	if refusal == "" {
		v.cfg.Mail.Send(from, wire.Message{Endorsement: &e})
	}
}

// Run tells the leader of expired promises, at once and again while the session stays
// open, until ctx ends.
func (v *Voter) Run(ctx context.Context) {
	watch, stop := v.cfg.Log.Watch()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-watch:
		case <-timer.C:
		}
		expired, pause := v.expired()
		for some := range slices.Chunk(expired, wire.MaxHints) {
			v.cfg.Mail.SendLeader(wire.Message{Hint: some})
		}
		v.tellVoters(expired)
		timer.Reset(pause)
	}
}

// expired returns the sessions whose promise has run out here, in either hand, and after how long to look again.
// A voter that is silent could not endorse, so it gives no hint.
func (v *Voter) expired() (found []lease.Session, pause time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.prepare()
	if v.lost {
		return nil, idlePause
	}
	v.lookAll()
	found, pause = v.acceptor.Expired(now), idlePause
	if next, waiting := v.acceptor.NextExpiry(now); waiting {
		pause = min(pause, max(next.Sub(now), 0))
	}
	if len(found) > 0 {
		pause = min(pause, max(v.fed.Cluster.LeaseMax/10, time.Millisecond))
	}
	return found, pause
}

// Promised returns for how long this node's own promise to a session still runs.
func (v *Voter) Promised(s lease.Session) (time.Duration, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.look(s)
	_, left, known := v.acceptor.Heard(v.cfg.Clock(), s)
	return left, known
}

// Heard returns how long ago this node's own acceptor heard a session that is open, and for how
// long its promise to it still runs.
func (v *Voter) Heard(s lease.Session) (ago, left time.Duration, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.look(s)
	return v.acceptor.Heard(v.cfg.Clock(), s)
}

// Ask is Heard; it always answers.
func (v *Voter) Ask(s lease.Session) (ago, left time.Duration, known bool, err error) {
	ago, left, known = v.Heard(s)
	return ago, left, known, nil
}

// Refuses reports whether this voter has endorsed the end of a session: it does not know then
// whether the session still renews with others.
func (v *Voter) Refuses(s lease.Session) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.acceptor.Revoked(s)
}

// Figures returns how many renewals this voter acknowledged and, by reason, refused.
func (v *Voter) Figures() (granted uint64, refused map[string]uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	refused = map[string]uint64{}
	for r, n := range v.refusals {
		refused[string(r)] = n
	}
	granted = v.granted
	if v.cfg.Delegate != nil {
		granted += v.cfg.Delegate.Granted()
	}
	return granted, refused
}

// tellVoters gives a hint about the leader's own session to all voters, this one included.
func (v *Voter) tellVoters(expired []lease.Session) {
	leader := v.cfg.Log.LeaderID()
	if leader == "" || leader == v.cfg.Node {
		return
	}
	for _, s := range expired {
		if s.Node != leader {
			continue
		}
		hint := []lease.Session{s}
		for _, voter := range v.cfg.Log.VoterSet().Voters {
			if voter != leader { // it was told as the leader
				v.cfg.Mail.Send(voter, wire.Message{Hint: hint})
			}
		}
	}
}

// Heard is what a voter knows of a session that is open (Voter.Heard).
type Heard interface {
	Heard(s lease.Session) (ago, left time.Duration, known bool)
	// Ask is Heard for who must be sure. The error is that the voter does not answer.
	Ask(s lease.Session) (ago, left time.Duration, known bool, err error)
}

// MayOpen is the leader's word on a request for a session, beside what Apply checks: nil, or
// that another process still renews the node's last one, or may. The request may come from a copy of
// that node's disk on another host, whose clean interfaces say nothing of the first one's.
func MayOpen(s *fsm.State, v Heard, b fsm.OpenSession) *fsm.Refusal {
	sess, open := s.SessionOf(b.Node)
	if s.Level() < 3 || !open || sess.Number != b.Last || b.Held == sess.Attempt {
		return nil
	}
	heard, left, known, err := v.Ask(lease.Session{Node: sess.Node, Number: sess.Number})
	if err != nil { // not CodeInUse, which would count against the process that asks
		return fsm.Refuse(fsm.CodeNotReady, "whether session %d of node %s is renewed by another process cannot be told now: %v; it is asked for again", sess.Number, s.NodeName(b.Node), err)
	}
	if !known || left <= 0 {
		return nil
	}
	return fsm.Refuse(fsm.CodeInUse, "session %d of node %s was renewed %v ago by another process; a new one waits until that is silent for a lease", sess.Number, s.NodeName(b.Node), heard.Round(time.Millisecond))
}
