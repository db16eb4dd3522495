package netdev

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// at runs f in the peer's namespace.
func (l *lab) atPeer(f func()) {
	l.Helper()
	l.must(netns.Set(l.peer))
	defer func() { l.must(netns.Set(l.host)) }()
	f()
}

// ask opens a connection from the peer within wait, says something, and returns what comes back.
func (l *lab) ask(address, text string, wait time.Duration) (answer string, err error) {
	l.Helper()
	l.atPeer(func() {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", address, wait); err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, text)
		var b []byte
		b, err = io.ReadAll(c)
		answer = string(b)
	})
	return answer, err
}

func free() error { return nil }

func TestResponder(t *testing.T) {
	l, index := newWire(t)
	r := NewResponders()
	guarded := 0
	guard := func() error { guarded++; return nil }
	l.must(r.Listen(Responder{Port: 61000, Index: index}, guard))
	l.must(r.Listen(Responder{Port: 61001, Index: index, Path: "/up"}, guard))
	l.must(r.Listen(Responder{Port: 61000, Index: index}, guard)) // is there
	if guarded != 3 || len(r.List()) != 2 {
		t.Fatalf("guarded %d times, %v", guarded, r.List())
	}
	for _, c := range []struct{ address, say, want string }{
		{"192.0.2.1:61000", "", ""},
		{"[2001:db8::1]:61000", "", ""},
		{"192.0.2.1:61001", "GET /up HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK"},
		{"192.0.2.1:61001", "HEAD /up HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK"},
		{"192.0.2.1:61001", "GET /down HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404"},
		{"192.0.2.1:61001", "POST /up HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405"},
	} {
		var got string
		var err error
		for range 3 {
			began := time.Now()
			if got, err = l.ask(c.address, c.say, patience); err == nil || time.Since(began) < probeTime {
				break
			} // a machine that stands still so long that the responder gives up
		}
		if err != nil || !strings.HasPrefix(got, c.want) || (c.want == "") != (got == "") {
			t.Errorf("%s %q: %q, %v, want %q", c.address, c.say, got, err, c.want)
		}
	}
	for _, garbage := range []string{"\x16\x03\x01 no HTTP\r\n\r\n", "GET /up HTTP/1.1\r\nX: " + strings.Repeat("x", 2*probeBytes) + "\r\n\r\n"} {
		if got, _ := l.ask("192.0.2.1:61001", garbage, patience); strings.Contains(got, "200") {
			t.Errorf("garbage is answered: %q", got)
		}
	}
	r.Close(61000)
	r.Close(61000)
	if _, err := l.ask("192.0.2.1:61000", "", patience); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed: %v, want refused", err)
	}
	r.Close(61001)
}

// TestResponderEndsConnections: what is open when a responder ends is over, and the port is free.
func TestResponderEndsConnections(t *testing.T) {
	l, index := newWire(t)
	r := NewResponders()
	l.must(r.Listen(Responder{Port: 61001, Index: index, Path: "/"}, free))
	var c net.Conn
	l.atPeer(func() {
		var err error
		c, err = net.DialTimeout("tcp", "192.0.2.1:61001", patience)
		l.must(err)
	})
	defer c.Close()
	r.Close(61001)
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, unix.ETIMEDOUT) {
		t.Errorf("the connection goes on: %v", err)
	}
	l.must(r.Listen(Responder{Port: 61001, Index: index}, free))
	r.Close(61001)
}

func TestResponderRefusals(t *testing.T) {
	l, index := newWire(t)
	other, err := net.Listen("tcp", ":61000")
	l.must(err)
	defer other.Close()
	r := NewResponders()
	called := false
	if err := r.Listen(Responder{Port: 61000, Index: index}, func() error { called = true; return nil }); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a port in use: %v", err)
	}
	if called {
		t.Error("the port of another program was guarded")
	}
	unguarded := fmt.Errorf("no fence")
	if err := r.Listen(Responder{Port: 61001, Index: index}, func() error { return unguarded }); !errors.Is(err, unguarded) {
		t.Errorf("unguarded: %v", err)
	}
	if got, err := l.ask("192.0.2.1:61001", "", time.Second); err == nil {
		t.Errorf("an unguarded port answers %q", got)
	}
	if len(r.List()) != 0 {
		t.Errorf("refused, and listed: %v", r.List())
	}
	// Another device does not reach it.
	l.must(r.Listen(Responder{Port: 61002, Index: 1}, free))
	if got, err := l.ask("192.0.2.1:61002", "", time.Second); err == nil {
		t.Errorf("asked by another device it answers %q", got)
	}
	r.Close(61002)
}

// FuzzProbe: whatever a stranger sends, the answer is one response of HTTP, and 200 is for GET and HEAD of the path alone.
func FuzzProbe(f *testing.F) {
	for _, s := range []string{"GET /up HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD /up HTTP/1.0\r\n\r\n", "POST /up HTTP/1.1\r\n\r\n", "GET http://x/up HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01", "GET /up"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		text, err := replyTo(bytes.NewReader(sent), "/up")
		if err != nil {
			return
		}
		response, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), nil)
		if err != nil {
			t.Fatalf("%q is answered with %q: %v", sent, text, err)
		}
		defer response.Body.Close()
		if response.StatusCode == http.StatusOK && !bytes.HasPrefix(bytes.TrimLeft(sent, "\r\n"), []byte("GET ")) && !bytes.HasPrefix(bytes.TrimLeft(sent, "\r\n"), []byte("HEAD ")) {
			t.Errorf("%q is answered with %q", sent, text)
		}
	})
}
