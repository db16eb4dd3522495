package membership

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"havip-cluster/membership/identity"
)

// FuzzGossip: messages and descriptions of members are whatever a member with the key
// sends. None may be more than a hint about the member that it names.
func FuzzGossip(f *testing.F) {
	f.Add([]byte{}, "n-1", []byte(`{"version":"v1"}`))
	f.Add([]byte{forReceive}, "n-1", []byte(`{"version":5}`))
	f.Add(append([]byte{forReceive}, "datagram"...), "", []byte(nil))
	f.Add(append([]byte{goodBye}, "n-1"...), "n-1", []byte("{"))
	f.Add(append([]byte{goodBye}, "n-2"...), "n-1", []byte("null"))
	f.Add([]byte{255, 0}, "n-1", []byte(`[]`))
	f.Fuzz(func(t *testing.T, message []byte, name string, about []byte) {
		received := 0
		g := &Gossip{
			cfg:  GossipConfig{Receive: func([]byte) { received++ }, Changed: func() {}, Logger: slog.New(slog.DiscardHandler)},
			seen: map[string]sighting{"n-1": {status: statusAlive}}, bye: map[string]bool{},
		}
		d := gossipDelegate{g}
		d.NotifyMsg(message)
		if want := len(message) > 0 && message[0] == forReceive; want != (received == 1) {
			t.Errorf("%q was handed on %d times", message, received)
		}
		if len(g.bye) > 0 && (len(g.bye) != 1 || !g.bye["n-1"]) {
			t.Errorf("good-byes %v of nodes that nobody has seen", g.bye)
		}
		d.NotifyJoin(&memberlist.Node{Name: name, Meta: about})
		if g.Status(name) != statusAlive || len(g.bye) > 0 && name == "n-1" {
			t.Errorf("%q joined: %s, good-byes %v", name, g.Status(name), g.bye)
		}
		d.NotifyLeave(&memberlist.Node{Name: name, Meta: about})
		if got := g.Status(name); got != statusLost {
			t.Errorf("%q left without a word: %s", name, got)
		}
	})
}

// FuzzHandshake: bytes of a stranger on Raft's port never become a connection of Raft.
func FuzzHandshake(f *testing.F) {
	p := newPeer(f, must[identity.Spec](f)(identity.NewCluster(settings(f, "node-1"), time.Now())))
	s := must[*tlsStream](f)(listenTLS(netip.AddrPortFrom(loopback, 0), p.cfg.Server, p.cfg.Logger))
	s.serve(anybody{})
	f.Cleanup(func() { _ = s.Close() })
	f.Add([]byte{})
	f.Add([]byte("GET / HTTP/1.0\r\n\r\n"))
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 3})            // a handshake record with a cut ClientHello
	f.Add([]byte{22, 3, 1, 255, 255})                       // a record that is longer than allowed
	f.Add([]byte{21, 3, 3, 0, 2, 2, 40})                    // an alert
	f.Add([]byte{23, 3, 3, 0, 1, 0, 20, 3, 3, 0, 1, 1})     // data before the handshake
	f.Add([]byte{128, 46, 1, 0, 2, 0, 21, 0, 0, 0, 16, 35}) // SSL 2
	f.Fuzz(func(t *testing.T, bytes []byte) {
		conn, err := net.DialTimeout("tcp", s.Addr().String(), patience)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = conn.Write(bytes) // it may have been closed by then
		_ = conn.(*net.TCPConn).CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		buffer := make([]byte, 4096)
		for err == nil {
			_, err = conn.Read(buffer) // an alert, perhaps, then the end
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: still open after %s", bytes, patience)
		}
		select {
		case <-s.ready:
			t.Errorf("%q: let in", bytes)
		default:
		}
	})
}
