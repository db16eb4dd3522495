package netdev

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"havip-cluster/internal/limits"
)

// ENI is an Ethernet interface of this host as it was at one moment.
type ENI struct {
	Device string           // name, at most 15 bytes; it may change, Index does not
	Index  int              // kernel ifindex, > 0
	MAC    net.HardwareAddr // 6 bytes

	// Kind is the kernel's word for what the device is: "bridge", "bond", "vlan", "team", "veth", "openvswitch", ...; ""
	// for a plain NIC.
	Kind string

	// HasNetnsPeer: the other end or the lower device is in another network namespace. A veth of a container on the host
	// is like that, and the device inside the container too.
	HasNetnsPeer bool

	// Up: administratively up and able to send: IFF_UP, IFF_LOWER_UP (carrier), operational state up or unknown
	// (drivers that do not report one), RFC 2863 section 3.1.14.
	Up bool

	// Prefixes are the host's own addresses with their prefix lengths, sorted, at most limits.PrefixesPerENI. HAVIPs (see
	// Addresses), link-local and loopback addresses are left out: none says in which subnet the ENI is.
	Prefixes []netip.Prefix

	// Gateway is the next hop of the best default route through this device: IPv4 before IPv6, then the lowest
	// metric. The zero Addr if there is none or if it is directly connected.
	Gateway netip.Addr

	// Primary: carries the best default route of the host. Exactly one ENI is primary if there is any: without a
	// default route it is the one of the lowest index.
	Primary bool

	MTU int // bytes
}

// Leftout has a sentence for each limit that cut something off. Empty: everything is listed.
type Leftout []string

// leftoutNames is how many devices a sentence of Leftout names.
const leftoutNames = 5

// wireless are kinds of Ethernet devices that lead nowhere, whatever address they have.
var wireless = map[string]bool{"dummy": true, "ifb": true}

// Inventory lists the interfaces of the host that can own a HAVIP, sorted by Index:
//
//   - every NIC (a device without a kind), also without an address, for the operator may say what its subnet is;
//   - of all others, that is bridges, bonds, VLANs, team devices, macvlans, internal ports of Open vSwitch and so on, those
//     with an address of their own: a veth, tap or tunnel without one is the outer end of a container or a virtual machine;
//   - every other device for which keep is true: the log knows it, and the operator has set its subnet.
//
// Never listed: ports of a bridge, bond or team (the master has the addresses; those of a VRF are listed), dummy and ifb
// devices, and what is not Ethernet.
//
// managed says which addresses are HAVIPs and not the host's own; addresses with the project's mark are recognised in any
// case. nil functions mean none. It takes one dump of devices and addresses each and the main table's routes of each family.
//
// Over limits.ENIsPerNode those with an address come before those without, then the lowest index; the rest is named in
// left. An error means that nothing is known, never that there is no interface.
func Inventory(managed func(netip.Addr) bool, keep func(device string) bool) (list []ENI, left Leftout, err error) {
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, nil, err
	}
	defer c.close()
	links, err := listLinks(c)
	if err != nil {
		return nil, nil, err
	}
	addrs, err := listAddresses(c)
	if err != nil {
		return nil, nil, err
	}
	var defaults []DefaultRoute
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := listRoutes(c, fam, unix.RT_TABLE_MAIN, 0)
		if err != nil {
			return nil, nil, err
		}
		defaults = append(defaults, defaultRoutes(routes)...)
	}
	slices.SortStableFunc(defaults, compareDefaults)
	anonymous := !kernelAtLeast(5, 18)
	own := slices.DeleteFunc(addrs, func(m addrMsg) bool {
		return marked(m, anonymous) || managed != nil && managed(m.prefix.Addr())
	})
	list, left = assemble(links, own, defaults, keep)
	return list, left, nil
}

// assemble joins the three tables of the kernel to ENIs.
func assemble(links []linkMsg, own []addrMsg, defaults []DefaultRoute, keep func(string) bool) ([]ENI, Leftout) {
	kinds := make(map[int]string, len(links))
	for _, l := range links {
		kinds[l.index] = l.kind
	}
	prefixes := map[int][]netip.Prefix{}
	for _, m := range own {
		if ip := m.prefix.Addr(); !ip.IsLinkLocalUnicast() && !ip.IsLoopback() {
			prefixes[m.index] = append(prefixes[m.index], m.prefix)
		}
	}
	gateways := map[int]netip.Addr{}
	for _, r := range defaults {
		if _, better := gateways[r.Index]; !better {
			gateways[r.Index] = r.Gateway
		}
	}
	list := []ENI{}
	for _, l := range links {
		if l.hardware != unix.ARPHRD_ETHER || len(l.mac) != macLen || wireless[l.kind] || isPort(l, kinds) {
			continue
		}
		if l.kind != "" && len(prefixes[l.index]) == 0 && (keep == nil || !keep(l.name)) {
			continue
		}
		list = append(list, ENI{
			Device: l.name, Index: l.index, MAC: l.mac, Kind: l.kind, HasNetnsPeer: l.netns, Up: l.up(),
			Prefixes: prefixes[l.index], Gateway: gateways[l.index], MTU: l.mtu,
		})
	}
	list, left := withinLimits(list)
	markPrimary(list, defaults)
	return list, left
}

// isPort says whether the master of a device has its addresses. A VRF is a master that has none, and Open vSwitch is one
// to its internal ports, which have their own.
func isPort(l linkMsg, kinds map[int]string) bool {
	if l.master == 0 || kinds[l.master] == "vrf" {
		return false
	}
	return l.kind != "openvswitch" || kinds[l.master] != "openvswitch"
}

// withinLimits sorts the list by Index, and cuts off what is over a limit.
func withinLimits(list []ENI) ([]ENI, Leftout) {
	var left Leftout
	bare := func(e ENI) int {
		if len(e.Prefixes) == 0 {
			return 1
		}
		return 0
	}
	byIndex := func(a, b ENI) int { return cmp.Compare(a.Index, b.Index) }
	slices.SortFunc(list, func(a, b ENI) int { return cmp.Or(cmp.Compare(bare(a), bare(b)), byIndex(a, b)) })
	if over := len(list) - limits.ENIsPerNode; over > 0 {
		var names []string
		for _, e := range list[limits.ENIsPerNode:][:min(over, leftoutNames)] {
			names = append(names, e.Device)
		}
		if over > leftoutNames {
			names = append(names, "...")
		}
		left = append(left, fmt.Sprintf("%d interfaces are over the limit of %d for a node and are not used: %s",
			over, limits.ENIsPerNode, strings.Join(names, ", ")))
		list = list[:limits.ENIsPerNode]
	}
	slices.SortFunc(list, byIndex)
	for i := range list {
		e := &list[i]
		slices.SortFunc(e.Prefixes, netip.Prefix.Compare)
		if over := len(e.Prefixes) - limits.PrefixesPerENI; over > 0 {
			left = append(left, fmt.Sprintf("%d addresses of %s are over the limit of %d for an interface and are not used, from %v on",
				over, e.Device, limits.PrefixesPerENI, e.Prefixes[limits.PrefixesPerENI]))
			e.Prefixes = e.Prefixes[:limits.PrefixesPerENI:limits.PrefixesPerENI]
		}
	}
	return list, left
}

// markPrimary sets Primary on the ENI of the best route, or on the first ENI.
func markPrimary(enis []ENI, defaults []DefaultRoute) {
	for _, r := range defaults {
		if i := slices.IndexFunc(enis, func(e ENI) bool { return e.Index == r.Index }); i >= 0 {
			enis[i].Primary = true
			return
		}
	}
	if len(enis) > 0 {
		enis[0].Primary = true
	}
}

// HearingDevices lists the names of the devices that hear the ARP requests of others, sorted: Ethernet, up, not without
// ARP, and no port of a bridge, bond or team. Each may answer for an address of any other device of the host, unless its
// settings say otherwise (ARP flux). At most limits.FenceDevices, those of the lowest index.
func HearingDevices() ([]string, error) {
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer c.close()
	links, err := listLinks(c)
	if err != nil {
		return nil, err
	}
	kinds := make(map[int]string, len(links))
	for _, l := range links {
		kinds[l.index] = l.kind
	}
	slices.SortFunc(links, func(a, b linkMsg) int { return cmp.Compare(a.index, b.index) })
	var names []string
	for _, l := range links {
		if l.hardware == unix.ARPHRD_ETHER && l.flags&unix.IFF_UP != 0 && l.flags&unix.IFF_NOARP == 0 && !isPort(l, kinds) && len(names) < limits.FenceDevices {
			names = append(names, l.name)
		}
	}
	slices.Sort(names)
	return names, nil
}
