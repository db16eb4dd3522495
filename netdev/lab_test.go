package netdev

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"havip-cluster/testbed/labtest"
)

// patience is how long a test waits for what must happen; a busy machine may need it, a quiet one never does.
const patience = 20 * time.Second

func TestMain(m *testing.M) { labtest.Main(m, "", nil) }

// lab is two hosts in anonymous network namespaces: "host", in which the test's goroutine runs, and "peer". The goroutine
// keeps its thread locked for good, so the thread ends with the test and the namespaces with it.
type lab struct {
	testing.TB
	host, peer   netns.NsHandle
	hostH, peerH *netlink.Handle
}

func newLab(t testing.TB) *lab {
	t.Helper()
	runtime.LockOSThread() // never unlocked
	l := &lab{TB: t}
	for _, ns := range []*netns.NsHandle{&l.peer, &l.host} {
		var err error
		if *ns, err = netns.New(); err != nil {
			t.Fatalf("new network namespace: %v (these tests need root, they do not skip)", err)
		}
		t.Cleanup(func() { ns.Close() })
	}
	l.hostH, l.peerH = l.handle(l.host), l.handle(l.peer)
	for _, h := range []*netlink.Handle{l.hostH, l.peerH} {
		lo, err := h.LinkByName("lo")
		l.must(err)
		l.must(h.LinkSetUp(lo))
	}
	return l
}

// newWire returns a lab whose hosts are joined by eth0 (192.0.2.1/24, 2001:db8::1/64) and p0 (.254, ::fe).
func newWire(t testing.TB) (l *lab, index int) {
	t.Helper()
	l = newLab(t)
	index = l.veth("eth0", "p0")
	l.addr(l.hostH, "eth0", "192.0.2.1/24", "2001:db8::1/64")
	l.addr(l.peerH, "p0", "192.0.2.254/24", "2001:db8::fe/64")
	return l, index
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *lab) handle(ns netns.NsHandle) *netlink.Handle {
	l.Helper()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	l.must(err)
	l.Cleanup(h.Close)
	return h
}

// veth joins the hosts by a pair of devices, both up, and returns the ifindex of the host's.
func (l *lab) veth(host, peer string) int {
	l.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = host
	l.must(l.hostH.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer, PeerNamespace: netlink.NsFd(l.peer)}))
	l.up(l.hostH, host, true)
	l.up(l.peerH, peer, true)
	l.eventually(host+" and "+peer+" can send", func() bool { // until the kernel's worker has seen the carrier, frames are lost
		return l.link(l.hostH, host).Attrs().OperState == netlink.OperUp && l.link(l.peerH, peer).Attrs().OperState == netlink.OperUp
	})
	return l.link(l.hostH, host).Attrs().Index
}

func (l *lab) link(h *netlink.Handle, name string) netlink.Link {
	l.Helper()
	link, err := h.LinkByName(name)
	l.must(err)
	return link
}

func (l *lab) up(h *netlink.Handle, name string, up bool) {
	l.Helper()
	set := h.LinkSetUp
	if !up {
		set = h.LinkSetDown
	}
	l.must(set(l.link(h, name)))
}

// addr adds addresses as a person would, IPv6 without waiting for duplicate address detection.
func (l *lab) addr(h *netlink.Handle, name string, cidrs ...string) {
	l.Helper()
	for _, c := range cidrs {
		a, err := netlink.ParseAddr(c)
		l.must(err)
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		l.must(h.AddrAdd(l.link(h, name), a))
	}
}

// addrs lists the addresses of a device as CIDRs, link-local ones left out.
func (l *lab) addrs(h *netlink.Handle, name string) (cidrs []string) {
	l.Helper()
	all, err := h.AddrList(l.link(h, name), netlink.FAMILY_ALL)
	l.must(err)
	for _, a := range all {
		if !a.IP.IsLinkLocalUnicast() {
			cidrs = append(cidrs, a.IPNet.String())
		}
	}
	return cidrs
}

// inPeer runs f in the peer's namespace, on this goroutine.
func (l *lab) inPeer(f func()) {
	l.Helper()
	l.must(netns.Set(l.peer))
	defer func() { l.must(netns.Set(l.host)) }()
	f()
}

// start runs f on a goroutine of its own in the host's namespace; the channel delivers its result.
func (l *lab) start(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		if err := netns.Set(l.host); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return done
}

func (l *lab) addresses() *Addresses {
	l.Helper()
	a, err := NewAddresses()
	l.must(err)
	l.Cleanup(a.Close)
	return a
}

func (l *lab) announcer(index int) *Announcer {
	l.Helper()
	a, err := NewAnnouncer(index)
	l.must(err)
	l.Cleanup(func() { a.Close() })
	return a
}

// eventually waits until ok.
func (l *lab) eventually(what string, ok func() bool) {
	l.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			l.Fatalf("did not happen within %v: %s", patience, what)
		}
	}
}

// within returns the next value, or fails.
func within[T any](l *lab, what string, c <-chan T) T {
	l.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		l.Fatalf("did not happen within %v: %s", patience, what)
		panic("unreachable")
	}
}

// capture opens a socket that hears everything on a peer device.
func (l *lab) capture(name string) *packet.Conn {
	l.Helper()
	var conn *packet.Conn
	l.inPeer(func() {
		var err error
		index := l.link(l.peerH, name).Attrs().Index
		conn, err = packet.Listen(&net.Interface{Index: index}, packet.Raw, unix.ETH_P_ALL, nil)
		l.must(err)
	})
	l.Cleanup(func() { conn.Close() })
	return conn
}

// next returns the next frame that want accepts.
func (l *lab) next(conn *packet.Conn, want func([]byte) bool) []byte {
	l.Helper()
	l.must(conn.SetReadDeadline(time.Now().Add(patience)))
	for buf := make([]byte, 2048); ; {
		n, _, err := conn.ReadFrom(buf)
		l.must(err)
		if want(buf[:n]) {
			return buf[:n]
		}
	}
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}
