package netdev

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// outBy returns the device by which an answer of from to a distant client leaves, and the next hop.
func (l *lab) outBy(from netip.Addr) (index int, gw string) {
	l.Helper()
	to := "203.0.113.9"
	if from.Is6() {
		to = "2001:db8:ffff::9"
	}
	routes, err := l.hostH.RouteGetWithOptions(net.ParseIP(to), &netlink.RouteGetOptions{SrcAddr: from.AsSlice()})
	l.must(err)
	return routes[0].LinkIndex, routes[0].Gw.String()
}

// ours counts the rules and routes that Steer made, of both families.
func (l *lab) ours() (rules, routes int) {
	l.Helper()
	r := l.routing()
	return len(r.Rules), len(r.Routes)
}

func (l *lab) routing() Routing {
	l.Helper()
	r, err := l.router().Read()
	l.must(err)
	return r
}

func (l *lab) router() *Router {
	l.Helper()
	r, err := NewRouter()
	l.must(err)
	l.Cleanup(r.Close)
	return r
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// foreignRule is `from ip lookup table(index)` at our priority, by another protocol.
func foreignRule(ip netip.Addr, index int, protocol uint8) *netlink.Rule {
	r := netlink.NewRule()
	r.Family = family(ip)
	r.Src = ipNet(netip.PrefixFrom(ip, ip.BitLen()))
	r.Table = table(index)
	r.Priority = RulePriority
	r.Protocol = protocol
	return r
}

func (l *lab) wantOurs(what string, rules, routes int) {
	l.Helper()
	if r, t := l.ours(); r != rules || t != routes {
		l.Errorf("%s: %d rules and %d routes, want %d and %d", what, r, t, rules, routes)
	}
}

func TestSteer(t *testing.T) {
	l, eth0 := newWire(t)
	eth1 := l.veth("eth1", "p1")
	l.addr(l.hostH, "eth1", "198.51.100.2/24", "198.51.100.3/24", "2001:db8:1::2/64")
	l.defaultVia("eth0", "192.0.2.254", 0)
	l.defaultVia("eth0", "2001:db8::fe", 0)
	a := l.addresses()
	first, second, six := ip("198.51.100.10"), ip("198.51.100.11"), ip("2001:db8:1::10")
	for _, vip := range []netip.Addr{first, second, six} {
		l.must(a.Add(eth1, vip, 0))
	}
	// Somebody else's rule at our priority and route in our table stay throughout.
	foreign := foreignRule(ip("198.51.100.99"), eth1, unix.RTPROT_STATIC)
	l.must(l.hostH.RuleAdd(foreign))
	static := &netlink.Route{LinkIndex: eth1, Dst: ipNet(netip.MustParsePrefix("203.0.113.128/25")), Table: table(eth1), Protocol: unix.RTPROT_STATIC}
	l.must(l.hostH.RouteAdd(static))

	enis, _, err := Inventory(nil, nil)
	l.must(err)
	eni := enis[slices.IndexFunc(enis, func(e ENI) bool { return e.Index == eth1 })]
	eni.Gateway = ip("198.51.100.254")
	if i, _ := l.outBy(first); i != eth0 {
		t.Fatal("without Steer the answer should leave by the primary ENI")
	}
	for range 2 { // idempotent
		l.must(Steer(first, eni))
		l.must(Steer(second, eni))
	}
	for _, vip := range []netip.Addr{first, second} {
		if i, gw := l.outBy(vip); i != eth1 || gw != "198.51.100.254" {
			t.Errorf("%v leaves by %d via %s", vip, i, gw)
		}
	}
	l.wantOurs("two HAVIPs, one subnet, one gateway", 2, 2)

	eni.Gateway, eni.Prefixes = ip("10.9.9.9"), prefixes("198.51.100.2/25", "10.8.8.8/32")
	l.must(Steer(first, eni))
	if _, gw := l.outBy(second); gw != "10.9.9.9" {
		t.Errorf("after the gateway changed: via %s", gw)
	}
	l.wantOurs("after the subnet changed", 2, 2)

	eni.Gateway, eni.Prefixes = ip("2001:db8:1::fe"), prefixes("2001:db8:1::2/64")
	l.must(Steer(six, eni))
	if i, gw := l.outBy(six); i != eth1 || gw != "2001:db8:1::fe" {
		t.Errorf("IPv6 leaves by %d via %s", i, gw)
	}
	l.wantOurs("with IPv6", 3, 4)

	l.must(Unsteer(first, eth1))
	if i, _ := l.outBy(first); i != eth0 {
		t.Error("steered after Unsteer")
	}
	if i, _ := l.outBy(second); i != eth1 {
		t.Error("Unsteer of one HAVIP took the other's way")
	}
	l.must(Unsteer(second, eth1))
	l.wantOurs("the last one takes the table along", 1, 2)
	l.must(Unsteer(second, eth1))
	l.must(SweepRoutes())
	l.wantOurs("after the sweep", 0, 0)
	l.must(SweepRoutes())
	l.must(l.hostH.RuleDel(foreign))
	l.must(l.hostH.RouteDel(static))
}

// TestSteerMoves: between two ENIs of one host, and back after the device was down and lost its routes.
func TestSteerMoves(t *testing.T) {
	l, eth0 := newWire(t)
	eth1 := l.veth("eth1", "p1")
	l.addr(l.hostH, "eth1", "192.0.2.2/24")
	l.must(l.addresses().Add(eth1, vip4, 0))
	by := func(index int) ENI {
		return ENI{Device: "eth", Index: index, Prefixes: prefixes("192.0.2.1/24"), Gateway: ip("192.0.2.254")}
	}
	for _, index := range []int{eth0, eth1, eth0} {
		l.must(Steer(vip4, by(index)))
		if i, _ := l.outBy(vip4); i != index {
			t.Errorf("leaves by %d, steered by %d", i, index)
		}
		if rules, _ := l.ours(); rules != 1 {
			t.Errorf("%d rules for one HAVIP", rules)
		}
	}
	l.must(Steer(vip4, by(eth1)))
	l.up(l.hostH, "eth1", false)
	l.up(l.hostH, "eth1", true)
	l.must(Steer(vip4, by(eth1)))
	if i, gw := l.outBy(vip4); i != eth1 || gw != "192.0.2.254" {
		t.Errorf("after the device was down: leaves by %d via %s", i, gw)
	}
	l.must(l.hostH.LinkDel(l.link(l.hostH, "eth1")))
	if err := Steer(vip4, by(eth1)); err == nil {
		t.Error("steered by a device that is gone")
	}
	l.must(Unsteer(vip4, eth1))
	wantErr(t, Steer(netip.Addr{}, by(eth0)), ErrAddress)
	wantErr(t, Unsteer(netip.Addr{}, eth0), ErrAddress)
	l.must(SweepRoutes())
	l.wantOurs("after the sweep", 0, 0)
}
