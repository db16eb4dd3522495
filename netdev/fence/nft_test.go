package fence

import (
	"errors"
	"testing"
	"time"
)

// steps is a clock that reads what the test says, one value per reading, and
// then the last one for ever.
type steps []int64

func (s *steps) now() int64 {
	t := (*s)[0]
	if len(*s) > 1 {
		*s = (*s)[1:]
	}
	return t
}

// TestStoppedInTransaction: the process is stopped between the first reading of
// the clock and the transaction, so the kernel gets a timeout that is stale.
func TestStoppedInTransaction(t *testing.T) {
	second := time.Second.Nanoseconds()
	for name, c := range map[string]struct {
		clock func(t0, deadline int64) steps
		opens bool
	}{
		"on time":                  {func(t0, _ int64) steps { return steps{t0} }, true},
		"slow, the second in time": {func(t0, d int64) steps { return steps{t0, t0, t0 + second, t0 + second} }, true},
		"deadline passed":          {func(t0, d int64) steps { return steps{t0, t0, d} }, false},
		"always slow": {func(t0, d int64) steps {
			return steps{t0, t0, t0 + second, t0 + second, t0 + 4*second, t0 + 4*second, t0 + 12*second, t0 + 12*second, t0 + 40*second}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.variant = variants[2]
				w.bridged()
				now := BootNow
				w.clock = func() int64 { return now() }
				f := w.newFence()
				w.must("attach", f.Attach(index(w.eni)))
				t0 := BootNow()
				deadline := t0 + 60*second
				w.must("guard", f.Guard(host4(1, 1), host6(1, 1)))
				w.must("open", f.Open(host4(1, 1), host6(1, 1)))
				clock := c.clock(t0, deadline)
				now = clock.now
				if err := f.SetDeadline(deadline); (err != nil) != (name == "always slow") {
					t.Errorf("error %v", err)
				}
				w.check(rows(w.variant, blockOpen, name, !c.opens))
				// Opening has no say in the time: the gate stays as it is.
				w.must("shut and open", errors.Join(f.Shut(host4(1, 1)), f.Open(host4(1, 1))))
				w.check(rows(w.variant, blockOpen, name+", opened again", !c.opens))
				w.must("uninstall", f.Uninstall())
			})
		})
	}
}
