package netdev

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// benchSizes runs a benchmark on two hosts of its own, with few and many addresses.
func benchSizes(b *testing.B, f func(b *testing.B, l *lab, eth0, n int)) {
	for _, n := range []int{1, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l, eth0 := newWire(b)
			f(b, l, eth0, n)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/address")
		})
	}
}

func BenchmarkAddAll(b *testing.B) {
	benchSizes(b, func(b *testing.B, l *lab, eth0, n int) {
		a := l.addresses()
		requests, keys := asRequests(eth0, many(n, false), time.Hour), asKeys(eth0, many(n, false))
		for b.Loop() {
			l.must(errors.Join(a.AddAll(requests)...))
			b.StopTimer()
			l.must(errors.Join(a.RemoveAll(keys)...))
			b.StartTimer()
		}
	})
}

func BenchmarkRemoveAll(b *testing.B) {
	benchSizes(b, func(b *testing.B, l *lab, eth0, n int) {
		a := l.addresses()
		requests, keys := asRequests(eth0, many(n, false), time.Hour), asKeys(eth0, many(n, false))
		for b.Loop() {
			b.StopTimer()
			l.must(errors.Join(a.AddAll(requests)...))
			b.StartTimer()
			l.must(errors.Join(a.RemoveAll(keys)...))
		}
	})
}

func BenchmarkExtendAll(b *testing.B) {
	benchSizes(b, func(b *testing.B, l *lab, eth0, n int) {
		a := l.addresses()
		requests := asRequests(eth0, many(n, false), time.Hour)
		l.must(errors.Join(a.AddAll(requests)...))
		for b.Loop() {
			l.must(errors.Join(a.ExtendAll(requests)...))
		}
	})
}

func BenchmarkRead(b *testing.B) {
	benchSizes(b, func(b *testing.B, l *lab, eth0, n int) {
		a := l.addresses()
		l.must(errors.Join(a.AddAll(asRequests(eth0, many(n, false), time.Hour))...))
		for b.Loop() {
			_, err := a.Read()
			l.must(err)
		}
	})
}

func BenchmarkAnnounceAll(b *testing.B) {
	benchSizes(b, func(b *testing.B, l *lab, eth0, n int) {
		a := l.announcer(eth0)
		ips := many(n, false)
		for b.Loop() {
			l.must(errors.Join(a.AnnounceAll(ips)...))
		}
	})
}

func BenchmarkRouting(b *testing.B) {
	benchSizes(b, func(b *testing.B, l *lab, eth0, n int) {
		r := l.router()
		var want []Steered
		for _, ip := range many(n, false) {
			want = append(want, Steered{IP: ip, ENI: ENI{Index: eth0, Prefixes: prefixes("192.0.2.1/24"), Gateway: ip}})
		}
		l.must(errors.Join(r.Apply(Routing{}.Changes(want))...))
		for b.Loop() {
			now, err := r.Read()
			l.must(err)
			if changes := now.Changes(want); len(changes) > 0 {
				b.Fatal(changes[0])
			}
		}
	})
}

func BenchmarkInventory(b *testing.B) {
	l, _ := newWire(b)
	for i := range 300 {
		l.must(l.hostH.LinkAdd(&netlink.Veth{LinkAttrs: named(fmt.Sprintf("veth%d", i)), PeerName: fmt.Sprintf("c%d", i), PeerNamespace: netlink.NsFd(l.peer)}))
	}
	for b.Loop() {
		list, _, err := Inventory(nil, nil)
		l.must(err)
		if len(list) != 1 {
			b.Fatal(len(list))
		}
	}
}

// BenchmarkFlushConntrack: one address, while the host tracks no connection, or one of another address; by a filter and
// by reading the whole table, as for IPv6.
func BenchmarkFlushConntrack(b *testing.B) {
	for _, c := range []struct {
		name  string
		ip    netip.Addr
		flows int
	}{{"nothing", vip4, 0}, {"IPv4", vip4, 1}, {"IPv6", vip6, 1}} {
		b.Run(c.name, func(b *testing.B) {
			l := newLab(b)
			src, dst := net.IP{192, 0, 2, 254}, net.IP{192, 0, 2, 77}
			for range c.flows {
				l.must(netlink.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, &netlink.ConntrackFlow{
					FamilyType: unix.AF_INET, TimeOut: 600,
					Forward: netlink.IPTuple{Protocol: unix.IPPROTO_UDP, SrcIP: src, DstIP: dst, SrcPort: 1000, DstPort: 53},
					Reverse: netlink.IPTuple{Protocol: unix.IPPROTO_UDP, SrcIP: dst, DstIP: src, SrcPort: 53, DstPort: 1000},
				}))
			}
			for b.Loop() {
				l.must(FlushConntrack(c.ip))
			}
		})
	}
}
