package netdev

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
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
