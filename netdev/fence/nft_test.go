package fence

import (
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
		for _, verb := range []string{"renew", "open"} {
			t.Run(name+", "+verb, func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.variant = variants[2]
					w.bridged()
					now := BootNow
					w.clock = func() int64 { return now() }
					f := w.newFence()
					w.must("attach", f.Attach(index(w.eni)))
					t0 := BootNow()
					deadline := t0 + 60*second
					w.must("guard", f.Guard(host4(1, 1)))
					w.must("guard", f.Guard(host6(1, 1)))
					if verb == "open" {
						w.must("deadline", f.SetDeadline(deadline))
					}
					open := func() error {
						if err := f.Open(host4(1, 1)); err != nil {
							return err
						}
						return f.Open(host6(1, 1))
					}
					if verb == "renew" {
						w.must("open", open())
					}
					clock := c.clock(t0, deadline)
					now = clock.now
					var err error
					if verb == "renew" {
						err = f.SetDeadline(deadline)
					} else {
						err = open()
					}
					if (err != nil) != (name == "always slow") {
						t.Errorf("error %v", err)
					}
					if verb == "open" && name == "always slow" {
						w.must("the second one", f.Shut(host6(1, 1)))
					}
					w.check(rows(w.variant, blockOpen, name, !c.opens))
					w.must("uninstall", f.Uninstall())
				})
			})
		}
	}
}
