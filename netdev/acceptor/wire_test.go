package acceptor

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"havip-cluster/testbed/labtest"
)

// hosts are two network namespaces: the voter's, in which the test runs, and the holder's.
type hosts struct {
	*testing.T
	voter, holder netns.NsHandle
	v, h          *netlink.Handle
}

func newHosts(t *testing.T) *hosts {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test, and the namespaces with it
	w := &hosts{T: t}
	for _, ns := range []*netns.NsHandle{&w.holder, &w.voter} {
		var err error
		*ns, err = netns.New()
		labtest.Must(t, err)
		t.Cleanup(func() { ns.Close() })
	}
	w.v, w.h = labtest.Try(t, func() (*netlink.Handle, error) { return netlink.NewHandleAt(w.voter) }), labtest.Try(t, func() (*netlink.Handle, error) { return netlink.NewHandleAt(w.holder) })
	t.Cleanup(func() { w.v.Close(); w.h.Close() })
	w.plug()
	return w
}

// plug joins the two by a cable.
func (w *hosts) plug() {
	w.Helper()
	labtest.Must(w.T, w.v.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(w.holder)}))
	for i, h := range []*netlink.Handle{w.h, w.v} {
		l := labtest.Try(w.T, func() (netlink.Link, error) { return h.LinkByName("eth0") })
		for _, a := range [][]string{{"192.0.2.1/24", "2001:db8::1/64"}, {"192.0.2.2/24", "2001:db8::2/64"}}[i] {
			addr := labtest.Try(w.T, func() (*netlink.Addr, error) { return netlink.ParseAddr(a) })
			addr.Flags |= 0x02 // IFA_F_NODAD: it is usable at once
			labtest.Must(w.T, h.AddrAdd(l, addr))
		}
		labtest.Must(w.T, h.LinkSetUp(l))
	}
}

// ask sends a renewal from the holder and returns the answer; nil: none came.
func (w *hosts) ask(d *Delegation, to netip.Addr, round uint64, wait time.Duration) []byte {
	w.Helper()
	labtest.Must(w.T, netns.Set(w.holder))
	defer func() { labtest.Must(w.T, netns.Set(w.voter)) }()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(d.Channel.Peer, 0)))
	labtest.Must(w.T, err)
	defer c.Close()
	_, err = c.WriteToUDPAddrPort(d.frame(round, int64(round)), netip.AddrPortFrom(to, port))
	labtest.Must(w.T, err)
	labtest.Must(w.T, c.SetReadDeadline(time.Now().Add(wait)))
	buf := make([]byte, 1500)
	n, from, err := c.ReadFromUDPAddrPort(buf)
	if err != nil {
		return nil
	}
	if from != netip.AddrPortFrom(to, port) {
		w.Errorf("an answer from %s", from)
	}
	return buf[:n]
}

// answered waits until a renewal is answered: the cable may need a moment, and its first frame asks for a neighbour.
func (w *hosts) answered(d *Delegation, to netip.Addr, round uint64) {
	w.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); round++ {
		a := w.ask(d, to, round, 100*time.Millisecond)
		if a == nil {
			continue
		}
		if len(a) != frameBytes || a[2] != 1 || a[8*7+1] != 2 || binary.BigEndian.Uint64(a[8*9:]) != round {
			w.Fatalf("answered with %x", a)
		}
		return
	}
	w.Fatal("no answer within 20 s")
}

// Renewals are answered on the wire though nobody listens, over IPv4 and IPv6; on a device that came anew once it
// was looked for again; and not after the end.
func TestOnTheWire(t *testing.T) {
	w := newHosts(t)
	b := newBed(t)
	peers := []netip.Addr{peer4, peer6, netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("127.0.0.1")}
	labtest.Must(t, b.Follow(peers))
	first := b.Devices()
	if len(first) != 1 {
		t.Fatalf("on devices %v", first)
	}
	four, six := delegation(), delegation()
	six.Session, six.Channel.Number, six.Channel.Peer = 8, 8, peer6
	b.grant(four)
	b.grant(six)
	w.answered(&four, netip.MustParseAddr("192.0.2.2"), 6000)
	w.answered(&six, netip.MustParseAddr("2001:db8::2"), 6000)

	l := labtest.Try(t, func() (netlink.Link, error) { return w.v.LinkByName("eth0") })
	labtest.Must(t, w.v.LinkDel(l))
	labtest.Must(t, b.Follow(peers))
	if on := b.Devices(); len(on) != 0 {
		t.Errorf("on devices %v that are gone", on)
	}
	w.plug()
	labtest.Must(t, b.Follow(peers))
	if on := b.Devices(); len(on) != 1 || slices.Equal(on, first) {
		t.Errorf("on devices %v, before %v", on, first)
	}
	w.answered(&four, netip.MustParseAddr("192.0.2.2"), 7000)

	b.Close()
	if a := w.ask(&four, netip.MustParseAddr("192.0.2.2"), 9000, 200*time.Millisecond); a != nil {
		t.Errorf("answered after the end: %x", a)
	}
	labtest.Must(t, b.Follow(peers))
	if on := b.Devices(); len(on) != 0 {
		t.Errorf("on devices %v after the end", on)
	}
}
