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
			frame := make([]byte, headerBytes+tagBytes+1)
			(&header{protection: byte(protection), kind: byte(kind), number: 1, channel: 1, invite: 1}).put(frame)
			why := h.parse(frame[:headerBytes+tagBytes])
			if _, row := frameKinds[[2]byte{byte(protection), byte(kind)}]; row != (why == "") {
				t.Errorf("protection %d, type %d: %q, and a row here: %t", protection, kind, why, row)
			}
		}
	}
	table := doorbook.NewTable("frame")
	for _, what := range [][2]byte{{protectSealed, typeMessage}, {protectControl, typeHello}, {protectControl, typeWelcome}} {
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
			if what[0] == protectControl {
				p.tag(frame)
			} else {
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
