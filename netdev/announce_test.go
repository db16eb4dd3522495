package netdev

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestAnnouncementOnTheWire compares what the peer hears with what Announce says it sent, for a NIC with and without an
// IPv4 address.
func TestAnnouncementOnTheWire(t *testing.T) {
	l, eth0 := newWire(t)
	bare := l.veth("eth1", "p1")
	for _, nic := range []struct {
		name, peer string
		index      int
	}{{"eth0", "p0", eth0}, {"eth1", "p1", bare}} {
		a := l.announcer(nic.index)
		mac, err := a.MAC()
		l.must(err)
		for _, vip := range []netip.Addr{vip4, vip6} {
			conn := l.capture(nic.peer)
			sent, err := a.Announce(vip)
			l.must(err)
			if want := map[bool]int{true: 2, false: 1}[vip.Is4()]; len(sent) != want {
				t.Fatalf("%v: %d frames sent, want %d", vip, len(sent), want)
			}
			for _, frame := range sent {
				heard := l.next(conn, func(b []byte) bool { return bytes.Equal(b[6:12], mac) && bytes.Contains(b, vip.AsSlice()) })
				if !bytes.Equal(heard, frame) {
					t.Errorf("%s %v: heard\n%x, sent\n%x", nic.name, vip, heard, frame)
				}
			}
			checkAnnouncement(t, sent, mac, vip)
		}
	}
}

func checkAnnouncement(t *testing.T, sent Frames, mac net.HardwareAddr, vip netip.Addr) {
	t.Helper()
	if vip.Is6() {
		want, err := neighborAdvertisement(mac, vip, false)
		if err != nil || !bytes.Equal(sent[0], want) {
			t.Errorf("neighbor advertisement\n%x, want\n%x, %v", sent[0], want, err)
		}
		checkSum(t, sent[0])
		return
	}
	for i, op := range []arp.Operation{arp.OperationRequest, arp.OperationReply} {
		p, err := parseARP(sent[i])
		if err != nil || p.Operation != op || p.SenderIP != vip || p.TargetIP != vip || !bytes.Equal(p.SenderHardwareAddr, mac) {
			t.Errorf("frame %d: %+v, %v", i, p, err)
		}
	}
}

// TestNeighborsLearn: the neighbour table of a Linux peer, which knew the old owner, has our MAC after the announcement.
func TestNeighborsLearn(t *testing.T) {
	l, eth0 := newWire(t)
	a := l.announcer(eth0)
	p0 := l.link(l.peerH, "p0").Attrs().Index
	for _, vip := range []netip.Addr{vip4, vip6} {
		l.must(l.peerH.NeighSet(&netlink.Neigh{LinkIndex: p0, IP: vip.AsSlice(), HardwareAddr: mac1, State: netlink.NUD_REACHABLE}))
		known := func() net.HardwareAddr {
			all, err := l.peerH.NeighList(p0, family(vip))
			l.must(err)
			for _, n := range all {
				if n.IP.Equal(vip.AsSlice()) {
					return n.HardwareAddr
				}
			}
			return nil
		}
		if !bytes.Equal(known(), mac1) {
			t.Fatal("the peer does not know the old owner")
		}
		_, err := a.Announce(vip)
		l.must(err)
		mac, err := a.MAC()
		l.must(err)
		l.eventually("the peer learns "+vip.String(), func() bool { return bytes.Equal(known(), mac) })
	}
}

func TestAnnouncerFollowsTheDevice(t *testing.T) {
	l, eth0 := newWire(t)
	a := l.announcer(eth0)
	link := l.link(l.hostH, "eth0")
	changed := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	l.must(l.hostH.LinkSetHardwareAddr(link, changed))
	sent, err := a.Announce(vip4)
	l.must(err)
	if !bytes.Equal(sent[0][6:12], changed) {
		t.Errorf("announces %x after the MAC became %x", sent[0][6:12], changed)
	}
	l.must(os.WriteFile("/proc/sys/net/ipv6/conf/eth0/forwarding", []byte("1"), 0))
	sent, err = a.Announce(vip6)
	l.must(err)
	if flags := sent[0][etherLen+ipv6Len+4]; flags != 0xa0 {
		t.Errorf("a router advertises with flags %#x", flags)
	}
	l.up(l.hostH, "eth0", false)
	_, err = a.Announce(vip4)
	wantErr(t, err, unix.ENETDOWN)
	l.up(l.hostH, "eth0", true)
	_, err = a.Announce(vip4)
	l.must(err) // neither the error nor a deadline sticks
	_, err = a.Announce(ip("224.0.0.1"))
	wantErr(t, err, ErrAddress)

	l.must(l.hostH.LinkDel(link))
	_, err = a.Announce(vip4)
	wantErr(t, err, ErrNoDevice)
	_, err = a.MAC()
	wantErr(t, err, ErrNoDevice)
	_, err = NewAnnouncer(eth0)
	wantErr(t, err, ErrNoDevice)
}

func TestClaimListener(t *testing.T) {
	l, eth0 := newWire(t)
	ours := l.link(l.hostH, "eth0").Attrs().HardwareAddr
	theirs := l.link(l.peerH, "p0").Attrs().HardwareAddr
	watched := func(a netip.Addr) bool { return a == vip4 }
	listener := NewClaimListener(eth0, watched, func(m net.HardwareAddr) bool { return bytes.Equal(m, ours) })
	claims := make(chan Claim, 100)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := l.start(func() error { return listener.Run(ctx, func(c Claim) { claims <- c }) })

	var peer *Announcer
	l.inPeer(func() { peer = l.announcer(l.link(l.peerH, "p0").Attrs().Index) })
	claim := func(ip netip.Addr, mac net.HardwareAddr) {
		packets, err := arpAnnouncements(mac, ip)
		l.must(err)
		b, err := marshalARP(packets[1], ethernet.Broadcast)
		l.must(err)
		l.must(sendFrames(peer.conn, peer.index, []frame{{ethernet.Broadcast, b}})[0])
	}
	foreign := func() Claim {
		for {
			claim(ip("192.0.2.77"), theirs) // not watched
			claim(vip4, ours)               // ours, come back by a loop in the network
			_, err := peer.Announce(vip4)
			l.must(err)
			select {
			case c := <-claims:
				return c
			case <-time.After(20 * time.Millisecond): // the listener is not yet there
			}
		}
	}
	want := Claim{vip4, theirs, "eth0"}
	equal := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(want, foreign(), equal); diff != "" {
		t.Errorf("claim:\n%s", diff)
	}
	l.up(l.hostH, "eth0", false)
	l.up(l.hostH, "eth0", true)
	for len(claims) > 0 {
		<-claims
	}
	if diff := cmp.Diff(want, foreign(), equal); diff != "" {
		t.Errorf("claim after the device was down:\n%s", diff)
	}
	for len(claims) > 0 {
		if diff := cmp.Diff(want, <-claims, equal); diff != "" {
			t.Errorf("claim:\n%s", diff)
		}
	}
	cancel()
	wantErr(t, within(l, "the listener ends", done), context.Canceled)

	for len(claims) > 0 {
		<-claims
	}
	done = l.start(func() error {
		return listener.Run(context.Background(), func(c Claim) {
			select {
			case claims <- c:
			default:
			}
		})
	})
	foreign() // it listens
	l.must(l.hostH.LinkDel(l.link(l.hostH, "eth0")))
	wantErr(t, within(l, "the listener ends with its device", done), ErrNoDevice)
}

func TestProbe(t *testing.T) {
	l, eth0 := newWire(t)
	ctx := context.Background()
	theirs := l.link(l.peerH, "p0").Attrs().HardwareAddr
	var macs []net.HardwareAddr
	var err error
	l.eventually("the peer answers", func() bool {
		macs, err = Probe(ctx, eth0, ip("192.0.2.254"), 500*time.Millisecond)
		l.must(err)
		return len(macs) > 0
	})
	if len(macs) != 1 || !bytes.Equal(macs[0], theirs) {
		t.Errorf("answers %v, want %v", macs, theirs)
	}
	for _, nobody := range []string{"192.0.2.77", "192.0.2.1"} { // absent, and our own
		macs, err = Probe(ctx, eth0, ip(nobody), 100*time.Millisecond)
		l.must(err)
		if len(macs) != 0 {
			t.Errorf("%s: answers %v", nobody, macs)
		}
	}
	if all, err := l.peerH.NeighList(0, netlink.FAMILY_V4); err != nil || len(all) != 0 {
		t.Errorf("the peer learned from a probe: %v, %v", all, err)
	}
	_, err = Probe(ctx, eth0, vip6, time.Second)
	wantErr(t, err, ErrAddress)
	_, err = Probe(ctx, eth0+100, vip4, time.Second)
	wantErr(t, err, ErrNoDevice)
	ended, cancel := context.WithCancel(ctx)
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = Probe(ended, eth0, vip4, time.Hour)
	wantErr(t, err, context.Canceled)
}
