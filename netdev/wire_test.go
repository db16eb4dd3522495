package netdev

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/ethernet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// silence drops, at the device's egress, what names vip4 as target, as a shut fence does.
func (l *lab) silence(device string) (undo func()) {
	l.Helper()
	c, err := nftables.New()
	l.must(err)
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: "silence"})
	chain := c.AddChain(&nftables.Chain{Name: "out", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookEgress,
		Priority: nftables.ChainPriorityFilter, Device: device})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 4}, // target of ARP
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: vip4.AsSlice()},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	l.must(c.Flush())
	return func() {
		c.DelTable(table)
		l.must(c.Flush())
	}
}

// TestAnnounceAll: a thousand addresses are all heard; one that the fence drops says so and holds up no other.
func TestAnnounceAll(t *testing.T) {
	l, eth0 := newWire(t)
	a := l.announcer(eth0)
	conn := l.capture("p0")
	raw, err := conn.SyscallConn()
	l.must(err)
	l.must(raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	}))
	l.must(err)
	ips := append(many(1000, false), many(1000, true)...)
	l.must(errors.Join(a.AnnounceAll(ips)...))
	heard := map[netip.Addr]int{}
	for total := 0; total < 3*1000; {
		b := l.next(conn, func(b []byte) bool { _, _, ok := parseStation(b); return ok })
		ip, mac, _ := parseStation(b)
		if bytes.Equal(mac, l.link(l.hostH, "eth0").Attrs().HardwareAddr) {
			heard[ip]++
			total++
		}
	}
	for _, ip := range ips {
		if want := map[bool]int{true: 2, false: 1}[ip.Is4()]; heard[ip] != want {
			t.Fatalf("%v: heard %d times", ip, heard[ip])
		}
	}
	undo := l.silence("eth0")
	errs := a.AnnounceAll([]netip.Addr{ips[0], vip4, ip("224.0.0.1"), ips[1], vip6})
	for i, want := range []error{nil, ErrFenced, ErrAddress, nil, nil} {
		if !errors.Is(errs[i], want) || want == nil && errs[i] != nil {
			t.Errorf("announcement %d: %v, want %v", i, errs[i], want)
		}
	}
	undo()
	l.must(errors.Join(a.AnnounceAll([]netip.Addr{vip4})...))
	l.up(l.hostH, "eth0", false)
	for _, err := range a.AnnounceAll([]netip.Addr{vip4, vip6}) {
		wantErr(t, err, unix.ENETDOWN)
	}
	l.must(l.hostH.LinkDel(l.link(l.hostH, "eth0")))
	for _, err := range a.AnnounceAll([]netip.Addr{vip4, vip6}) {
		wantErr(t, err, ErrNoDevice)
	}
}

// TestOwnFramesAndVLANs: a socket for all protocols is shown what the host itself sends, and frames of VLANs without their
// tag. Neither is somebody who has the address.
func TestOwnFramesAndVLANs(t *testing.T) {
	l, eth0 := newWire(t)
	conn, err := listenStations(eth0, "eth0", unix.ETH_P_ALL)
	l.must(err)
	defer conn.Close()
	var peer *Announcer
	l.inPeer(func() { peer = l.announcer(l.link(l.peerH, "p0").Attrs().Index) })
	both, err := arpAnnouncements(mac1, vip4)
	l.must(err)
	b, err := marshalARP(both[1], ethernet.Broadcast)
	l.must(err)
	tagged := append(append(bytes.Clone(b[:12]), 0x81, 0, 0, 100), b[12:]...)
	_, err = l.announcer(eth0).Announce(ip("192.0.2.1")) // our own
	l.must(err)
	l.must(errors.Join(sendFrames(peer.conn, peer.index, []frame{{ethernet.Broadcast, tagged}})...))
	l.must(errors.Join(peer.AnnounceAll([]netip.Addr{ip("192.0.2.254")})...))
	got := l.next(conn, func([]byte) bool { return true })
	if ip, _, ok := parseStation(got); !ok || ip.String() != "192.0.2.254" {
		t.Errorf("heard %v first", ip)
	}
}

// TestClaimsOfIPv6 hears the neighbor advertisement of a foreign station.
func TestClaimsOfIPv6(t *testing.T) {
	l, eth0 := newWire(t)
	theirs := l.link(l.peerH, "p0").Attrs().HardwareAddr
	listener := NewClaimListener(eth0, func(a netip.Addr) bool { return a == vip6 }, func(net.HardwareAddr) bool { return false })
	claims := make(chan Claim, 100)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := l.start(func() error { return listener.Run(ctx, func(c Claim) { claims <- c }) })
	var peer *Announcer
	l.inPeer(func() { peer = l.announcer(l.link(l.peerH, "p0").Attrs().Index) })
	l.eventually("the claim is heard", func() bool {
		l.inPeer(func() { l.must(errors.Join(peer.AnnounceAll([]netip.Addr{vip6, ip("2001:db8::77")})...)) })
		return len(claims) > 0
	})
	if c := <-claims; c.IP != vip6 || !bytes.Equal(c.MAC, theirs) || c.Device != "eth0" {
		t.Errorf("%+v", c)
	}
	cancel()
	wantErr(t, within(l, "the listener ends", done), context.Canceled)
}

func TestMeter(t *testing.T) {
	m := meter{limit: 3}
	began := time.Now()
	for range 4 {
		m.wait(context.Background())
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("4 events at 3 a second took %v", took)
	}
}

// TestProbeAll asks for many at once, with nobody learning who asked, while the fence keeps the answers from the host.
func TestProbeAll(t *testing.T) {
	l, eth0 := newWire(t)
	theirs := l.link(l.peerH, "p0").Attrs().HardwareAddr
	taken := append(many(40, false), many(40, true)...)
	for _, a := range taken {
		l.addr(l.peerH, "p0", netip.PrefixFrom(a, a.BitLen()).String())
	}
	free := []netip.Addr{ip("10.9.9.9"), ip("2001:db8:e::1"), ip("192.0.2.1")} // the last is our own
	asked := append(append(append([]netip.Addr{}, taken...), free...), taken[0])
	var got map[netip.Addr][]net.HardwareAddr
	l.eventually("all are in use", func() bool { // IPv6: the peer joins the groups of its addresses later
		var err error
		got, err = ProbeAll(context.Background(), eth0, asked, 300*time.Millisecond)
		l.must(err)
		return len(got) >= len(taken)
	})
	if len(got) != len(taken) {
		t.Errorf("%d of %d are in use", len(got), len(taken))
	}
	for _, a := range taken {
		if macs := got[a]; len(macs) != 1 || !bytes.Equal(macs[0], theirs) {
			t.Errorf("%v: %v", a, macs)
		}
	}
	p0 := l.link(l.peerH, "p0").Attrs().Index
	for _, fam := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all, err := l.peerH.NeighList(p0, fam)
		l.must(err)
		for _, n := range all {
			if !n.IP.IsLinkLocalUnicast() && !n.IP.IsMulticast() {
				t.Errorf("the peer learned %v from a probe", n)
			}
		}
	}
	_, err := ProbeAll(context.Background(), eth0, []netip.Addr{{}}, time.Hour)
	wantErr(t, err, ErrAddress)
	l.silence("eth0")
	_, err = ProbeAll(context.Background(), eth0, []netip.Addr{vip4}, 10*time.Millisecond)
	wantErr(t, err, ErrFenced)
}

// TestAskAll: a gateway is asked as a neighbour asks, so it may answer to one address only; the first answer is enough.
func TestAskAll(t *testing.T) {
	l, eth0 := newWire(t)
	own, gateways := []netip.Addr{ip("192.0.2.1"), ip("2001:db8::1")}, []netip.Addr{ip("192.0.2.254"), ip("2001:db8::fe")}
	l.eventually("both gateways answer", func() bool { // IPv6: the peer joins the groups of its addresses later
		got, err := AskAll(context.Background(), eth0, own, gateways, 300*time.Millisecond)
		return err == nil && len(got) == len(gateways)
	})
	began := time.Now()
	got, err := AskAll(context.Background(), eth0, own, gateways, time.Minute)
	l.must(err)
	if len(got) != 2 || time.Since(began) > patience {
		t.Errorf("%v after %v", got, time.Since(began))
	}
	all, err := l.peerH.NeighList(0, netlink.FAMILY_V4)
	l.must(err)
	if len(all) != 1 || all[0].IP.String() != "192.0.2.1" {
		t.Errorf("the gateway was asked by %v", all)
	}
	got, err = AskAll(context.Background(), eth0, nil, []netip.Addr{ip("192.0.2.77")}, 50*time.Millisecond)
	if err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestNeighborSolicitation(t *testing.T) {
	f, err := neighborSolicitation(mac1, netip.IPv6Unspecified(), vip6)
	if err != nil {
		t.Fatal(err)
	}
	want := "3333ff000010 deadbeefdead 86dd 60000000 0018 3a ff 00000000000000000000000000000000 ff0200000000000000000001ff000010" +
		"8700 %04x 00000000 20010db8000000000000000000000010"
	sum := binary.BigEndian.Uint16(f.bytes[etherLen+ipv6Len+2:])
	if !bytes.Equal(f.bytes, unhex(t, fmt.Sprintf(want, sum))) || f.to.String() != "33:33:ff:00:00:10" {
		t.Errorf("%x to %v", f.bytes, f.to)
	}
	checkSum(t, f.bytes)
	if f, err = neighborSolicitation(mac1, ip("2001:db8::1"), vip6); err != nil || len(f.bytes) != etherLen+ipv6Len+32 {
		t.Errorf("with a sender: %x, %v", f.bytes, err)
	}
	_, err = neighborSolicitation(mac1, netip.IPv6Unspecified(), vip4)
	wantErr(t, err, ErrAddress)
}

// TestManySockets: the connections of several addresses end in one call, those of others do not.
func TestManySockets(t *testing.T) {
	l, eth0 := newWire(t)
	ips := []netip.Addr{vip4, vip6, ip("192.0.2.11"), ip("192.0.2.12")}
	l.must(errors.Join(l.addresses().AddAll(asRequests(eth0, ips, 0))...))
	var conns []net.Conn
	for _, ip := range ips {
		to := "192.0.2.254"
		if ip.Is6() {
			to = "2001:db8::fe"
		}
		for range 3 {
			conns = append(conns, l.dialFrom(ip, to))
		}
	}
	l.must(DestroySockets(ips[:3]...))
	for i, c := range conns {
		if i/3 < 3 && !aborted(c, patience) {
			t.Errorf("a connection of %v lives on", ips[i/3])
		}
		if i/3 == 3 && aborted(c, 20*time.Millisecond) {
			t.Error("a connection of another address died")
		}
	}
	l.must(errors.Join(DestroySockets(), FlushConntrack(), FlushConntrack(ips...)))
	wantErr(t, DestroySockets(vip4, netip.Addr{}), ErrAddress)
}

// TestSettings: one pass reads all devices, also after one went, came back or got another name, and after it was changed.
func TestSettings(t *testing.T) {
	l := newLab(t)
	l.veth("eth0", "p0")
	l.veth("eth1.5", "p1")
	s := NewSettings()
	defer s.Close()
	read := func(devices ...string) map[string]Setting {
		t.Helper()
		got, err := s.Read(devices)
		l.must(err)
		return got
	}
	for _, key := range settingKeys {
		sysctl(t, "all", key, "0")
		sysctl(t, "eth0", key, "0")
		sysctl(t, "eth1.5", key, "1")
	}
	want := map[string]Setting{"eth0": {Device: "eth0"}, "eth1.5": {Device: "eth1.5", Own: Conf{1, 1, 1}}}
	for range 3 {
		if got := read("eth0", "eth1.5", "gone"); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	l.must(errors.Join(Apply(Want(want["eth0"], true))...))
	l.must(errors.Join(Apply(Want(want["eth1.5"], true))...))
	if got := read("eth0", "eth1.5"); got["eth0"].Own != (Conf{1, 2, 0}) || got["eth1.5"].Own != (Conf{1, 2, 2}) {
		t.Errorf("after they were set: %v", got)
	}
	l.must(l.hostH.LinkSetName(l.link(l.hostH, "eth0"), "ens5"))
	if got := read("eth0", "ens5"); len(got) != 1 || got["ens5"].Own != (Conf{1, 2, 0}) {
		t.Errorf("after a new name: %v", got)
	}
	l.must(l.hostH.LinkDel(l.link(l.hostH, "ens5")))
	l.veth("ens5", "p0")
	if got := read("ens5"); got["ens5"].Own == (Conf{1, 2, 0}) {
		t.Errorf("a new device of that name has the old one's settings: %v", got)
	}
	if len(s.confs) != 2 {
		t.Errorf("files of %d devices are open", len(s.confs))
	}
	if _, err := s.Read([]string{"../all"}); !errors.Is(err, ErrNoDevice) {
		t.Errorf("error %v", err)
	}
	for _, err := range Apply([]Change{{"gone", "arp_ignore", 0, 1}, {"all", "arp_ignore", 0, 1}}) {
		wantErr(t, err, ErrNoDevice)
	}
}

func TestWant(t *testing.T) {
	for _, c := range []struct {
		what     string
		own, all Conf
		loose    bool
		want     []Change
		fault    bool
	}{
		{"defaults", Conf{}, Conf{}, false, []Change{{"x", "arp_ignore", 0, 1}, {"x", "arp_announce", 0, 2}}, false},
		{"strict path", Conf{1, 2, 0}, Conf{0, 0, 1}, true, []Change{{"x", "rp_filter", 0, 2}}, false},
		{"strict path, the way back is sure", Conf{1, 2, 0}, Conf{0, 0, 1}, false, nil, false},
		{"no path filter, or a loose one", Conf{1, 2, 2}, Conf{0, 0, 1}, true, nil, false},
		{"all is enough", Conf{}, Conf{1, 2, 0}, true, nil, false},
		{"stricter", Conf{2, 2, 0}, Conf{}, false, nil, false},
		{"never answers", Conf{8, 2, 0}, Conf{}, false, []Change{{"x", "arp_ignore", 8, 1}}, false},
		{"all answers nothing", Conf{}, Conf{8, 2, 0}, false, nil, true},
		{"all answers for others", Conf{1, 0, 0}, Conf{3, 0, 0}, false, []Change{{"x", "arp_announce", 0, 2}}, true},
	} {
		s := Setting{"x", c.own, c.all}
		if got := Want(s, c.loose); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
		if err := s.Fault(); c.fault != errors.Is(err, ErrGlobalSysctl) || s.Mute() != (c.all.ARPIgnore == 8) {
			t.Errorf("%s: fault %v, mute %v", c.what, err, s.Mute())
		}
	}
}

// TestReadOnly is FIELD.md A24: in a container /proc/sys cannot be written, and the error says which file.
func TestReadOnly(t *testing.T) {
	l := newLab(t)
	l.veth("eth0", "p0")
	sysctl(t, "eth0", "arp_ignore", "0")
	l.must(unix.Unshare(unix.CLONE_NEWNS)) // of this thread, which ends with the test
	l.must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	l.must(unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""))
	l.must(unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	s := NewSettings()
	defer s.Close()
	now, err := s.Read([]string{"eth0"})
	l.must(err)
	changes := Want(now["eth0"], false)
	if len(changes) == 0 {
		t.Fatal("nothing is to be changed: the test shows nothing")
	}
	for _, err := range Apply(changes) {
		wantErr(t, err, ErrReadOnly)
		var path *os.PathError
		if !errors.As(err, &path) || path.Path[:30] != "/proc/sys/net/ipv4/conf/eth0/a" {
			t.Errorf("%v", err)
		}
	}
}
