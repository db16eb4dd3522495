package lease

import "time"

// Renewal asks every voter to promise the session another length (rule 2). The holder is
// Session.Node.
type Renewal struct {
	Session Session
	Round   uint64        // counts the rounds of one session from 1
	Sent    Instant       // on the holder's clock; comes back in the Ack
	Length  time.Duration // L
	Config  ConfigID      // the voter set by which the holder will count
	// Boot is the voter's boot id as the holder knows it, 0 if it does not: the one field that
	// differs from voter to voter.
	Boot BootID
}

// Ack is a voter's promise in answer to one Renewal, whose fields it repeats.
type Ack struct {
	Session Session
	Round   uint64
	Sent    Instant
	Length  time.Duration
	Config  ConfigID
	From    string
	Boot    BootID // the voter's
}

// Answers reports whether the acknowledgement repeats a renewal, whoever sent it, and for whichever process of the voter.
func (a Ack) Answers(r Renewal) bool {
	return r.Session == a.Session && r.Round == a.Round && r.Sent == a.Sent && r.Length == a.Length && r.Config == a.Config
}

// Correction answers a renewal that named another boot id than the voter's present one: nothing
// was promised, and the holder sends that round again.
type Correction struct {
	Session Session
	Round   uint64
	From    string
	Boot    BootID // the voter's
}

// Ended tells a holder that the log has closed its session, as far as the voter has applied it: so
// nothing moves its deadline any more, and it may as well end at once. A holder whose host stood still,
// its clock too, learns it so from the first renewal afterwards.
type Ended struct {
	Session Session
	From    string
}

// QuestionID is unique for ever: Raft gives a term to one leader, and the leader's Closer
// counts its questions.
type QuestionID struct {
	Leader string
	Term   uint64
	Number uint64
}

// Question asks every voter whether the session has expired at its side (rule 5).
type Question struct {
	ID      QuestionID
	Session Session
	Config  ConfigID      // the voter set by which the leader will count
	Length  time.Duration // the longest lease length in force, as the leader knows it
}

// Endorsement is a voter's statement that the session has expired at its side, in answer
// to one Question, together with the undertaking to refuse its renewals from then on.
type Endorsement struct {
	Question QuestionID
	Session  Session
	Config   ConfigID // the voter set that the voter uses itself
	From     string
}

// Refusal is why a message was not accepted; empty if it was. The words are stable: they
// are the label of a metric.
type Refusal string

// Refusals by an acceptor.
const (
	// RefusedStarting: up for less than its silence, or its log is not applied up to
	// where it was at start (rules 2 and 4).
	RefusedStarting Refusal = "starting"
	// RefusedNotVoter: by its own voter set the acceptor has no vote.
	RefusedNotVoter Refusal = "not a voter"
	// RefusedVoterSet: the sender counts by another voter set (rules 2 and 5).
	RefusedVoterSet Refusal = "voter set differs"
	// RefusedLength: no lease length, or longer than any in force as far as the acceptor
	// has applied the log (rule 8). It passes when the acceptor has caught up.
	RefusedLength Refusal = "length not in force"
	// RefusedUnknown: the log has not opened the session here, or has closed it.
	RefusedUnknown Refusal = "unknown session"
	// RefusedSuperseded: the log has opened a newer session of the same node.
	RefusedSuperseded Refusal = "superseded"
	// RefusedBoot: the renewal is for another process of this voter (rule 2). The holder is
	// told by a Correction.
	RefusedBoot Refusal = "another boot id"
	// RefusedStale: the renewal is no newer than one of its session that came before (rule 2).
	RefusedStale Refusal = "seen before"
	// RefusedRevoked: the acceptor has endorsed the session's expiry (rule 4).
	RefusedRevoked Refusal = "revoked"
	// RefusedPromised: the promise still runs (rule 4).
	RefusedPromised Refusal = "promise still runs"
	// RefusedYoungVoterSet: the voter set is in use for less than the silence (rule 4).
	RefusedYoungVoterSet Refusal = "voter set too young"
)

// Refusals by a closer; it also uses RefusedNotVoter and RefusedVoterSet.
const (
	// RefusedQuestion: not the latest question about that session, or it is settled.
	RefusedQuestion Refusal = "not the question asked"
	// RefusedOld: the question is older than half a lease length (rule 5).
	RefusedOld Refusal = "question too old"
	// RefusedRepeated: this voter has been counted.
	RefusedRepeated Refusal = "counted before"
)
