// Package forge writes words of the lease as an intruder would: in anybody's name, by the
// format that failover/wire/wire.go documents, and with no check of anything.
package forge

import (
	"encoding/binary"
	"time"
)

// The versions of a word: by gossip, with a sender that it names itself, or sealed, where the channel names it.
const (
	ByGossip = 1
	Sealed   = 2
)

// The kinds of word that are forged, as in failover/wire/wire.go.
const (
	kindRenewal     = 1
	kindHint        = 3
	kindQuestion    = 4
	kindEndorsement = 5
	kindReleased    = 6
	kindReady       = 7
	kindStatus      = 9
)

// Session names a session.
type Session struct {
	Node   string
	Number uint64
}

type word []byte

func begin(version, kind byte, from string) word {
	w := word{version, kind}
	if version == ByGossip {
		w = w.str(from)
	}
	return w
}

func (w word) u64(v uint64) word      { return binary.BigEndian.AppendUint64(w, v) }
func (w word) str(s string) word      { return append(append(w, byte(len(s))), s...) }
func (w word) session(s Session) word { return w.str(s.Node).u64(s.Number) }
func (w word) boot(version byte) word {
	if version == Sealed {
		return w.u64(0)
	}
	return w
}

// Renewal asks for a promise to a session.
func Renewal(version byte, from string, s Session, round uint64, sent int64, length time.Duration, voters uint64) []byte {
	return begin(version, kindRenewal, from).session(s).u64(round).u64(uint64(sent)).u64(uint64(length)).u64(voters).boot(version)
}

// Hint says that a promise to a session has run out.
func Hint(version byte, from string, s Session) []byte {
	return begin(version, kindHint, from).u64(1).session(s)
}

// Question asks whether a session has expired.
func Question(version byte, from string, term, number uint64, s Session, voters uint64, length time.Duration) []byte {
	return begin(version, kindQuestion, from).str(from).u64(term).u64(number).session(s).u64(voters).u64(uint64(length))
}

// Endorsement says in a voter's name that a session has expired, to a leader's question.
func Endorsement(version byte, from, leader string, term, number uint64, s Session, voters uint64) []byte {
	return begin(version, kindEndorsement, from).str(leader).u64(term).u64(number).session(s).u64(voters).str(from)
}

// Released says that a claim is not used any more; with a failure, that it could not be served.
func Released(version byte, from, havip string, epoch, session uint64, failure string) []byte {
	return begin(version, kindReleased, from).str(havip).u64(epoch).u64(session).str(failure)
}

// Ready says that the owner of an epoch waits only for the one before.
func Ready(version byte, from, havip string, epoch, session uint64) []byte {
	return begin(version, kindReady, from).str(havip).u64(epoch).u64(session).str("")
}

// Status says how far a node has applied the log.
func Status(version byte, from string, applied uint64) []byte {
	return begin(version, kindStatus, from).u64(applied)
}
