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
	acceptPause       = 10 * time.Millisecond
)

// tlsStream is Raft's stream layer over mutual TLS. The handshake is done before Raft
// sees the connection, so that one that is refused is logged with its reason.
type tlsStream struct {
	listener net.Listener
	client   *tls.Config
	log      *slog.Logger

	ready  chan net.Conn
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	once   sync.Once
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // raw ones that are open here; nil once Close has begun
}

// listenTLS listens on addr. It accepts only what server demands.
func listenTLS(addr netip.AddrPort, server, client *tls.Config, log *slog.Logger) (*tlsStream, error) {
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("membership: listen for raft: %w; is another agent running, or is %s no address of this host?", err, addr.Addr())
	}
	s := &tlsStream{listener: l, client: client, log: log, ready: make(chan net.Conn), conns: map[net.Conn]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
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
			time.Sleep(acceptPause) // out of descriptors, most likely
			continue
		}
		if !s.enter(conn) {
			_ = conn.Close()
			return
		}
		select {
		case slots <- struct{}{}:
		case <-s.ctx.Done(): // Close closes conn
			return
		}
		s.wg.Go(func() {
			defer func() { <-slots }()
			s.handshake(tls.Server(conn, server))
		})
	}
}

// enter counts a connection as open; false once Close has begun.
func (s *tlsStream) enter(raw net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	s.conns[raw] = struct{}{}
	return true
}

func (s *tlsStream) leave(raw net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, raw)
}

// accepted is a connection that Raft reads. Raft does not close those when it ends, so
// the stream does.
type accepted struct {
	*tls.Conn
	s *tlsStream
}

// Close implements net.Conn.
func (c accepted) Close() error {
	c.s.leave(c.NetConn())
	return c.Conn.Close()
}

func (s *tlsStream) handshake(conn *tls.Conn) {
	c := accepted{conn, s}
	ctx, cancel := context.WithTimeout(s.ctx, handshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		if s.ctx.Err() == nil {
			s.log.Warn("raft: connection refused", "from", conn.RemoteAddr().String(), "reason", err)
		}
		_ = c.Close()
		return
	}
	select {
	case s.ready <- c:
	case <-ctx.Done():
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (s *tlsStream) Accept() (net.Conn, error) {
	select {
	case c := <-s.ready:
		return c, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It ends every connection that came in, and returns when
// no handshake is left.
func (s *tlsStream) Close() error {
	var err error
	s.once.Do(func() {
		err = s.listener.Close()
		s.cancel()
		s.mu.Lock()
		open := s.conns
		s.conns = nil
		s.mu.Unlock()
		for raw := range open {
			_ = raw.Close() // no good-bye: the peer may not read any more
		}
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
