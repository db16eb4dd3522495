package netdev

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	// RulePriority of the rules `from <HAVIP> lookup <table>`: after the local table (0), before main (32766).
	RulePriority = 7400

	// TableBase plus the interface index is the number of an ENI's routing table.
	TableBase = 7400
)

// Steered says that answers from a HAVIP leave by an ENI, whatever the main table says. Needed for HAVIPs on a secondary
// ENI, whose answers would leave by the primary one and be dropped as spoofed, and for an ENI that has no address of its own.
// Several HAVIPs share the ENI's table.
type Steered struct {
	IP netip.Addr

	// ENI gives the table its number (Index), its connected subnets (Prefixes) and its default route (Gateway). The caller
	// fills in the gateway of the HAVIP's subnet where the host has none; one of the other family is left out.
	ENI ENI

	// Subnet is that of the HAVIP. Its hosts are neighbours on the ENI, also if it has no address there. Invalid = none.
	Subnet netip.Prefix
}

// SteerRule is a rule `from IP lookup Table` of ours.
type SteerRule struct {
	IP    netip.Addr
	Table int
}

// SteerRoute is a route of ours: to Dst by the device, over Gateway if that is valid.
type SteerRoute struct {
	Table   int
	Dst     netip.Prefix
	Index   int
	Gateway netip.Addr
}

// DefaultRoute is one next hop of a default route in the main table.
type DefaultRoute struct {
	Index   int
	Gateway netip.Addr // invalid = directly connected
	Metric  int
	Source  netip.Addr // preferred source, invalid = the kernel chooses
	IPv6    bool
}

// Routing is what the kernel showed of rules and routes, sorted.
type Routing struct {
	Rules    []SteerRule    // ours, in all tables
	Routes   []SteerRoute   // ours, in all tables
	Defaults []DefaultRoute // of the main table, whoever made them: IPv4 first, then by metric
}

// DefaultSource lists the default routes that have an address as preferred source for which havip is true: new connections
// of this host leave with it, and fail when it moves away.
func (r Routing) DefaultSource(havip func(netip.Addr) bool) []DefaultRoute {
	found := []DefaultRoute{}
	for _, d := range r.Defaults {
		if d.Source.IsValid() && havip(d.Source) {
			found = append(found, d)
		}
	}
	return found
}

// RouteAction is what a RouteChange does.
type RouteAction uint8

// The actions, in the order in which Changes returns them: nothing looks into a half filled table.
const (
	AddRoute RouteAction = iota + 1
	ReplaceRoute
	AddRule
	RemoveRule
	RemoveRoute
)

func (a RouteAction) String() string {
	return [...]string{"?", "add route", "replace route", "add rule", "remove rule", "remove route"}[min(a, RemoveRoute)]
}

// RouteChange is one step from what the kernel has to what is wanted. Route or Rule counts, as Action says.
type RouteChange struct {
	Action RouteAction
	Route  SteerRoute
	Rule   SteerRule
}

func (c RouteChange) String() string {
	switch c.Action {
	case AddRule, RemoveRule:
		return fmt.Sprintf("%v from %v lookup %d", c.Action, c.Rule.IP, c.Rule.Table)
	}
	via := ""
	if c.Route.Gateway.IsValid() {
		via = fmt.Sprintf(" via %v", c.Route.Gateway)
	}
	return fmt.Sprintf("%v %v%v by device %d in table %d", c.Action, c.Route.Dst, via, c.Route.Index, c.Route.Table)
}

// Changes says what has to be done so that exactly the wanted HAVIPs are steered: what is missing is added, also after
// `ip rule flush` and `ip route flush`, what differs is replaced, and what is ours and no longer wanted is removed. It is
// pure, and empty when all is well. HAVIPs that are invalid are left out; of two entries of one HAVIP the first counts.
func (r Routing) Changes(want []Steered) []RouteChange {
	rules, routes := map[SteerRule]bool{}, map[routeKey]SteerRoute{}
	steered := map[netip.Addr]bool{}
	for _, s := range want {
		ip, err := hostIP(s.IP)
		if err != nil || s.ENI.Index <= 0 || steered[ip] {
			continue
		}
		steered[ip] = true
		rules[SteerRule{ip, table(s.ENI.Index)}] = true
		for _, route := range s.routes(ip) {
			k := routeKey{route.Table, route.Dst}
			if _, known := routes[k]; !known {
				routes[k] = route
			}
		}
	}
	var changes []RouteChange
	have := map[routeKey]bool{}
	for _, old := range r.Routes {
		k := routeKey{old.Table, old.Dst}
		switch route, wanted := routes[k]; {
		case !wanted:
			changes = append(changes, RouteChange{Action: RemoveRoute, Route: old})
		case have[k]: // two of one destination differ in the metric; ours have none
			changes = append(changes, RouteChange{Action: RemoveRoute, Route: old})
		case route != old:
			changes = append(changes, RouteChange{Action: ReplaceRoute, Route: route})
			have[k] = true
		default:
			have[k] = true
		}
	}
	for k, route := range routes {
		if !have[k] {
			changes = append(changes, RouteChange{Action: AddRoute, Route: route})
		}
	}
	there := map[SteerRule]bool{}
	for _, old := range r.Rules {
		if !rules[old] || there[old] {
			changes = append(changes, RouteChange{Action: RemoveRule, Rule: old})
		}
		there[old] = true
	}
	for rule := range rules {
		if !there[rule] {
			changes = append(changes, RouteChange{Action: AddRule, Rule: rule})
		}
	}
	slices.SortFunc(changes, compareChanges)
	return changes
}

type routeKey struct {
	table int
	dst   netip.Prefix
}

func compareChanges(a, b RouteChange) int {
	return cmp.Or(cmp.Compare(a.Action, b.Action), compareRules(a.Rule, b.Rule), compareRoutes(a.Route, b.Route))
}

func compareRules(a, b SteerRule) int {
	return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.Table, b.Table))
}

func compareRoutes(a, b SteerRoute) int {
	return cmp.Or(cmp.Compare(a.Table, b.Table), a.Dst.Compare(b.Dst), cmp.Compare(a.Index, b.Index), a.Gateway.Compare(b.Gateway))
}

// routes returns what the ENI's table needs for ip.
func (s Steered) routes(ip netip.Addr) []SteerRoute {
	var all []SteerRoute
	base := SteerRoute{Table: table(s.ENI.Index), Index: s.ENI.Index}
	for _, p := range append(slices.Clone(s.ENI.Prefixes), s.Subnet) {
		if !p.IsValid() || p.IsSingleIP() || p.Bits() == 0 || p.Addr().Is4() != ip.Is4() {
			continue
		}
		r := base
		r.Dst = p.Masked()
		all = append(all, r)
	}
	if gw := s.ENI.Gateway.Unmap(); gw.IsValid() && gw.Is4() == ip.Is4() {
		r := base
		r.Dst, r.Gateway = netip.PrefixFrom(gw, 0).Masked(), gw
		all = append(all, r)
	}
	return all
}

func table(index int) int { return TableBase + index }

// Router reads and changes rules and routes. It touches none that is not ours: rules have RulePriority and Protocol, routes
// have Protocol. It is safe for concurrent use.
type Router struct{ conn *conn }

// NewRouter opens the socket, in the network namespace of the calling thread.
func NewRouter() (*Router, error) {
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	return &Router{c}, nil
}

// Close closes the socket. Rules and routes stay.
func (r *Router) Close() { r.conn.close() }

// Read dumps, for each family, the rules, our routes and the main table.
func (r *Router) Read() (Routing, error) {
	var all Routing
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := listRules(r.conn, fam)
		if err != nil {
			return Routing{}, err
		}
		for _, m := range rules {
			if m.priority == RulePriority && m.protocol == Protocol && m.from.IsSingleIP() {
				all.Rules = append(all.Rules, SteerRule{m.from.Addr(), m.table})
			}
		}
		ours, err := listRoutes(r.conn, fam, unix.RT_TABLE_UNSPEC, Protocol)
		if err != nil {
			return Routing{}, err
		}
		for _, m := range ours {
			all.Routes = append(all.Routes, SteerRoute{m.table, m.dst, m.hops[0].index, m.hops[0].gateway})
		}
		main, err := listRoutes(r.conn, fam, unix.RT_TABLE_MAIN, 0)
		if err != nil {
			return Routing{}, err
		}
		all.Defaults = append(all.Defaults, defaultRoutes(main)...)
	}
	slices.SortFunc(all.Rules, compareRules)
	slices.SortFunc(all.Routes, compareRoutes)
	slices.SortStableFunc(all.Defaults, compareDefaults)
	return all, nil
}

// Apply makes the changes in their order and returns an error for each; nil means that the kernel has acknowledged it, or
// that what is to go was gone. ErrNoDevice, ErrNoAnswer, and what the kernel says: EEXIST, another program's route is in the
// way; ENETDOWN, the device is down, and the change comes again with the next plan.
func (r *Router) Apply(changes []RouteChange) []error {
	requests := make([]request, len(changes))
	for i, c := range changes {
		requests[i] = c.request()
	}
	errs := r.conn.batch(requests)
	for i, err := range errs {
		switch changes[i].Action {
		case AddRule:
			err = tolerate(err, unix.EEXIST)
		case RemoveRule:
			err = tolerate(err, unix.ENOENT)
		case RemoveRoute:
			err = tolerate(err, unix.ESRCH, unix.ENODEV)
		}
		if errors.Is(err, unix.ENODEV) {
			err = fmt.Errorf("%w: %w", ErrNoDevice, err)
		}
		if err != nil {
			err = fmt.Errorf("netdev: %v: %w", changes[i], err)
		}
		errs[i] = err
	}
	return errs
}

// request is the netlink message of a change.
func (c RouteChange) request() request {
	rule := ruleMsg{netip.PrefixFrom(c.Rule.IP, c.Rule.IP.BitLen()), c.Rule.Table, RulePriority, Protocol}
	route := routeMsg{
		family: family(c.Route.Dst.Addr()), dst: c.Route.Dst, table: c.Route.Table, protocol: Protocol, kind: unix.RTN_UNICAST,
		hops: []hop{{c.Route.Index, c.Route.Gateway}},
	}
	if c.Route.Dst.Addr().Is4() && !c.Route.Gateway.IsValid() { // IPv6 routes have no scope
		route.scope = unix.RT_SCOPE_LINK
	}
	switch c.Action {
	case AddRoute:
		return request{unix.RTM_NEWROUTE, unix.NLM_F_CREATE | unix.NLM_F_EXCL, route.marshal()}
	case ReplaceRoute:
		return request{unix.RTM_NEWROUTE, unix.NLM_F_CREATE | unix.NLM_F_REPLACE, route.marshal()}
	case AddRule:
		return request{unix.RTM_NEWRULE, unix.NLM_F_CREATE | unix.NLM_F_EXCL, rule.marshal()}
	case RemoveRule:
		return request{unix.RTM_DELRULE, 0, rule.marshal()}
	case RemoveRoute:
		if c.Route.Dst.Addr().Is4() {
			route.scope = unix.RT_SCOPE_NOWHERE // any
		}
		return request{unix.RTM_DELROUTE, 0, route.marshal()}
	}
	panic(fmt.Sprintf("netdev: route change with action %d", c.Action))
}

// listRules dumps the rules of one family.
func listRules(c *conn, fam int) ([]ruleMsg, error) {
	var all []ruleMsg
	body := make([]byte, 12)
	body[0] = uint8(fam)
	err := c.dump(unix.RTM_GETRULE, body, func() { all = nil }, func(kind uint16, b []byte) error {
		if kind != unix.RTM_NEWRULE || len(b) == 0 || int(b[0]) != fam {
			return nil
		}
		m, err := parseRuleMsg(b)
		all = append(all, m)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("netdev: list rules: %w", err)
	}
	return all, nil
}

// listRoutes dumps the routes of one family, of one table if table is not RT_TABLE_UNSPEC, of one protocol if that is not 0.
func listRoutes(c *conn, fam, table int, protocol uint8) ([]routeMsg, error) {
	var all []routeMsg
	body := make([]byte, unix.SizeofRtMsg)
	body[0] = uint8(fam)
	if c.strict {
		body[4], body[5] = uint8(table), protocol
	}
	err := c.dump(unix.RTM_GETROUTE, body, func() { all = nil }, func(kind uint16, b []byte) error {
		if kind != unix.RTM_NEWROUTE {
			return nil
		}
		m, err := parseRouteMsg(b)
		if err != nil {
			return err
		}
		if m.family == fam && !m.cached && (table == 0 || m.table == table) && (protocol == 0 || m.protocol == protocol) {
			all = append(all, m)
		}
		return nil
	})
	if err = tolerate(err, unix.ENOENT); err != nil { // there is no such table
		return nil, fmt.Errorf("netdev: list routes: %w", err)
	}
	return all, nil
}

// defaultRoutes returns the next hops of the default routes that forward (a blackhole does not).
func defaultRoutes(all []routeMsg) []DefaultRoute {
	var defaults []DefaultRoute
	for _, m := range all {
		if m.dst.Bits() != 0 || m.kind != unix.RTN_UNICAST {
			continue
		}
		for _, h := range m.hops {
			defaults = append(defaults, DefaultRoute{h.index, h.gateway, m.metric, m.source, m.family == unix.AF_INET6})
		}
	}
	return defaults
}

// compareDefaults puts the best first.
func compareDefaults(a, b DefaultRoute) int {
	fam := func(r DefaultRoute) int {
		if r.IPv6 {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(fam(a), fam(b)), cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Index, b.Index))
}
