package edge

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"
)

// many is a host that serves half of n HAVIPs.
func many(n int) (*model, *Loop, *Desired) {
	m := newModel()
	l := NewLoop(slog.New(slog.DiscardHandler), m, m.clock)
	d := &Desired{HAVIPs: map[netip.Addr]Want{}, Index: 1, Complete: true, Devices: map[int]bool{2: true}, Deadline: m.now.Add(time.Hour)}
	for i := range n {
		w := Want{}
		if i%2 == 0 {
			w = Want{Index: 2, Lifetime: 2 * time.Hour}
		}
		d.HAVIPs[netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})] = w
	}
	for range 200 {
		if l.Turn(d).Next > m.now {
			break
		}
	}
	return m, l, d
}

// What one turn costs this process: nothing is due, or one address leaves and comes back.
func BenchmarkTurn(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		m, l, d := many(n)
		b.Run(fmt.Sprintf("idle-%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l.Turn(d)
			}
		})
		ip := netip.AddrFrom4([4]byte{10, 1, 0, 0})
		b.Run(fmt.Sprintf("one-%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d.HAVIPs[ip] = Want{}
				l.Turn(d)
				d.HAVIPs[ip] = Want{Index: 2, Lifetime: 2 * time.Hour}
				l.Turn(d)
			}
		})
		if len(m.wrong) > 0 {
			b.Fatal(m.wrong[0])
		}
	}
}
