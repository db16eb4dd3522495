package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// A datagram is: one byte of version, one of kind, in version 1 the sender's node id, then the
// fields in the order in which the structs have them. Integers are 8 bytes big-endian, strings
// have one byte of length.
//
// Version 1 goes by gossip, where every holder of the cluster's key can name anybody as the
// sender: it is for nodes of a program below level 4. Version 2 goes sealed, and the carrier
// proves the sender; it has the boot ids of voters as well.
const (
	VersionGossip = 1
	VersionSealed = 2
)

// Kind is what a message is about: one for each field of Message, and for several claims another.
type Kind byte

const (
	KindRenewal Kind = 1 + iota
	KindAck
	KindHint
	KindQuestion
	KindEndorsement
	KindReleased
	KindReady
	KindActivated
	KindStatus
	// These speak of several claims. Only from level 3 of the log on everybody reads them.
	KindReleasedMany
	KindReadyMany
	KindActivatedMany
	// From version 2 on.
	KindCorrection
	KindRecall
	KindEnded
	KindSteps
	KindClock
	KindEnd
)

const (
	maxString = 120 // bytes
	// MaxDatagram is in bytes: with the carrier's overhead it fits into one Ethernet frame.
	MaxDatagram = 1200
	// MaxHints is how many sessions fit into one hint, however long the ids are. The
	// sender makes several hints of more.
	MaxHints = (MaxDatagram - 2 - (1 + maxString) - 8) / (1 + maxString + 8)
	// wordRoom is what a datagram has for claims when its sender's id is as long as may be.
	wordRoom   = MaxDatagram - 2 - (1 + maxString) - 8
	claimsMost = MaxDatagram / (1 + 8 + 8 + 1) // no datagram can hold more
)

// OfCores reports whether a message is for the acceptor or the holder of a lease: what the lease plane runs.
func OfCores(b []byte) bool {
	if len(b) < 2 {
		return false
	}
	switch Kind(b[1]) {
	case KindRenewal, KindQuestion, KindAck, KindCorrection, KindEnded:
		return true
	}
	return false
}

// errDatagram is returned by Decode for what is no datagram of ours.
var errDatagram = errors.New("failover: malformed datagram")

// Message is one decoded datagram: exactly one of the fields beside From is set.
type Message struct {
	From        string
	Renewal     *lease.Renewal
	Ack         *lease.Ack
	Hint        []lease.Session
	Question    *lease.Question
	Endorsement *lease.Endorsement
	Released    []ClaimMessage
	Ready       []ClaimMessage
	Activated   []ActivatedMessage
	Status      *StatusMessage
	Correction  *lease.Correction
	Recall      []ClaimMessage // without failures
	Ended       *lease.Ended
	Steps       *StepsMessage
	Clock       *ClockMessage
}

// ClaimMessage speaks of one claim: "I released it", or "I am ready for it".
type ClaimMessage struct {
	HAVIP   string
	Epoch   fsm.Epoch
	Session uint64
	Failure string
}

// ActivatedMessage tells the leader that an owner answers, and how long its steps took.
type ActivatedMessage struct {
	HAVIP   string
	Epoch   fsm.Epoch
	Session uint64
	Took    time.Duration // address, fence and first announcement
}

// StatusMessage tells the leader how far a node is.
type StatusMessage struct {
	Applied uint64
}

// StatusEvery is how often a node tells the leader how far it has applied the log.
const StatusEvery = 250 * time.Millisecond

type encoder []byte

func (e *encoder) u64(v uint64) { *e = binary.BigEndian.AppendUint64(*e, v) }
func (e *encoder) str(s string) {
	if len(s) > maxString {
		s = strings.ToValidUTF8(s[:maxString], "") // only a reason can be that long
	}
	*e = append(append(*e, byte(len(s))), s...)
}
func (e *encoder) session(s lease.Session) { e.str(s.Node); e.u64(s.Number) }

// Encode gives the bytes of a message in version 1, into buf if it is large enough.
func Encode(buf []byte, m Message) []byte { return EncodeAs(buf, VersionGossip, m) }

// EncodeAs is Encode in a version.
func EncodeAs(buf []byte, version byte, m Message) []byte {
	e := encoder(append(buf[:0], version, 0))
	if version == VersionGossip {
		e.str(m.From)
	}
	e[1] = byte(e.fields(version, m))
	return e
}

// fields encodes what a message says, and returns its kind, 0 if it says nothing.
func (e *encoder) fields(version byte, m Message) Kind {
	var k Kind
	switch {
	case m.Renewal != nil:
		k = KindRenewal
		r := m.Renewal
		e.session(r.Session)
		e.u64(r.Round)
		e.u64(uint64(r.Sent))
		e.u64(uint64(r.Length))
		e.u64(uint64(r.Config))
		e.boot(version, r.Boot)
	case m.Ack != nil:
		k = KindAck
		a := m.Ack
		e.session(a.Session)
		e.u64(a.Round)
		e.u64(uint64(a.Sent))
		e.u64(uint64(a.Length))
		e.u64(uint64(a.Config))
		e.str(a.From)
		e.boot(version, a.Boot)
	case m.Hint != nil:
		k = KindHint
		n := min(len(m.Hint), MaxHints)
		e.u64(uint64(n))
		for _, s := range m.Hint[:n] {
			e.session(s)
		}
	case m.Question != nil:
		k = KindQuestion
		e.question(m.Question.ID)
		e.session(m.Question.Session)
		e.u64(uint64(m.Question.Config))
		e.u64(uint64(m.Question.Length))
	case m.Endorsement != nil:
		k = KindEndorsement
		e.question(m.Endorsement.Question)
		e.session(m.Endorsement.Session)
		e.u64(uint64(m.Endorsement.Config))
		e.str(m.Endorsement.From)
	case m.Released != nil:
		k = e.claims(m.Released, KindReleased, KindReleasedMany)
	case m.Ready != nil:
		k = e.claims(m.Ready, KindReady, KindReadyMany)
	case m.Activated != nil:
		k = e.activations(m.Activated)
	case m.Status != nil:
		k = KindStatus
		e.u64(m.Status.Applied)
	case version != VersionGossip:
		k = e.sealed(m)
	}
	return k
}

// sealed encodes the messages that are sealed only.
func (e *encoder) sealed(m Message) (k Kind) {
	switch {
	case m.Correction != nil:
		k = KindCorrection
		c := m.Correction
		e.session(c.Session)
		e.u64(c.Round)
		e.str(c.From)
		e.u64(uint64(c.Boot))
	case m.Ended != nil:
		k = KindEnded
		e.session(m.Ended.Session)
		e.str(m.Ended.From)
	case m.Recall != nil:
		k = KindRecall
		e.u64(uint64(len(m.Recall)))
		for _, c := range m.Recall {
			e.claim(c)
		}
	default:
		k = e.timeline(m)
	}
	return k
}

// boot encodes a boot id, which version 1 does not have.
func (e *encoder) boot(version byte, b lease.BootID) {
	if version != VersionGossip {
		e.u64(uint64(b))
	}
}

func (e *encoder) question(q lease.QuestionID) {
	e.str(q.Leader)
	e.u64(q.Term)
	e.u64(q.Number)
}

func (e *encoder) claim(c ClaimMessage) {
	e.str(c.HAVIP)
	e.u64(uint64(c.Epoch))
	e.u64(c.Session)
	e.str(c.Failure)
}

// claims encodes one claim as version 1 always did, several with their number before.
func (e *encoder) claims(list []ClaimMessage, one, many Kind) Kind {
	if len(list) == 1 {
		e.claim(list[0])
		return one
	}
	e.u64(uint64(len(list)))
	for _, c := range list {
		e.claim(c)
	}
	return many
}

func (e *encoder) activations(list []ActivatedMessage) Kind {
	k := KindActivated
	if len(list) > 1 {
		k = KindActivatedMany
		e.u64(uint64(len(list)))
	}
	for _, a := range list {
		e.str(a.HAVIP)
		e.u64(uint64(a.Epoch))
		e.u64(a.Session)
		if k == KindActivated {
			e.u64(0) // free since version 1
		}
		e.u64(uint64(a.Took))
	}
	return k
}

// ClaimsFit is how many of the first claims fit into one datagram, at least one.
func ClaimsFit(list []ClaimMessage) int {
	return fit(list, func(c ClaimMessage) int {
		return 1 + min(len(c.HAVIP), maxString) + 8 + 8 + 1 + min(len(c.Failure), maxString)
	})
}

// ActivationsFit is the same for activations.
func ActivationsFit(list []ActivatedMessage) int {
	return fit(list, func(a ActivatedMessage) int { return 1 + min(len(a.HAVIP), maxString) + 8 + 8 + 8 })
}

func fit[T any](list []T, size func(T) int) int {
	room := wordRoom
	for n, w := range list {
		if room -= size(w); room < 0 {
			return max(n, 1)
		}
	}
	return len(list)
}

// decoder reads fields until something is missing; then bad stays true.
type decoder struct {
	b       []byte
	bad     bool
	version byte
	nodes   map[string]fsm.Node
}

// scratch is what a datagram is decoded into and with, so that those of a renewal, which
// come all the time, allocate nothing.
type scratch struct {
	nodes   map[string]fsm.Node // by id: strings that need not be made again; may be nil
	renewal lease.Renewal
	ack     lease.Ack
	msg     Message
}

func (d *decoder) u64() uint64 {
	if len(d.b) < 8 {
		d.bad = true
		return 0
	}
	v := binary.BigEndian.Uint64(d.b)
	d.b = d.b[8:]
	return v
}

func (d *decoder) str() string {
	if len(d.b) < 1 || len(d.b) < 1+int(d.b[0]) || d.b[0] > maxString {
		d.bad = true
		return ""
	}
	n := int(d.b[0])
	raw := d.b[1 : 1+n]
	d.b = d.b[1+n:]
	if known, ok := d.nodes[string(raw)]; ok {
		return known.ID
	}
	return string(raw)
}

// boot reads a boot id, 0 in version 1.
func (d *decoder) boot() lease.BootID {
	if d.version == VersionGossip {
		return 0
	}
	return lease.BootID(d.u64())
}

func (d *decoder) session() lease.Session { return lease.Session{Node: d.str(), Number: d.u64()} }
func (d *decoder) length() time.Duration  { return time.Duration(d.u64()) }

// skip passes over a field that nobody uses; it must be 0.
func (d *decoder) skip() { d.bad = d.u64() != 0 || d.bad }

func (d *decoder) question() lease.QuestionID {
	return lease.QuestionID{Leader: d.str(), Term: d.u64(), Number: d.u64()}
}

// count reads how many claims follow; 1 for the kinds that speak of one.
func (d *decoder) count(many bool, most int) int {
	if !many {
		return 1
	}
	n := d.u64()
	if n < 2 || n > uint64(most) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) claims(many bool) []ClaimMessage {
	var out []ClaimMessage
	for range d.count(many, claimsMost) {
		if out = append(out, d.claim()); d.bad {
			return nil
		}
	}
	return out
}

func (d *decoder) activations(many bool) []ActivatedMessage {
	var out []ActivatedMessage
	for range d.count(many, claimsMost) {
		a := ActivatedMessage{HAVIP: d.str(), Epoch: fsm.Epoch(d.u64()), Session: d.u64()}
		if !many {
			d.skip()
		}
		if a.Took = d.length(); d.bad {
			return nil
		}
		out = append(out, a)
	}
	return out
}

func (d *decoder) claim() ClaimMessage {
	return ClaimMessage{HAVIP: d.str(), Epoch: fsm.Epoch(d.u64()), Session: d.u64(), Failure: d.str()}
}

// Decode is decodeInto with memory of its own.
func Decode(b []byte) (Message, error) { return decodeInto(b, new(scratch)) }

// decodeInto reads one datagram. It never panics; what is cut, too long or unknown gives
// errDatagram. A renewal or an acknowledgement is part of s. In version 2 the message names no
// sender: the carrier does.
func decodeInto(b []byte, s *scratch) (Message, error) {
	if len(b) < 3 || b[0] != VersionGossip && b[0] != VersionSealed {
		return Message{}, fmt.Errorf("%w: %d bytes of an unknown version", errDatagram, len(b))
	}
	k := Kind(b[1])
	d := &decoder{b: b[2:], nodes: s.nodes, version: b[0]}
	m := Message{}
	if d.version == VersionGossip {
		if m.From = d.str(); m.From == "" {
			return Message{}, fmt.Errorf("%w: nobody sent it", errDatagram)
		}
	}
	if err := d.fields(k, &m, s); err != nil {
		return Message{}, err
	}
	if d.bad || len(d.b) != 0 {
		return Message{}, fmt.Errorf("%w: kind %d of %d bytes", errDatagram, k, len(b))
	}
	return m, nil
}

// fields reads what a message of a kind says.
func (d *decoder) fields(k Kind, m *Message, s *scratch) error {
	switch k {
	case KindRenewal:
		s.renewal = lease.Renewal{Session: d.session(), Round: d.u64(), Sent: lease.Instant(d.u64()), Length: d.length(), Config: lease.ConfigID(d.u64()), Boot: d.boot()}
		m.Renewal = &s.renewal
	case KindAck:
		s.ack = lease.Ack{Session: d.session(), Round: d.u64(), Sent: lease.Instant(d.u64()), Length: d.length(), Config: lease.ConfigID(d.u64()), From: d.str(), Boot: d.boot()}
		m.Ack = &s.ack
	case KindHint:
		n := d.u64()
		if n == 0 || n > MaxHints {
			return fmt.Errorf("%w: a hint of %d sessions", errDatagram, n)
		}
		for range n {
			m.Hint = append(m.Hint, d.session())
		}
	case KindQuestion:
		m.Question = &lease.Question{ID: d.question(), Session: d.session(), Config: lease.ConfigID(d.u64()), Length: d.length()}
	case KindEndorsement:
		m.Endorsement = &lease.Endorsement{Question: d.question(), Session: d.session(), Config: lease.ConfigID(d.u64()), From: d.str()}
	case KindReleased, KindReleasedMany:
		m.Released = d.claims(k == KindReleasedMany)
	case KindReady, KindReadyMany:
		m.Ready = d.claims(k == KindReadyMany)
	case KindActivated, KindActivatedMany:
		m.Activated = d.activations(k == KindActivatedMany)
	case KindStatus:
		m.Status = &StatusMessage{Applied: d.u64()}
	case KindCorrection:
		if d.version == VersionGossip {
			return fmt.Errorf("%w: kind %d in version 1", errDatagram, k)
		}
		m.Correction = &lease.Correction{Session: d.session(), Round: d.u64(), From: d.str(), Boot: d.boot()}
	case KindEnded:
		if d.version == VersionGossip {
			return fmt.Errorf("%w: kind %d in version 1", errDatagram, k)
		}
		m.Ended = &lease.Ended{Session: d.session(), From: d.str()}
	case KindRecall:
		n := d.u64()
		if d.version == VersionGossip || n == 0 || n > uint64(claimsMost) {
			return fmt.Errorf("%w: a recall of %d claims in version %d", errDatagram, n, d.version)
		}
		for range n {
			if m.Recall = append(m.Recall, d.claim()); d.bad {
				return errDatagram
			}
		}
	default:
		return d.timeline(k, m)
	}
	return nil
}
