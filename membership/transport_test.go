package membership

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/membership/identity"
)

// listening is a stream layer with the certificate of a founder.
func listening(t *testing.T) (*tlsStream, *peer) {
	t.Helper()
	p := newPeer(t, must[identity.Spec](t)(identity.NewCluster(settings(t, "node-1"), time.Now())))
	s := must[*tlsStream](t)(listenTLS(netip.AddrPortFrom(loopback, 0), p.cfg.Server, p.cfg.Logger))
	s.serve(anybody{})
	return s, p
}

// anybody lets every node of the cluster in.
type anybody struct{}

func (anybody) admit(_ context.Context, node string) (raft.Server, error) {
	return raft.Server{ID: raft.ServerID(node)}, nil
}
func (anybody) sourceOfMember(netip.Addr) bool { return false }
func (anybody) answer(net.Conn, string) error  { return ErrNoSpeaker }

// call makes a connection to a stream as a member does.
func (p *peer) call(s *tlsStream) *tls.Conn {
	p.t.Helper()
	conf := p.id.ClientTLS()
	conf.NextProtos = []string{protoRaft}
	return must[*tls.Conn](p.t)(tls.Dial("tcp", s.Addr().String(), conf))
}

func TestStreamCarriesBytesBetweenNodes(t *testing.T) {
	defer leavesNothing(t)()
	s, p := listening(t)
	defer s.Close()
	out := p.call(s)
	defer out.Close()
	in := must[*accepted](t)(s.Accept())
	must[int](t)(out.Write([]byte("hello")))
	got := make([]byte, 5)
	must[int](t)(io.ReadFull(in, got))
	if string(got) != "hello" {
		t.Errorf("got %q", got)
	}
	check(t, in.Close())
	if len(s.conns) != 0 {
		t.Error("a closed connection is still counted")
	}
}

func TestStreamRefusesStrangers(t *testing.T) {
	s, p := listening(t)
	defer s.Close()
	_, other := listening(t)
	t.Run("another cluster's certificate", func(t *testing.T) {
		// Its own side would refuse ours first; a stranger with bad intent would not.
		bold := &tls.Config{InsecureSkipVerify: true, GetClientCertificate: other.id.ClientTLS().GetClientCertificate}
		conn := must[*tls.Conn](t)(tls.Dial("tcp", s.Addr().String(), bold))
		defer conn.Close()
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Fatal("it was let in")
		}
		eventually(t, "the reason is logged", func() bool {
			return p.log.says("connection refused") && p.log.says("certificate of cluster "+other.id.ClusterID)
		})
	})
	t.Run("no certificate", func(t *testing.T) {
		conn := must[*tls.Conn](t)(tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true}))
		defer conn.Close()
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Fatal("it was let in")
		}
	})
	t.Run("garbage", func(t *testing.T) {
		conn := must[net.Conn](t)(net.Dial("tcp", s.Addr().String()))
		defer conn.Close()
		must[int](t)(conn.Write([]byte("GET / HTTP/1.1\r\nHost: raft\r\n\r\n")))
		eventually(t, "it is refused", func() bool { return s.refused.count() == 3 })
		if p.log.says("does not look like a TLS handshake") {
			t.Error("each refusal has a line of its own")
		}
	})
	if len(s.ready) != 0 {
		t.Error("Raft got one of them")
	}
}

// Connections that say nothing hold neither Close nor those that speak.
func TestStreamClosesInTheMiddleOfHandshakes(t *testing.T) {
	defer leavesNothing(t)()
	s, p := listening(t)
	for range waitingPerSource + 8 { // so that some have lost their places
		conn := must[net.Conn](t)(net.Dial("tcp", s.Addr().String()))
		defer conn.Close()
	}
	eventually(t, "all places are taken", func() bool { return s.refused.count() == 8 })
	before := s.refused.count()
	start := time.Now()
	check(t, s.Close())
	check(t, s.Close())
	if d := time.Since(start); d >= handshakeTimeout {
		t.Errorf("Close waited %v for the handshakes", d)
	}
	if _, err := s.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
	if s.refused.count() != before || p.log.says("context canceled") {
		t.Error("Close blames its peers")
	}
}

// Raft leaves the connections that came in open when it ends.
func TestStreamCloseEndsWhatCameIn(t *testing.T) {
	s, p := listening(t)
	out := p.call(s)
	defer out.Close()
	in := must[*accepted](t)(s.Accept())
	check(t, s.Close())
	if _, err := in.Read(make([]byte, 1)); err == nil {
		t.Error("it is still open")
	}
}
