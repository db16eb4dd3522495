package netdev

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"havip-cluster/internal/limits"
)

// inventory lists the devices by name, and what was left out.
func (l *lab) inventory(keep ...string) (names []string, left Leftout) {
	l.Helper()
	list, left, err := Inventory(nil, func(device string) bool { return slices.Contains(keep, device) })
	l.must(err)
	for _, e := range list {
		names = append(names, e.Device)
	}
	return names, left
}

func (l *lab) device(link netlink.Link) {
	l.Helper()
	l.must(l.hostH.LinkAdd(link))
	l.up(l.hostH, link.Attrs().Name, true)
}

func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func (l *lab) wantInventory(what string, want []string, keep ...string) {
	l.Helper()
	got, left := l.inventory(keep...)
	if diff := cmp.Diff(want, got); diff != "" || len(left) > 0 {
		l.Errorf("%s: left out %q\n%s", what, left, diff)
	}
}

// TestKindsOfDevices is FIELD.md A05: the host's address is on a bridge or on a macvlan over it; ports and outer ends
// of containers are not ENIs. Bonds, VLANs and team devices are rows of TestAssemble: not every kernel has them.
func TestKindsOfDevices(t *testing.T) {
	l := newLab(t)
	l.veth("port", "p0")
	br := &netlink.Bridge{LinkAttrs: named("br0")}
	l.device(br)
	l.must(l.hostH.LinkSetMaster(l.link(l.hostH, "port"), br))
	l.veth("container", "c0")
	l.veth("container-port", "c1")
	l.must(l.hostH.LinkSetMaster(l.link(l.hostH, "container-port"), br))
	l.wantInventory("nothing has an address", nil)
	l.wantInventory("the operator has set a subnet", []string{"br0", "container"}, "br0", "container", "port", "lo")

	l.addr(l.hostH, "br0", "192.0.2.1/24")
	l.wantInventory("bridge", []string{"br0"})
	l.device(&netlink.Tuntap{LinkAttrs: named("tap0"), Mode: netlink.TUNTAP_MODE_TAP})
	l.wantInventory("the tap of a virtual machine", []string{"br0"})
	macvlan := &netlink.Macvlan{LinkAttrs: named("mv0"), Mode: netlink.MACVLAN_MODE_BRIDGE}
	macvlan.ParentIndex = l.link(l.hostH, "br0").Attrs().Index
	l.device(macvlan)
	l.wantInventory("macvlan without an address", []string{"br0"})
	l.addr(l.hostH, "mv0", "192.0.2.3/24")
	l.wantInventory("macvlan with an address", []string{"br0", "mv0"})
	l.addr(l.hostH, "port", "203.0.113.1/24")
	l.addr(l.hostH, "container", "fe80::1/64")
	l.wantInventory("a port's address and a link-local one count for nothing", []string{"br0", "mv0"})
	l.must(l.addresses().Add(l.link(l.hostH, "container").Attrs().Index, ip("192.0.2.77"), 0))
	l.wantInventory("a HAVIP makes no ENI", []string{"br0", "mv0"})
	list, _, err := Inventory(nil, nil)
	l.must(err)
	for i, kind := range []string{"bridge", "macvlan"} {
		if list[i].Kind != kind || list[i].HasNetnsPeer {
			t.Errorf("%+v, want kind %s", list[i], kind)
		}
	}
	l.must(l.hostH.LinkSetNoMaster(l.link(l.hostH, "port")))
	l.wantInventory("no longer a port", []string{"port", "br0", "mv0"})
}

// TestManyDevices is FIELD.md A02: containers by the hundred hide nothing, and over the limit the rest is there.
func TestManyDevices(t *testing.T) {
	l, _ := newWire(t)
	for i := range 300 {
		attrs := named(fmt.Sprintf("veth%d", i))
		l.must(l.hostH.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: fmt.Sprintf("c%d", i), PeerNamespace: netlink.NsFd(l.peer)}))
	}
	l.wantInventory("300 containers", []string{"eth0"})
	var names []string
	for i := range 70 {
		name := fmt.Sprintf("veth%d", 299-i)
		names = append(names, name)
		l.addr(l.hostH, name, fmt.Sprintf("10.%d.0.1/24", i))
	}
	for i := range limits.PrefixesPerENI + 3 {
		l.addr(l.hostH, "eth0", fmt.Sprintf("172.16.%d.1/24", i))
	}
	got, left := l.inventory(append(names, "veth0")...)
	if len(got) != limits.ENIsPerNode || got[0] != "eth0" || slices.Contains(got, "veth0") {
		t.Errorf("%d: %v", len(got), got)
	}
	if len(left) != 2 || !strings.HasPrefix(left[0], "8 interfaces are over the limit of 64 ") || !strings.Contains(left[0], "veth293") ||
		!strings.HasPrefix(left[1], "5 addresses of eth0 are over the limit of 32 ") {
		t.Errorf("left out %q", left)
	}
}

// TestAssemble has the devices that need hardware or another module.
func TestAssemble(t *testing.T) {
	nic := func(index int, name, kind string, master int) linkMsg {
		return linkMsg{index: index, hardware: unix.ARPHRD_ETHER, name: name, kind: kind, master: master, mac: net.HardwareAddr{2, 0, 0, 0, 0, byte(index)}}
	}
	links := []linkMsg{
		nic(9, "ens5", "", 0), // plain, without an address
		nic(3, "eth3", "", 4), nic(4, "bond0", "bond", 0), nic(5, "eth5", "", 6), nic(6, "team0", "team", 0),
		nic(7, "ovs-system", "openvswitch", 0), nic(8, "br-ex", "openvswitch", 7), nic(2, "eth2", "", 7),
		nic(10, "red", "vrf", 0), nic(11, "eth11", "", 10), nic(12, "tap0", "tun", 0), nic(13, "dummy0", "dummy", 0),
		nic(14, "bond1", "bond", 0), nic(16, "br0", "bridge", 0), nic(17, "br0.100", "vlan", 0), nic(18, "bond0.7", "vlan", 16), {index: 15, name: "ib0", hardware: unix.ARPHRD_INFINIBAND, mac: make(net.HardwareAddr, 20)},
	}
	var own []addrMsg
	for _, index := range []int{3, 4, 6, 8, 13, 15, 17, 18} {
		own = append(own, addrMsg{index: index, prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(index), 1}), 24)})
	}
	list, left := assemble(links, own, []DefaultRoute{{Index: 8, Gateway: ip("10.0.8.254")}, {Index: 8, Gateway: ip("10.0.8.253"), Metric: 9}}, nil)
	var names []string
	for _, e := range list {
		names = append(names, e.Device)
		if e.Primary != (e.Device == "br-ex") {
			t.Errorf("%s: primary %v", e.Device, e.Primary)
		}
		if e.Device == "br-ex" && e.Gateway != ip("10.0.8.254") {
			t.Errorf("gateway %v", e.Gateway)
		}
	}
	if diff := cmp.Diff([]string{"bond0", "team0", "br-ex", "ens5", "eth11", "br0.100"}, names); diff != "" || len(left) != 0 {
		t.Errorf("%s\nleft out %q", diff, left)
	}
}

func FuzzParseLinkMsg(f *testing.F) {
	b := make([]byte, unix.SizeofIfInfomsg)
	b = appendAttribute(b, unix.IFLA_IFNAME, []byte("eth0\x00"))
	b = appendAttribute(b, unix.IFLA_ADDRESS, mac1)
	b = appendAttribute(b, unix.IFLA_LINKINFO, appendAttribute(nil, unix.IFLA_INFO_KIND, []byte("veth\x00")))
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseLinkMsg(b)
		if err != nil {
			wantErr(t, err, errLinkMsg)
			return
		}
		if m.index != int(int32(binary.NativeEndian.Uint32(b[4:]))) || strings.ContainsRune(m.name+m.kind, 0) {
			t.Fatalf("%+v", m)
		}
	})
}

func FuzzParseRouteMsg(f *testing.F) {
	change := RouteChange{Action: AddRoute, Route: SteerRoute{7403, netip.MustParsePrefix("0.0.0.0/0"), 3, ip("192.0.2.254")}}
	f.Add(change.request().body)
	f.Add(appendAttribute(change.request().body, unix.RTA_MULTIPATH, []byte{8, 0, 0, 0, 1, 0, 0, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseRouteMsg(b)
		if err != nil {
			wantErr(t, err, errRouteMsg)
			return
		}
		if m.family != unix.AF_INET && m.family != unix.AF_INET6 || len(m.hops) != 1 || !m.hops[0].gateway.IsValid() {
			return
		}
		back, err := parseRouteMsg(m.marshal())
		if err != nil || back.dst != m.dst || back.table != m.table || back.hops[0] != m.hops[0] || back.metric != m.metric {
			t.Fatalf("%+v came back as %+v, %v", m, back, err)
		}
	})
}

func FuzzParseRuleMsg(f *testing.F) {
	f.Add(ruleMsg{netip.MustParsePrefix("192.0.2.1/32"), 7403, RulePriority, Protocol}.marshal())
	f.Add(ruleMsg{netip.MustParsePrefix("2001:db8::1/128"), 7403, RulePriority, Protocol}.marshal()[:30])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseRuleMsg(b)
		if err != nil {
			wantErr(t, err, errRuleMsg)
			return
		}
		if !m.from.IsValid() {
			return
		}
		if back, err := parseRuleMsg(m.marshal()); err != nil || back != m {
			t.Fatalf("%+v came back as %+v, %v", m, back, err)
		}
	})
}

func FuzzParseDiagMsg(f *testing.F) {
	s := diagSocket{family: unix.AF_INET, local: vip4}
	copy(s.id[4:], vip4.AsSlice())
	f.Add(append([]byte{unix.AF_INET, 1, 0, 0}, append(s.id[:], make([]byte, 20)...)...))
	f.Add(append([]byte{unix.AF_INET6, 1, 0, 0}, make([]byte, 68)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseDiagMsg(b)
		if err != nil {
			wantErr(t, err, errDiagMsg)
			return
		}
		if r := s.request(1); len(r) != diagRequestLen || r[0] != b[0] || string(r[8:]) != string(b[4:52]) {
			t.Fatalf("%x became %x", b, r)
		}
	})
}

func FuzzParseStation(f *testing.F) {
	na, _ := neighborAdvertisement(mac1, vip6, false)
	f.Add(na)
	f.Add(na[:len(na)-3])
	for _, s := range notARP {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ip, mac, ok := parseStation(b)
		if ok && (!ip.IsValid() || ip.Is4In6() || len(mac) != macLen) {
			t.Fatalf("%v at %v", ip, mac)
		}
	})
}

func FuzzMessages(f *testing.F) {
	two := appendMessage(appendMessage(nil, 1, 2, 3, []byte("abc")), unix.NLMSG_ERROR, 0, 4, make([]byte, 20))
	f.Add(two)
	f.Add(two[:len(two)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		for m := range messages(b) {
			if total += unix.NLMSG_HDRLEN + len(m.body); total > len(b) {
				t.Fatalf("%d bytes of messages out of %d", total, len(b))
			}
			_ = m.failure()
		}
	})
}
