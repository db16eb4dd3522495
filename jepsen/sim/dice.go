package sim

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// dice is one source of chance. Each link and each host has its own, so that what one
// does shifts nobody else's luck: that keeps two plays of one schedule alike for longer.
// It is used with the world's lock held.
type dice struct{ *rand.Rand }

func newDice(seed uint64, what uint64) dice { return dice{rand.New(rand.NewPCG(seed, what))} }

func (d dice) percent(p int) bool { return p > 0 && d.IntN(100) < p }

// between gives a duration from lo to hi.
func (d dice) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(d.Int64N(int64(hi-lo)))
}

// diskTime is how long a write with fsync takes on a good SSD.
func (d dice) diskTime() time.Duration { return d.between(100*time.Microsecond, 600*time.Microsecond) }

func addrFrom(ip [4]byte) netip.Addr { return netip.AddrFrom4(ip) }
