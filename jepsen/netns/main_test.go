package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"havip-cluster/testbed/labtest"
)

func TestMain(m *testing.M) {
	reenters.Store(true) // the child never reads it
	labtest.Main(m, enterEnv, enter)
}

// newLab builds a lab with a responder on every node.
func newLab(t *testing.T, options Options) *Lab {
	t.Helper()
	l, err := New(options)
	return labtest.Ready(t, l, err, DefaultPort)
}

// reaches reports whether to answers any question from from within patience.
func reaches(t *testing.T, from *Host, to netip.Addr, patience time.Duration) bool {
	t.Helper()
	return labtest.Try(t, func() (bool, error) { return from.Reaches(to, DefaultPort, patience) })
}

// setAddress adds or removes a /32, and announces what it added by gratuitous ARP as a request
// and as a reply.
func setAddress(t *testing.T, h *Host, eni int, addr netip.Addr, present bool) {
	t.Helper()
	labtest.Must(t, h.Do(func() error {
		link, err := netlink.LinkByName(h.Device(eni))
		if err != nil {
			return err
		}
		address := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(32, 32)}}
		if !present {
			return netlink.AddrDel(link, address)
		}
		if err := netlink.AddrAdd(link, address); err != nil {
			return err
		}
		return announce(h.MAC(eni), link.Attrs().Index, addr)
	}))
}

func announce(mac net.HardwareAddr, index int, addr netip.Addr) error {
	conn, err := packet.Listen(&net.Interface{Index: index}, packet.Raw, etherARP, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, op := range []uint16{opRequest, opReply} {
		f := arpFrame{to: all, from: mac, op: op, senderMAC: mac, targetMAC: mac, senderIP: addr, targetIP: addr}
		if _, err := conn.WriteTo(f.append(nil), &packet.Addr{HardwareAddr: all}); err != nil {
			return err
		}
	}
	return nil
}

func probe(t *testing.T, l *Lab, target netip.Addr) *Prober {
	t.Helper()
	p := labtest.Try(t, func() (*Prober, error) { return l.Probe(context.Background(), l.Client(), target, DefaultPort, 0) })
	t.Cleanup(p.Stop)
	return p
}

func observe(t *testing.T, l *Lab, havips ...netip.Addr) *Observer {
	t.Helper()
	o := labtest.Try(t, func() (*Observer, error) { return l.Observe(context.Background(), havips, DefaultPort, 0) })
	t.Cleanup(o.Stop)
	return o
}

// namespaces names those of hosts as links in /proc do.
func namespaces(t *testing.T, hosts ...*Host) (names []string) {
	t.Helper()
	for _, h := range hosts {
		var stat unix.Stat_t
		labtest.Must(t, unix.Fstat(h.Namespace(), &stat))
		names = append(names, fmt.Sprintf("net:[%d]", stat.Ino))
	}
	return names
}

// long is how long is waited for what must come.
const long = 20 * time.Second

// eventually waits for the kernel to finish what it does in the background.
func eventually(t *testing.T, failure string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(long); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(failure)
		}
	}
}

// try is one try at a measurement: what it finds wrong counts when the others find something, too.
type try struct {
	*testing.T
	wrong []string
}

func (a *try) Error(args ...any) { a.wrong = append(a.wrong, fmt.Sprint(args...)) }

func (a *try) Errorf(format string, args ...any) {
	a.wrong = append(a.wrong, fmt.Sprintf(format, args...))
}

// tries measures up to three times, each in a lab of its own: instruments and hosts are of this process, and on a busy
// machine it may stand still just then.
func tries(t *testing.T, measure func(t *try)) {
	t.Helper()
	for range 3 {
		a := &try{T: t}
		if measure(a); len(a.wrong) == 0 {
			return
		}
		t.Log(strings.Join(a.wrong, "\n"))
	}
	t.Error("that was so each time")
}
