package scenario

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv6"
)

// An IPv6 HAVIP is a /128 without duplicate address detection, announced by unsolicited
// neighbour advertisements: a client follows it to the next owner.
func TestIPv6HAVIP(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	v6 := func(last int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd00:77::%d", last)) }
	for i, h := range append(b.Lab.Nodes(), b.Lab.Client()) {
		b.must(h.Do(func() error {
			a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(v6(11+i), 64)), Flags: 0x02} // IFA_F_NODAD
			return netlink.AddrAdd(eth0(), a)
		}))
	}
	for i, h := range b.Lab.Nodes() {
		b.must(h.Do(func() error { return echo6(t, b.Cluster.NodeName(i+1)) }))
	}
	b.Eventually("the IPv6 subnet", func() bool {
		return strings.Contains(string(b.CLI(1, "subnet", "list")), "fd00:77::/64")
	})
	havip := v6(100)
	b.CLI(1, "havip", "create", "six", "--ip", havip.String(), "--no-range-limit")
	owner := func() string { return b.owners(b.other())["six"] }
	var old, now string
	b.Eventually("an owner", func() bool { old = owner(); return old != "" })

	c := ask6(t, b, havip)
	c.from(old, "before")
	for i := range b.Lab.Nodes() {
		if b.Cluster.NodeName(i+1) != old {
			b.CLI(i+1, "havip", "move", "six", "--to", b.Cluster.NodeName(i+1))
			break
		}
	}
	b.Eventually("the move", func() bool { now = owner(); return now != old && now != "" })
	c.from(now, "after the move")
	if out := b.CLI(1, "havip", "show", "six"); !contains(out, havip.String()) {
		t.Errorf("havip show: %s", out)
	}
}

// echo6 answers UDP over IPv6 with a name, from the address that was asked; it runs in the
// host's namespace and ends with the test.
func echo6(t *testing.T, name string) error {
	conn, err := net.ListenPacket("udp6", fmt.Sprintf("[::]:%d", port+1))
	if err != nil {
		return err
	}
	p := newPacketConn6(conn)
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 64)
		for {
			_, cm, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = p.WriteTo([]byte(name), replyFrom(cm), from)
		}
	})
	t.Cleanup(func() { _ = conn.Close(); wg.Wait() })
	return nil
}

// asker6 is a client of an IPv6 HAVIP.
type asker6 struct {
	t    *testing.T
	conn net.Conn
}

func ask6(t *testing.T, b *Bed, havip netip.Addr) *asker6 {
	a := &asker6{t: t}
	b.must(b.Lab.Client().Do(func() (err error) {
		a.conn, err = net.Dial("udp6", netip.AddrPortFrom(havip, port+1).String())
		return err
	}))
	t.Cleanup(func() { _ = a.conn.Close() })
	return a
}

// from demands that a node answers before long.
func (a *asker6) from(node, when string) {
	a.t.Helper()
	buf := make([]byte, 64)
	last := ""
	for end := time.Now().Add(ownedWait); time.Now().Before(end); {
		_, _ = a.conn.Write([]byte("?"))
		_ = a.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := a.conn.Read(buf); err == nil {
			if last = string(buf[:n]); last == node {
				return
			}
		}
	}
	a.t.Errorf("%s: %q answers, not %s", when, last, node)
}

func newPacketConn6(conn net.PacketConn) *ipv6.PacketConn {
	p := ipv6.NewPacketConn(conn)
	_ = p.SetControlMessage(ipv6.FlagDst, true)
	return p
}

func replyFrom(cm *ipv6.ControlMessage) *ipv6.ControlMessage {
	if cm == nil {
		return nil
	}
	return &ipv6.ControlMessage{Src: cm.Dst}
}
