package netdev

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// RulePriority of the rules `from <HAVIP> lookup <table>`: after the local table (0), before main (32766).
	RulePriority = 7400

	// TableBase plus the interface index is the number of an ENI's routing table.
	TableBase = 7400
)

// Steer makes answers from ip leave by the ENI, whatever the main table says: a table of its own for the ENI, with its
// connected subnets and the default route by its gateway, and a rule that sends packets from ip there. Needed for HAVIPs on
// a secondary ENI, whose answers would leave by the primary one and be dropped as spoofed.
//
// Steer is idempotent, and repairs: call it again when the ENI, its gateway or the kernel's routes changed (a device that
// goes down takes its routes along). A rule that sends ip elsewhere is replaced. If the ENI's gateway is of the other
// family or missing, only the connected subnets are reached that way. Not safe for concurrent use with the other functions
// of this file.
func Steer(ip netip.Addr, eni ENI) error {
	ip, err := hostIP(ip)
	if err != nil {
		return err
	}
	err = withHandle(func(h *netlink.Handle) error {
		if err := replaceTable(h, steerRoutes(family(ip), eni), family(ip), table(eni.Index)); err != nil {
			return err
		}
		// The rule comes last: until it is there nothing looks into a half filled table.
		rule := steerRule(ip, eni.Index)
		if err := tolerate(h.RuleAdd(rule), unix.EEXIST); err != nil {
			return err
		}
		others, err := ownRules(h, family(ip))
		if err != nil {
			return err
		}
		for _, r := range others {
			if r.Src.String() == rule.Src.String() && r.Table != rule.Table {
				if err := tolerate(h.RuleDel(&r), unix.ENOENT); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("netdev: steer %v by %s: %w", ip, eni.Device, err)
	}
	return nil
}

// Unsteer removes the rule for ip, and the table of that ENI when no other rule uses it. Absence is no error, a device that
// is gone neither.
func Unsteer(ip netip.Addr, index int) error {
	ip, err := hostIP(ip)
	if err != nil {
		return err
	}
	err = withHandle(func(h *netlink.Handle) error {
		if err := tolerate(h.RuleDel(steerRule(ip, index)), unix.ENOENT); err != nil {
			return err
		}
		rules, err := ownRules(h, family(ip))
		if err != nil {
			return err
		}
		for _, r := range rules {
			if r.Table == table(index) {
				return nil
			}
		}
		return replaceTable(h, nil, family(ip), table(index))
	})
	if err != nil {
		return fmt.Errorf("netdev: unsteer %v from device %d: %w", ip, index, err)
	}
	return nil
}

// SweepRoutes removes every rule and route that Steer ever made, also in an earlier process. They are known by Protocol,
// rules by their priority too. It tries all before it reports an error.
func SweepRoutes() error {
	return withHandle(func(h *netlink.Handle) error {
		var failed []error
		for _, fam := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			rules, err := ownRules(h, fam)
			failed = append(failed, err)
			for _, r := range rules {
				failed = append(failed, tolerate(h.RuleDel(&r), unix.ENOENT))
			}
			failed = append(failed, replaceTable(h, nil, fam, unix.RT_TABLE_UNSPEC))
		}
		if err := errors.Join(failed...); err != nil {
			return fmt.Errorf("netdev: sweep routes: %w", err)
		}
		return nil
	})
}

func table(index int) int { return TableBase + index }

// steerRule is `from ip lookup table(index)`.
func steerRule(ip netip.Addr, index int) *netlink.Rule {
	r := netlink.NewRule()
	r.Family = family(ip)
	r.Src = ipNet(netip.PrefixFrom(ip, ip.BitLen()))
	r.Table = table(index)
	r.Priority = RulePriority
	r.Protocol = Protocol
	return r
}

// steerRoutes returns the routes of an ENI's table for one family.
func steerRoutes(fam int, eni ENI) []netlink.Route {
	base := netlink.Route{Family: fam, LinkIndex: eni.Index, Table: table(eni.Index), Protocol: Protocol, Type: unix.RTN_UNICAST}
	var routes []netlink.Route
	seen := map[netip.Prefix]bool{}
	for _, p := range eni.Prefixes {
		subnet := p.Masked()
		if family(p.Addr()) != fam || p.IsSingleIP() || seen[subnet] {
			continue
		}
		seen[subnet] = true
		r := base
		r.Dst = ipNet(subnet)
		if fam == netlink.FAMILY_V4 { // IPv6 routes have no scope
			r.Scope = netlink.SCOPE_LINK
		}
		routes = append(routes, r)
	}
	if gw := eni.Gateway; gw.IsValid() && family(gw) == fam {
		r := base
		r.Dst = ipNet(netip.PrefixFrom(gw, 0).Masked())
		r.Gw = gw.AsSlice()
		// On a cloud with /32 addresses the gateway is in no subnet: onlink says that it is a neighbour nevertheless.
		r.Flags = int(netlink.FLAG_ONLINK)
		routes = append(routes, r)
	}
	return routes
}

// replaceTable makes our routes in a table exactly the wanted ones. RT_TABLE_UNSPEC means all tables.
func replaceTable(h *netlink.Handle, want []netlink.Route, fam, tbl int) error {
	wanted := map[string]bool{}
	for _, r := range want {
		if err := h.RouteReplace(&r); err != nil {
			return fmt.Errorf("route %v: %w", r.Dst, err)
		}
		wanted[r.Dst.String()] = true
	}
	have, err := whole(func() ([]netlink.Route, error) {
		filter := &netlink.Route{Table: tbl, Protocol: Protocol}
		return h.RouteListFiltered(fam, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return err
	}
	var failed []error
	for _, r := range have {
		if r.Dst == nil || !wanted[r.Dst.String()] {
			failed = append(failed, tolerate(h.RouteDel(&r), unix.ESRCH, unix.ENODEV))
		}
	}
	return errors.Join(failed...)
}

// ownRules lists the rules of one family that Steer made.
func ownRules(h *netlink.Handle, fam int) ([]netlink.Rule, error) {
	rules, err := whole(func() ([]netlink.Rule, error) { return h.RuleList(fam) })
	if err != nil {
		return nil, err
	}
	own := rules[:0]
	for _, r := range rules {
		if r.Priority == RulePriority && r.Protocol == Protocol && r.Src != nil {
			own = append(own, r)
		}
	}
	return own, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
