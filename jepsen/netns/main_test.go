package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(enterEnv); text != "" {
		fmt.Fprintln(os.Stderr, enter(text))
		os.Exit(1)
	}
	reenters.Store(true)
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// newLab builds a lab with a responder on every node. A machine on which that is impossible
// fails the test: a skipped test proves nothing.
func newLab(t *testing.T, options Options) *Lab {
	t.Helper()
	l, err := New(options)
	if err != nil {
		t.Fatalf("these tests need root, or root of a user namespace: %v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, node := range l.Nodes() {
		stop, err := node.Respond(DefaultPort)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
	}
	return l
}

// Patience for a question to be answered. The kernel repeats an ARP request after one second, so
// what was cut a moment ago may take that long to be reached; what is cut needs no such wait.
const (
	patienceOpen = 4 * time.Second
	patienceCut  = 200 * time.Millisecond
)

// reaches reports whether to answers any question from from within patience.
func reaches(t *testing.T, from *Host, to netip.Addr, patience time.Duration) bool {
	t.Helper()
	return try(t, func() (bool, error) { return from.Reaches(to, DefaultPort, patience) })
}

// setAddress adds or removes a /32, and announces what it added by gratuitous ARP as a request
// and as a reply.
func setAddress(t *testing.T, h *Host, eni int, addr netip.Addr, present bool) {
	t.Helper()
	must(t, h.Do(func() error {
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
	p := try(t, func() (*Prober, error) { return l.Probe(context.Background(), l.Client(), target, DefaultPort, 0) })
	t.Cleanup(p.Stop)
	return p
}

func observe(t *testing.T, l *Lab, havips ...netip.Addr) *Observer {
	t.Helper()
	o := try(t, func() (*Observer, error) { return l.Observe(context.Background(), havips, DefaultPort, 0) })
	t.Cleanup(o.Stop)
	return o
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func try[T any](t *testing.T, f func() (T, error)) T {
	t.Helper()
	v, err := f()
	must(t, err)
	return v
}

// namespaces names those of hosts as links in /proc do.
func namespaces(t *testing.T, hosts ...*Host) (names []string) {
	t.Helper()
	for _, h := range hosts {
		var stat unix.Stat_t
		must(t, unix.Fstat(h.Namespace(), &stat))
		names = append(names, fmt.Sprintf("net:[%d]", stat.Ino))
	}
	return names
}

// eventually waits for the kernel to finish what it does in the background.
func eventually(t *testing.T, failure string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(failure)
		}
	}
}
