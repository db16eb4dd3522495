package datagram

import (
	"fmt"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/internal/doorbook"
)

// frameKinds are what a frame can be, by protection and type.
var frameKinds = map[[2]byte]string{
	{protectSealed, typeMessage}: "a sealed message", {protectControl, typeHello}: "hello", {protectControl, typeWelcome}: "welcome",
	{protectTagged, typeMessage}: "a tagged message", {protectTagged, typeAnswer}: "a tagged answer",
}

// Every kind of frame as each of the four: the table of docs/doors.md. All come from a member's address.
func TestDoorbook(t *testing.T) {
	c := newCompany(t, "a", "b", "d", "v", "x")
	for _, m := range c.nodes {
		m.end() // no frames but ours
	}
	a := c.nodes["a"]
	s, err := Open(a.config(a.sock.cfg.Listen))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	keys := func(id string) []fsm.NodeKey { return c.state.Load().Nodes[id].Keys }
	own, as := keys("a")[0], keys("b")[0]
	_ = s.table.now() // it has known the removed ones
	c.change(func(nodes map[string]fsm.Node) { delete(nodes, "v"); delete(nodes, "x") })
	for protection := range 256 {
		for kind := range 256 {
			var h header
			size := headerBytes + tagBytes
			if protection == protectTagged {
				size = taggedBytes
			}
			frame := make([]byte, size)
			(&header{protection: byte(protection), kind: byte(kind), number: 1, channel: 1, invite: 1}).put(frame)
			why := h.parse(frame)
			if _, row := frameKinds[[2]byte{byte(protection), byte(kind)}]; row != (why == "") {
				t.Errorf("protection %d, type %d: %q, and a row here: %t", protection, kind, why, row)
			}
		}
	}
	table := doorbook.NewTable("frame")
	for _, what := range [][2]byte{{protectSealed, typeMessage}, {protectControl, typeHello}, {protectControl, typeWelcome}, {protectTagged, typeMessage}, {protectTagged, typeAnswer}} {
		table.Row(func(who string) string {
			name, claims := "b", as
			speaker := newKey(t)
			switch who {
			case doorbook.RemovedVoter:
				name, speaker = "v", (*c.nodes["v"].keys.Load())[0]
				claims = record(speaker)
			case doorbook.RemovedAgent:
				name, speaker = "x", (*c.nodes["x"].keys.Load())[0]
				claims = record(speaker)
			case doorbook.Agent:
				speaker = (*c.nodes["d"].keys.Load())[0]
			}
			p, err := newPair(cluster, name, speaker, "a", own)
			if err != nil {
				t.Fatal(err)
			}
			h := header{
				protection: what[0], kind: what[1], from: shortID(name), to: shortID("a"), fromKey: shortKey(claims.Certificate), toKey: shortKey(own.Certificate),
				channel: 1, invite: 1, number: 1,
			}
			if peer := s.table.now().peers[h.from]; peer != nil {
				h.invite = peer.recv.next // the best guess there is
			}
			frame := make([]byte, headerBytes+tagBytes)
			h.put(frame)
			switch what[0] {
			case protectControl:
				p.tag(frame)
			case protectTagged:
				if peer := s.table.now().peers[h.from]; peer != nil {
					inChannels(t, s, peer, &h)
				}
				frame = forgedTagged(t, p, &h)
			default:
				aead, err := p.sealer(true, h.channel, h.invite)
				if err != nil {
					t.Fatal(err)
				}
				var buf [12]byte
				frame = aead.Seal(frame[:headerBytes], nonce(&buf, h.number), nil, frame[:headerBytes])
			}
			why := s.take(frame, a.sock.cfg.Listen)
			if why == "" {
				t.Errorf("%s, %s: taken", frameKinds[what], who)
				return "taken"
			}
			return fmt.Sprintf("%s (%s)", doorbook.Refused, why)
		}, frameKinds[what])
	}
	if err := doorbook.Check("frames", table); err != nil {
		t.Error(err)
	}
}

// inChannels has the socket be in the channels that the header names, in both directions.
func inChannels(t *testing.T, s *Socket, p *peer, h *header) {
	t.Helper()
	x, why := s.table.named(s.table.now(), p, &header{fromKey: shortKey(p.keys[0].Certificate), toKey: h.toKey})
	if why != "" {
		t.Fatal(why)
	}
	aead, err := x.sealer(true, h.channel, h.invite)
	if err != nil {
		t.Fatal(err)
	}
	p.recv = receiving{pair: x, aead: aead, channel: h.channel, invite: h.invite}
	p.send = sending{pair: x, aead: aead, channel: h.channel, invite: h.invite}
	if err := p.send.tagged.make(x, true, h.channel, h.invite); err != nil {
		t.Fatal(err)
	}
}

// forgedTagged is a tagged frame of who has the keys of p, in the channel that the header names.
func forgedTagged(t *testing.T, p *pair, h *header) []byte {
	t.Helper()
	var keys tagKeys
	if err := keys.make(p, h.kind == typeMessage, h.channel, h.invite); err != nil {
		t.Fatal(err)
	}
	key := keys.request
	if h.kind == typeAnswer {
		key = keys.answer
	}
	b := make([]byte, headerBytes)
	h.put(b)
	return key.tag(append(b, fixed(1)...))
}
