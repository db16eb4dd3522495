package membership

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

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
	gossipReceive    = 1 << 20   // bytes that the kernel may keep for us
)

var (
	errStreamLong   = errors.New("membership: a gossip connection of too many bytes")
	errNoMember     = errors.New("a datagram from an address where no member is")
	errPacketLength = errors.New("a datagram that is empty, or longer than any of ours")
)

// boundedGossip is a transport of memberlist with limits for those who have not proved that they
// have the cluster's key: memberlist's own takes 64 KB of memory for each datagram and up to 20 MB
// of each connection, of which it accepts as many as come. Datagrams are taken from members'
// addresses alone, and few connections from others; while the log here names no member, from everybody.
type boundedGossip struct {
	local   netip.AddrPort
	udp     *net.UDPConn
	tcp     *net.TCPListener
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
	from *fsm.State // what addr was made of
	addr map[netip.Addr]bool
}

var _ memberlist.NodeAwareTransport = (*boundedGossip)(nil)

func newBoundedGossip(cfg GossipConfig) (*boundedGossip, error) {
	t := &boundedGossip{
		local: cfg.Listen, members: cfg.Members, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{}),
		refused: &refusals{log: cfg.Logger, pause: refusalPause, what: "gossip"}, open: map[netip.Addr]int{},
	}
	var err error
	if t.tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(cfg.Listen)); err != nil {
		return nil, err
	}
	if t.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(cfg.Listen)); err != nil {
		return nil, errors.Join(err, t.tcp.Close())
	}
	_ = t.udp.SetReadBuffer(gossipReceive) // the kernel's own limit may be lower; then that counts
	t.ended.Go(t.readPackets)
	t.ended.Go(t.accept)
	return t, nil
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *boundedGossip) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.local.Addr().AsSlice(), int(t.local.Port()), nil
}

// PacketCh implements memberlist.Transport.
func (t *boundedGossip) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *boundedGossip) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo implements memberlist.Transport.
func (t *boundedGossip) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	_, err = t.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *boundedGossip) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// DialTimeout implements memberlist.Transport: from the address by which others know this node.
func (t *boundedGossip) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, LocalAddr: &net.TCPAddr{IP: t.local.Addr().AsSlice()}, Control: portAtConnect}
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
		close(t.done)
		err = errors.Join(t.tcp.Close(), t.udp.Close())
		t.ended.Wait()
		t.refused.stop()
	})
	return err
}

// readPackets hands on the datagrams that are let in, until Shutdown. What is not, costs no memory.
func (t *boundedGossip) readPackets() {
	var buf [packetBytes + 1]byte
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf[:])
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // such as an ICMP error of an earlier datagram
			continue
		case n == 0 || n > packetBytes:
			t.refused.noteFrom(from, errPacketLength)
			continue
		case !t.knows(from.Addr().Unmap()):
			t.refused.noteFrom(from, errNoMember)
			continue
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: time.Now()}
		select {
		case t.packets <- p:
		case <-t.done:
			return
		}
	}
}

// accept hands on the connections that are let in, until Shutdown.
func (t *boundedGossip) accept() {
	for {
		conn, err := t.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no file descriptor is left
			select {
			case <-time.After(acceptPause):
			case <-t.done:
				return
			}
			continue
		}
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
