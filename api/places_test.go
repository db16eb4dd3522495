package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"
)

// Row S10 of the attacks: idle connections do not keep a member or the local socket out.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	w := newWorld(t)
	var conns []net.Conn
	for i := range 2 * connsMax {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%8))}}
		conn, err := d.Dial("tcp", w.addrs[0])
		must(t, err)
		defer conn.Close()
		conns = append(conns, conn)
	}
	member := NewClient(w.addrs[0], w.nodes[1].id.ClientTLS())
	member.Timeout = 5 * time.Second
	_, err := member.Nodes(context.Background())
	must(t, err)
	_, err = w.local(0).Nodes(context.Background())
	must(t, err)
	open := len(conns)
	for deadline := time.Now().Add(5 * time.Second); open > connsMax-connsMembers && time.Now().Before(deadline); {
		open = 0
		for _, c := range conns { // what the server has closed is known here a moment later
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				open++
			}
		}
	}
	if open > connsMax-connsMembers {
		t.Errorf("%d silent connections are open", open)
	}
}

// sourced is a connection that only has an address.
type sourced struct {
	net.Conn
	ip netip.Addr
}

func (s *sourced) Close() error { return nil }

func TestPlaces(t *testing.T) {
	refused := 0
	p := &places{refused: func() { refused++ }}
	conn := func(ip string, member bool) *placed {
		a := netip.MustParseAddr(ip)
		return &placed{Conn: &sourced{ip: a}, p: p, source: a, member: member}
	}
	enter := func(c *placed, wantLoser, wantOK bool) {
		t.Helper()
		loser, ok := p.enter(c)
		if (loser != nil) != wantLoser || ok != wantOK {
			t.Fatalf("%s: lost %v, in %v", c.source, loser, ok)
		}
	}
	var mine []*placed
	for range connsPerSource {
		mine = append(mine, conn("198.51.100.1", false))
		enter(mine[len(mine)-1], false, true)
	}
	p.state(mine[0], http.StateActive)
	enter(conn("198.51.100.1", false), true, true)
	if p.conns[0] != mine[0] || p.conns[1] != mine[2] {
		t.Error("not the oldest idle one lost its place")
	}
	for _, c := range p.conns {
		p.state(c, http.StateActive)
	}
	enter(conn("198.51.100.1", false), false, false) // all of its source are at work
	for i := 0; len(p.conns) < connsMax-connsMembers; i++ {
		c := conn(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}).String(), false)
		enter(c, false, true)
		p.state(c, http.StateActive)
	}
	enter(conn("203.0.114.1", false), false, false) // the rest is the members'
	for range connsMembers {
		enter(conn("192.0.2.1", true), false, true)
	}
	p.state(mine[0], http.StateIdle)
	enter(conn("192.0.2.2", true), true, true)
	if len(p.conns) != connsMax || p.conns[0] == mine[0] {
		t.Error("a member does not get the place of an idle stranger")
	}
	if err := p.conns[0].Close(); err != nil || len(p.conns) != connsMax-1 {
		t.Error("a closed connection holds its place")
	}
	if refused != 4 {
		t.Errorf("%d counted", refused)
	}
}
