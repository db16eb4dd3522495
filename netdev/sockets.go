package netdev

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// tcpListen is TCP_LISTEN of the kernel's tcp_states.h.
const tcpListen = 10

// DestroySockets aborts the TCP connections whose local address is ip (SOCK_DESTROY of sock_diag(7)). Their programs get
// ECONNABORTED and the remote side a reset, if the fence lets it pass, instead of hanging for minutes after ip left the host.
// Listening sockets stay: a service that listens on the HAVIP wants the next connection when it comes back.
//
// A kernel without CONFIG_INET_DIAG_DESTROY or without TCP diagnosis, and sockets that end by themselves meanwhile, are no
// error. Others are reported after all sockets were tried. Takes time in proportion to the number of TCP sockets of the host.
func DestroySockets(ip netip.Addr) error {
	ip, err := hostIP(ip)
	if err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_INET_DIAG)
	if err != nil {
		return unsupported(err, "socket diagnosis")
	}
	defer h.Close()
	if err := h.SetSocketTimeout(socketTimeout); err != nil {
		return fmt.Errorf("netdev: socket diagnosis: %w", err)
	}
	failed, first := 0, error(nil)
	// A dual-stack socket that serves an IPv4 address is listed as IPv6, with a mapped address.
	for _, fam := range []uint8{unix.AF_INET, unix.AF_INET6} {
		socks, err := whole(func() ([]*netlink.Socket, error) { return h.SocketDiagTCP(fam) })
		if err != nil {
			return unsupported(err, "list TCP sockets")
		}
		for _, s := range socks {
			if local, _ := netip.AddrFromSlice(s.ID.Source); local.Unmap() != ip || s.State == tcpListen {
				continue
			}
			if err := unsupported(destroySocket(s), "destroy TCP socket"); err != nil {
				failed++
				first = err
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("netdev: %d TCP sockets of %v stay: %w", failed, ip, first)
	}
	return nil
}

// destroySocket sends SOCK_DESTROY for one socket, named by its cookie so that a successor with the same ports is spared.
// The library's own SocketDestroy knows IPv4 only and no cookie.
func destroySocket(s *netlink.Socket) error {
	req := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
	req.AddRawData(diagRequest(s))
	_, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
	return err
}

// diagRequest is struct inet_diag_req_v2 of linux/inet_diag.h, 56 bytes:
//
//	u8 family, u8 protocol, u8 extensions, u8 pad, u32 states,
//	be16 source port, be16 destination port, 16 bytes source, 16 bytes destination, u32 interface, u32 cookie[2]
func diagRequest(s *netlink.Socket) []byte {
	b := []byte{s.Family, unix.IPPROTO_TCP, 0, 0}
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0)) // any state
	b = binary.BigEndian.AppendUint16(b, s.ID.SourcePort)
	b = binary.BigEndian.AppendUint16(b, s.ID.DestinationPort)
	for _, ip := range []net.IP{s.ID.Source, s.ID.Destination} {
		var field [16]byte
		if s.Family == unix.AF_INET {
			copy(field[:], ip.To4())
		} else {
			copy(field[:], ip.To16())
		}
		b = append(b, field[:]...)
	}
	for _, v := range []uint32{s.ID.Interface, s.ID.Cookie[0], s.ID.Cookie[1]} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

// FlushConntrack removes the connection tracking entries that name ip on either side, so that this host does not judge
// packets of connections that another host continued meanwhile. Without connection tracking in the kernel there is
// nothing to do and no error. It reads the whole table: keep it out of the path of a hand-off.
func FlushConntrack(ip netip.Addr) error {
	ip, err := hostIP(ip)
	if err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return unsupported(err, "conntrack")
	}
	defer h.Close()
	if err := h.SetSocketTimeout(socketTimeout); err != nil {
		return fmt.Errorf("netdev: conntrack: %w", err)
	}
	_, err = whole(func() ([]struct{}, error) {
		_, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.InetFamily(family(ip)), flowOf(ip))
		return nil, err
	})
	// EINVAL is how nfnetlink refuses a subsystem that is not there.
	return unsupported(tolerate(err, unix.EINVAL), "flush conntrack")
}

// flowOf matches flows that name an address as source or destination, before or after address translation.
type flowOf netip.Addr

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f flowOf) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	ip := net.IP(netip.Addr(f).AsSlice())
	return flow.Forward.SrcIP.Equal(ip) || flow.Forward.DstIP.Equal(ip) ||
		flow.Reverse.SrcIP.Equal(ip) || flow.Reverse.DstIP.Equal(ip)
}

// unsupported wraps err, but returns nil if it says that the kernel lacks the subsystem or that the object is gone.
func unsupported(err error, what string) error {
	err = tolerate(err, unix.ENOENT, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT)
	if err != nil {
		return fmt.Errorf("netdev: %s: %w", what, err)
	}
	return nil
}
