package datagram

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// pairSalt is the salt of HKDF-Extract (RFC 5869): it keeps these keys apart from any other use
// of the same secret, and from those of a later version.
const pairSalt = "havip-cluster words of the lease, version 1\x00"

const keyBytes = 32 // AES-256, HMAC-SHA-256

// pair is what one key of this node and one key of another have in common.
type pair struct {
	own   identity.DatagramKey
	other fsm.NodeKey
	prk   []byte // of HKDF

	ends     [2]end    // this node, the other one
	out, in  hash.Hash // HMAC for control frames, by direction; guarded by the peer's lock
	controls [sha256.Size]byte
}

// end is one of the two, as the derivation names it.
type end struct {
	node        string
	certificate []byte // SHA-256
	public      []byte // uncompressed point
}

// newPair derives the keys of two nodes: Z = ECDH(own secret, the other's public key), PRK =
// HKDF-Extract(pairSalt and cluster id, Z). Each end computes the same, and nobody else can.
func newPair(cluster, self string, own identity.DatagramKey, node string, other fsm.NodeKey) (*pair, error) {
	point, err := other.Point()
	if err != nil {
		return nil, err
	}
	z, err := own.Secret.ECDH(point)
	if err != nil {
		return nil, fmt.Errorf("datagram: no key with node %s: %w", node, err)
	}
	p := &pair{own: own, other: other}
	if p.prk, err = hkdf.Extract(sha256.New, z, []byte(pairSalt+cluster)); err != nil {
		return nil, fmt.Errorf("datagram: no key with node %s: %w", node, err)
	}
	mine, err := hex.DecodeString(own.Certificate)
	if err != nil {
		return nil, fmt.Errorf("datagram: fingerprint %q: %w", own.Certificate, err)
	}
	theirs, err := hex.DecodeString(other.Certificate)
	if err != nil {
		return nil, fmt.Errorf("datagram: fingerprint %q: %w", other.Certificate, err)
	}
	p.ends = [2]end{{self, mine, own.Secret.PublicKey().Bytes()}, {node, theirs, point.Bytes()}}
	out, err := p.expand(labelControl, true, 0, 0)
	if err != nil {
		return nil, err
	}
	in, err := p.expand(labelControl, false, 0, 0)
	if err != nil {
		return nil, err
	}
	p.out, p.in = hmac.New(sha256.New, out), hmac.New(sha256.New, in)
	return p, nil
}

// expand is HKDF-Expand. The info names what the key is for, who speaks to whom, with which
// certificates and public keys, and the channel: so the two directions have different keys, and
// a new certificate or channel has new ones.
func (p *pair) expand(label string, outward bool, channel, invite uint64) ([]byte, error) {
	from, to := p.ends[0], p.ends[1]
	if !outward {
		from, to = to, from
	}
	var info []byte
	for _, part := range [][]byte{[]byte(label), []byte(from.node), []byte(to.node), from.certificate, to.certificate, from.public, to.public} {
		info = append(binary.BigEndian.AppendUint16(info, uint16(len(part))), part...)
	}
	info = binary.BigEndian.AppendUint64(info, channel)
	info = binary.BigEndian.AppendUint64(info, invite)
	key, err := hkdf.Expand(sha256.New, p.prk, string(info), keyBytes)
	if err != nil {
		return nil, fmt.Errorf("datagram: derive a key: %w", err)
	}
	return key, nil
}

// sealer gives the AEAD of one channel in one direction.
func (p *pair) sealer(outward bool, channel, invite uint64) (cipher.AEAD, error) {
	key, err := p.expand(labelFrame, outward, channel, invite)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("datagram: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("datagram: %w", err)
	}
	return aead, nil
}

// tag writes the tag of a control frame that this node sends, behind the header.
func (p *pair) tag(frame []byte) {
	copy(frame[headerBytes:], p.sum(p.out, frame[:headerBytes]))
}

// tagged reports whether a control frame is the other's.
func (p *pair) tagged(frame []byte) bool {
	return hmac.Equal(frame[headerBytes:], p.sum(p.in, frame[:headerBytes]))
}

func (p *pair) sum(mac hash.Hash, head []byte) []byte {
	mac.Reset()
	mac.Write(head)
	return mac.Sum(p.controls[:0])[:tagBytes]
}

// nonce is that of a frame: its number. A key serves one channel and one direction, and a
// number is used once in it, so no nonce ever comes back under a key (NIST SP 800-38D, 8.2.1).
func nonce(buf *[12]byte, number uint64) []byte {
	binary.BigEndian.PutUint64(buf[4:], number)
	return buf[:]
}
