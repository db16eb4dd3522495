package owner

import (
	"sync"
	"time"

	"havip-cluster/failover/lease"
)

const (
	// latelyAgain is how long the same fault is not logged again.
	latelyAgain = time.Minute
	// latelyMax bounds the faults that are remembered for that.
	latelyMax = 1024
)

// recent remembers what was logged, so that what lasts or is repeated by others does not fill
// the log. Anybody may call it.
type recent struct {
	mu sync.Mutex
	at map[string]lease.Instant
}

// fresh reports whether something has not been said for latelyAgain, and notes that it is now.
func (l *recent) fresh(now lease.Instant, what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, before := l.at[what]; before && now.Sub(at) < latelyAgain {
		return false
	}
	if l.at == nil || len(l.at) >= latelyMax {
		l.at = map[string]lease.Instant{}
	}
	l.at[what] = now
	return true
}
