package membership

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/membership/identity"
)

const (
	handshakeTimeout = 3 * time.Second
	acceptPause      = 10 * time.Millisecond
)

// What a connection is for, by ALPN (RFC 7301). Versions before these names send none, and
// mean Raft.
const (
	protoRaft    = "havip-raft/1"
	protoServers = "havip-servers/1" // the answer is the servers of the latest configuration
)

// errLostPlace is the reason for closing a connection whose place another one got.
var errLostPlace = errors.New("it had not proved who it is when another connection needed its place")

// admission decides about a node that has proved who it is.
type admission interface {
	admit(ctx context.Context, node string) (raft.Server, error)
	sourceOfMember(netip.Addr) bool
	// answer serves a connection that asks for the servers.
	answer(conn net.Conn, node string) error
}

// tlsStream takes in Raft's connections over mutual TLS. What Accept returns has proved which
// node it is, and that node may speak Raft.
type tlsStream struct {
	listener  net.Listener
	server    *tls.Config
	admission admission
	refused   *refusals
	waiting   waiting
	// ended decides about a certificate that has run out and is within its grace.
	ended func(node string, cs tls.ConnectionState) error

	ready  chan *accepted
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	once   sync.Once
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]string // raw ones that are open here, with the node once it is known; nil once Close has begun
}

// listenTLS listens on addr. It takes in nothing before serve.
func listenTLS(addr netip.AddrPort, server *tls.Config, log *slog.Logger) (*tlsStream, error) {
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("membership: listen for raft: %w; is another agent running, or is %s no address of this host?", err, addr.Addr())
	}
	server = server.Clone()
	server.NextProtos = []string{protoRaft, protoServers}
	s := &tlsStream{
		listener: l, server: server, ready: make(chan *accepted), conns: map[net.Conn]string{},
		refused: &refusals{log: log, pause: refusalPause},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// serve begins to take connections in. It may be called once.
func (s *tlsStream) serve(admission admission) {
	s.admission, s.waiting.member = admission, admission.sourceOfMember
	s.wg.Go(s.acceptLoop)
}

func (s *tlsStream) acceptLoop() {
	for {
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.refused.note("", fmt.Errorf("accept: %w", err))
			time.Sleep(acceptPause) // out of descriptors, most likely
			continue
		}
		if !s.enter(conn, "") {
			_ = conn.Close()
			return
		}
		if loser := s.waiting.enter(conn); loser != nil {
			s.drop(loser, errLostPlace)
			if loser == conn {
				continue
			}
		}
		s.wg.Go(func() { s.handshake(conn) })
	}
}

// enter notes a connection as open, and whose it is; false once Close has begun.
func (s *tlsStream) enter(raw net.Conn, node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	s.conns[raw] = node
	return true
}

func (s *tlsStream) leave(raw net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, raw)
}

// drop closes a connection without a word, and counts why.
func (s *tlsStream) drop(raw net.Conn, why error) {
	if s.ctx.Err() == nil { // Close blames nobody
		s.refused.note(raw.RemoteAddr().String(), why)
	}
	s.leave(raw)
	_ = raw.Close()
}

// cut ends what comes in from nodes that may not speak any more. An answer that is under way
// is still sent; it belongs to a request of the time when they might.
func (s *tlsStream) cut(may func(node string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for raw, node := range s.conns {
		if node != "" && !may(node) {
			_ = raw.SetReadDeadline(time.Unix(1, 0)) // nobody sets another one
		}
	}
}

// accepted is a connection of a node that may speak Raft. Raft does not close those when it
// ends, so the stream does.
type accepted struct {
	*tls.Conn
	node string
	s    *tlsStream
}

// Close implements net.Conn.
func (c *accepted) Close() error {
	c.s.leave(c.NetConn())
	return c.Conn.Close()
}

// handshake finds out who is there, and what for.
func (s *tlsStream) handshake(raw net.Conn) {
	ctx, cancel := context.WithTimeout(s.ctx, handshakeTimeout)
	defer cancel()
	conn := tls.Server(raw, s.server)
	err := conn.HandshakeContext(ctx)
	if !s.waiting.leave(raw) {
		return // it lost its place, and is closed and counted
	}
	if errors.Is(err, io.EOF) && s.admission.sourceOfMember(sourceOf(raw)) { // it looked whether this port is reached
		s.leave(raw)
		_ = raw.Close()
		return
	}
	if err != nil {
		s.drop(raw, err)
		return
	}
	state := conn.ConnectionState()
	node, err := identity.PeerNodeID(state)
	if err == nil && s.ended != nil {
		err = s.ended(node, state)
	}
	if err == nil && state.NegotiatedProtocol == protoServers {
		if err = s.admission.answer(conn, node); err == nil {
			s.leave(raw)
			_ = conn.Close()
			return
		}
	} else if err == nil {
		_, err = s.admission.admit(ctx, node)
	}
	if err != nil {
		s.drop(raw, err)
		return
	}
	if !s.enter(raw, node) {
		return // Close has closed it
	}
	c := &accepted{conn, node, s}
	select {
	case s.ready <- c:
	case <-ctx.Done():
		_ = c.Close()
	}
}

// Accept returns the next connection, or net.ErrClosed after Close.
func (s *tlsStream) Accept() (*accepted, error) {
	select {
	case c := <-s.ready:
		return c, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close ends every connection that came in, and returns when no handshake is left.
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
		s.refused.stop()
	})
	return err
}

// Addr is where it listens.
func (s *tlsStream) Addr() net.Addr { return s.listener.Addr() }
