package edge

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"havip-cluster/netdev/fence"
)

// peers are the hosts on the bridge beside the one that is measured: each hears every announcement, in the
// time of whoever sends it.
const peers = 4

// What one turn costs with the real kernel and the fence of eBPF, on a bridge with four other hosts: half
// of all addresses come up at once, and a lot of a hand-over leaves and comes. It needs root.
func BenchmarkKernel(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprint("half-of-", n), func(b *testing.B) {
			runtime.LockOSThread() // for good: the thread ends, and its namespaces with it
			host := newBridged(b, n)
			for b.Loop() {
				host.want(n/2, true)
				b.StopTimer()
				host.want(n/2, false)
				b.StartTimer()
			}
		})
		const lot = 32
		b.Run(fmt.Sprintf("%d-of-%d", lot, n), func(b *testing.B) {
			runtime.LockOSThread()
			host := newBridged(b, n)
			for b.Loop() {
				host.want(lot, true)
				host.want(lot, false)
			}
		})
	}
}

// bridged is a loop on the real kernel of a namespace.
type bridged struct {
	b     *testing.B
	loop  *Loop
	d     *Desired
	index int
}

func newBridged(b *testing.B, havips int) *bridged {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatalf("this needs root: %v", err)
		}
	}
	host, err := netns.New()
	must(err)
	b.Cleanup(func() { _ = host.Close() })
	run(b, "ip link set lo up; ip link add br0 type bridge; ip link set br0 up")
	for i := range peers + 1 {
		run(b, fmt.Sprintf("ip link add d%d master br0 type veth peer name e%d; ip link set d%d up", i, i, i))
		up := fmt.Sprintf("ip addr add 10.0.0.%d/8 dev e%d; ip link set e%d up", i+1, i, i)
		if i == 0 {
			run(b, up)
			continue
		}
		peer, err := netns.New()
		must(err)
		b.Cleanup(func() { _ = peer.Close() })
		must(netns.Set(host))
		link, err := netlink.LinkByName(fmt.Sprint("e", i))
		must(err)
		must(netlink.LinkSetNsFd(link, int(peer)))
		must(netns.Set(peer))
		run(b, up)
		must(netns.Set(host))
	}
	f, _, err := fence.New(fence.Config{Owner: "size", Prefer: fence.EBPF})
	must(err)
	b.Cleanup(func() { _ = f.Uninstall() })
	clock := func() Instant { return Instant(fence.BootNow()) }
	k, err := NewLinux(slog.New(slog.DiscardHandler), f, clock)
	must(err)
	b.Cleanup(func() { _ = k.Close() })
	end := clock().Add(time.Hour)
	h := &bridged{b: b, index: index(b, "e0"), loop: NewLoop(slog.New(slog.DiscardHandler), k, clock)}
	h.d = &Desired{HAVIPs: map[netip.Addr]Want{}, Index: 1, Complete: true, Devices: map[int]bool{h.index: true}, Deadline: end}
	for i := range havips {
		h.d.HAVIPs[sizedIP(i)] = Want{}
	}
	h.turns(func(f Facts) bool { return f.Guarded > 0 })
	must(f.SetDeadline(int64(end)))
	return h
}

func sizedIP(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }

// want has the first n addresses here, or nowhere, and turns until they are.
func (h *bridged) want(n int, here bool) {
	h.b.Helper()
	for i := range n {
		h.d.HAVIPs[sizedIP(i)] = Want{}
		if here {
			h.d.HAVIPs[sizedIP(i)] = Want{Index: h.index, Lifetime: time.Hour}
		}
	}
	done := 0
	h.turns(func(f Facts) bool {
		done += len(f.Serving) + len(f.Gone)
		return done >= n
	})
}

func (h *bridged) turns(enough func(Facts) bool) {
	h.b.Helper()
	for range 100 {
		f := h.loop.Turn(h.d)
		if f.Err != nil || len(f.Faults) > 0 {
			h.b.Fatal(f.Err, f.Faults)
		}
		if enough(f) {
			return
		}
	}
	h.b.Fatal("it does not come to an end")
}
