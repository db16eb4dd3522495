package lease

import "time"

// Delegation is the right to acknowledge renewals of one session in an acceptor's place, until it is
// recalled. Who has it acknowledges a renewal of exactly this session, Config, Length and Boot whose round and
// time of sending are beyond those in Progress, promises Promise from its receipt, and refers everything else to the
// acceptor. It endorses nothing.
//
// A session's promise is in one hand at a time: the acceptor takes what was promised back before it answers
// anything about that session, and before anything changes by which it would have answered otherwise. So there
// is one acceptor, in two places, and the proof needs no step more.
type Delegation struct {
	Session Session
	Config  ConfigID
	Length  time.Duration // L
	Promise time.Duration // P of it
	Boot    BootID
	Progress
}

// Progress is what was promised to a session. Every field only grows.
type Progress struct {
	Round uint64  // of the newest renewal that was acknowledged
	Sent  Instant // of that renewal, on the holder's clock
	Heard Instant // when it was received, on the acceptor's
	Until Instant // the end of the promise, on the acceptor's
}

// Delegate returns the right to acknowledge further renewals of this length, of a session whose holder renews by it;
// call UseVoterSet and what else the log has to say before. False: Renew would refuse them all.
//
// The caller recalls it before the voter set, the longest length or the session changes here.
func (a *Acceptor) Delegate(now Instant, s Session, length time.Duration) (Delegation, bool) {
	p, refusal := a.find(s)
	if refusal != "" || p.revoked || a.silentAt(now) || a.checkVoter(a.voters.ID, length) != "" {
		return Delegation{}, false
	}
	return Delegation{
		Session: s, Config: a.voters.ID, Length: length, Promise: Promise(length), Boot: a.boot,
		Progress: Progress{Round: p.round, Sent: p.sent, Heard: p.heard, Until: p.until},
	}, true
}

// Progressed notes what was promised to a session in this acceptor's place. Nothing moves back; of a session
// that is not open here nothing is noted: it is refused anyway.
func (a *Acceptor) Progressed(s Session, by Progress) {
	p, refusal := a.find(s)
	if refusal != "" {
		return
	}
	if by.Round > p.round {
		p.round, p.sent = by.Round, max(p.sent, by.Sent)
	}
	p.heard, p.until = max(p.heard, by.Heard), max(p.until, by.Until)
}
