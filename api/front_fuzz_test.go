package api

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// strangers is a listener whose connections come from a host without a certificate. They are
// sockets that need no port, so that there can be many a second.
type strangers struct {
	conns chan net.Conn
	done  chan struct{}
}

func (s strangers) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}
func (s strangers) Close() error   { return nil }
func (s strangers) Addr() net.Addr { return &net.TCPAddr{} }

// fromAfar is a connection that says that it comes from another host.
type fromAfar struct{ net.Conn }

func (fromAfar) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

// connect makes a connection of a stranger.
func (s strangers) connect(t *testing.T) *net.UnixConn {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	var ends [2]net.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		ends[i], err = net.FileConn(file)
		must(t, err)
		must(t, file.Close())
	}
	s.conns <- fromAfar{ends[0]}
	return ends[1].(*net.UnixConn)
}

// FuzzFront: whatever bytes a host without a certificate sends once TLS stands, as HTTP/1 or HTTP/2,
// it gets nothing but the routes that are open to anybody, never an internal error, and nothing panics.
func FuzzFront(f *testing.F) {
	id := newIdentity(f, "node-1", 7400, nil)
	log := &fakeLog{state: fsm.New(), leader: id.NodeID}
	s := New(Config{Backend: &fakeNode{t: f, log: log, id: id}, Identity: id})
	var mu sync.Mutex
	var bad []string
	blame := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		bad = append(bad, text)
	}
	handler := s.Handler()
	judged := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				blame(r.Method + " " + r.RequestURI + " panicked")
			}
		}()
		r.TLS = &tls.ConnectionState{} // without a certificate
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		handler.ServeHTTP(sw, r)
		open := rules[s.pattern(r)].need == needNothing && r.URL.Path != "/v1/join"
		if sw.status < 400 && !open && sw.status != http.StatusMovedPermanently && sw.status != http.StatusTemporaryRedirect ||
			sw.status >= 500 && sw.status != http.StatusServiceUnavailable {
			blame(r.Method + " " + r.RequestURI + " " + http.StatusText(sw.status))
		}
	})
	l := strangers{make(chan net.Conn), make(chan struct{})}
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true) // after TLS it is the same
	srv := s.httpServer()
	srv.Handler, srv.Protocols, srv.ErrorLog = judged, both, slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	f.Cleanup(func() {
		close(l.done)
		_ = srv.Close()
		<-served
	})
	token := identity.AccessToken{ID: "a-0001020304050607"}.Text()
	for _, text := range []string{
		"", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /healthz HTTP/1.0\r\n\r\n", "GET //v1/../healthz HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /v1/havips HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + token + "\r\n\r\n",
		"GET /v1/events?follow=true HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n",
		"POST /v1/join HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n{\"token\":\"havip1.AAAA\",\"name\":\"n\"}",
		"POST /v1/apply HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nHavip-Hops: 1\r\nHavip-Caller: root\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"POST /v1/internal/commands HTTP/1.1\r\nHost: a\r\nHavip-Caller: node:n-1\r\nHavip-Hops: 1\r\nContent-Length: 2\r\n\r\n{}",
		"DELETE /v1/havips/%2e%2e%2f HTTP/1.1\r\nHost: a\r\nIdempotency-Key: x\r\n\r\n", "PATCH /v1/nodes/n HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x05\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x00",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, limiter := range []*joinLimiter{&s.joins, &s.logins} { // they have tests of their own
			limiter.forget()
		}
		conn := l.connect(t)
		defer conn.Close()
		must(t, conn.SetDeadline(time.Now().Add(headerTimeout*9/10)))
		_, _ = conn.Write(b) // it may be closed before the end
		_ = conn.CloseWrite()
		answer, err := io.ReadAll(conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: the connection is open still", b)
		}
		if text := string(answer); strings.Contains(text, token) || bytes.Contains(answer, []byte("goroutine ")) {
			t.Errorf("%q is answered with %q", b, text)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, what := range bad {
			t.Errorf("%q: %s", b, what)
		}
		bad = nil
	})
}
