package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

var (
	errRouteMsg = errors.New("netdev: malformed route message")
	errRuleMsg  = errors.New("netdev: malformed rule message")
)

// routeMsg is the part of struct rtmsg and its attributes (rtnetlink(7), RTM_NEWROUTE) that this package uses.
type routeMsg struct {
	family   int
	dst      netip.Prefix // masked; the default route is 0.0.0.0/0 or ::/0
	table    int
	protocol uint8
	scope    uint8
	kind     uint8 // RTN_...
	cached   bool  // RTM_F_CLONED
	metric   int
	source   netip.Addr // preferred source, invalid = none
	hops     []hop
}

// hop is a next hop. An invalid gateway means that the destination is a neighbour.
type hop struct {
	index   int
	gateway netip.Addr
}

// marshal returns the body of RTM_NEWROUTE or RTM_DELROUTE for a route with one hop:
//
//	u8 family, u8 destination length, u8 source length, u8 tos, u8 table, u8 protocol, u8 scope, u8 type, u32 flags, attributes
//
// The gateway is onlink: on a cloud with /32 addresses it is in no subnet, and a neighbour nevertheless.
func (m routeMsg) marshal() []byte {
	table := uint8(unix.RT_TABLE_UNSPEC) // numbers above 255 only fit into the attribute
	flags := uint32(0)
	if m.hops[0].gateway.IsValid() {
		flags = unix.RTNH_F_ONLINK
	}
	b := []byte{uint8(m.family), uint8(m.dst.Bits()), 0, 0, table, m.protocol, m.scope, m.kind}
	b = binary.NativeEndian.AppendUint32(b, flags)
	if m.dst.Bits() > 0 {
		b = appendAttribute(b, unix.RTA_DST, m.dst.Addr().AsSlice())
	}
	b = appendAttribute32(b, unix.RTA_TABLE, uint32(m.table))
	if m.metric != 0 {
		b = appendAttribute32(b, unix.RTA_PRIORITY, uint32(m.metric))
	}
	b = appendAttribute32(b, unix.RTA_OIF, uint32(m.hops[0].index))
	if gw := m.hops[0].gateway; gw.IsValid() {
		b = appendAttribute(b, unix.RTA_GATEWAY, gw.AsSlice())
	}
	return b
}

// parseRouteMsg is the inverse of marshal, for routes with any number of hops.
func parseRouteMsg(b []byte) (routeMsg, error) {
	if len(b) < unix.SizeofRtMsg {
		return routeMsg{}, fmt.Errorf("%w: %d bytes", errRouteMsg, len(b))
	}
	m := routeMsg{
		family: int(b[0]), table: int(b[4]), protocol: b[5], scope: b[6], kind: b[7],
		cached: binary.NativeEndian.Uint32(b[8:])&unix.RTM_F_CLONED != 0,
	}
	zero := netip.IPv4Unspecified()
	if m.family != unix.AF_INET {
		zero = netip.IPv6Unspecified()
	}
	dst, direct, bad := zero, hop{}, error(nil)
	err := attributes(b[unix.SizeofRtMsg:], func(kind uint16, v []byte) {
		switch {
		case kind == unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(v)
		case kind == unix.RTA_TABLE && len(v) >= 4:
			m.table = int(binary.NativeEndian.Uint32(v))
		case kind == unix.RTA_PRIORITY && len(v) >= 4:
			m.metric = int(binary.NativeEndian.Uint32(v))
		case kind == unix.RTA_OIF && len(v) >= 4:
			direct.index = int(binary.NativeEndian.Uint32(v))
		case kind == unix.RTA_GATEWAY:
			direct.gateway, _ = netip.AddrFromSlice(v)
		case kind == unix.RTA_PREFSRC:
			m.source, _ = netip.AddrFromSlice(v)
		case kind == unix.RTA_MULTIPATH:
			m.hops, bad = parseHops(v)
		}
	})
	if err = errors.Join(err, bad); err != nil {
		return routeMsg{}, fmt.Errorf("%w: %w", errRouteMsg, err)
	}
	if m.hops == nil {
		m.hops = []hop{direct}
	}
	if m.family == unix.AF_INET || m.family == unix.AF_INET6 {
		if m.dst = netip.PrefixFrom(dst, int(b[1])).Masked(); !m.dst.IsValid() || family(dst) != m.family {
			return routeMsg{}, fmt.Errorf("%w: family %d, destination %v/%d", errRouteMsg, m.family, dst, b[1])
		}
	}
	return m, nil
}

// parseHops reads RTA_MULTIPATH: u16 length, u8 flags, u8 hops, u32 interface, attributes.
func parseHops(b []byte) ([]hop, error) {
	hops := []hop{}
	for len(b) >= unix.SizeofRtNexthop {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			return nil, fmt.Errorf("%w: next hop of %d bytes", errAttributes, n)
		}
		h := hop{index: int(binary.NativeEndian.Uint32(b[4:]))}
		err := attributes(b[unix.SizeofRtNexthop:n], func(kind uint16, v []byte) {
			if kind == unix.RTA_GATEWAY {
				h.gateway, _ = netip.AddrFromSlice(v)
			}
		})
		if err != nil {
			return nil, err
		}
		hops = append(hops, h)
		b = b[min(align(n), len(b)):]
	}
	return hops, nil
}

// ruleMsg is the part of struct fib_rule_hdr and its attributes (RTM_NEWRULE) that this package uses.
type ruleMsg struct {
	from     netip.Prefix // invalid = any source
	table    int
	priority int
	protocol uint8
}

// marshal returns the body of RTM_NEWRULE or RTM_DELRULE for `from m.from lookup m.table`:
//
//	u8 family, u8 destination length, u8 source length, u8 tos, u8 table, 2 reserved, u8 action, u32 flags, attributes
func (m ruleMsg) marshal() []byte {
	b := []byte{uint8(family(m.from.Addr())), 0, uint8(m.from.Bits()), 0, unix.RT_TABLE_UNSPEC, 0, 0, unix.FR_ACT_TO_TBL, 0, 0, 0, 0}
	b = appendAttribute(b, unix.FRA_SRC, m.from.Addr().AsSlice())
	b = appendAttribute32(b, unix.FRA_TABLE, uint32(m.table))
	b = appendAttribute32(b, unix.FRA_PRIORITY, uint32(m.priority))
	return appendAttribute(b, unix.FRA_PROTOCOL, []byte{m.protocol})
}

// parseRuleMsg is the inverse of marshal.
func parseRuleMsg(b []byte) (ruleMsg, error) {
	const header = 12
	if len(b) < header {
		return ruleMsg{}, fmt.Errorf("%w: %d bytes", errRuleMsg, len(b))
	}
	m := ruleMsg{table: int(b[4])}
	var from netip.Addr
	err := attributes(b[header:], func(kind uint16, v []byte) {
		switch {
		case kind == unix.FRA_SRC:
			from, _ = netip.AddrFromSlice(v)
		case kind == unix.FRA_TABLE && len(v) >= 4:
			m.table = int(binary.NativeEndian.Uint32(v))
		case kind == unix.FRA_PRIORITY && len(v) >= 4:
			m.priority = int(binary.NativeEndian.Uint32(v))
		case kind == unix.FRA_PROTOCOL && len(v) >= 1:
			m.protocol = v[0]
		}
	})
	if err != nil {
		return ruleMsg{}, fmt.Errorf("%w: %w", errRuleMsg, err)
	}
	if from.IsValid() {
		m.from = netip.PrefixFrom(from, int(b[2]))
	}
	return m, nil
}
