package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// ctGetStats is IPCTNL_MSG_CT_GET_STATS of linux/netfilter/nfnetlink_conntrack.h, of the subsystem for conntrack.
	ctGetStats = unix.NFNL_SUBSYS_CTNETLINK<<8 | 5
	// ctDelete is IPCTNL_MSG_CT_DELETE.
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2
	// ctaStatsEntries is CTA_STATS_GLOBAL_ENTRIES: a be32.
	ctaStatsEntries = 1

	// filteredMax is for how many addresses the kernel is asked to delete by a filter: each takes four passes.
	filteredMax = 8
)

var errUnfiltered = errors.New("netdev: not by a filter")

// tracked returns how many connections are tracked in the network namespace of the calling thread. It costs one request,
// where a dump walks over all buckets of a table that all namespaces share, also when it is empty: 14 ms of a core for
// 262,144 of them, in which the kernel lets no other thread of that core run, of whatever priority.
func tracked() (uint32, error) {
	c, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return 0, err
	}
	defer c.close()
	n, told := uint32(0), false
	body := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0} // struct nfgenmsg
	err = c.ask(ctGetStats, body, func(b []byte) error {
		if len(b) < len(body) {
			return fmt.Errorf("%w: statistics of %d bytes", errAttributes, len(b))
		}
		return attributes(b[len(body):], func(kind uint16, v []byte) {
			if kind == ctaStatsEntries && len(v) == 4 {
				n, told = binary.BigEndian.Uint32(v), true
			}
		})
	})
	if err == nil && !told {
		err = fmt.Errorf("%w: statistics without a number of connections", errAttributes)
	}
	return n, err
}

// FlushConntrack removes the connection tracking entries that name one of ips on either side, so that this host does not
// judge packets of connections that another host continued meanwhile. Without connection tracking in the kernel there is
// nothing to do and no error. For more than filteredMax addresses, and before Linux 6.11, it reads the whole table once for
// each family, unless that is empty: keep it out of the path of a hand-off. ErrAddress.
func FlushConntrack(ips ...netip.Addr) error {
	wanted, err := hostIPs(ips)
	if err != nil || len(wanted) == 0 {
		return err
	}
	if n, err := tracked(); err == nil && n == 0 || deleteFiltered(wanted) == nil {
		return nil
	}
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return unsupported(err, "conntrack")
	}
	defer h.Close()
	if err := h.SetSocketTimeout(socketTimeout); err != nil {
		return fmt.Errorf("netdev: conntrack: %w", err)
	}
	families := map[int]bool{}
	for ip := range wanted {
		families[family(ip)] = true
	}
	var failed []error
	for _, fam := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if !families[fam] {
			continue
		}
		_, err = whole(func() ([]struct{}, error) {
			_, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.InetFamily(fam), flowsOf(wanted))
			return nil, err
		})
		// EINVAL is how nfnetlink refuses a subsystem that is not there.
		failed = append(failed, unsupported(tolerate(err, unix.EINVAL), "flush conntrack"))
	}
	return errors.Join(failed...)
}

// deleteFiltered has the kernel delete the flows of some addresses, in passes between which it lets other threads run. Kernels
// before 6.11 know no filter for it (1ef7f50ccc6e) and refuse the request: EINVAL or EOPNOTSUPP, and nothing is deleted. It is
// for IPv4: with an IPv6 address Linux 6.18 deletes the flows that do not have it, because ctnetlink_filter_match_tuple takes
// ipv6_addr_cmp's 0 for a difference.
func deleteFiltered(ips map[netip.Addr]bool) error {
	if len(ips) > filteredMax {
		return fmt.Errorf("%w: %d addresses", errUnfiltered, len(ips))
	}
	for ip := range ips {
		if !ip.Is4() {
			return fmt.Errorf("%w: %v", errUnfiltered, ip)
		}
	}
	c, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer c.close()
	var all []request
	for ip := range ips {
		for _, tuple := range []uint16{1, 2} { // CTA_TUPLE_ORIG, CTA_TUPLE_REPLY
			for end := range uint16(2) { // the source, the destination
				all = append(all, request{ctDelete, 0, flowFilter(ip, tuple, end)})
			}
		}
	}
	return errors.Join(c.batch(all)...)
}

// flowFilter is a request about the flows whose tuple has an IPv4 address at one end.
func flowFilter(ip netip.Addr, tuple, end uint16) []byte {
	const ctaTupleIP, ctaSource, ctaFilter = 1, 1, 25
	nested := func(b []byte, kind uint16, value []byte) []byte {
		return appendAttribute(b, kind|unix.NLA_F_NESTED, value)
	}
	b := []byte{unix.AF_INET, 1, 0, 0} // struct nfgenmsg; from version 1 on the family counts
	b = nested(b, tuple, nested(nil, ctaTupleIP, appendAttribute(nil, ctaSource+end, ip.AsSlice())))
	// CTA_FILTER_ORIG_FLAGS and CTA_FILTER_REPLY_FLAGS have the numbers of the tuples: a bit for each field that is compared.
	return nested(b, ctaFilter, appendAttribute32(nil, tuple, 1<<end))
}

// flowsOf matches flows that name one of the addresses as source or destination, before or after address translation.
type flowsOf map[netip.Addr]bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f flowsOf) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	for _, ip := range []net.IP{flow.Forward.SrcIP, flow.Forward.DstIP, flow.Reverse.SrcIP, flow.Reverse.DstIP} {
		if a, ok := netip.AddrFromSlice(ip); ok && f[a.Unmap()] {
			return true
		}
	}
	return false
}
