package netns

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"havip-cluster/testbed/labtest"
)

func TestPartition(t *testing.T) {
	l := newLab(t, Options{Nodes: 3, ENIs: 2})
	n, client := l.Nodes(), l.Client()
	check := func(when string, from, to *Host, want bool) {
		t.Helper()
		patience := labtest.PatienceCut
		if want {
			patience = labtest.PatienceOpen
		}
		if got := reaches(t, from, to.IP(0), patience); got != want {
			t.Errorf("%s: %s reaches %s: %v, want %v", when, from.Name, to.Name, got, want)
		}
	}
	labtest.Must(t, l.Partition([]*Host{n[0], client}, []*Host{n[1], n[2], client}))
	check("client in both groups", n[0], n[1], false)
	check("client in both groups", n[2], n[0], false)
	check("client in both groups", n[1], n[2], true)
	check("client in both groups", client, n[0], true)
	check("client in both groups", client, n[2], true)

	labtest.Must(t, l.Partition([]*Host{n[0]}, []*Host{n[1]}))
	check("node 3 in no group", n[0], n[1], false)
	check("node 3 in no group", n[0], n[2], true)
	check("node 3 in no group", client, n[1], true)

	labtest.Must(t, l.Heal())
	check("healed", n[0], n[1], true)
}

// TestOneWay: what is dropped in one direction arrives in the other.
func TestOneWay(t *testing.T) {
	l := newLab(t, Options{Nodes: 2})
	a, b := l.Node(1), l.Node(2)
	if !reaches(t, a, b.IP(0), labtest.PatienceOpen) { // both now know each other's MAC
		t.Fatal("no connection to begin with")
	}
	labtest.Must(t, l.OneWay(a, b))
	listen := func(h *Host) *net.UDPConn {
		return labtest.Try(t, func() (s *net.UDPConn, err error) {
			err = h.Do(func() (err error) { s, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 9}); return err })
			return s, err
		})
	}
	socketA, socketB := listen(a), listen(b)
	defer socketA.Close()
	defer socketB.Close()
	arrives := func(from, to *net.UDPConn, at netip.Addr) bool {
		_, err := from.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(at, 9))
		labtest.Must(t, err)
		_ = to.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, _, err = to.ReadFromUDP(make([]byte, 1))
		return err == nil
	}
	if arrives(socketA, socketB, b.IP(0)) {
		t.Error("the cut direction is open")
	}
	eventually(t, "the open direction is cut", func() bool { return arrives(socketB, socketA, a.IP(0)) })
	labtest.Must(t, l.Heal())
	eventually(t, "not healed", func() bool { return arrives(socketA, socketB, b.IP(0)) })
}

func TestLoss(t *testing.T) {
	l := newLab(t, Options{Nodes: 1})
	if l.Loss(101) == nil || l.Loss(-1) == nil {
		t.Error("impossible loss accepted")
	}
	p := probe(t, l, l.Node(1).IP(0))
	eventually(t, "nothing is answered", func() bool { return p.Report(0).Answered > 0 }) // resolve the MAC address first
	labtest.Must(t, l.Loss(30))
	before := p.Report(0)
	// Each round trip crosses the switch twice: 49 % arrive. Answers may wait where this process stands still.
	eventually(t, "not the share that is right under 30 % loss", func() bool {
		r := p.Report(0)
		sent, answered := r.Sent-before.Sent, r.Answered-before.Answered
		share := float64(answered) / float64(max(sent, 1))
		if sent < 800 || share < 0.35 || share > 0.7 {
			return false
		}
		t.Logf("%d of %d probes answered", answered, sent)
		return true
	})
	p.Stop()
}

// TestCloseLetsGo: with a partition and an observer, too, no descriptor of this process holds a
// namespace of a closed lab.
func TestCloseLetsGo(t *testing.T) {
	l, err := New(Options{Nodes: 2})
	labtest.Must(t, err)
	labtest.Must(t, l.Partition([]*Host{l.Node(1)}, []*Host{l.Node(2)}))
	o := observe(t, l, l.Address(100))
	names := namespaces(t, append(l.Nodes(), l.Switch(), o.host)...)
	held := func() (n int) {
		links, err := filepath.Glob("/proc/self/fd/*")
		labtest.Must(t, err)
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && slices.Contains(names, to) {
				n++
			}
		}
		return n
	}
	if held() < len(names) {
		t.Fatalf("%d descriptors of %d namespaces are found in the open lab", held(), len(names))
	}
	o.Stop()
	labtest.Must(t, l.Close())
	labtest.Must(t, l.Close())
	if n := held(); n != 0 {
		t.Errorf("%d descriptors hold namespaces of the closed lab", n)
	}
}
