package netdev

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// many returns n addresses of 10.0.0.0/8, or of 2001:db8:f::/48.
func many(n int, v6 bool) []netip.Addr {
	all := make([]netip.Addr, n)
	for i := range all {
		all[i] = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if v6 {
			all[i] = netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 0, 0xf, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
		}
	}
	return all
}

func asRequests(index int, ips []netip.Addr, validFor time.Duration) []AddressRequest {
	all := make([]AddressRequest, len(ips))
	for i, ip := range ips {
		all[i] = AddressRequest{index, "eth0", ip, validFor}
	}
	return all
}

func asKeys(index int, ips []netip.Addr) []AddressKey {
	all := make([]AddressKey, len(ips))
	for i, ip := range ips {
		all[i] = AddressKey{index, ip}
	}
	return all
}

// managed counts the addresses of ours that a reading shows.
func (l *lab) managed(a *Addresses) (n int) {
	l.Helper()
	all, err := a.Read()
	l.must(err)
	for _, m := range all {
		if m.Managed {
			n++
		}
	}
	return n
}

func TestBatch(t *testing.T) {
	l, eth0 := newWire(t)
	a := l.addresses()
	ips := append(many(700, false), many(700, true)...)
	l.must(errors.Join(a.AddAll(asRequests(eth0, ips, time.Minute))...))
	all, err := a.Read()
	l.must(err)
	seen := map[netip.Addr]Address{}
	for i, m := range all {
		if i > 0 && (m.Index < all[i-1].Index || m.Index == all[i-1].Index && m.IP().Less(all[i-1].IP())) {
			t.Fatalf("%v after %v", m, all[i-1])
		}
		if m.Managed {
			seen[m.IP()] = m
		}
	}
	for _, ip := range ips {
		if m := seen[ip]; m.Index != eth0 || m.Valid <= 50*time.Second || m.Valid > time.Minute || m.Tentative() {
			t.Fatalf("%v: %+v", ip, m)
		}
	}
	l.must(errors.Join(a.ExtendAll(asRequests(eth0, ips, 0))...))
	if all, _ := a.Read(); len(all) < len(ips) || seen[ips[0]].Valid == 0 {
		t.Fatal("the reading before does not differ")
	} else {
		for _, m := range all {
			if m.Managed && m.Valid != 0 {
				t.Fatalf("%+v after it was made permanent", m)
			}
		}
	}
	l.must(errors.Join(a.RemoveAll(asKeys(eth0, ips))...))
	if n := l.managed(a); n != 0 {
		t.Errorf("%d are left", n)
	}
	l.must(errors.Join(a.RemoveAll(asKeys(eth0, ips))...))
	if errs := a.AddAll(nil); len(errs) != 0 {
		t.Errorf("%v", errs)
	}
}

// TestBatchErrors: each request has its own error, at its own place, and holds up no other.
func TestBatchErrors(t *testing.T) {
	l, eth0 := newWire(t)
	eth1 := l.veth("eth1", "p1")
	a := l.addresses()
	l.must(a.Add(eth0, ip("10.0.0.1"), time.Hour))
	l.addr(l.hostH, "eth0", "10.0.0.2/32", "2001:db8:f::2/64") // bare, taken over; and the host's own
	requests := []AddressRequest{
		{eth0, "eth0", ip("10.0.0.1"), 0},         // 0 exists: refreshed
		{eth0, "eth0", ip("224.0.0.1"), 0},        // 1
		{eth0, "eth0", ip("10.0.0.2"), 0},         // 2 taken over
		{eth1 + 100, "eth9", ip("10.0.0.3"), 0},   // 3 no such device
		{eth1, "eth1", ip("10.0.0.4"), -1},        // 4
		{eth0, "eth0", ip("2001:db8:f::2"), 0},    // 5 the host's own
		{eth1, "", ip("10.0.0.5"), 0},             // 6 no name
		{eth1, "eth1", ip("::ffff:10.0.0.6"), 0},  // 7 unmapped
		{eth1, "eth1", ip("10.0.0.6"), time.Hour}, // 8 twice in one batch
	}
	errs := a.AddAll(requests)
	for i, want := range []error{nil, ErrAddress, nil, ErrNoDevice, ErrLifetime, ErrOwnAddress, ErrNoDevice, nil, nil} {
		if !errors.Is(errs[i], want) || want == nil && errs[i] != nil {
			t.Errorf("request %d: %v, want %v", i, errs[i], want)
		}
	}
	for _, want := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.6"} {
		if !l.has(a, eth0, ip(want)) && !l.has(a, eth1, ip(want)) {
			t.Errorf("%s is absent", want)
		}
	}
}

// TestDeviceGoesInBatch: what was done before the device went is acknowledged, what came after says why not.
func TestDeviceGoesInBatch(t *testing.T) {
	l, _ := newWire(t)
	a := l.addresses()
	for round := range 5 {
		index := l.veth("eth1", "p1")
		gone := l.start(func() error {
			time.Sleep(time.Duration(round) * time.Millisecond)
			return l.peerH.LinkDel(l.link(l.peerH, "p1"))
		})
		done, refused := 0, 0
		for refused == 0 { // batches of 500, until the device goes in one
			for i, err := range a.AddAll(asRequests(index, many(500, round%2 == 1), time.Hour)) {
				switch {
				case err == nil:
					done++
				case errors.Is(err, ErrNoDevice), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINVAL):
					refused++
				default:
					t.Fatalf("request %d: %v", i, err)
				}
			}
		}
		l.must(within(l, "the device is gone", gone))
		l.must(errors.Join(a.RemoveAll(asKeys(index, many(500, false)))...))
		if n := l.managed(a); n != 0 {
			t.Errorf("%d addresses outlive their device; %d were added, %d refused", n, done, refused)
		}
	}
}

// TestOthersMeddle: another program removes addresses while batches add and extend them. No request fails, and the next
// batch has them all.
func TestOthersMeddle(t *testing.T) {
	l, eth0 := newWire(t)
	a := l.addresses()
	ips := many(300, false)
	ctx, cancel := context.WithCancel(context.Background())
	meddler := l.start(func() error {
		link := l.link(l.hostH, "eth0")
		for removed := 0; ctx.Err() == nil || removed == 0; {
			for i := 0; i < len(ips); i += 7 {
				if l.hostH.AddrDel(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(ips[i], 32))}) == nil {
					removed++
				}
			}
		}
		return nil
	})
	for range 20 {
		l.must(errors.Join(a.AddAll(asRequests(eth0, ips, time.Hour))...))
		l.must(errors.Join(a.ExtendAll(asRequests(eth0, ips, time.Hour))...))
		if _, err := a.Read(); err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			t.Fatal(err)
		}
	}
	cancel()
	l.must(within(l, "the other program ends", meddler))
	l.must(errors.Join(a.AddAll(asRequests(eth0, ips, time.Hour))...))
	if n := l.managed(a); n != len(ips) {
		t.Errorf("%d of %d", n, len(ips))
	}
}

// TestLostAnswers: with a buffer that holds a few answers, the rest of a burst is unknown, never done, and the socket works
// on.
func TestLostAnswers(t *testing.T) {
	l, eth0 := newWire(t)
	a := l.addresses()
	l.must(unix.SetsockoptInt(a.conn.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1))
	ips := many(100, false)
	unknown := 0
	for i, err := range a.AddAll(asRequests(eth0, ips, time.Hour)) {
		switch {
		case errors.Is(err, ErrNoAnswer):
			unknown++
		case err != nil:
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if unknown == 0 {
		t.Fatal("no answer was lost: the test shows nothing")
	}
	l.must(unix.SetsockoptInt(a.conn.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, answerBuffer))
	l.must(errors.Join(a.AddAll(asRequests(eth0, ips, time.Hour))...))
	if n := l.managed(a); n != len(ips) {
		t.Errorf("%d of %d", n, len(ips))
	}
	a.Close()
	for _, err := range a.AddAll(asRequests(eth0, ips[:2], 0)) {
		wantErr(t, err, unix.EBADF)
	}
}

// TestDumpStopsNobody: a dump whose reader fails is read to its end, so the next one is not refused.
func TestDumpStopsNobody(t *testing.T) {
	l, eth0 := newWire(t)
	a := l.addresses()
	l.must(errors.Join(a.AddAll(asRequests(eth0, many(2000, false), 0))...))
	oops := errors.New("unreadable")
	err := a.conn.dump(unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), func() {}, func(uint16, []byte) error { return oops })
	wantErr(t, err, oops)
	if n := l.managed(a); n != 2000 {
		t.Errorf("%d addresses in the next dump", n)
	}
}

// TestRenamed: the device gets another name, and keeps its index and the addresses.
func TestRenamed(t *testing.T) {
	l, eth0 := newWire(t)
	a, n := l.addresses(), l.announcer(eth0)
	l.must(a.Add(eth0, vip4, time.Hour))
	l.must(l.hostH.LinkSetName(l.link(l.hostH, "eth0"), "ens5"))
	l.must(errors.Join(a.ExtendAll(asRequests(eth0, []netip.Addr{vip4}, time.Hour))...)) // by its old name
	l.must(errors.Join(a.AddAll([]AddressRequest{{eth0, "ens5", ip("192.0.2.11"), 0}})...))
	if n := l.managed(a); n != 2 {
		t.Errorf("%d addresses", n)
	}
	l.must(errors.Join(n.AnnounceAll([]netip.Addr{vip4, vip6})...))
	l.must(errors.Join(a.RemoveAll(asKeys(eth0, []netip.Addr{vip4, ip("192.0.2.11")}))...))
	enis, _, err := Inventory(nil, nil)
	l.must(err)
	if len(enis) != 1 || enis[0].Device != "ens5" || enis[0].Index != eth0 {
		t.Errorf("%+v", enis)
	}
}

// TestOwnChangesAreSilent: the Watcher does not tell of what this process does itself, and tells of the same by others.
func TestOwnChangesAreSilent(t *testing.T) {
	l, eth0 := newWire(t)
	a, r := l.addresses(), l.router()
	w := NewWatcher(a, r)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := l.start(func() error { return w.Run(ctx) })
	within(l, "the subscription", w.C())
	l.eventually("the link-local address is there", func() bool {
		all, err := a.Read()
		l.must(err)
		return slices.ContainsFunc(all, func(m Address) bool { return m.IP().IsLinkLocalUnicast() && !m.Tentative() })
	})
	settle(w)
	if w.Take() != AllChanged {
		t.Error("a new subscription is not a change of all")
	}
	ips := append(many(200, false), many(200, true)...)
	eni := ENI{Index: eth0, Prefixes: prefixes("192.0.2.1/24"), Gateway: ip("192.0.2.254")}
	loud := func(what string, want Kinds, do func()) {
		t.Helper()
		do()
		within(l, what, w.C())
		var told Kinds
		l.eventually(what, func() bool { told |= w.Take(); return told&want != 0 })
		settle(w)
		w.Take()
	}
	// Whatever came before is told before this.
	loud("rule of others", RulesChanged, func() { l.must(l.hostH.RuleAdd(foreignRule(ip("192.0.2.99"), 1, unix.RTPROT_STATIC))) })
	quiet := func(what string, do func()) {
		t.Helper()
		do()
		settle(w)
		if k := w.Take(); k != 0 {
			t.Errorf("%s: told as %b", what, k)
		}
	}
	route := func(want ...Steered) {
		now, err := r.Read()
		l.must(err)
		l.must(errors.Join(r.Apply(now.Changes(want))...))
	}
	quiet("add", func() { l.must(errors.Join(a.AddAll(asRequests(eth0, ips, time.Hour))...)) })
	quiet("extend", func() { l.must(errors.Join(a.ExtendAll(asRequests(eth0, ips, time.Minute))...)) })
	quiet("add again", func() { l.must(errors.Join(a.AddAll(asRequests(eth0, ips, time.Minute))...)) })
	quiet("steer", func() { route(Steered{IP: ips[0], ENI: eni}, Steered{IP: ips[300], ENI: eni}) })
	quiet("unsteer", func() { route() })
	quiet("announce", func() { l.must(errors.Join(l.announcer(eth0).AnnounceAll(ips)...)) })
	quiet("remove", func() { l.must(errors.Join(a.RemoveAll(asKeys(eth0, ips))...)) })
	quiet("remove what is gone", func() { l.must(errors.Join(a.RemoveAll(asKeys(eth0, ips))...)) })

	other := l.addresses()
	l.must(errors.Join(a.AddAll(asRequests(eth0, ips, 0))...))
	for _, at := range []int{0, 200} { // IPv4, IPv6
		loud(fmt.Sprintf("%v removed by others", ips[at]), AddressesChanged, func() { l.must(other.Remove(eth0, ips[at])) })
	}
	loud("run out", AddressesChanged, func() {
		l.must(errors.Join(a.AddAll(asRequests(eth0, []netip.Addr{ips[1], ips[201]}, time.Second))...))
	})
	loud("rule", RulesChanged, func() { l.must(l.hostH.RuleAdd(foreignRule(vip4, 1, unix.RTPROT_STATIC))) })
	loud("route", RoutesChanged, func() { l.defaultVia("eth0", "192.0.2.254", 0) })
	loud("link", LinksChanged, func() { l.up(l.hostH, "eth0", false) })
	cancel()
	wantErr(t, within(l, "the watcher ends", done), context.Canceled)
}
