package netdev

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

var (
	mac1 = net.HardwareAddr{0xde, 0xad, 0xbe, 0xef, 0xde, 0xad}
	vip4 = ip("192.0.2.10")
	vip6 = ip("2001:db8::10")
)

// unhex reads hex digits with blanks.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const padding = "000000000000000000000000000000000000"

func TestARPBytes(t *testing.T) {
	both, err := arpAnnouncements(mac1, vip4)
	if err != nil {
		t.Fatal(err)
	}
	probe, err := arpQuestion(mac1, netip.IPv4Unspecified(), vip4)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		packet *arp.Packet
		want   string
	}{
		{"request", both[0], "ffffffffffff deadbeefdead 0806 0001 0800 06 04 0001 deadbeefdead c000020a 000000000000 c000020a" + padding},
		{"reply", both[1], "ffffffffffff deadbeefdead 0806 0001 0800 06 04 0002 deadbeefdead c000020a deadbeefdead c000020a" + padding},
		{"probe", probe, "ffffffffffff deadbeefdead 0806 0001 0800 06 04 0001 deadbeefdead 00000000 000000000000 c000020a" + padding},
	} {
		b, err := marshalARP(row.packet, ethernet.Broadcast)
		if err != nil {
			t.Fatal(err)
		}
		if want := unhex(t, row.want); !bytes.Equal(b, want) {
			t.Errorf("%s:\n%x, want\n%x", row.name, b, want)
		}
		back, err := parseARP(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(row.packet, back, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s came back different:\n%s", row.name, diff)
		}
	}
}

func TestARPRefused(t *testing.T) {
	if _, err := arpAnnouncements(mac1, vip6); err == nil {
		t.Error("ARP for an IPv6 address")
	}
	if _, err := arpAnnouncements(mac1[:4], vip4); err == nil {
		t.Error("ARP from a MAC of 4 bytes")
	}
	if _, err := arpQuestion(mac1, netip.IPv4Unspecified(), vip6); err == nil {
		t.Error("probe of an IPv6 address")
	}
}

// notARP are frames that must neither parse nor pass the filter.
var notARP = map[string]string{
	"empty":            "",
	"header only":      "ffffffffffff deadbeefdead 0806",
	"one byte short":   "ffffffffffff deadbeefdead 0806 0001 0800 06 04 0001 deadbeefdead c000020a 000000000000 c00002",
	"IPv4":             "ffffffffffff deadbeefdead 0800 0001 0800 06 04 0001 deadbeefdead c000020a 000000000000 c000020a",
	"token ring":       "ffffffffffff deadbeefdead 0806 0006 0800 06 04 0001 deadbeefdead c000020a 000000000000 c000020a",
	"for IPv6":         "ffffffffffff deadbeefdead 0806 0001 86dd 06 04 0001 deadbeefdead c000020a 000000000000 c000020a",
	"long MAC":         "ffffffffffff deadbeefdead 0806 0001 0800 ff 04 0001 deadbeefdead c000020a 000000000000 c000020a",
	"address of 16":    "ffffffffffff deadbeefdead 0806 0001 0800 06 10 0001 deadbeefdead c000020a 000000000000 c000020a",
	"address of 0":     "ffffffffffff deadbeefdead 0806 0001 0800 06 00 0001 deadbeefdead c000020a 000000000000 c000020a",
	"MAC of 0 bytes":   "ffffffffffff deadbeefdead 0806 0001 0800 00 04 0001 deadbeefdead c000020a 000000000000 c000020a",
	"VLAN before ARP":  "ffffffffffff deadbeefdead 8100 0064 0806 0001 0800 06 04 0001 deadbeefdead c000020a 000000000000 c000020a",
	"neighbor message": "333300000001 deadbeefdead 86dd 60000000 0020 3a ff 20010db8000000000000000000000010",
}

func TestNotARP(t *testing.T) {
	for name, frame := range notARP {
		if _, err := parseARP(unhex(t, frame)); !errors.Is(err, errNotARP) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestStationFilter runs the part of the filter that looks at bytes; the rest needs the kernel, see TestOwnFramesAndVLANs.
func TestStationFilter(t *testing.T) {
	run := func(frame []byte) int {
		vm, err := bpf.NewVM(stationBytes())
		if err != nil {
			t.Fatal(err)
		}
		n, err := vm.Run(frame)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	both, _ := arpAnnouncements(mac1, vip4)
	frame, _ := marshalARP(both[0], ethernet.Broadcast)
	if n := run(frame); n != etherLen+arpLen {
		t.Errorf("ARP: kept %d bytes", n)
	}
	na, _ := neighborAdvertisement(mac1, vip6, false)
	if n := run(na); n == 0 {
		t.Error("a neighbor advertisement was dropped")
	}
	for name, change := range map[string]func([]byte){
		"not ICMPv6":        func(b []byte) { b[20] = unix.IPPROTO_UDP },
		"through a router":  func(b []byte) { b[21] = ndpHopLimit - 1 },
		"a solicitation":    func(b []byte) { b[etherLen+ipv6Len] = 135 },
		"another EtherType": func(b []byte) { b[13] = 0 },
	} {
		b := slices.Clone(na)
		change(b)
		if n := run(b); n != 0 {
			t.Errorf("neighbor message, %s: kept %d bytes", name, n)
		}
		if _, _, ok := parseStation(b); ok {
			t.Errorf("neighbor message, %s: parsed", name)
		}
	}
	for name, s := range notARP {
		if name == "one byte short" { // the filter does not look at the end, the parser does
			continue
		}
		if n := run(unhex(t, s)); n != 0 {
			t.Errorf("%s: kept %d bytes", name, n)
		}
	}
}

func TestParseStation(t *testing.T) {
	other := net.HardwareAddr{2, 0, 0, 0, 0, 7}
	both, _ := arpAnnouncements(mac1, vip4)
	frame, _ := marshalARP(both[1], ethernet.Broadcast)
	if ip, mac, ok := parseStation(frame); !ok || ip != vip4 || mac.String() != mac1.String() {
		t.Errorf("ARP: %v at %v, %v", ip, mac, ok)
	}
	na, _ := neighborAdvertisement(mac1, vip6, false)
	copy(na[6:], other) // a proxy sends it: the option counts
	if ip, mac, ok := parseStation(na); !ok || ip != vip6 || mac.String() != mac1.String() {
		t.Errorf("NA: %v at %v, %v", ip, mac, ok)
	}
	na[19] = 24 // without its option
	if ip, mac, ok := parseStation(na); !ok || ip != vip6 || mac.String() != other.String() {
		t.Errorf("NA without an option: %v at %v, %v", ip, mac, ok)
	}
}

func TestNeighborAdvertisement(t *testing.T) {
	for _, router := range []bool{false, true} {
		b, err := neighborAdvertisement(mac1, vip6, router)
		if err != nil {
			t.Fatal(err)
		}
		flags, sum := "20", "7ec2"
		if router {
			flags, sum = "a0", "fec1"
		}
		want := unhex(t, "333300000001 deadbeefdead 86dd 6000 0000 0020 3a ff"+
			"20010db8000000000000000000000010 ff020000000000000000000000000001"+
			"88 00 "+sum+flags+"000000 20010db8000000000000000000000010 02 01 deadbeefdead")
		if !bytes.Equal(b, want) {
			t.Errorf("router %t:\n%x, want\n%x", router, b, want)
		}
		checkSum(t, b)
		m, err := ndp.ParseMessage(b[etherLen+ipv6Len:])
		if err != nil {
			t.Fatal(err)
		}
		na := m.(*ndp.NeighborAdvertisement)
		if na.Solicited || !na.Override || na.Router != router || na.TargetAddress != vip6 {
			t.Errorf("came back as %+v", na)
		}
	}
	for _, bad := range []netip.Addr{vip4, {}, netip.MustParseAddr("::ffff:192.0.2.10")} {
		if _, err := neighborAdvertisement(mac1, bad, false); !errors.Is(err, ErrAddress) {
			t.Errorf("%v: error %v", bad, err)
		}
	}
}

// checkSum verifies the ICMPv6 checksum as a receiver does, RFC 8200 section 8.1.
func checkSum(t *testing.T, frame []byte) {
	t.Helper()
	message := frame[etherLen+ipv6Len:]
	pseudo := append(bytes.Clone(frame[22:54]), 0, 0, 0, byte(len(message)), 0, 0, 0, unix.IPPROTO_ICMPV6)
	var sum uint32
	for all := slices.Concat(pseudo, message); len(all) > 0; all = all[2:] {
		sum += uint32(all[0])<<8 | uint32(all[1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	if sum != 0xffff {
		t.Errorf("ICMPv6 checksum is wrong: %#x", sum)
	}
}

func TestLifetime(t *testing.T) {
	for _, row := range []struct {
		d    time.Duration
		want uint32
	}{
		{0, forever},
		{1, 1},
		{time.Millisecond, 1},
		{time.Second - 1, 1},
		{time.Second, 1},
		{time.Second + 1, 2},
		{1500 * time.Millisecond, 2},
		{(forever - 1) * time.Second, forever - 1},
		{forever * time.Second, forever - 1},
		{math.MaxInt64, forever - 1},
	} {
		if got, err := lifetime(row.d); got != row.want || err != nil {
			t.Errorf("%v: %d, %v, want %d", row.d, got, err, row.want)
		}
	}
	_, err := lifetime(-1)
	wantErr(t, err, ErrLifetime)
}

var compareAddrMsg = cmp.Options{cmp.AllowUnexported(addrMsg{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}

func TestAddrMsgRoundTrip(t *testing.T) {
	for _, m := range []addrMsg{
		managedAddr(3, "eth0", vip4, 2),
		managedAddr(3, "eth0", vip6, 2),
		managedAddr(math.MaxInt32, "a-long-name-15b", vip4, forever),
		{index: 1, prefix: netip.MustParsePrefix("127.0.0.1/8"), scope: unix.RT_SCOPE_HOST, flags: unix.IFA_F_PERMANENT, label: "lo", valid: forever, preferred: forever},
		{index: 2, prefix: netip.MustParsePrefix("fe80::1/64"), scope: unix.RT_SCOPE_LINK, proto: 3, valid: 10, preferred: 5},
	} {
		back, err := parseAddrMsg(m.marshal())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, back, compareAddrMsg); diff != "" {
			t.Errorf("came back different:\n%s", diff)
		}
	}
}

func TestMarked(t *testing.T) {
	v4, v6 := managedAddr(3, "eth0", vip4, 2), managedAddr(3, "eth0", vip6, 2)
	if v4.label != "eth0:hv" {
		t.Errorf("label %q", v4.label)
	}
	if long := managedAddr(3, "a-long-name-15b", vip4, 2).label; long != "a-long-name-:hv" {
		t.Errorf("label %q of a long name", long)
	}
	edit := func(m addrMsg, f func(*addrMsg)) addrMsg { f(&m); return m }
	unsaid := func(m *addrMsg) { m.proto = 0 }
	for _, row := range []struct {
		name           string
		m              addrMsg
		named, unnamed bool // on a kernel with and without IFA_PROTO
	}{
		{"ours, IPv4", v4, true, true},
		{"ours, IPv6", v6, true, true},
		{"ours, IPv4, as an old kernel says it", edit(v4, unsaid), true, true},
		{"ours, IPv6, as an old kernel says it", edit(v6, unsaid), false, true},
		{"mark by number alone", edit(v4, func(m *addrMsg) { m.label = "eth0" }), true, true},
		{"somebody's /32", edit(v4, func(m *addrMsg) { m.proto, m.label = 0, "eth0" }), false, false},
		{"somebody's /128 from DHCP", edit(v6, func(m *addrMsg) { m.proto, m.preferred = 0, 60 }), false, false},
		{"a whole subnet is never ours", edit(v4, func(m *addrMsg) { m.prefix = netip.MustParsePrefix("192.0.2.10/24") }), false, false},
	} {
		if marked(row.m, false) != row.named || marked(row.m, true) != row.unnamed {
			t.Errorf("%s: %t and %t", row.name, marked(row.m, false), marked(row.m, true))
		}
	}
}

func TestHostIP(t *testing.T) {
	if got, err := hostIP(ip("::ffff:192.0.2.10")); got != vip4 || err != nil {
		t.Errorf("mapped: %v, %v", got, err)
	}
	for _, bad := range []netip.Addr{{}, ip("0.0.0.0"), ip("::"), ip("127.0.0.1"), ip("::1"), ip("224.0.0.1"), ip("ff02::1"), ip("fe80::1%eth0"), ip("255.255.255.255")} {
		_, err := hostIP(bad)
		wantErr(t, err, ErrAddress)
	}
}

func FuzzParseARP(f *testing.F) {
	both, _ := arpAnnouncements(mac1, vip4)
	frame, _ := marshalARP(both[0], ethernet.Broadcast)
	f.Add(frame)
	for _, s := range notARP {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseARP(b)
		if err != nil {
			return
		}
		again, err := marshalARP(p, ethernet.Broadcast)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again[etherLen:etherLen+arpLen], b[etherLen:etherLen+arpLen]) {
			t.Fatalf("%x came back as %x", b, again)
		}
	})
}

func FuzzParseAddrMsg(f *testing.F) {
	f.Add(managedAddr(3, "eth0", vip4, 2).marshal())
	f.Add(managedAddr(3, "eth0", vip6, 2).marshal())
	f.Add([]byte{2, 32, 0, 0, 1, 0, 0, 0, 5, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseAddrMsg(b)
		if err != nil || len(m.label) > labelLen {
			return
		}
		back, err := parseAddrMsg(m.marshal())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, back, compareAddrMsg); diff != "" {
			t.Fatalf("came back different:\n%s", diff)
		}
	})
}
