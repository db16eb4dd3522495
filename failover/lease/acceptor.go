package lease

import (
	"cmp"
	"slices"
	"time"
)

// Acceptor is what one voter has promised since its process started (rules 1, 2, 4 and
// 8). It keeps nothing on disk: a voter that restarts has forgotten its promises and its
// endorsements, and is silent until none of them can matter any more.
type Acceptor struct {
	self     string
	boot     BootID
	started  Instant
	caughtUp bool
	silence  silence

	voters     VoterSet
	votersFrom Instant // since when this process uses voters, without a break

	promises map[string]*promise // by node, at most NodesMax; only sessions open in the log
}

// promise is the record of a node's newest session.
type promise struct {
	session Session
	until   Instant // Invariant: never moves back.
	heard   Instant // when the newest renewal was acknowledged, at first the opening
	revoked bool    // Invariant: once true, true until the log closes the session.

	// Of the newest renewal that was acknowledged. Invariant: both only grow.
	round uint64
	sent  Instant
}

// silence is how long an acceptor must have been up, and must have used its voter set.
type silence struct {
	inForce  time.Duration // P of the longest length in force
	lapsing  time.Duration // a longer P that was in force before
	lapsesAt Instant
}

// NewAcceptor returns the acceptor of the voter self, whose process started at started and
// drew boot at random, not 0. longest is the longest length in force by the state on disk: the
// silence is its P.
func NewAcceptor(self string, boot BootID, started Instant, longest time.Duration) *Acceptor {
	return &Acceptor{
		self:     self,
		boot:     boot,
		started:  started,
		silence:  silence{inForce: Promise(longest)},
		promises: make(map[string]*promise),
	}
}

// SetLongest is called when the longest length in force has changed: the silence is its P.
//
// Rule 8 (change of length): a shorter length limits new promises at once, but the
// acceptor keeps silent by the longer one until promises of that length, possibly made
// by the process before it, have run out.
func (a *Acceptor) SetLongest(now Instant, longest time.Duration) {
	d := Promise(longest)
	if d < a.silence.inForce {
		a.silence.lapsing = a.silence.at(now)
		a.silence.lapsesAt = now.Add(a.silence.lapsing)
	}
	a.silence.inForce = d
}

func (s silence) at(now Instant) time.Duration {
	if now.Before(s.lapsesAt) {
		return max(s.inForce, s.lapsing)
	}
	return s.inForce
}

// CaughtUp is called once the log has been applied up to its last entry on disk at start,
// or up to any entry of a later term than that one: the end of a log on disk may never be
// committed. Until then the acceptor may not know a length that it has promised before.
func (a *Acceptor) CaughtUp(Instant) { a.caughtUp = true }

// UseVoterSet tells the voter set that the node uses now: call it before each message.
// After a start its age counts from the first call, however old the set on disk is.
func (a *Acceptor) UseVoterSet(now Instant, set VoterSet) {
	if set.sameEntry(a.voters) {
		return
	}
	a.votersFrom = now
	a.voters = set
}

// Opened is called when the log, or a snapshot of it, opens a session; length is the one
// in that entry. The node's older session is closed by the same entry.
//
// Rule 1 (open): this is the first promise. Without it a session that never got a renewal
// could be closed and then revived by late acknowledgements.
//
// A repetition changes nothing. Beyond NodesMax nodes a session stays unknown, and so
// gets neither acknowledgements nor endorsements here: safe, but of no use to the node.
func (a *Acceptor) Opened(now Instant, s Session, length time.Duration) {
	known := a.promises[s.Node]
	if known != nil && known.session.Number >= s.Number {
		return
	}
	if known == nil && len(a.promises) >= NodesMax {
		return
	}
	until := now.Add(Promise(length))
	a.promises[s.Node] = &promise{session: s, until: until, heard: now}
}

// Closed is called when the log closes a session, or a snapshot no longer has it. Its
// promise and revocation are forgotten: an unknown session is refused anyway.
func (a *Acceptor) Closed(_ Instant, s Session) {
	if known := a.promises[s.Node]; known != nil && known.session.Number <= s.Number {
		delete(a.promises, s.Node)
	}
}

// Boot returns the boot id of this voter's process.
func (a *Acceptor) Boot() BootID { return a.boot }

// Correct returns the answer to a renewal that was refused with RefusedBoot.
func (a *Acceptor) Correct(r Renewal) Correction {
	return Correction{Session: r.Session, Round: r.Round, From: a.self, Boot: a.boot}
}

// Renew answers a renewal. Rule 2: an acknowledgement promises P from this moment, on
// this clock.
//
// A renewal is the holder's own word once, and never again: one that is repeated by somebody on
// the path would prolong the promise to a session whose holder is dead, and keep everybody else
// from what it had. So round and time of sending grow with each one that is acknowledged; and
// because a restart forgets what they were, a renewal names the process that it is for.
func (a *Acceptor) Renew(now Instant, r Renewal) (Ack, Refusal) {
	if a.silentAt(now) {
		return Ack{}, RefusedStarting
	}
	if refusal := a.checkVoter(r.Config, r.Length); refusal != "" {
		return Ack{}, refusal
	}
	p, refusal := a.find(r.Session)
	if refusal != "" {
		return Ack{}, refusal
	}
	// Rule 4: endorsed once, refused for ever. The leader may already have counted it.
	if p.revoked {
		return Ack{}, RefusedRevoked
	}
	if r.Boot != a.boot {
		return Ack{}, RefusedBoot
	}
	if r.Round <= p.round || !r.Sent.After(p.sent) && p.round != 0 {
		return Ack{}, RefusedStale
	}
	p.round, p.sent, p.heard = r.Round, r.Sent, now
	if until := now.Add(Promise(r.Length)); until.After(p.until) {
		p.until = until
	}
	return Ack{Session: r.Session, Round: r.Round, Sent: r.Sent, Length: r.Length, Config: r.Config, From: a.self, Boot: a.boot}, ""
}

// Endorse answers a leader's question by rule 4. The endorsement counts for that question
// only; the revocation that comes with it is for the rest of the session.
func (a *Acceptor) Endorse(now Instant, q Question) (Endorsement, Refusal) {
	if a.silentAt(now) {
		return Endorsement{}, RefusedStarting
	}
	if refusal := a.checkVoter(q.Config, q.Length); refusal != "" {
		return Endorsement{}, refusal
	}
	p, refusal := a.find(q.Session)
	if refusal != "" {
		return Endorsement{}, refusal
	}
	if now.Before(p.until) {
		return Endorsement{}, RefusedPromised
	}
	// Two changes of one voter each can part the majority that acknowledged from the one
	// that endorses. The second change begins after the first is committed, and then no
	// majority acknowledges by the set before it: a set that is P old has outlived those.
	if now.Sub(a.votersFrom) < a.silence.at(now) {
		return Endorsement{}, RefusedYoungVoterSet
	}
	p.revoked = true
	return Endorsement{Question: q.ID, Session: q.Session, Config: a.voters.ID, From: a.self}, ""
}

// silentAt reports whether promises or endorsements that this process does not remember
// may still matter (rules 2 and 4).
func (a *Acceptor) silentAt(now Instant) bool {
	if !a.caughtUp {
		return true
	}
	return now.Sub(a.started) < a.silence.at(now)
}

// checkVoter checks what renewals and questions have in common.
//
// A length above those in force is refused in both. In a renewal: the silence after a
// restart would be too short for the promise. In a question: the leader knows of promises
// longer than this voter's measure for silence and for the age of its voter set.
func (a *Acceptor) checkVoter(config ConfigID, length time.Duration) Refusal {
	if !a.voters.Has(a.self) {
		return RefusedNotVoter
	}
	if config != a.voters.ID {
		return RefusedVoterSet
	}
	if CheckLength(length) != nil || Promise(length) > a.silence.inForce {
		return RefusedLength
	}
	return ""
}

// find returns the record of exactly this session.
func (a *Acceptor) find(s Session) (*promise, Refusal) {
	p := a.promises[s.Node]
	switch {
	case p == nil || p.session.Number < s.Number:
		return nil, RefusedUnknown
	case p.session.Number > s.Number:
		return nil, RefusedSuperseded
	}
	return p, ""
}

// Sessions returns the sessions that are open here, sorted by node.
func (a *Acceptor) Sessions() []Session {
	return a.sessions(func(*promise) bool { return true })
}

// Expired returns the open sessions whose promise has run out here, sorted by node: the
// hint to the leader (rule 4), repeated while they stay open. There is none from an
// acceptor that could not endorse: one that is silent, or has no vote.
func (a *Acceptor) Expired(now Instant) []Session {
	if a.silentAt(now) || !a.voters.Has(a.self) {
		return nil
	}
	return a.sessions(func(p *promise) bool { return !now.Before(p.until) })
}

// NextExpiry returns the first instant after now at which Expired may have more to say,
// if nothing happens until then.
func (a *Acceptor) NextExpiry(now Instant) (Instant, bool) {
	var next Instant
	found := false
	for _, p := range a.promises {
		until := max(p.until, a.started.Add(a.silence.at(now)))
		if until.After(now) && (!found || until.Before(next)) {
			next, found = until, true
		}
	}
	return next, found
}

// Heard returns of a session that is open here how long ago it renewed with this acceptor, or
// was opened, and for how long the promise to it still runs, 0 or less if no more. It proves
// nothing of the other voters' promises: for status, timeline, and the refusal of a duplicate node.
func (a *Acceptor) Heard(now Instant, s Session) (ago, left time.Duration, known bool) {
	p, refusal := a.find(s)
	if refusal != "" {
		return 0, 0, false
	}
	return now.Sub(p.heard), p.until.Sub(now), true
}

// Revoked reports whether this acceptor has endorsed the end of a session that is open here: it
// refuses its renewals, and cannot say whether others take them. For status only.
func (a *Acceptor) Revoked(s Session) bool {
	p, refusal := a.find(s)
	return refusal == "" && p.revoked
}

func (a *Acceptor) sessions(want func(*promise) bool) []Session {
	var found []Session
	for _, p := range a.promises {
		if want(p) {
			found = append(found, p.session)
		}
	}
	slices.SortFunc(found, func(x, y Session) int { return cmp.Compare(x.Node, y.Node) })
	return found
}
