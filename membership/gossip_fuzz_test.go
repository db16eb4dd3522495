package membership

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// FuzzGossipPort: bytes of somebody without the key, in a datagram and in a connection, with and
// without the cluster's label, are no message and no member, and a connection is closed.
func FuzzGossipPort(f *testing.F) {
	received := make(chan []byte, 1)
	cfg := GossipConfig{
		Cluster: "c-0000000000000001", Node: "n-a", Listen: settingsAddr(f), Keys: [][]byte{gossipKey}, Version: "v-a", Logger: (&logBook{}).logger(),
		Receive: func(b []byte) {
			select {
			case received <- bytes.Clone(b):
			default:
			}
		},
		Changed: func() {},
	}
	var door *boundedGossip
	cfg.tune = func(c *memberlist.Config) {
		c.TCPTimeout = 20 * time.Millisecond // of silence in a connection
		door = must[*boundedGossip](f)(newBoundedGossip(cfg))
		c.Transport = door
	}
	g := must[*Gossip](f)(OpenGossip(cfg))
	f.Cleanup(func() { _ = g.Close() })
	from := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7402}
	label := append([]byte{244, byte(len(cfg.Cluster))}, cfg.Cluster...) // hasLabelMsg of memberlist
	f.Add([]byte{}, false)
	for _, labelled := range []bool{false, true} {
		f.Add([]byte{10, 0, 0, 0, 32, 1}, labelled)                                        // encryptMsg, cut off
		f.Add(append([]byte{1}, bytes.Repeat([]byte{7}, 60)...), labelled)                 // a version of the encryption, and no ciphertext
		f.Add([]byte{0, 0x82, 0xa5, 'S', 'e', 'q', 'N', 'o', 1}, labelled)                 // pingMsg in the clear
		f.Add([]byte{9, 0x82, 0xa4, 'A', 'l', 'g', 'o', 0, 0xa3, 'B', 'u', 'f'}, labelled) // compressMsg in the clear
		f.Add([]byte{7, 3, 0, 1, 0, 1, 0, 1, 4, 4, 4}, labelled)                           // compoundMsg in the clear
		f.Add([]byte{6, 0x83, 0xff, 0xff}, labelled)                                       // pushPullMsg in the clear
	}
	f.Fuzz(func(t *testing.T, b []byte, labelled bool) {
		if labelled {
			b = append(bytes.Clone(label), b...)
		}
		if len(b) > 0 && len(b) <= packetBytes {
			door.packets <- &memberlist.Packet{Buf: bytes.Clone(b), From: from, Timestamp: time.Now()}
		}
		here, there := net.Pipe()
		door.streams <- &boundedConn{Conn: there, left: streamBytes, release: func() {}}
		_ = here.SetDeadline(time.Now().Add(patience))
		go func() { _, _ = io.Copy(io.Discard, here) }() // an answer, which may not be
		if len(b) > 0 {
			_, _ = here.Write(b) // it may be closed before the end
		}
		_ = here.Close()
		select {
		case got := <-received:
			t.Errorf("%x: handed on as %x", b, got)
		default:
		}
		if n := g.list.NumMembers(); n != 1 {
			t.Errorf("%x: %d members", b, n)
		}
	})
}
