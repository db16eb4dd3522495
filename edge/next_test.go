package edge

import (
	"testing"
	"time"
)

// TestAReadingGetsNoOlderThanItMay: somebody takes the fence off a device just after a
// reading, of which the kernel does not tell, and turns come for other reasons meanwhile.
// The turn that Next asks for finds it. Found by jepsen/sim (seed 18, `unfence`): each turn
// without a reading put the next one off by another second.
func TestAReadingGetsNoOlderThanItMay(t *testing.T) {
	for _, every := range []time.Duration{readEvery - time.Millisecond, 400 * time.Millisecond, 90 * time.Millisecond} {
		b := newBed(t, 3)
		f := b.turn()
		for range 5 {
			seen := b.m.reads
			for b.m.reads == seen { // until just after a reading of everything
				f = b.later(max(f.Next.Sub(b.m.now), time.Millisecond))
			}
			damaged := b.m.now
			for b.m.attached[1] = errModel; b.m.attached[1] != nil; {
				f = b.later(min(every, f.Next.Sub(b.m.now)))
				if late := b.m.now.Sub(damaged); late > readEvery+2*time.Millisecond {
					t.Fatalf("turns every %v: the fence does not stand %v after the reading before", every, late)
				}
			}
		}
		turns, reads := 0, b.m.reads
		for end := b.m.now.Add(20 * time.Second); b.m.now < end; turns++ {
			f = b.later(max(min(every, f.Next.Sub(b.m.now)), time.Millisecond))
		}
		if n := b.m.reads - reads; n > 21 {
			t.Errorf("turns every %v: %d readings in %d turns and 20 s", every, n, turns)
		}
	}
}

// TestAFenceIsTriedAgainSoon: a node whose fence does not know every HAVIP, or does not stand,
// gives its session up after a second, with all that it serves. It tries several times before,
// and the last time shortly before. Found by jepsen/sim (`guard-fails`).
func TestAFenceIsTriedAgainSoon(t *testing.T) {
	for _, kind := range []string{"guard", "attach"} {
		b := newBed(t, 3)
		b.m.fails[kind] = true
		f := b.turn()
		for end := b.m.now.Add(900 * time.Millisecond); b.m.now < end; {
			f = b.later(max(f.Next.Sub(b.m.now), time.Millisecond))
		}
		if f.Unguarded == "" {
			t.Fatalf("%s fails, and the node is guarded", kind)
		}
		b.m.fails[kind] = false
		mended := b.m.now
		for f.Unguarded != "" {
			f = b.later(max(f.Next.Sub(b.m.now), time.Millisecond))
		}
		if took := b.m.now.Sub(mended); took > retryFence {
			t.Errorf("guarded again %v after %s works again", took, kind)
		}
	}
}
