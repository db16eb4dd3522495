package datagram

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/dchest/siphash"

	"havip-cluster/fsm"
)

// Tagged frames are for messages that a program in the kernel reads and answers: there is no AEAD for it, so
// these messages are in the clear, with a tag of SipHash-2-4. They use the channel that the sealed ones have made,
// with keys of their own, so they end with it. An answer goes in the channel of who is answered and not in one of
// its own: a program then needs to know one channel only.
//
// The tag has 64 bits where a sealed frame has 128, and nothing remembers which frames came before: who takes the
// message has to know what it has seen. So only what both hold for goes this way, and only to a peer that has offered to take
// it, or in answer. An offer is a sealed message that a program before tagged frames does not know, and drops.
const (
	// FixedBytes is the length of a message that goes tagged.
	FixedBytes = 56
	// FixedMark is its first byte. No sealed message begins with it.
	FixedMark = 3

	sipBytes    = 8
	taggedBytes = headerBytes + FixedBytes + sipBytes

	// offersMax is how often an offer is said in one channel, a second apart: it may get lost.
	offersMax = 8
)

// offer is the message "I take tagged frames". No other message begins with 0.
var offer = []byte{0, protectTagged}

// ErrNotOffered is returned by SendTagged where the node does not take tagged frames, or not yet: a sealed
// message is right.
var ErrNotOffered = errors.New("datagram: that node takes no tagged frames")

// sipKey is one key of SipHash.
type sipKey [2]uint64

// tagKeys are those of one channel.
type tagKeys struct {
	made            bool
	request, answer sipKey
}

// make derives the keys of a channel if they are not there yet; outward: it is this node's.
func (k *tagKeys) make(p *pair, outward bool, channel, invite uint64) error {
	if k.made {
		return nil
	}
	request, err := p.expand(labelTagged, outward, channel, invite)
	if err != nil {
		return err
	}
	answer, err := p.expand(labelAnswer, !outward, channel, invite)
	if err != nil {
		return err
	}
	*k = tagKeys{true, sipKeyOf(request), sipKeyOf(answer)}
	return nil
}

func sipKeyOf(b []byte) sipKey {
	return sipKey{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

// tag writes the tag behind a frame that has none yet.
func (k sipKey) tag(frame []byte) []byte {
	return binary.LittleEndian.AppendUint64(frame, siphash.Hash(k[0], k[1], frame))
}

// tagged reports whether a frame with its tag is authentic.
func (k sipKey) tagged(frame []byte) bool {
	head := frame[:len(frame)-sipBytes]
	return binary.LittleEndian.Uint64(frame[len(head):]) == siphash.Hash(k[0], k[1], head)
}

// Offer has every peer told that this node takes tagged frames: with the answer to a hello, which is said now.
func (s *Socket) Offer() {
	s.offers.Store(true)
	for _, p := range s.table.now().peers {
		p.mu.Lock()
		p.send.doubt = p.send.doubt || p.send.aead != nil // without a channel a hello is due anyway
		p.mu.Unlock()
	}
	s.wake()
}

// SendTagged sends a message of FixedBytes that begins with FixedMark; answer: in answer to one of that node.
// ErrNotOffered: nothing was sent.
func (s *Socket) SendTagged(to fsm.Node, answer bool, message []byte) error {
	if len(message) != FixedBytes || message[0] != FixedMark {
		return fmt.Errorf("datagram: %d bytes are no fixed message", len(message))
	}
	p := s.table.now().peers[shortID(to.ID)]
	if p == nil || p.id != to.ID {
		return fmt.Errorf("datagram: node %s has no key here", to.ID)
	}
	now := time.Now()
	buf := frames.Get().(*[frameMax]byte)
	defer frames.Put(buf)
	p.mu.Lock()
	first := now.Sub(p.send.spoke) >= idleAfter
	frame, ok := p.tagFrame(buf[:0], s.table.short, answer, message)
	if ok {
		p.send.spoke = now
	}
	address := p.address()
	p.mu.Unlock()
	if !ok {
		return ErrNotOffered
	}
	if first {
		s.wake()
	}
	return s.write(frame, address)
}

// tagFrame makes a tagged frame, in the channel to the peer or, for an answer, in the one from it; false: the peer
// takes none, may not know the channel yet (no tagged frame begins one), or has sent none that could be answered. With
// the peer's lock held.
func (p *peer) tagFrame(buf []byte, self uint64, answer bool, message []byte) ([]byte, bool) {
	h := header{protection: protectTagged, from: self, to: p.short}
	var key sipKey
	if answer {
		if p.recv.aead == nil || !p.recv.answers {
			return nil, false
		}
		h.kind, h.fromKey, h.toKey = typeAnswer, ownKey(p.recv.pair.own), shortKey(p.recv.pair.other.Certificate)
		h.channel, h.invite, h.number, key = p.recv.channel, p.recv.invite, p.recv.request, p.recv.tagged.answer
	} else {
		s := &p.send
		if s.aead == nil || s.number >= framesMax || !s.begun || !p.recv.offered || s.tagged.make(s.pair, true, s.channel, s.invite) != nil {
			return nil, false
		}
		s.number++
		h.fromKey, h.toKey = ownKey(s.pair.own), shortKey(s.pair.other.Certificate)
		h.channel, h.invite, h.number, key = s.channel, s.invite, s.number, s.tagged.request
	}
	buf = append(buf[:0], make([]byte, headerBytes)...)
	h.put(buf)
	return key.tag(append(buf, message...)), true
}

// openTagged returns the message of a tagged frame, in place. With the peer's lock held.
func (p *peer) openTagged(h *header, x *pair, frame []byte) ([]byte, cause) {
	var key sipKey
	if h.kind == typeAnswer {
		if p.send.aead == nil || h.channel != p.send.channel || h.invite != p.send.invite || x != p.send.pair || !p.send.tagged.made {
			return nil, causeChannel
		}
		key = p.send.tagged.answer
	} else {
		r := &p.recv
		if r.aead == nil || h.channel != r.channel || h.invite != r.invite || x != r.pair {
			return nil, causeChannel
		}
		if err := r.tagged.make(x, false, r.channel, r.invite); err != nil {
			return nil, causeKey
		}
		key = r.tagged.request
	}
	if !key.tagged(frame) {
		return nil, causeTag
	}
	message := frame[headerBytes : headerBytes+FixedBytes]
	if message[0] != FixedMark {
		return nil, causeVersion
	}
	if h.kind != typeAnswer {
		p.recv.answers, p.recv.request = true, h.number
	}
	return message, ""
}

// Channel is what a program in the kernel needs to take the tagged frames of a node, and to answer them.
type Channel struct {
	Number, Invitation uint64
	Request, Answer    [2]uint64 // keys of SipHash-2-4
	Peer               netip.Addr
}

// Tagged returns the channel in which a node sends tagged frames now; false: it sends none.
func (s *Socket) Tagged(node string) (Channel, bool) {
	p := s.table.now().peers[shortID(node)]
	if p == nil || p.id != node {
		return Channel{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &p.recv
	if r.aead == nil || !r.answers {
		return Channel{}, false
	}
	return Channel{r.channel, r.invite, r.tagged.request, r.tagged.answer, p.address().Addr()}, true
}

// Answered returns the channel in which a node answers tagged frames of this one now: Request is not set; false: this
// node sends it none.
func (s *Socket) Answered(node string) (Channel, bool) {
	p := s.table.now().peers[shortID(node)]
	if p == nil || p.id != node {
		return Channel{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.send
	if c.aead == nil || !c.tagged.made {
		return Channel{}, false
	}
	return Channel{Number: c.channel, Invitation: c.invite, Answer: c.tagged.answer, Peer: p.address().Addr()}, true
}
