package netdev

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func (l *lab) has(a *Addresses, index int, ip netip.Addr) bool {
	l.Helper()
	ok, err := a.Has(index, ip)
	l.must(err)
	return ok
}

// kernelAddr returns what the kernel says of an address, nothing if it is absent.
func (l *lab) kernelAddr(a *Addresses, p string) addrMsg {
	l.Helper()
	all, err := a.list()
	l.must(err)
	i := slices.IndexFunc(all, func(m addrMsg) bool { return m.prefix == netip.MustParsePrefix(p) })
	if i < 0 {
		return addrMsg{}
	}
	return all[i]
}

func TestAddressLife(t *testing.T) {
	l, eth0 := newWire(t)
	a := l.addresses()
	for _, vip := range []netip.Addr{vip4, vip6} {
		if l.has(a, eth0, vip) {
			t.Fatal("there before Add")
		}
		began := time.Now()
		l.must(a.Add(eth0, vip, 59500*time.Millisecond))
		if !l.has(a, eth0, vip) {
			t.Fatal("absent after Add")
		}
		m := l.kernelAddr(a, netip.PrefixFrom(vip, vip.BitLen()).String())
		if m.proto != Protocol || m.valid > 60 || m.valid+uint32((time.Since(began)+10*time.Millisecond)/time.Second) < 60 || m.scope != unix.RT_SCOPE_UNIVERSE || m.flags&unix.IFA_F_NOPREFIXROUTE == 0 {
			t.Errorf("kernel has %+v", m)
		}
		if m.flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_SECONDARY) != 0 {
			t.Errorf("flags %#x", m.flags)
		}
		if vip.Is6() && (m.preferred != 0 || m.flags&unix.IFA_F_DEPRECATED == 0) {
			t.Errorf("IPv6 address would be chosen as source: %+v", m)
		}
		l.must(a.Add(eth0, vip, time.Hour))
		l.must(a.Add(eth0, vip, 0))
		if m := l.kernelAddr(a, netip.PrefixFrom(vip, vip.BitLen()).String()); m.valid != forever || m.proto != Protocol {
			t.Errorf("after a refresh to permanent: %+v", m)
		}
		l.must(a.Add(eth0, vip, time.Minute))
		if m := l.kernelAddr(a, netip.PrefixFrom(vip, vip.BitLen()).String()); m.valid == 0 || m.valid > 60 {
			t.Errorf("after a refresh from permanent: %+v", m)
		}
		l.must(a.Remove(eth0, vip))
		if l.has(a, eth0, vip) {
			t.Fatal("there after Remove")
		}
		l.must(a.Remove(eth0, vip))
	}
}

func TestAddressErrors(t *testing.T) {
	l, eth0 := newWire(t)
	a := l.addresses()
	wantErr(t, a.Add(eth0, netip.Addr{}, 0), ErrAddress)
	wantErr(t, a.Add(eth0, ip("224.0.0.1"), 0), ErrAddress)
	wantErr(t, a.Add(eth0, vip4, -time.Second), ErrLifetime)
	wantErr(t, a.Add(eth0+100, vip4, 0), ErrNoDevice)
	wantErr(t, a.Add(eth0, ip("2001:db8::1"), 0), ErrOwnAddress)
	wantErr(t, a.Remove(eth0, netip.Addr{}), ErrAddress)
	l.must(a.Remove(eth0+100, vip4))
}

// TestForeignAddressesSurvive is the secondary-address trap: the kernel deletes the secondaries of a subnet with its primary
// address, so a HAVIP with the subnet's prefix could take the host's own address along, or go with it.
func TestForeignAddressesSurvive(t *testing.T) {
	l := newLab(t)
	eth0 := l.veth("eth0", "p0")
	a := l.addresses()
	l.must(a.Add(eth0, vip4, 0)) // before the host's own, the worst order
	l.addr(l.hostH, "eth0", "192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/32", "2001:db8::1/64")
	l.must(a.Add(eth0, ip("192.0.2.11"), 0))
	l.must(a.Add(eth0, ip("192.0.2.2"), 0)) // also the host's own: the /24 is another matter
	l.must(a.Add(eth0, vip6, 0))
	for p, secondary := range map[string]bool{"192.0.2.10/32": false, "192.0.2.1/24": false, "192.0.2.2/24": true, "192.0.2.11/32": false} {
		if m := l.kernelAddr(a, p); m.flags&unix.IFA_F_SECONDARY != 0 != secondary {
			t.Errorf("%s: flags %#x", p, m.flags)
		}
	}
	routes, err := l.hostH.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	l.must(err)
	for _, r := range routes {
		if ones, bits := r.Dst.Mask.Size(); ones == bits && r.Dst.IP.String() != "192.0.2.3" {
			t.Errorf("a HAVIP has a route: %v", r)
		}
	}
	removed, err := a.Sweep()
	l.must(err)
	want := []ManagedAddress{{eth0, "eth0", ip("192.0.2.2")}, {eth0, "eth0", vip4}, {eth0, "eth0", ip("192.0.2.11")}, {eth0, "eth0", vip6}}
	if diff := cmp.Diff(want, removed, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("swept:\n%s", diff)
	}
	own := l.addrs(l.hostH, "eth0")
	slices.Sort(own)
	if diff := cmp.Diff([]string{"192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/32", "2001:db8::1/64"}, own); diff != "" {
		t.Errorf("the host's own:\n%s", diff)
	}
}

// TestCrashLeftovers: a later process recognises what an earlier one left, on two devices, also on a kernel that forgets
// IFA_PROTO.
func TestCrashLeftovers(t *testing.T) {
	l, eth0 := newWire(t)
	eth1 := l.veth("a-long-name-15b", "p1")
	dead, err := NewAddresses()
	l.must(err)
	for _, vip := range []netip.Addr{vip6, vip4} {
		l.must(dead.Add(eth1, vip, time.Hour))
		l.must(dead.Add(eth0, vip, 0))
	}
	dead.Close()

	later := l.addresses()
	want := []ManagedAddress{{eth0, "eth0", vip4}, {eth0, "eth0", vip6}, {eth1, "a-long-name-15b", vip4}, {eth1, "a-long-name-15b", vip6}}
	check := func(f func() ([]ManagedAddress, error)) {
		t.Helper()
		got, err := f()
		l.must(err)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("found:\n%s", diff)
		}
	}
	check(later.Managed)
	later.anonymous = true
	check(later.Managed)
	check(later.Sweep)
	want = []ManagedAddress{}
	check(later.Managed)
}

// TestTakeOver: an address that a person put there becomes managed, so that a later Sweep finds it.
func TestTakeOver(t *testing.T) {
	l, eth0 := newWire(t)
	l.addr(l.hostH, "eth0", "192.0.2.10/32", "2001:db8::10/128")
	a := l.addresses()
	for _, vip := range []netip.Addr{vip4, vip6} {
		if l.has(a, eth0, vip) {
			t.Errorf("%v: a person's address counts as managed", vip)
		}
		l.must(a.Add(eth0, vip, time.Hour))
		if m := l.kernelAddr(a, netip.PrefixFrom(vip, vip.BitLen()).String()); m.proto != Protocol || m.valid > 3600 || m.flags&unix.IFA_F_NOPREFIXROUTE == 0 {
			t.Errorf("not taken over: %+v", m)
		}
	}
}

func TestLifetimeExpires(t *testing.T) {
	t.Parallel()
	l, eth0 := newWire(t)
	a := l.addresses()
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		for _, vip := range []netip.Addr{vip4, vip6} {
			added := time.Now()
			l.must(a.Add(eth0, vip, 3*time.Second))
			if !l.has(a, eth0, vip) && time.Since(added) < 2*time.Second {
				t.Fatalf("%v is gone although refreshed", vip)
			}
		}
	}
	l.eventually("the addresses expire", func() bool { return !l.has(a, eth0, vip4) && !l.has(a, eth0, vip6) })
	if got := l.addrs(l.hostH, "eth0"); len(got) != 2 {
		t.Errorf("the host's own: %v", got)
	}
}

// dialFrom connects from a HAVIP on the host to a service at the peer and returns the host's end.
func (l *lab) dialFrom(from netip.Addr, to string) net.Conn {
	l.Helper()
	var ln net.Listener
	l.inPeer(func() {
		var err error
		ln, err = net.Listen("tcp", net.JoinHostPort(to, "0"))
		l.must(err)
	})
	l.Cleanup(func() { ln.Close() })
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: patience}
	c, err := d.DialContext(context.Background(), "tcp", ln.Addr().String())
	l.must(err)
	l.Cleanup(func() { c.Close() })
	return c
}

// aborted says whether a connection was ended from outside.
func aborted(c net.Conn, wait time.Duration) bool {
	c.SetReadDeadline(time.Now().Add(wait))
	_, err := c.Read(make([]byte, 1))
	return err != nil && !os.IsTimeout(err)
}

func TestDestroySockets(t *testing.T) {
	l, eth0 := newWire(t)
	a := l.addresses()
	for _, vip := range []netip.Addr{vip4, vip6} {
		l.must(a.Add(eth0, vip, 0))
	}
	mine := map[netip.Addr]net.Conn{vip4: l.dialFrom(vip4, "192.0.2.254"), vip6: l.dialFrom(vip6, "2001:db8::fe")}
	other := l.dialFrom(ip("192.0.2.1"), "192.0.2.254")

	// A dual-stack service, whose accepted sockets are IPv6 with a mapped address, and one that listens on the HAVIP.
	dual, err := net.Listen("tcp", ":0")
	l.must(err)
	defer dual.Close()
	service, err := net.Listen("tcp", vip4.String()+":0")
	l.must(err)
	defer service.Close()
	accept := func(ln net.Listener) net.Conn {
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		l.inPeer(func() {
			c, err := net.DialTimeout("tcp", net.JoinHostPort(vip4.String(), port), patience)
			l.must(err)
			l.Cleanup(func() { c.Close() })
		})
		c, err := ln.Accept()
		l.must(err)
		l.Cleanup(func() { c.Close() })
		return c
	}
	mapped := accept(dual)

	l.must(DestroySockets(vip4))
	if !aborted(mine[vip4], patience) || !aborted(mapped, patience) {
		t.Error("a connection of the HAVIP lives on")
	}
	if aborted(other, 50*time.Millisecond) || aborted(mine[vip6], 50*time.Millisecond) {
		t.Error("a connection of another address died")
	}
	accept(service)
	l.must(DestroySockets(vip6))
	if !aborted(mine[vip6], patience) {
		t.Error("a connection of the IPv6 HAVIP lives on")
	}
	l.must(DestroySockets(ip("192.0.2.77")))
	wantErr(t, DestroySockets(netip.Addr{}), ErrAddress)
}

func TestFlushConntrack(t *testing.T) {
	l := newLab(t)
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	l.must(err)
	defer h.Close()
	flow := func(fam int, from, to string, sport, dport uint16) *netlink.ConntrackFlow {
		src, dst := net.IP(ip(from).AsSlice()), net.IP(ip(to).AsSlice())
		return &netlink.ConntrackFlow{
			FamilyType: uint8(fam), TimeOut: 600,
			Forward: netlink.IPTuple{Protocol: unix.IPPROTO_UDP, SrcIP: src, DstIP: dst, SrcPort: sport, DstPort: dport},
			Reverse: netlink.IPTuple{Protocol: unix.IPPROTO_UDP, SrcIP: dst, DstIP: src, SrcPort: dport, DstPort: sport},
		}
	}
	left := func(fam int, want ...string) {
		t.Helper()
		flows, err := h.ConntrackTableList(netlink.ConntrackTable, netlink.InetFamily(fam))
		l.must(err)
		var got []string
		for _, f := range flows {
			got = append(got, f.Forward.DstIP.String())
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("left: %v, want %v", got, want)
		}
	}
	counted := func(want uint32) {
		t.Helper()
		if n, err := tracked(); err != nil || n != want {
			t.Errorf("%d connections are tracked, %v, want %d", n, err, want)
		}
	}
	counted(0)
	const client, other, other6 = "192.0.2.254", "192.0.2.77", "2001:db8::77"
	many := []netip.Addr{vip4, vip6} // more than the kernel is asked for by a filter
	for i := range filteredMax {
		many = append(many, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
	}
	for _, ips := range [][]netip.Addr{{vip4}, {vip4, vip6}, many} {
		for i, ends := range [][2]string{{client, vip4.String()}, {vip4.String(), client}, {client, other}} {
			l.must(h.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, flow(unix.AF_INET, ends[0], ends[1], 1000, uint16(53+i))))
		}
		for _, to := range []string{vip6.String(), other6} {
			l.must(h.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET6, flow(unix.AF_INET6, "2001:db8::254", to, 1000, 53)))
		}
		counted(5)
		l.must(FlushConntrack(ip("203.0.113.1")))
		counted(5)
		l.must(FlushConntrack(ips...))
		if len(ips) == 1 {
			l.must(FlushConntrack(vip6))
		}
		left(unix.AF_INET, other)
		left(unix.AF_INET6, other6)
		l.must(FlushConntrack(ip(other), ip(other6)))
		counted(0)
	}
	wantErr(t, FlushConntrack(netip.Addr{}), ErrAddress)
	if err := deleteFiltered(map[netip.Addr]bool{vip4: true}); err != nil {
		t.Logf("this kernel deletes by no filter: %v", err)
	}
}
