package tencent

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"havip-cluster/provider"
)

// breaker keeps a cloud that does not answer from being asked again and again: after breakAfter calls in a row
// without an answer, calls fail at once for a while, then one is tried.
type breaker struct {
	mu     sync.Mutex
	failed int       // in a row
	opened uint64    // how often the circuit opened
	until  time.Time // nobody asks before
	pause  time.Duration
	trying bool // one call is out to see whether the cloud is back
	why    string
}

// allow says whether a call may be made now.
func (b *breaker) allow(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed < breakAfter {
		return nil
	}
	if now.Before(b.until) || b.trying {
		return fmt.Errorf("%w: not asked for %v more after %d failures in a row, the last: %s", provider.ErrUnavailable, max(0, b.until.Sub(now)).Round(100*time.Millisecond), b.failed, b.why)
	}
	b.trying = true
	return nil
}

// state is whether calls are held back now, but for the one that tries, and how often that began. After the
// pause nothing is: whether the cloud is back is not known before somebody asks.
func (b *breaker) state(now time.Time) (open bool, opened uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed >= breakAfter && (now.Before(b.until) || b.trying), b.opened
}

// answered: the cloud spoke, be it a refusal.
func (b *breaker) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed, b.pause, b.trying, b.why = 0, 0, false, ""
}

// abandoned: the caller gave up before it was known.
func (b *breaker) abandoned() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}

// silent: the cloud did not speak.
func (b *breaker) silent(now time.Time, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed++
	if b.failed == breakAfter {
		b.opened++
	}
	b.trying, b.why = false, clip(strings.TrimPrefix(why, provider.ErrUnavailable.Error()+": "), 200)
	if b.failed >= breakAfter {
		b.pause = min(max(2*b.pause, breakFirst), breakMax)
		b.until = now.Add(b.pause)
	}
}
