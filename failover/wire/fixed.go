package wire

import (
	"encoding/binary"
	"fmt"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
)

// VersionFixed is that of a renewal or an acknowledgement that goes tagged (ports.TaggedPost): one byte of
// version, one of kind, six that are 0, then session, round, time of sending, length, voter set and boot id of the
// voter, 8 bytes each, big-endian. It names no node: a renewal is the sender's own, and an acknowledgement is the
// sender's to the receiver. A program in the kernel reads it, too (netdev/acceptor).
const VersionFixed = 3

const fixedBytes = 56 // ports.TaggedPost says it as well

// encodeFixed appends a renewal or an acknowledgement to buf; false: the message is neither, or of another node.
func encodeFixed(buf []byte, self, to string, m Message) ([]byte, bool) {
	var k Kind
	var r lease.Renewal
	switch {
	case m.Renewal != nil && m.Renewal.Session.Node == self:
		k, r = KindRenewal, *m.Renewal
	case m.Ack != nil && m.Ack.Session.Node == to && m.Ack.From == self:
		a := m.Ack
		k, r = KindAck, lease.Renewal{Session: a.Session, Round: a.Round, Sent: a.Sent, Length: a.Length, Config: a.Config, Boot: a.Boot}
	default:
		return nil, false
	}
	buf = append(buf[:0], VersionFixed, byte(k), 0, 0, 0, 0, 0, 0)
	for _, v := range [...]uint64{r.Session.Number, r.Round, uint64(r.Sent), uint64(r.Length), uint64(r.Config), uint64(r.Boot)} {
		buf = binary.BigEndian.AppendUint64(buf, v)
	}
	return buf, true
}

// decodeFixed reads what from has sent to self.
func decodeFixed(b []byte, from, self string, s *scratch) (Message, error) {
	if len(b) != fixedBytes || b[0] != VersionFixed || [6]byte(b[2:8]) != [6]byte{} {
		return Message{}, fmt.Errorf("%w: %d bytes are no fixed one", errDatagram, len(b))
	}
	v := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	switch Kind(b[1]) {
	case KindRenewal:
		s.renewal = lease.Renewal{
			Session: lease.Session{Node: from, Number: v(1)}, Round: v(2), Sent: lease.Instant(v(3)), Length: time.Duration(v(4)),
			Config: lease.ConfigID(v(5)), Boot: lease.BootID(v(6)),
		}
		return Message{Renewal: &s.renewal}, nil
	case KindAck:
		s.ack = lease.Ack{
			Session: lease.Session{Node: self, Number: v(1)}, Round: v(2), Sent: lease.Instant(v(3)), Length: time.Duration(v(4)),
			Config: lease.ConfigID(v(5)), From: from, Boot: lease.BootID(v(6)),
		}
		return Message{Ack: &s.ack}, nil
	}
	return Message{}, fmt.Errorf("%w: kind %d is no fixed one", errDatagram, b[1])
}

// sendFixed sends a message tagged; false: it has to go sealed.
func (m *Mail) sendFixed(buf []byte, to fsm.Node, msg Message) bool {
	t, can := m.cfg.Post.(ports.TaggedPost)
	if !can {
		return false
	}
	b, is := encodeFixed(buf, m.cfg.Node, to.ID, msg)
	return is && t.SendTagged(to, msg.Ack != nil, b) == nil
}
