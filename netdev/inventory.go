package netdev

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ENI is an Ethernet interface of this host as it was at one moment.
type ENI struct {
	Device string           // name, at most 15 bytes; it may change, Index does not
	Index  int              // kernel ifindex, > 0
	MAC    net.HardwareAddr // 6 bytes

	// Up: administratively up and able to send: IFF_UP, IFF_LOWER_UP (carrier), operational state up or unknown
	// (drivers that do not report one), RFC 2863 section 3.1.14.
	Up bool

	// Prefixes are the host's own addresses with their prefix lengths, sorted. HAVIPs (see Addresses) and link-local
	// addresses are left out: neither says in which subnet the ENI is.
	Prefixes []netip.Prefix

	// Gateway is the next hop of the best default route through this device: IPv4 before IPv6, then the lowest
	// metric. The zero Addr if there is none or if it is directly connected.
	Gateway netip.Addr

	// Primary: carries the best default route of the host. Exactly one ENI is primary if there is any: without a
	// default route it is the one of the lowest index.
	Primary bool

	MTU int // bytes
}

// notENI are kinds of Ethernet devices that are not an edge of the host: switches, and devices without a wire.
var notENI = map[string]bool{"bridge": true, "openvswitch": true, "dummy": true, "ifb": true}

// Inventory lists the Ethernet interfaces of the host, sorted by Index. Ports of a bridge or bond are left out, their
// addresses belong to the master; those of a VRF are kept. managed says which addresses are HAVIPs and not the host's own;
// nil means none, addresses with the project's mark are recognised in any case.
//
// An error means that nothing is known, never that there is no interface.
func Inventory(managed func(netip.Addr) bool) ([]ENI, error) {
	var enis []ENI
	err := withHandle(func(h *netlink.Handle) error {
		links, err := whole(h.LinkList)
		if err != nil {
			return fmt.Errorf("netdev: list devices: %w", err)
		}
		routes, err := listDefaults(h)
		if err != nil {
			return err
		}
		a, err := NewAddresses()
		if err != nil {
			return err
		}
		defer a.Close()
		addrs, err := a.list()
		if err != nil {
			return err
		}
		own := slices.DeleteFunc(addrs, func(m addrMsg) bool {
			return a.marked(m) || managed != nil && managed(m.prefix.Addr())
		})
		enis = assemble(links, own, routes)
		return nil
	})
	return enis, err
}

// assemble joins the three tables of the kernel to ENIs.
func assemble(links []netlink.Link, own []addrMsg, routes []defaultRoute) []ENI {
	kinds := make(map[int]string, len(links))
	for _, l := range links {
		kinds[l.Attrs().Index] = l.Type()
	}
	enis := []ENI{}
	for _, l := range links {
		at := l.Attrs()
		port := at.MasterIndex != 0 && kinds[at.MasterIndex] != "vrf"
		if at.EncapType != "ether" || len(at.HardwareAddr) != macLen || notENI[l.Type()] || port {
			continue
		}
		e := ENI{Device: at.Name, Index: at.Index, MAC: at.HardwareAddr, MTU: at.MTU}
		e.Up = at.RawFlags&unix.IFF_UP != 0 && at.RawFlags&unix.IFF_LOWER_UP != 0 &&
			(at.OperState == netlink.OperUp || at.OperState == netlink.OperUnknown)
		for _, m := range own {
			if m.index == e.Index && !m.prefix.Addr().IsLinkLocalUnicast() {
				e.Prefixes = append(e.Prefixes, m.prefix)
			}
		}
		slices.SortFunc(e.Prefixes, netip.Prefix.Compare)
		if i := slices.IndexFunc(routes, func(r defaultRoute) bool { return r.index == e.Index }); i >= 0 {
			e.Gateway = routes[i].gateway
		}
		enis = append(enis, e)
	}
	slices.SortFunc(enis, func(a, b ENI) int { return cmp.Compare(a.Index, b.Index) })
	markPrimary(enis, routes)
	return enis
}

// markPrimary sets Primary on the ENI of the best route, or on the first ENI.
func markPrimary(enis []ENI, routes []defaultRoute) {
	for _, r := range routes {
		if i := slices.IndexFunc(enis, func(e ENI) bool { return e.Index == r.index }); i >= 0 {
			enis[i].Primary = true
			return
		}
	}
	if len(enis) > 0 {
		enis[0].Primary = true
	}
}

// defaultRoute is one next hop of a default route in the main table.
type defaultRoute struct {
	index   int
	gateway netip.Addr
	family  int
	metric  int
}

// listDefaults returns the default routes of both families, the best first.
func listDefaults(h *netlink.Handle) ([]defaultRoute, error) {
	var all []defaultRoute
	for _, fam := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := whole(func() ([]netlink.Route, error) {
			return h.RouteListFiltered(fam, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, fmt.Errorf("netdev: list routes: %w", err)
		}
		for _, r := range routes {
			all = append(all, defaultHops(r, fam)...)
		}
	}
	slices.SortStableFunc(all, func(a, b defaultRoute) int {
		return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(a.metric, b.metric), cmp.Compare(a.index, b.index))
	})
	return all, nil
}

// defaultHops returns the next hops of r if it is a default route that forwards (not a blackhole), else nothing.
func defaultHops(r netlink.Route, fam int) []defaultRoute {
	if r.Type != unix.RTN_UNICAST || r.Dst != nil && !isDefault(r.Dst) {
		return nil
	}
	hop := func(index int, gw net.IP) defaultRoute {
		ip, _ := netip.AddrFromSlice(gw)
		return defaultRoute{index, ip.Unmap(), fam, r.Priority}
	}
	if len(r.MultiPath) == 0 {
		return []defaultRoute{hop(r.LinkIndex, r.Gw)}
	}
	var hops []defaultRoute
	for _, n := range r.MultiPath {
		hops = append(hops, hop(n.LinkIndex, n.Gw))
	}
	return hops
}

func isDefault(dst *net.IPNet) bool {
	ones, _ := dst.Mask.Size()
	return ones == 0 && dst.IP.IsUnspecified()
}
