package fence

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// benchmark runs one operation on 1, 100 and 1000 open HAVIPs of each kind.
func benchmark(b *testing.B, op func(f Fence, ip netip.Addr) error) {
	for _, v := range variants {
		for _, n := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", v.name, n), func(b *testing.B) {
				inWorld(b, func(w *world) {
					w.variant = v
					w.wire()
					f := w.newFence()
					defer func() { w.must("uninstall", f.Uninstall()) }()
					w.must("attach", f.Attach(index(w.eni)))
					w.must("deadline", f.SetDeadline(BootNow()+time.Hour.Nanoseconds()))
					for i := range n {
						w.must("guard", f.Guard(host4(1, i+1)))
						w.must("open", f.Open(host4(1, i+1)))
					}
					ip := host4(1, 1)
					b.ReportAllocs()
					for b.Loop() {
						if err := op(f, ip); err != nil {
							b.Fatal(err)
						}
					}
				})
			})
		}
	}
}

func BenchmarkSetDeadline(b *testing.B) {
	deadline := BootNow() + time.Hour.Nanoseconds()
	benchmark(b, func(f Fence, _ netip.Addr) error {
		deadline++
		return f.SetDeadline(deadline)
	})
}

func BenchmarkShutOpen(b *testing.B) {
	benchmark(b, func(f Fence, ip netip.Addr) error {
		if err := f.Shut(ip); err != nil {
			return err
		}
		return f.Open(ip)
	})
}
