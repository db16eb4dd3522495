package netdev

import (
	"sync"
	"time"
)

const (
	// expectedMax bounds the removals that are remembered until their notifications come. More than that are not
	// remembered; then the Watcher tells of them, which costs one look.
	expectedMax = 1 << 14

	// expectedFor is how long a notification may take. It is sent within the request, so what is late was lost.
	expectedFor = time.Second
)

// expected is the list of IPv6 removals of this process whose notifications are still to come. The kernel names the
// requester in the notifications of IPv4 addresses, routes and rules, but for IPv6 addresses it says 0, as if it had removed
// the address itself (inet6_ifa_notify).
type expected struct {
	mu   sync.Mutex
	gone map[AddressKey]time.Time // when it was asked for
}

func newExpected() *expected { return &expected{gone: map[AddressKey]time.Time{}} }

func (e *expected) expect(all []addrMsg) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for k, asked := range e.gone {
		if now.Sub(asked) > expectedFor {
			delete(e.gone, k)
		}
	}
	for _, m := range all {
		if len(e.gone) >= expectedMax {
			return
		}
		e.gone[AddressKey{m.index, m.prefix.Addr()}] = now
	}
}

func (e *expected) forget(m addrMsg) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.gone, AddressKey{m.index, m.prefix.Addr()})
}

// take says whether the removal was expected; the next one of the same address is not.
func (e *expected) take(m addrMsg) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := AddressKey{m.index, m.prefix.Addr()}
	asked, ours := e.gone[k]
	delete(e.gone, k)
	return ours && m.prefix.IsSingleIP() && time.Since(asked) <= expectedFor
}

// clear forgets everything: the notifications were lost.
func (e *expected) clear() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.gone)
}

func (a *Addresses) requester() (port uint32, own *expected) { return a.conn.port, a.own }

func (r *Router) requester() (port uint32, own *expected) { return r.conn.port, nil }
