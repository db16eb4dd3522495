package datagram

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"havip-cluster/fsm"
)

// Frames travel in channels, one for each direction of a pair. A channel has two numbers: the
// sender draws its name, and the receiver draws the invitation to it. The key of a channel is
// derived from both, so
//
//   - no nonce comes back: a process that restarts draws another name, with another key, and so
//     does one that was copied with its disk or its memory;
//   - no frame of an earlier life counts: a receiver that restarts has forgotten its windows, and
//     draws another invitation; a sender that restarts gets another one, and with the first frame
//     under it the channel before is over.
//
// A sender without a channel says hello, and the receiver welcomes it with an invitation. Both
// are authentic and hold no state at the receiver; one that is repeated by somebody on the path
// is answered again, and changes nothing. Only an authentic frame under the invitation begins a
// channel. Who has restarted says hello to all, and whoever hears that, or the first frame of a
// new channel, says hello in turn; one every confirmEvery finds out whether that was missed.
const (
	helloPause   = 20 * time.Millisecond  // between two hellos while there is no channel, and messages wait
	changePause  = 100 * time.Millisecond // and while the channel hangs on keys that are not the newest, or may not have begun
	meetEvery    = time.Second            // and while nothing is to be said
	confirmEvery = time.Second            // between two hellos while messages are said
	idleAfter    = 2 * time.Second        // without a message of this node
	never        = time.Hour              // a channel without messages needs no hello
	helloLife    = 2 * time.Second        // how long an answer to a hello counts
	olderAfter   = 500 * time.Millisecond // without an answer: the other may not know the newest key yet

	waitingMax  = 4                      // messages that wait for a channel, for each peer
	waitingLife = 200 * time.Millisecond // and for how long: a renewal is stale by then
	welcomesMax = 1000                   // hellos of one peer that are answered in a second
	// framesMax is how many frames a channel has at most: GCM loses margin with what one key has
	// protected (NIST SP 800-38D, 8.3). At 10,000 a second it lasts for a year.
	framesMax = 1 << 38
)

// peer is another node as this process knows it. The keys are those of the state.
type peer struct {
	id    string
	short uint64
	since time.Time // when this process met it in the state

	mu    sync.Mutex // never held across a send or a call of Config.Receive
	node  fsm.Node
	keys  []fsm.NodeKey
	pairs []*pair // made when they are needed first, at most MaxNodeKeys squared
	send  sending
	recv  receiving
}

// sending is the channel to a peer.
type sending struct {
	pair    *pair
	aead    cipher.AEAD // nil: there is no channel
	channel uint64
	invite  uint64
	number  uint64 // of the last frame
	nonce   [12]byte

	asked    time.Time // the last hello
	asking   *pair     // its keys
	question uint64    // its number, 0: it was answered
	since    time.Time // when that number was drawn
	heard    time.Time // the last welcome
	spoke    time.Time // the last message of this node to the peer
	doubt    bool      // the peer may be another process than the one that had this channel
	waiting  []waitingMessage

	begun  bool // the peer has said that it knows this channel
	tagged tagKeys
	offers int // how often an offer was sent in this channel
}

type waitingMessage struct {
	at   time.Time
	text []byte
}

// receiving is the channel from a peer, and the invitation to the next one.
type receiving struct {
	pair    *pair
	aead    cipher.AEAD // nil: there is no channel
	channel uint64
	invite  uint64
	window  window
	nonce   [12]byte

	tagged  tagKeys
	offered bool   // the sender takes tagged frames
	answers bool   // it has sent one
	request uint64 // the counter of the last one

	next     uint64 // the invitation that is handed out
	second   time.Time
	welcomes int // in that second
}

// drop forgets the channels whose keys do not count any more.
func (p *peer) drop(counts func(*pair) bool) {
	if p.send.aead != nil && !counts(p.send.pair) {
		p.send = sending{spoke: p.send.spoke}
	}
	if p.send.asking != nil && !counts(p.send.asking) {
		p.send.asking, p.send.question = nil, 0
	}
	if p.recv.aead != nil && !counts(p.recv.pair) {
		p.recv = receiving{next: draw()}
	}
}

// draw gives a random number that is not 0.
func draw() uint64 {
	for {
		var b [8]byte
		rand.Read(b[:]) // never fails, the process ends instead
		if n := binary.BigEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}

// seal appends a frame with a message to buf. It returns false without a channel, or when that has
// come to its end.
func (s *sending) seal(buf []byte, from, to uint64, message []byte) ([]byte, bool) {
	if s.aead == nil || s.number >= framesMax {
		return nil, false
	}
	s.number++
	h := header{
		protection: protectSealed, from: from, to: to, fromKey: ownKey(s.pair.own), toKey: shortKey(s.pair.other.Certificate),
		channel: s.channel, invite: s.invite, number: s.number,
	}
	buf = append(buf[:0], make([]byte, headerBytes)...)
	h.put(buf)
	return s.aead.Seal(buf, nonce(&s.nonce, s.number), message, buf[:headerBytes]), true
}

// open returns the message of a frame, in place. A frame under the invitation that was handed out
// last begins a channel, and ends the one before.
func (r *receiving) open(h *header, p *pair, frame []byte) ([]byte, cause) {
	head, sealed := frame[:headerBytes], frame[headerBytes:]
	if r.aead != nil && h.invite == r.invite {
		if h.channel != r.channel || p != r.pair {
			return nil, causeChannel
		}
		if !r.window.fresh(h.number) {
			return nil, causeReplay
		}
		message, err := r.aead.Open(sealed[:0], nonce(&r.nonce, h.number), sealed, head)
		if err != nil {
			return nil, causeTag
		}
		r.window.mark(h.number)
		return message, ""
	}
	if h.invite != r.next || h.channel == 0 || h.number == 0 {
		return nil, causeChannel
	}
	aead, err := p.sealer(false, h.channel, h.invite)
	if err != nil {
		return nil, causeKey
	}
	message, err := aead.Open(sealed[:0], nonce(&r.nonce, h.number), sealed, head)
	if err != nil {
		return nil, causeTag
	}
	*r = receiving{pair: p, aead: aead, channel: h.channel, invite: h.invite, next: draw(), second: r.second, welcomes: r.welcomes}
	r.window.mark(h.number)
	return message, ""
}

// welcome takes the peer's answer to the last hello. It returns true when there is a new channel.
func (s *sending) welcome(now time.Time, h *header, p *pair) (bool, cause) {
	if s.question == 0 || h.number != s.question || p != s.asking || now.Sub(s.since) > helloLife {
		return false, causeReplay
	}
	s.question, s.heard, s.doubt = 0, now, false
	current := s.aead != nil && s.pair == p && s.number < framesMax
	if current && (h.channel == s.channel || h.invite == s.invite) {
		s.begun = s.begun || h.channel == s.channel
		return false, "" // it is known there, or its first frame is under way
	}
	channel := draw()
	aead, err := p.sealer(true, channel, h.invite)
	if err != nil {
		return false, causeKey
	}
	s.pair, s.aead, s.channel, s.invite, s.number = p, aead, channel, h.invite, 0
	s.begun, s.tagged, s.offers = false, tagKeys{}, 0
	return true, ""
}

// mayWelcome reports whether one more hello is answered now.
func (r *receiving) mayWelcome(now time.Time) bool {
	if now.Sub(r.second) >= time.Second {
		r.second, r.welcomes = now, 0
	}
	r.welcomes++
	return r.welcomes <= welcomesMax
}

// hold keeps a message until there is a channel.
func (s *sending) hold(now time.Time, message []byte) {
	if len(s.waiting) >= waitingMax {
		s.waiting = append(s.waiting[:0], s.waiting[1:]...)
	}
	s.waiting = append(s.waiting, waitingMessage{now, append([]byte(nil), message...)})
}

// due is when the next hello is to be said with these keys.
func (s *sending) due(now time.Time, preferred *pair) time.Time {
	speaks := now.Sub(s.spoke) < idleAfter
	pause := never
	switch {
	case s.aead == nil && speaks, s.doubt:
		pause = helloPause
	case s.aead == nil:
		pause = meetEvery
	case s.pair != preferred, speaks && !s.begun:
		pause = changePause
	case speaks:
		pause = confirmEvery
	}
	return s.asked.Add(pause)
}
