package datagram

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"

	"havip-cluster/membership/identity"
)

// A frame is a fixed header and a protected part. Integers are big-endian, and every field
// stands at a multiple of its size, so that a program in the kernel can read them as they are.
//
//	 0  1  version, 1
//	 1  1  protection: how the frame is protected, and so what follows the header
//	 2  1  type: of a control frame, else 0
//	 3  1  0
//	 4  4  sender's key: the first bytes of the fingerprint of its certificate
//	 8  8  sender: the first bytes of the SHA-256 of its node id
//	16  8  receiver: the same of the receiver
//	24  4  receiver's key
//	28  4  0
//	32  8  channel: drawn by the sender, see channel.go
//	40  8  invitation: drawn by the receiver
//	48  8  counter: of the frames of a channel, from 1
//	56  n  what the protection makes of the message
//
// Protection 1 is AES-256-GCM: n is the message and a tag of 16 bytes. Protection 3 is a control
// frame: n is a tag of 16 bytes, the first half of HMAC-SHA-256. Protection 2 is for what a program in
// the kernel reads and answers (tagged.go): a fixed message in the clear and a tag of 8 bytes, SipHash-2-4 over
// header and message. Type 1 of it is an answer: it goes in the channel of who is answered, and repeats its channel,
// invitation and counter. Bytes 3 and 28 to 31 are 0 until a version says otherwise.
const (
	frameVersion = 1

	protectSealed  = 1
	protectTagged  = 2
	protectControl = 3

	typeMessage = 0
	typeAnswer  = 1 // of protection 2
	typeHello   = 1 // asks for an invitation; counter is a random number that the answer repeats
	typeWelcome = 2 // channel is the asker's that is in use here, 0: none

	headerBytes = 56
	tagBytes    = 16

	// PayloadMax is the longest message that Send takes, in bytes: with the header and the tag it fits
	// into one Ethernet frame, also behind a tunnel.
	PayloadMax = 1200
	frameMax   = headerBytes + PayloadMax + tagBytes
)

// Labels of derived keys. A new use gets a label of its own.
const (
	labelControl = "control"
	labelFrame   = "frame"
	labelTagged  = "tagged"
	labelAnswer  = "answer"
)

// header is the head of a frame.
type header struct {
	protection, kind        byte
	from, to                uint64 // see shortID
	fromKey, toKey          uint32 // see shortKey
	channel, invite, number uint64
}

// put writes the header to the first headerBytes of b.
func (h *header) put(b []byte) {
	b[0], b[1], b[2], b[3] = frameVersion, h.protection, h.kind, 0
	binary.BigEndian.PutUint32(b[4:], h.fromKey)
	binary.BigEndian.PutUint64(b[8:], h.from)
	binary.BigEndian.PutUint64(b[16:], h.to)
	binary.BigEndian.PutUint32(b[24:], h.toKey)
	binary.BigEndian.PutUint32(b[28:], 0)
	binary.BigEndian.PutUint64(b[32:], h.channel)
	binary.BigEndian.PutUint64(b[40:], h.invite)
	binary.BigEndian.PutUint64(b[48:], h.number)
}

// parse reads a header. It returns why the bytes are no frame of ours, or "".
func (h *header) parse(b []byte) cause {
	if len(b) < headerBytes+tagBytes || len(b) > frameMax {
		return causeSize
	}
	if b[1] == protectTagged && len(b) != taggedBytes {
		return causeSize
	}
	if b[0] != frameVersion || b[3] != 0 || binary.BigEndian.Uint32(b[28:]) != 0 {
		return causeVersion
	}
	h.protection, h.kind = b[1], b[2]
	switch {
	case h.protection == protectSealed && h.kind == typeMessage:
	case h.protection == protectTagged && (h.kind == typeMessage || h.kind == typeAnswer):
	case h.protection == protectControl && (h.kind == typeHello || h.kind == typeWelcome) && len(b) == headerBytes+tagBytes:
	default:
		return causeVersion
	}
	h.fromKey, h.toKey = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[24:])
	h.from, h.to = binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])
	h.channel, h.invite = binary.BigEndian.Uint64(b[32:]), binary.BigEndian.Uint64(b[40:])
	h.number = binary.BigEndian.Uint64(b[48:])
	return ""
}

// shortID is a node in a header. Two nodes of one cluster have the same one with a probability
// of n²/2^65; then they do not hear each other's sealed messages, and nothing worse.
func shortID(node string) uint64 {
	sum := sha256.Sum256([]byte(node))
	return binary.BigEndian.Uint64(sum[:])
}

// shortKey is a certificate in a header, from its fingerprint in hex. It only says which keys
// to try.
func shortKey(fingerprint string) uint32 {
	if len(fingerprint) < 8 {
		return 0
	}
	n, err := strconv.ParseUint(fingerprint[:8], 16, 32)
	if err != nil { // the state has checked it
		return 0
	}
	return uint32(n)
}

// ownKey is the header's name of one of this node's keys.
func ownKey(k identity.DatagramKey) uint32 { return shortKey(k.Certificate) }
