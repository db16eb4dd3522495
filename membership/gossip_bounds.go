package membership

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sys/unix"

	"havip-cluster/fsm"
)

const (
	streamsMax       = 32        // gossip connections at one time
	streamsPerSource = 4         // of one source address
	strangersMax     = 4         // of all sources where no member is: a host with several addresses may use another one
	streamBytes      = 256 << 10 // of one connection: what 128 nodes tell of themselves has less than a third
	packetBytes      = 2048      // of a datagram: ours fit into an Ethernet frame

	gossipLinePause = time.Minute // between two lines of memberlist for the same cause
	gossipCauses    = 64          // causes that are told apart
)

var errStreamLong = errors.New("membership: a gossip connection of too many bytes")

// boundedGossip is memberlist's own transport with limits for those who have not proved that they
// have the cluster's key: memberlist buffers up to 20 MB of each connection, and takes as many as
// there are. Datagrams are taken from members' addresses alone, and few connections from others;
// while the log here names no member, from everybody.
type boundedGossip struct {
	*memberlist.NetTransport
	local   netip.Addr
	members func() *fsm.State
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	refused *refusals
	ended   sync.WaitGroup
	closing sync.Once

	mu   sync.Mutex
	open map[netip.Addr]int // connections by source; those of strangers together under the zero address
	all  int
	from *fsm.State // what addresses was made of
	addr map[netip.Addr]bool
}

func newBoundedGossip(cfg GossipConfig, logger *log.Logger) (*boundedGossip, error) {
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{cfg.Listen.Addr().String()}, BindPort: int(cfg.Listen.Port()), Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	t := &boundedGossip{
		NetTransport: inner, local: cfg.Listen.Addr(), members: cfg.Members, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{}),
		refused: &refusals{log: cfg.Logger, pause: refusalPause, what: "gossip"}, open: map[netip.Addr]int{},
	}
	t.ended.Go(t.pass)
	return t, nil
}

// PacketCh implements memberlist.Transport.
func (t *boundedGossip) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *boundedGossip) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout implements memberlist.Transport: from the address by which others know this node.
func (t *boundedGossip) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, LocalAddr: &net.TCPAddr{IP: t.local.AsSlice()}, Control: portAtConnect}
	return d.Dial("tcp", addr)
}

// portAtConnect lets the kernel choose the port when the connection is made, as it does without
// an address (IP_BIND_ADDRESS_NO_PORT, ip(7)): chosen before, it would be taken from those who listen.
func portAtConnect(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) // without it the port is chosen earlier
	})
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *boundedGossip) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// Shutdown implements memberlist.Transport.
func (t *boundedGossip) Shutdown() (err error) {
	t.closing.Do(func() {
		err = t.NetTransport.Shutdown() // it needs somebody to take what it has
		close(t.done)
		t.ended.Wait()
		t.refused.stop()
	})
	return err
}

// pass hands on what is let in, until Shutdown.
func (t *boundedGossip) pass() {
	for {
		select {
		case <-t.done:
			return
		case p := <-t.NetTransport.PacketCh():
			if !t.knows(sourceOfPacket(p)) || len(p.Buf) > packetBytes {
				t.refused.note(p.From.String(), errors.New("a datagram of no member"))
				continue
			}
			select {
			case t.packets <- p:
			case <-t.done:
				return
			}
		case conn := <-t.NetTransport.StreamCh():
			bound, err := t.admit(conn)
			if err != nil {
				t.refused.note(conn.RemoteAddr().String(), err)
				_ = conn.Close()
				continue
			}
			select {
			case t.streams <- bound:
			case <-t.done:
				_ = bound.Close()
				return
			}
		}
	}
}

func sourceOfPacket(p *memberlist.Packet) netip.Addr {
	if a, ok := p.From.(*net.UDPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// knows reports whether a member has an address, or the log here names none.
func (t *boundedGossip) knows(source netip.Addr) bool {
	if t.members == nil {
		return true
	}
	s := t.members()
	t.mu.Lock()
	defer t.mu.Unlock()
	if s != t.from {
		t.from, t.addr = s, map[netip.Addr]bool{}
		for _, n := range s.Nodes {
			if a, err := netip.ParseAddr(n.Address); err == nil {
				t.addr[a] = true
			}
		}
	}
	return len(t.addr) == 0 || t.addr[source]
}

// admit takes a connection in, with its limit of bytes.
func (t *boundedGossip) admit(conn net.Conn) (net.Conn, error) {
	source, most := sourceOf(conn), streamsPerSource
	if !t.knows(source) {
		source, most = netip.Addr{}, strangersMax
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all >= streamsMax || t.open[source] >= most {
		return nil, fmt.Errorf("there are %d connections, %d of that source, or of those that are no members; at most %d and %d", t.all, t.open[source], streamsMax, most)
	}
	t.all++
	t.open[source]++
	return &boundedConn{Conn: conn, left: streamBytes, release: sync.OnceFunc(func() { t.release(source) })}, nil
}

func (t *boundedGossip) release(source netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all--
	if t.open[source]--; t.open[source] == 0 {
		delete(t.open, source)
	}
}

// boundedConn gives errStreamLong after so many bytes.
type boundedConn struct {
	net.Conn
	left    int
	release func()
}

func (c *boundedConn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errStreamLong
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

func (c *boundedConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// slogWriter takes memberlist's log lines, "2006/01/02 15:04:05 [WARN] memberlist: text". Of
// those with the same cause it lets one through in a minute, with a count of the others: anybody
// can cause them.
type slogWriter struct {
	l *slog.Logger

	mu     sync.Mutex
	causes map[string]*lineCount
	now    func() time.Time
}

type lineCount struct {
	at   time.Time
	more int
}

func newSlogWriter(l *slog.Logger) *slogWriter {
	return &slogWriter{l: l, causes: map[string]*lineCount{}, now: time.Now}
}

// Write implements io.Writer.
func (w *slogWriter) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	level := slog.LevelDebug
	if i := strings.Index(line, "["); i >= 0 {
		line = line[i:]
	}
	if strings.HasPrefix(line, "[ERR") {
		level = slog.LevelInfo // its errors are peers that do not answer
	}
	if !w.l.Enabled(context.Background(), level) {
		return len(p), nil
	}
	if more, fresh := w.fresh(causeOf(line)); fresh {
		if more > 0 {
			line = fmt.Sprintf("%s (and %d more lines like it since the last one)", line, more)
		}
		w.l.Log(context.Background(), level, line)
	}
	return len(p), nil
}

// causeOf is a line without what differs from time to time: numbers, ids and addresses.
func causeOf(line string) string {
	i := strings.IndexFunc(line, func(r rune) bool { return unicode.IsDigit(r) || r == '=' })
	if i < 0 {
		i = len(line)
	}
	return line[:min(i, 80)]
}

// fresh reports whether a line of a cause may be written now, and how many were not since the last.
func (w *slogWriter) fresh(cause string) (more int, fresh bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	c := w.causes[cause]
	if c == nil {
		if len(w.causes) >= gossipCauses {
			cause = "" // the rest are one cause together
			c = w.causes[cause]
		}
		if c == nil {
			c = &lineCount{}
			w.causes[cause] = c
		}
	}
	if !c.at.IsZero() && now.Sub(c.at) < gossipLinePause {
		c.more++
		return 0, false
	}
	more, c.at, c.more = c.more, now, 0
	return more, true
}
