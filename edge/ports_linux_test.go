package edge

import (
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"havip-cluster/netdev/fence"
)

// TestProbeOnTheRealKernel: a port that listens is answered from another host only while the fence
// is open for its HAVIP. Nobody accepts here faster than the kernel answers, so what is seen is the fence.
func TestProbeOnTheRealKernel(t *testing.T) {
	for _, kind := range []fence.Kind{fence.EBPF, fence.NFTables} {
		t.Run(string(kind), func(t *testing.T) {
			runtime.LockOSThread() // for good: the thread ends with the test, and its namespaces with it
			probeThroughFence(t, kind)
		})
	}
}

func probeThroughFence(t *testing.T, kind fence.Kind) {
	peer, err := netns.New()
	if err != nil {
		t.Fatalf("this test needs root: %v", err)
	}
	defer peer.Close()
	host, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	for _, c := range []string{"link add d0 type veth peer name d1", "link set lo up", "link set d0 up", "addr add 10.0.0.2/24 dev d0"} {
		run(t, "ip "+c)
	}
	enter := func(ns netns.NsHandle) {
		if err := netns.Set(ns); err != nil {
			t.Fatal(err)
		}
	}
	d1, err := netlink.LinkByName("d1")
	if err == nil {
		err = netlink.LinkSetNsFd(d1, int(peer))
	}
	if err != nil {
		t.Fatal(err)
	}
	enter(peer)
	run(t, "ip addr add 10.0.0.1/24 dev d1; ip link set d1 up")
	enter(host)

	f, _, err := fence.New(fence.Config{Owner: "probe-" + string(kind), Prefer: kind})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Uninstall() }()
	clock := func() Instant { return Instant(fence.BootNow()) }
	k, err := NewLinux(slog.New(slog.DiscardHandler), f, clock)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	havip, dev := netip.MustParseAddr("10.0.0.100"), index(t, "d0")
	must := func(op Op) {
		t.Helper()
		for _, err := range k.Do(op) {
			if err != nil {
				t.Fatalf("%s: %v", op.Kind, err)
			}
		}
	}
	of := func(kind OpKind) Op {
		return Op{Kind: kind, Items: []Item{{IP: havip, Index: dev, Probe: Probe{Port: port(0)}}}}
	}
	answers := func(when string, want bool) {
		t.Helper()
		got, wait := false, 200*time.Millisecond
		if want {
			wait = 20 * time.Second
		}
		enter(peer)
		c, err := net.DialTimeout("tcp", "10.0.0.2:61000", wait)
		if got = err == nil; got {
			_ = c.Close()
		}
		enter(host)
		if got != want {
			t.Errorf("%s: answered %v, want %v", when, got, want)
		}
	}
	must(of(OpAttach))
	must(of(OpGuard))
	must(of(OpListen))
	answers("shut", false)
	must(of(OpOpen))
	answers("open without a deadline", false)
	if err := f.SetDeadline(fence.BootNow() + time.Hour.Nanoseconds()); err != nil {
		t.Fatal(err)
	}
	answers("open", true)
	r, err := k.Read(&Desired{}, Everything, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Ports[port(0)].answersFor(havip, Want{Index: dev, Probe: Probe{Port: port(0)}}, false) {
		t.Errorf("read back: %+v", r.Ports)
	}
	if err := f.SetDeadline(fence.BootNow()); err != nil {
		t.Fatal(err)
	}
	answers("after the deadline", false)
	must(of(OpShut))
	must(of(OpUnlisten))
	if r, err := k.Read(&Desired{}, Everything, nil); err != nil || len(r.Ports) != 0 {
		t.Errorf("ended: %+v, %v", r.Ports, err)
	}
}
