package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// route decides who answers a request: a stream, this node, or the leader.
func (s *Server) route(next http.Handler) http.Handler {
	changes := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.change(w, r, next) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case follows(r):
			s.follow(w, r)
		case !s.goesOn(r):
			next.ServeHTTP(w, r)
		case r.URL.Path == "/v1/join":
			s.guardJoin(w, r, changes)
		default:
			changes.ServeHTTP(w, r)
		}
	})
}

// goesOn reports whether a request is for the leader. Internal ones carry the caller's identity,
// so nobody else can send them.
func (s *Server) goesOn(r *http.Request) bool {
	switch {
	case follows(r), strings.HasPrefix(r.URL.Path, "/v1/internal/"), r.URL.Path == "/v1/plan", r.URL.Path == "/v1/provider/test", isConsole(r):
		return false
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return forLeader(r.URL.Path) && r.URL.Query().Get("consistency") != "stale"
	}
	return true
}

// forLeader says which reads are of what the leader alone knows.
func forLeader(path string) bool {
	return path == "/v1/audit" || path == "/v1/provider" || path == "/v1/observed" || strings.HasPrefix(path, "/v1/observed/")
}

// change carries a change out at the leader: here when this node leads, else there. It
// waits for a leader for leaderWait, or as long as the caller waits, and a request travels at most once, so that two nodes
// that take each other for the leader do not play ball with it.
func (s *Server) change(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if s.Backend.IsLeader() {
		next.ServeHTTP(w, r)
		return
	}
	if r.Header.Get(headerHops) != "" {
		writeProblem(w, problem(http.StatusServiceUnavailable, CodeNotLeader, "this node does not lead, and the request was forwarded once already; nothing was done"))
		return
	}
	body, _ := r.Context().Value(bodyKey{}).([]byte)
	waited, began := errors.New("no leader is known"), time.Now()
	for time.Since(began) < leaderWait {
		if s.Backend.IsLeader() {
			next.ServeHTTP(w, r)
			return
		}
		if node, ok := s.Backend.Leader(); ok && node.ID != s.Backend.Self() {
			var again bool
			if again, waited = s.forward(w, r, node, body); !again {
				return
			}
		}
		if !poll(r.Context(), leaderPoll) {
			break
		}
	}
	writeProblem(w, problem(http.StatusServiceUnavailable, CodeNoLeader, "no leader took the change within %s: %v; repeat it", time.Since(began).Round(time.Millisecond), waited))
}

// forward sends a change to a node and copies the answer. again says that nothing was
// done there, so another attempt is safe, and why.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, to fsm.Node, body []byte) (again bool, why error) {
	url := "https://" + net.JoinHostPort(to.Address, strconv.Itoa(to.APIPort)) + r.URL.RequestURI()
	req, err := http.NewRequestWithContext(r.Context(), r.Method, url, bytes.NewReader(body))
	if err != nil {
		writeProblem(w, problemOf(err))
		return false, nil
	}
	for _, h := range []string{"Content-Type", "Accept", headerKey, headerProgram, headerLease} {
		if v := r.Header.Get(h); v != "" {
			req.Header.Set(h, v)
		}
	}
	req.Header.Set(headerHops, "1")
	setPatience(req)
	s.vouch(r, req.Header)
	seenOf(r.Context()).forwarded = true // it is on the leader's record
	// Before there is a connection, its handshake included, nothing was sent. The transport may look for another one.
	connected := false
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { connected = false },
		GotConn: func(httptrace.GotConnInfo) { connected = true },
	}))
	resp, err := s.leader.to(s.Identity, to).RoundTrip(req)
	if err != nil {
		if !connected {
			return true, err
		}
		writeProblem(w, problem(http.StatusBadGateway, CodeAnswerLost,
			"the answer of the leader, node %s, was lost (%v); the change may have been done: repeat it with the same %s", to.Name, err, headerKey))
		return false, nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, forwardBodyMax))
	if err != nil {
		writeProblem(w, problem(http.StatusBadGateway, CodeAnswerLost, "the answer of the leader, node %s, was cut off; repeat it with the same %s", to.Name, headerKey))
		return false, nil
	}
	if p := decodeProblem(resp.StatusCode, answer); p != nil && p.Code == CodeNotLeader {
		return true, p
	}
	s.forwarded.Inc()
	for _, h := range []string{"Content-Type", headerIndex, headerRevision, "Retry-After", "Allow"} {
		if v := resp.Header.Get(h); v != "" {
			w.Header().Set(h, v)
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer)
	return false, nil
}

// decodeProblem reads a problem, or returns nil when the status is none.
func decodeProblem(status int, body []byte) *Problem {
	if status < http.StatusBadRequest {
		return nil
	}
	p := &Problem{}
	if json.Unmarshal(body, p) != nil || p.Code == "" {
		return problem(status, CodeInternal, "HTTP status %d: %s", status, strings.TrimSpace(string(body[:min(len(body), valueMax)])))
	}
	p.Status = status
	return p
}

// leaderLink keeps the connections to the present leader.
type leaderLink struct {
	mu        sync.Mutex
	node      string
	transport *http.Transport
}

// to gives the transport to a node, which must show the certificate of that very node.
func (l *leaderLink) to(id *identity.Identity, node fsm.Node) *http.Transport {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.transport == nil || l.node != node.ID {
		if l.transport != nil {
			l.transport.CloseIdleConnections()
		}
		l.node, l.transport = node.ID, newTransport()
		l.transport.TLSClientConfig = id.ClientTLSTo(node.ID)
	}
	return l.transport
}

func (l *leaderLink) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.transport != nil {
		l.transport.CloseIdleConnections()
	}
}

const (
	dialTimeout  = 2 * time.Second
	idleConnsMax = 8
)

// newTransport makes an HTTP transport with our limits; whoever wants TLS sets it.
func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, addr)
		},
		TLSHandshakeTimeout: dialTimeout, MaxIdleConns: idleConnsMax, IdleConnTimeout: idleTimeout,
		MaxResponseHeaderBytes: headerMax, ForceAttemptHTTP2: false,
	}
}
