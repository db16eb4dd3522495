package membership

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

const (
	waitingMax       = 64 // connections in all that have not proved yet who they are
	waitingPerSource = 16 // of one source address
)

// waiting holds the connections that have not proved yet who they are. Any host can make
// those, so there is a limit in all and one for each source. A new connection is never made to
// wait for a place: it takes that of the oldest one of its own source, or of a source where
// no member is. One that speaks is done in some milliseconds; what has been silent for the
// longest time loses its place first.
type waiting struct {
	member func(netip.Addr) bool // whether a member has this address
	mu     sync.Mutex
	conns  []waiter // the oldest first
}

type waiter struct {
	conn   net.Conn
	source netip.Addr
	member bool
}

// enter takes a connection in. It returns the one that loses its place, if any; that may be the
// new one, when members hold all places.
func (w *waiting) enter(conn net.Conn) (loser net.Conn) {
	n := waiter{conn: conn, source: sourceOf(conn)}
	n.member = w.member(n.source)
	w.mu.Lock()
	defer w.mu.Unlock()
	same := func(o waiter) bool { return o.source == n.source }
	count := 0
	for _, o := range w.conns {
		if same(o) {
			count++
		}
	}
	at := -1
	switch {
	case count >= waitingPerSource:
		at = slices.IndexFunc(w.conns, same)
	case len(w.conns) >= waitingMax:
		at = slices.IndexFunc(w.conns, func(o waiter) bool { return !o.member })
		if at < 0 && !n.member {
			return conn
		}
		at = max(at, 0) // members only: the oldest
	}
	if at >= 0 {
		loser = w.conns[at].conn
		w.conns = slices.Delete(w.conns, at, at+1)
	}
	w.conns = append(w.conns, n)
	return loser
}

// leave gives the place of a connection back; false when it had lost it.
func (w *waiting) leave(conn net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := slices.IndexFunc(w.conns, func(o waiter) bool { return o.conn == conn })
	if at < 0 {
		return false
	}
	w.conns = slices.Delete(w.conns, at, at+1)
	return true
}

// sourceOf returns the address that a connection comes from; the zero one if it has none.
func sourceOf(conn net.Conn) netip.Addr {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
