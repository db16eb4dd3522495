package api

import (
	"fmt"
	"maps"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// joinLimiter counts refused tries by address. The secret of a token has 256 bits, so this
// does not protect it; it keeps a confused or hostile host from filling logs and CPU. A try that
// succeeds costs nothing: a switch behind one address may bring a whole rack in.
type joinLimiter struct {
	mu       sync.Mutex
	failures map[string]*rate.Limiter // of those that were refused in the last minute; at most joinAddressesMax
}

// wait returns for how long an address may not try; 0: it may now.
func (l *joinLimiter) wait(addr string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	one, known := l.failures[addr]
	if !known {
		if len(l.failures) >= joinAddressesMax {
			l.drop(now)
		}
		if len(l.failures) >= joinAddressesMax {
			return joinFailurePause
		}
		return 0
	}
	return time.Duration(max(0, (1-one.TokensAt(now))*float64(joinFailurePause)))
}

// failed counts a refused try.
func (l *joinLimiter) failed(addr string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failures == nil {
		l.failures = map[string]*rate.Limiter{}
	}
	one, known := l.failures[addr]
	if !known {
		one = rate.NewLimiter(rate.Every(joinFailurePause), joinFailuresMax)
		l.failures[addr] = one
	}
	one.AllowN(now, 1) // tries under way together may be more than there is room for
}

// drop forgets the addresses whose refusals are all made up for.
func (l *joinLimiter) drop(now time.Time) {
	maps.DeleteFunc(l.failures, func(_ string, one *rate.Limiter) bool { return one.TokensAt(now) >= joinFailuresMax })
}

// seconds is a duration for people and for Retry-After, rounded up.
func seconds(d time.Duration) string { return fmt.Sprint(int(math.Ceil(d.Seconds()))) }
