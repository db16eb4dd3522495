package netdev

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// probeTime is how long one connection of a probe may take.
	probeTime = 2 * time.Second
	// probeBytes is the most bytes of a request that are read.
	probeBytes = 8 << 10
	// probesOpen is how many connections one responder has at a time; the next ones wait in the
	// kernel's queue.
	probesOpen = 64
	// probeQueue is the length of that queue.
	probeQueue = 64
	// acceptPause is how long a responder rests when the host has no descriptor left.
	acceptPause = 100 * time.Millisecond
)

// Responder is a port at which a load balancer asks whether this host has a HAVIP.
type Responder struct {
	Port  uint16
	Path  string // that HTTP answers with 200, others with 404; "": TCP, a connection is the answer
	Index int    // of the device by which it is asked and answers
	HAVIP netip.Addr
}

// Responders are those of one process, in the network namespace of the thread that calls Listen. It
// knows no lease: who may answer is the fence's word, for every frame that leaves (fence.Fence.Tie).
// Methods may be called concurrently.
type Responders struct {
	mu     sync.Mutex
	byPort map[uint16]*responder
}

// NewResponders has none yet.
func NewResponders() *Responders { return &Responders{byPort: map[uint16]*responder{}} }

type responder struct {
	Responder
	listener net.Listener
	group    sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	ended bool
}

// Listen opens a responder, on all addresses of its device. guard is called when the port is this
// process's and before the kernel answers on it. One that is there already is only guarded again; one
// that differs is closed first. An error if another program has the port or no device has the index.
func (r *Responders) Listen(want Responder, guard func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.byPort[want.Port]; old != nil {
		if old.Responder == want {
			return guard()
		}
		old.close()
		delete(r.byPort, want.Port)
	}
	l, err := listenOn(want.Port, want.Index, guard)
	if err != nil {
		return fmt.Errorf("netdev: cannot answer probes at port %d: %w", want.Port, err)
	}
	s := &responder{Responder: want, listener: l, conns: map[net.Conn]bool{}}
	r.byPort[want.Port] = s
	s.group.Go(s.run)
	return nil
}

// Close ends the responder of a port with all its connections, if there is one.
func (r *Responders) Close(port uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.byPort[port]; s != nil {
		s.close()
		delete(r.byPort, port)
	}
}

// List returns those that listen, by port.
func (r *Responders) List() []Responder {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Responder
	for _, s := range r.byPort {
		out = append(out, s.Responder)
	}
	slices.SortFunc(out, func(a, b Responder) int { return int(a.Port) - int(b.Port) })
	return out
}

// listenOn is net.Listen with a step between bind and listen, for IPv6 and IPv4 where the host has both.
func listenOn(port uint16, index int, guard func() error) (net.Listener, error) {
	family, at := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(port)})
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		family, at = unix.AF_INET, &unix.SockaddrInet4{Port: int(port)}
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), "probe:"+strconv.Itoa(int(port)))
	defer file.Close() // the listener has a descriptor of its own
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	for _, step := range []func() error{
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) },
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, index) },
		func() error { return unix.Bind(fd, at) },
		guard,
		func() error { return unix.Listen(fd, probeQueue) },
	} {
		if err == nil {
			err = step()
		}
	}
	if err != nil {
		return nil, err
	}
	return net.FileListener(file)
}

// run accepts until close.
func (s *responder) run() {
	room := make(chan struct{}, probesOpen)
	for {
		room <- struct{}{}
		c, err := s.listener.Accept()
		if err != nil {
			if <-room; errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(acceptPause)
			continue
		}
		// Whatever ends it, the process's death too: nothing of the connection is left that the
		// kernel would repeat when this host may not answer any more.
		_ = c.(*net.TCPConn).SetLinger(0)
		if !s.keep(c) {
			_ = c.Close()
			return
		}
		s.group.Go(func() {
			s.answer(c.(*net.TCPConn))
			s.drop(c)
			<-room
		})
	}
}

func (s *responder) keep(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.conns[c] = true
	}
	return !s.ended
}

func (s *responder) drop(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	_ = c.Close()
}

// answer says what the probe wants to hear, and waits for the other side to end.
func (s *responder) answer(c *net.TCPConn) {
	_ = c.SetDeadline(time.Now().Add(probeTime))
	if s.Path != "" {
		text, err := replyTo(c, s.Path)
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
	}
	if c.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c, probeBytes)
	}
}

// replyTo reads one request, of which it takes probeBytes at most, and gives the answer.
func replyTo(r io.Reader, path string) (string, error) {
	request, err := http.ReadRequest(bufio.NewReader(io.LimitReader(r, probeBytes)))
	if err != nil {
		return "", err
	}
	return reply(request, path), nil
}

// reply is the answer to one request of HTTP/1.
func reply(r *http.Request, path string) string {
	status, body := "200 OK", "ok\n"
	switch {
	case r.URL.Path != path:
		status, body = "404 Not Found", "another path is asked for by this HAVIP's probe\n"
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		status, body = "405 Method Not Allowed", "a probe uses GET or HEAD\n"
	}
	head := fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", status, len(body))
	if r.Method == http.MethodHead {
		body = ""
	}
	return head + body
}

// close ends the listener and every connection, and waits for what used them.
func (s *responder) close() {
	s.mu.Lock()
	s.ended = true
	_ = s.listener.Close()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.group.Wait()
}
