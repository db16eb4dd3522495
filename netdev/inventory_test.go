package netdev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var compareENI = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func prefixes(cidrs ...string) (all []netip.Prefix) {
	for _, c := range cidrs {
		all = append(all, netip.MustParsePrefix(c))
	}
	return all
}

func (l *lab) defaultVia(dev, gw string, metric int) *netlink.Route {
	l.Helper()
	r := &netlink.Route{LinkIndex: l.link(l.hostH, dev).Attrs().Index, Gw: net.ParseIP(gw), Priority: metric}
	l.must(l.hostH.RouteAdd(r))
	return r
}

func TestInventory(t *testing.T) {
	l, eth0 := newWire(t)
	eth1 := l.veth("eth1", "p1")
	l.addr(l.hostH, "eth1", "198.51.100.2/24", "198.51.100.3/32")
	l.veth("port", "p2")
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	l.must(l.hostH.LinkAdd(bridge))
	l.must(l.hostH.LinkSetMaster(l.link(l.hostH, "port"), bridge))
	l.must(l.addresses().Add(eth1, ip("198.51.100.9"), 0))

	managed := func(a netip.Addr) bool { return a == ip("198.51.100.3") }
	list := func() []ENI {
		t.Helper()
		enis, _, err := Inventory(managed, nil)
		l.must(err)
		return enis
	}
	mac := func(dev string) net.HardwareAddr { return l.link(l.hostH, dev).Attrs().HardwareAddr }
	want := []ENI{
		{Device: "eth0", Index: eth0, MAC: mac("eth0"), Kind: "veth", HasNetnsPeer: true, Up: true, Prefixes: prefixes("192.0.2.1/24", "2001:db8::1/64"), MTU: 1500},
		{Device: "eth1", Index: eth1, MAC: mac("eth1"), Kind: "veth", HasNetnsPeer: true, Up: true, Prefixes: prefixes("198.51.100.2/24"), MTU: 1500},
	}
	check := func(what string) {
		t.Helper()
		if diff := cmp.Diff(want, list(), compareENI); diff != "" {
			t.Errorf("%s:\n%s", what, diff)
		}
	}
	want[0].Primary = true
	l.eventually("both devices have carrier", func() bool { e := list(); return len(e) == 2 && e[0].Up && e[1].Up })
	check("no default route: the first is primary")

	l.defaultVia("eth1", "198.51.100.254", 200)
	want[0].Primary, want[1].Primary, want[1].Gateway = false, true, ip("198.51.100.254")
	check("default route by eth1")
	l.defaultVia("eth0", "192.0.2.254", 100)
	want[0].Primary, want[1].Primary, want[0].Gateway = true, false, ip("192.0.2.254")
	check("the lower metric wins, both have a gateway")
	l.must(l.hostH.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Type: unix.RTN_BLACKHOLE, Priority: 1}))
	l.defaultVia("eth1", "fe80::fe", 1)
	check("a blackhole and an IPv6 route change nothing")

	l.up(l.peerH, "p1", false)
	want[1].Up = false
	l.eventually("carrier of eth1 is lost", func() bool { return !list()[1].Up })
	check("no carrier")
	l.up(l.peerH, "p1", true)
	l.eventually("carrier of eth1 is back", func() bool { return list()[1].Up })
	l.up(l.hostH, "eth1", false)
	if list()[1].Up {
		t.Error("eth1 is up although set down")
	}
}

func TestWholeDump(t *testing.T) {
	calls := 0
	dump := func(failures int, with error) func() ([]int, error) {
		calls = 0
		return func() ([]int, error) {
			if calls++; calls <= failures {
				return []int{1}, with
			}
			return []int{1, 2}, nil
		}
	}
	if all, err := whole(dump(dumpAttempts-1, netlink.ErrDumpInterrupted)); len(all) != 2 || err != nil {
		t.Errorf("%v, %v", all, err)
	}
	all, err := whole(dump(dumpAttempts, netlink.ErrDumpInterrupted))
	if all != nil || !errors.Is(err, netlink.ErrDumpInterrupted) || calls != dumpAttempts {
		t.Errorf("%v, %v after %d attempts: half a list must not come out", all, err, calls)
	}
	if _, err := whole(dump(1, unix.EPERM)); !errors.Is(err, unix.EPERM) || calls != 1 {
		t.Errorf("%v after %d attempts", err, calls)
	}
}

// settle empties a Watcher's channel once no more values come.
func settle(w *Watcher) {
	for {
		select {
		case <-w.C():
		case <-time.After(200 * time.Millisecond):
			return
		}
	}
}

func TestWatcher(t *testing.T) {
	l, _ := newWire(t)
	w := NewWatcher()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := l.start(func() error { return w.Run(ctx) })
	within(l, "the subscription", w.C())
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"peer down", func() { l.up(l.peerH, "p0", false) }},
		{"peer up", func() { l.up(l.peerH, "p0", true) }},
		{"IPv4 address", func() { l.addr(l.hostH, "eth0", "192.0.2.7/32") }},
		{"IPv6 address", func() { l.addr(l.hostH, "eth0", "2001:db8::7/128") }},
		{"route", func() { l.defaultVia("eth0", "192.0.2.254", 0) }},
		{"rule", func() { l.must(l.hostH.RuleAdd(foreignRule(vip4, 1, unix.RTPROT_STATIC))) }},
		{"link down", func() { l.up(l.hostH, "eth0", false) }},
	} {
		settle(w)
		step.do()
		within(l, step.what, w.C())
	}
	for i := range 50 {
		l.addr(l.hostH, "eth0", fmt.Sprintf("192.0.2.%d/32", 100+i))
	}
	l.eventually("50 changes are one value", func() bool { return len(w.C()) == 1 })
	cancel()
	wantErr(t, within(l, "the watcher ends", done), context.Canceled)
}

// TestWatcherOverrun: a subscription that loses messages is replaced, and what was lost is announced.
func TestWatcherOverrun(t *testing.T) {
	l, _ := newWire(t)
	w := NewWatcher()
	w.buffer = 1 // the kernel makes it its minimum, a message or two
	lost := make(chan error, 1)
	w.OnError = func(err error) {
		select {
		case lost <- err:
		default:
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := l.start(func() error { return w.Run(ctx) })
	within(l, "the subscription", w.C())
	l.eventually("a message is lost", func() bool {
		for range 20 {
			l.up(l.hostH, "eth0", false)
			l.up(l.hostH, "eth0", true)
		}
		return len(lost) > 0
	})
	wantErr(t, <-lost, unix.ENOBUFS)
	settle(w)
	l.addr(l.hostH, "eth0", "192.0.2.7/32")
	within(l, "a change after the loss", w.C())
	cancel()
	wantErr(t, within(l, "the watcher ends", done), context.Canceled)
}

func sysctl(t *testing.T, device, key, value string) {
	t.Helper()
	if err := os.WriteFile(sysctlPath("ipv4", device, key), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// wantSettings reads the settings of a device and makes the changes that Want asks for.
func wantSettings(device string) ([]Change, error) {
	s := NewSettings()
	defer s.Close()
	got, err := s.Read([]string{device})
	if err != nil {
		return nil, err
	}
	if fault := got[device].Fault(); fault != nil {
		return nil, fault
	}
	changes := Want(got[device], false)
	return changes, errors.Join(Apply(changes)...)
}

func TestWantedSettings(t *testing.T) {
	l := newLab(t)
	const dev = "eth0.100" // a dot, as VLANs have
	l.veth(dev, "p0")
	for _, row := range []struct {
		name        string
		all, own    [2]string // arp_ignore, arp_announce
		want        []Change
		after       [2]int // of the device
		globalError bool
	}{
		{name: "defaults", all: [2]string{"0", "0"}, own: [2]string{"0", "0"},
			want: []Change{{dev, "arp_ignore", 0, 1}, {dev, "arp_announce", 0, 2}}, after: [2]int{1, 2}},
		{name: "already so", all: [2]string{"0", "0"}, own: [2]string{"1", "2"}, after: [2]int{1, 2}},
		{name: "already so for all", all: [2]string{"1", "2"}, own: [2]string{"0", "0"}, after: [2]int{0, 0}},
		{name: "stricter", all: [2]string{"0", "0"}, own: [2]string{"2", "1"},
			want: []Change{{dev, "arp_announce", 1, 2}}, after: [2]int{2, 2}},
		{name: "never answers", all: [2]string{"1", "2"}, own: [2]string{"8", "0"},
			want: []Change{{dev, "arp_ignore", 8, 1}}, after: [2]int{1, 0}},
		{name: "nobody answers", all: [2]string{"8", "0"}, own: [2]string{"0", "0"}, globalError: true},
	} {
		for i, key := range []string{"arp_ignore", "arp_announce"} {
			sysctl(t, "all", key, row.all[i])
			sysctl(t, dev, key, row.own[i])
		}
		changes, err := wantSettings(dev)
		if row.globalError {
			wantErr(t, err, ErrGlobalSysctl)
			continue
		}
		l.must(err)
		if diff := cmp.Diff(row.want, changes); diff != "" {
			t.Errorf("%s:\n%s", row.name, diff)
		}
		values := func() (got [2]int) {
			for i, key := range []string{"arp_ignore", "arp_announce"} {
				_, got[i], err = readConf(dev, key)
				l.must(err)
			}
			return got
		}
		if values() != row.after {
			t.Errorf("%s: device has %v, want %v", row.name, values(), row.after)
		}
		if again, err := wantSettings(dev); len(again) > 0 || err != nil {
			t.Errorf("%s: twice changes %v, %v", row.name, again, err)
		}
	}
}
