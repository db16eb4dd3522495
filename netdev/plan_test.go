package netdev

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// steered makes the kernel what want says, and checks that a second plan is empty.
func (l *lab) steered(r *Router, want ...Steered) (made []RouteChange) {
	l.Helper()
	now, err := r.Read()
	l.must(err)
	made = now.Changes(want)
	l.must(errors.Join(r.Apply(made)...))
	now, err = r.Read()
	l.must(err)
	if left := now.Changes(want); len(left) > 0 {
		l.Errorf("not done after it was done: %v", left)
	}
	return made
}

func TestChanges(t *testing.T) {
	eni := func(index int, gw string, cidrs ...string) ENI {
		e := ENI{Index: index, Prefixes: prefixes(cidrs...)}
		if gw != "" {
			e.Gateway = ip(gw)
		}
		return e
	}
	plain := eni(3, "192.0.2.254", "192.0.2.1/24", "192.0.2.7/24", "192.0.2.8/32", "2001:db8::1/64")
	for _, c := range []struct {
		what string
		have Routing
		want []Steered
		plan []string
	}{
		{"nothing", Routing{}, nil, nil},
		{"two HAVIPs share a table", Routing{}, []Steered{{IP: ip("192.0.2.10"), ENI: plain}, {IP: ip("192.0.2.11"), ENI: plain}}, []string{
			"add route 0.0.0.0/0 via 192.0.2.254 by device 3 in table 7403", "add route 192.0.2.0/24 by device 3 in table 7403",
			"add rule from 192.0.2.10 lookup 7403", "add rule from 192.0.2.11 lookup 7403"}},
		{"no address on the NIC, A28", Routing{}, []Steered{{IP: ip("192.0.2.10"), ENI: eni(3, ""), Subnet: netip.MustParsePrefix("192.0.2.10/24")}}, []string{
			"add route 192.0.2.0/24 by device 3 in table 7403", "add rule from 192.0.2.10 lookup 7403"}},
		{"one family only", Routing{}, []Steered{{IP: ip("2001:db8::10"), ENI: plain}}, []string{
			"add route 2001:db8::/64 by device 3 in table 7403", "add rule from 2001:db8::10 lookup 7403"}},
		{"a gateway that changes, a subnet and a HAVIP that go",
			Routing{Rules: []SteerRule{{ip("192.0.2.10"), 7403}, {ip("192.0.2.99"), 7409}}, Routes: []SteerRoute{
				{7403, netip.MustParsePrefix("0.0.0.0/0"), 3, ip("192.0.2.253")}, {7403, netip.MustParsePrefix("10.0.0.0/8"), 3, netip.Addr{}},
				{7403, netip.MustParsePrefix("192.0.2.0/24"), 3, netip.Addr{}}, {7409, netip.MustParsePrefix("192.0.2.0/24"), 9, netip.Addr{}}}},
			[]Steered{{IP: ip("192.0.2.10"), ENI: plain}}, []string{
				"replace route 0.0.0.0/0 via 192.0.2.254 by device 3 in table 7403", "remove rule from 192.0.2.99 lookup 7409",
				"remove route 10.0.0.0/8 by device 3 in table 7403", "remove route 192.0.2.0/24 by device 9 in table 7409"}},
		{"from one ENI to another: the new rule first", Routing{Rules: []SteerRule{{ip("192.0.2.10"), 7409}}}, []Steered{{IP: ip("192.0.2.10"), ENI: eni(3, "")}}, []string{
			"add rule from 192.0.2.10 lookup 7403", "remove rule from 192.0.2.10 lookup 7409"}},
		{"what cannot be a HAVIP", Routing{}, []Steered{{}, {IP: ip("127.0.0.1"), ENI: plain}, {IP: ip("192.0.2.10")}}, nil},
	} {
		var plan []string
		for _, change := range c.have.Changes(c.want) {
			plan = append(plan, change.String())
		}
		if diff := cmp.Diff(c.plan, plan); diff != "" {
			t.Errorf("%s:\n%s", c.what, diff)
		}
	}
	r := Routing{Defaults: []DefaultRoute{{Index: 2, Source: vip4}, {Index: 3}, {Index: 4, Source: ip("192.0.2.1")}}}
	if found := r.DefaultSource(func(a netip.Addr) bool { return a == vip4 }); len(found) != 1 || found[0].Index != 2 {
		t.Errorf("default source %v", found)
	}
}

// TestRoutingRepaired is FIELD.md A12: a gateway that appears later, `ip rule flush` and `ip route flush table` are put
// right, and what others made stays.
func TestRoutingRepaired(t *testing.T) {
	l, eth0 := newWire(t)
	eth1 := l.veth("eth1", "p1")
	l.addr(l.hostH, "eth1", "198.51.100.2/24")
	l.defaultVia("eth0", "192.0.2.254", 0)
	r, a := l.router(), l.addresses()
	vips := []netip.Addr{ip("198.51.100.10"), ip("198.51.100.11")}
	l.must(errors.Join(a.AddAll(asRequests(eth1, vips, 0))...))
	foreign := foreignRule(ip("198.51.100.99"), eth1, unix.RTPROT_STATIC)
	l.must(l.hostH.RuleAdd(foreign))
	static := &netlink.Route{LinkIndex: eth1, Dst: ipNet(netip.MustParsePrefix("203.0.113.128/25")), Table: table(eth1), Protocol: unix.RTPROT_STATIC}
	l.must(l.hostH.RouteAdd(static))
	eni := ENI{Device: "eth1", Index: eth1, Prefixes: prefixes("198.51.100.2/24")}
	want := func() []Steered { return []Steered{{IP: vips[0], ENI: eni}, {IP: vips[1], ENI: eni}} }
	by := func(what, gw string) {
		t.Helper()
		for _, vip := range vips {
			if i, got := l.outBy(vip); i != eth1 || got != gw {
				t.Errorf("%s: %v leaves by %d via %s", what, vip, i, got)
			}
		}
	}
	l.steered(r, want()...)
	if i, _ := l.outBy(vips[0]); i != eth0 {
		t.Error("without a gateway of its own a distant client should be reached by the main table")
	}
	eni.Gateway = ip("198.51.100.254")
	if made := l.steered(r, want()...); len(made) != 1 {
		t.Errorf("a gateway appears: %v", made)
	}
	by("with a gateway", "198.51.100.254")

	l.must(l.hostH.RuleDel(foreignRule(vips[0], eth1, Protocol)))
	l.must(l.hostH.RuleDel(foreignRule(vips[1], eth1, Protocol)))
	if made := l.steered(r, want()...); len(made) != 2 {
		t.Errorf("after the rules went: %v", made)
	}
	by("after the rules went", "198.51.100.254")
	all, err := l.hostH.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: table(eth1)}, netlink.RT_FILTER_TABLE)
	l.must(err)
	for _, route := range all {
		if route.Protocol == Protocol {
			l.must(l.hostH.RouteDel(&route))
		}
	}
	if made := l.steered(r, want()...); len(made) != 2 {
		t.Errorf("after the table was flushed: %v", made)
	}
	by("after the table was flushed", "198.51.100.254")
	eni.Gateway = ip("198.51.100.253")
	l.steered(r, want()...)
	by("another gateway", "198.51.100.253")

	// A route of somebody else where ours would be is an error, and stays.
	l.steered(r)
	l.wantOurs("nothing is steered", 0, 0)
	theirs := &netlink.Route{LinkIndex: eth1, Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: net.ParseIP("198.51.100.1"), Table: table(eth1), Protocol: unix.RTPROT_STATIC}
	l.must(l.hostH.RouteAdd(theirs))
	changes := Routing{}.Changes(want())
	for i, err := range r.Apply(changes) {
		if inTheWay := changes[i].Route.Gateway.IsValid(); inTheWay != errors.Is(err, unix.EEXIST) || !inTheWay && err != nil {
			t.Errorf("%v: %v", changes[i], err)
		}
	}
	l.steered(r)
	for _, check := range []error{l.hostH.RouteDel(theirs), l.hostH.RouteDel(static), l.hostH.RuleDel(foreign)} {
		l.must(check)
	}
	for _, err := range r.Apply([]RouteChange{{Action: AddRoute, Route: SteerRoute{9999, netip.MustParsePrefix("10.0.0.0/8"), eth1 + 100, netip.Addr{}}}}) {
		wantErr(t, err, ErrNoDevice)
	}
}

// TestNoAddressOfItsOwn is FIELD.md A28: the NIC that holds the HAVIP has no IPv4 address, and another one has an address in
// the same subnet. The client on the NIC's LAN is answered through that NIC.
func TestNoAddressOfItsOwn(t *testing.T) {
	l, _ := newWire(t) // eth0 has 192.0.2.1/24
	eth1 := l.veth("eth1", "p1")
	l.addr(l.peerH, "p1", "192.0.2.200/24")
	l.must(l.addresses().Add(eth1, vip4, 0))
	dial := func(wait time.Duration) error {
		service, err := net.Listen("tcp", vip4.String()+":0")
		l.must(err)
		defer service.Close()
		l.inPeer(func() {
			// The client is on that LAN only: its way to the HAVIP is p1.
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("192.0.2.200")}, Timeout: wait}
			var c net.Conn
			if c, err = d.Dial("tcp", service.Addr().String()); err == nil {
				c.Close()
			}
		})
		return err
	}
	l.up(l.peerH, "p0", false)
	if dial(500*time.Millisecond) == nil {
		t.Fatal("the client is answered without a route: the test shows nothing")
	}
	r := l.router()
	l.steered(r, Steered{IP: vip4, ENI: ENI{Device: "eth1", Index: eth1}, Subnet: netip.MustParsePrefix("192.0.2.0/24")})
	if err := dial(patience); err != nil {
		t.Error(err)
	}
	routes, err := l.hostH.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: table(eth1)}, netlink.RT_FILTER_TABLE)
	l.must(err)
	if len(routes) != 1 || routes[0].Scope != netlink.SCOPE_LINK || routes[0].Src != nil {
		t.Errorf("%v", routes)
	}
}

// TestDefaults reads default routes of several hops, a preferred source (FIELD.md A30), and a blackhole, which is none.
func TestDefaults(t *testing.T) {
	l, eth0 := newWire(t)
	l.must(l.addresses().Add(eth0, vip4, 0))
	everywhere := ipNet(netip.MustParsePrefix("0.0.0.0/0"))
	l.must(l.hostH.RouteAdd(&netlink.Route{Dst: everywhere, Priority: 1, Type: unix.RTN_BLACKHOLE}))
	l.must(l.hostH.RouteAdd(&netlink.Route{LinkIndex: eth0, Dst: everywhere, Gw: net.ParseIP("192.0.2.254"), Src: vip4.AsSlice(), Priority: 9}))
	l.must(l.hostH.RouteAdd(&netlink.Route{Dst: everywhere, Priority: 7, MultiPath: []*netlink.NexthopInfo{
		{LinkIndex: eth0, Gw: net.ParseIP("192.0.2.252")}, {LinkIndex: eth0, Gw: net.ParseIP("192.0.2.253")}}}))
	got := l.routing()
	want := []DefaultRoute{
		{Index: eth0, Gateway: ip("192.0.2.252"), Metric: 7}, {Index: eth0, Gateway: ip("192.0.2.253"), Metric: 7},
		{Index: eth0, Gateway: ip("192.0.2.254"), Metric: 9, Source: vip4},
	}
	if !slices.Equal(want, got.Defaults) {
		t.Errorf("%v, want %v", got.Defaults, want)
	}
	if found := got.DefaultSource(func(a netip.Addr) bool { return a == vip4 }); len(found) != 1 || found[0].Metric != 9 {
		t.Errorf("with a HAVIP as source: %v", found)
	}
}
