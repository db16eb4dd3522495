package api

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
)

const (
	connsMax       = 256 // open connections of the TLS listener in all; well below a soft limit of 1,024 descriptors
	connsPerSource = 64  // of one source address, when it is no member's
	connsMembers   = 64  // of connsMax, kept for the members' addresses
)

// places bounds the connections of the TLS listener, which anybody can make. The local socket has
// none of this: it is always served. A connection that finds no place takes that of the one
// that has been idle for the longest time: one that has sent nothing yet, or waits between two
// requests. It is refused when all are at work.
type places struct {
	net.Listener
	member func(netip.Addr) bool

	refused func() // counts one that was closed for want of a place

	mu    sync.Mutex
	conns []*placed // the longest idle first, the busy ones anywhere
}

// placed is a connection with a place.
type placed struct {
	net.Conn
	p      *places
	source netip.Addr
	member bool
	busy   bool // with p.mu held
}

// Accept implements net.Listener.
func (p *places) Accept() (net.Conn, error) {
	for {
		conn, err := p.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &placed{Conn: conn, p: p}
		if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			c.source = a.AddrPort().Addr().Unmap()
		}
		c.member = p.member(c.source)
		loser, ok := p.enter(c)
		if loser != nil {
			_ = loser.Close()
		}
		if ok {
			return c, nil
		}
		_ = conn.Close()
	}
}

// enter gives c a place. loser is who lost it.
func (p *places) enter(c *placed) (loser net.Conn, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	strangers, same := 0, 0
	for _, o := range p.conns {
		if !o.member {
			strangers++
		}
		if o.source == c.source {
			same++
		}
	}
	var at int
	idle := func(which func(*placed) bool) int {
		return slices.IndexFunc(p.conns, func(o *placed) bool { return !o.busy && which(o) })
	}
	stranger := func(o *placed) bool { return !o.member }
	switch {
	case !c.member && same >= connsPerSource:
		at = idle(func(o *placed) bool { return o.source == c.source })
	case !c.member && strangers >= connsMax-connsMembers:
		at = idle(stranger)
	case c.member && len(p.conns) >= connsMax:
		if at = idle(stranger); at < 0 {
			at = idle(func(*placed) bool { return true })
		}
	default:
		p.conns = append(p.conns, c)
		return nil, true
	}
	p.refused()
	if at < 0 {
		return nil, false
	}
	loser = p.conns[at].Conn
	p.conns = append(slices.Delete(p.conns, at, at+1), c)
	return loser, true
}

// state is called by the server when a connection begins or ends a request.
func (p *places) state(c net.Conn, s http.ConnState) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = t.NetConn()
	}
	mine, ok := c.(*placed)
	if !ok || s != http.StateActive && s != http.StateIdle {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	mine.busy = s == http.StateActive
	if at := slices.Index(p.conns, mine); at >= 0 && !mine.busy {
		p.conns = append(slices.Delete(p.conns, at, at+1), mine)
	}
}

// Close implements net.Conn.
func (c *placed) Close() error {
	c.p.mu.Lock()
	if at := slices.Index(c.p.conns, c); at >= 0 {
		c.p.conns = slices.Delete(c.p.conns, at, at+1)
	}
	c.p.mu.Unlock()
	return c.Conn.Close()
}

// ofMember reports whether a node of the cluster has this address.
func (s *Server) ofMember(source netip.Addr) bool {
	for _, n := range s.Backend.State().Nodes {
		if n.Address == source.String() {
			return true
		}
	}
	return false
}
