package datagram

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

// FuzzSocket: datagrams of somebody without a key, from the address of a member and in its name, are
// dropped with a cause: no message is heard, no channel begins, and nothing is sent to anybody.
func FuzzSocket(f *testing.F) {
	c := newCompany(f, "n-a", "n-b")
	a, b := c.nodes["n-a"], c.nodes["n-b"]
	for _, m := range c.nodes {
		m.end() // the test gives them their datagrams
	}
	b.sock.conn = nil // what it sends would panic
	from := netip.AddrPortFrom(loopback, 7403)
	frame := func(protection, kind byte, length int) []byte {
		out := make([]byte, length)
		(&header{protection: protection, kind: kind, channel: 1, invite: 2, number: 3}).put(out)
		return out
	}
	f.Add([]byte{}, false)
	for _, named := range []bool{false, true} {
		f.Add(frame(protectControl, typeHello, headerBytes+tagBytes), named)
		f.Add(frame(protectControl, typeWelcome, headerBytes+tagBytes), named)
		f.Add(frame(protectSealed, typeMessage, headerBytes+tagBytes+40), named)
		f.Add(frame(protectSealed, typeMessage, frameMax), named)
		f.Add(frame(protectTagged, typeMessage, taggedBytes), named)
		f.Add(frame(protectTagged, typeAnswer, taggedBytes), named)
	}
	f.Fuzz(func(t *testing.T, raw []byte, named bool) {
		raw = bytes.Clone(raw)
		if named && len(raw) >= headerBytes { // who speaks to whom with which keys is no secret
			binary.BigEndian.PutUint32(raw[4:], ownKey((*a.keys.Load())[0]))
			binary.BigEndian.PutUint64(raw[8:], shortID("n-a"))
			binary.BigEndian.PutUint64(raw[16:], shortID("n-b"))
			binary.BigEndian.PutUint32(raw[24:], ownKey((*b.keys.Load())[0]))
		}
		if why := b.sock.take(raw, from); why == "" {
			t.Errorf("%x: taken", raw)
		}
		if p := b.sock.table.now().peers[shortID("n-a")]; b.all() > 0 || p.recv.aead != nil || p.send.aead != nil {
			t.Errorf("%x: %d messages are heard, or a channel has begun", raw, b.all())
		}
		// Somebody else's address is looked at before any key.
		if why := b.sock.take(raw, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), 1)); why == "" || why == causeTag {
			t.Errorf("%x from a foreign address: %q", raw, why)
		}
	})
}
