package fence

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// benchmark runs one operation on some guarded and open HAVIPs of each kind.
func benchmark(b *testing.B, sizes []int, op func(f Fence, ips []netip.Addr) error) {
	for _, v := range variants {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%s/%d", v.name, n), func(b *testing.B) {
				inWorld(b, func(w *world) {
					w.variant = v
					w.wire()
					f := w.newFence()
					defer func() { w.must("uninstall", f.Uninstall()) }()
					w.must("attach", f.Attach(index(w.eni)))
					w.must("deadline", f.SetDeadline(BootNow()+time.Hour.Nanoseconds()))
					var ips []netip.Addr
					for i := range n {
						ips = append(ips, host4(1+byte(i>>13), i&0x1fff+1))
					}
					w.must("guard", f.Guard(ips...))
					w.must("open", f.Open(ips...))
					b.ReportAllocs()
					for b.Loop() {
						if err := op(f, ips); err != nil {
							b.Fatal(err)
						}
					}
				})
			})
		}
	}
}

var sizes = []int{1, 1000, 10_000}

func BenchmarkSetDeadline(b *testing.B) {
	deadline := BootNow() + time.Hour.Nanoseconds()
	benchmark(b, sizes, func(f Fence, _ []netip.Addr) error {
		deadline++
		return f.SetDeadline(deadline)
	})
}

func BenchmarkShut(b *testing.B) {
	benchmark(b, sizes, func(f Fence, ips []netip.Addr) error { return f.Shut(ips...) })
}

func BenchmarkShutOpen(b *testing.B) {
	benchmark(b, sizes, func(f Fence, ips []netip.Addr) error {
		if err := f.Shut(ips...); err != nil {
			return err
		}
		return f.Open(ips...)
	})
}

func BenchmarkForgetGuard(b *testing.B) {
	benchmark(b, sizes, func(f Fence, ips []netip.Addr) error {
		if err := f.Forget(ips...); err != nil {
			return err
		}
		return f.Guard(ips...)
	})
}

func BenchmarkRead(b *testing.B) {
	benchmark(b, sizes, func(f Fence, ips []netip.Addr) error {
		r, err := f.Read()
		if err == nil && len(r.Entries) != len(ips) {
			err = fmt.Errorf("%d entries", len(r.Entries))
		}
		return err
	})
}

func BenchmarkHealthy(b *testing.B) {
	benchmark(b, []int{1}, func(f Fence, _ []netip.Addr) error { return f.Healthy(f.(kernelSide).devices()[0]) })
}
