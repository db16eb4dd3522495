package membership

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	handshakeTimeout  = 5 * time.Second
	handshakesPending = 64 // at once; further connections wait in the kernel's backlog
)

// tlsStream is Raft's stream layer over mutual TLS. The handshake is done before Raft
// sees the connection, so that one that is refused is logged with its reason.
type tlsStream struct {
	listener net.Listener
	client   *tls.Config
	log      *slog.Logger

	ready chan net.Conn
	done  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
}

// listenTLS listens on addr. It accepts only what server demands.
func listenTLS(addr netip.AddrPort, server, client *tls.Config, log *slog.Logger) (*tlsStream, error) {
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("membership: listen for raft: %w; is another agent running, or is %s no address of this host?", err, addr.Addr())
	}
	s := &tlsStream{listener: l, client: client, log: log, ready: make(chan net.Conn), done: make(chan struct{})}
	s.wg.Go(func() { s.acceptLoop(server) })
	return s, nil
}

func (s *tlsStream) acceptLoop(server *tls.Config) {
	slots := make(chan struct{}, handshakesPending)
	for {
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Warn("raft: accept", "err", err)
			time.Sleep(10 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		slots <- struct{}{}
		s.wg.Go(func() {
			defer func() { <-slots }()
			s.handshake(tls.Server(conn, server))
		})
	}
}

func (s *tlsStream) handshake(conn *tls.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		s.log.Warn("raft: connection refused", "from", conn.RemoteAddr().String(), "reason", err)
		_ = conn.Close()
		return
	}
	select {
	case s.ready <- conn:
	case <-s.done:
		_ = conn.Close()
	case <-ctx.Done():
		_ = conn.Close()
	}
}

// Accept implements net.Listener.
func (s *tlsStream) Accept() (net.Conn, error) {
	select {
	case c := <-s.ready:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It returns when every handshake has ended.
func (s *tlsStream) Close() error {
	var err error
	s.once.Do(func() {
		err = s.listener.Close()
		close(s.done)
		s.wg.Wait()
	})
	return err
}

// Addr implements net.Listener.
func (s *tlsStream) Addr() net.Addr { return s.listener.Addr() }

// Dial implements raft.StreamLayer.
func (s *tlsStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	d := &net.Dialer{Timeout: timeout}
	return tls.DialWithDialer(d, "tcp", string(address), s.client)
}
