package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	// tcpListen is TCP_LISTEN of the kernel's tcp_states.h.
	tcpListen = 10

	// Of linux/sock_diag.h.
	sockDiagByFamily = 20
	sockDestroy      = 21

	diagRequestLen = 56 // struct inet_diag_req_v2
	diagMessageLen = 72 // struct inet_diag_msg
	diagSockIDLen  = 48 // struct inet_diag_sockid
)

var errDiagMsg = errors.New("netdev: malformed socket diagnosis message")

// DestroySockets aborts the TCP connections whose local address is one of ips (SOCK_DESTROY of sock_diag(7)). Their programs
// get ECONNABORTED and the remote side a reset, if the fence lets it pass, instead of hanging for minutes after the address
// left the host. Listening sockets stay: a service that listens on the HAVIP wants the next connection when it comes back.
//
// A kernel without CONFIG_INET_DIAG_DESTROY or without TCP diagnosis, and sockets that end by themselves meanwhile, are no
// error. Others are reported after all sockets were tried; ErrAddress. It takes two dumps, in proportion to the number of
// TCP sockets of the host, and one request for each socket that goes.
func DestroySockets(ips ...netip.Addr) error {
	wanted, err := hostIPs(ips)
	if err != nil || len(wanted) == 0 {
		return err
	}
	c, err := dial(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return unsupported(err, "socket diagnosis")
	}
	defer c.close()
	var doomed []request
	// A dual-stack socket that serves an IPv4 address is listed as IPv6, with a mapped address.
	for _, fam := range []uint8{unix.AF_INET, unix.AF_INET6} {
		socks, err := listSockets(c, fam)
		if err != nil {
			if err = unsupported(err, "list TCP sockets"); err != nil {
				return err
			}
			continue
		}
		for _, s := range socks {
			if wanted[s.local] {
				doomed = append(doomed, request{sockDestroy, 0, s.request(^uint32(0))})
			}
		}
	}
	failed, first := 0, error(nil)
	for _, err := range c.batch(doomed) {
		if err := unsupported(err, "destroy TCP socket"); err != nil {
			failed++
			first = err
		}
	}
	if failed > 0 {
		return fmt.Errorf("netdev: %d of %d TCP sockets of %d addresses stay: %w", failed, len(doomed), len(wanted), first)
	}
	return nil
}

// hostIPs is hostIP for many.
func hostIPs(ips []netip.Addr) (map[netip.Addr]bool, error) {
	set := make(map[netip.Addr]bool, len(ips))
	for _, ip := range ips {
		ip, err := hostIP(ip)
		if err != nil {
			return nil, err
		}
		set[ip] = true
	}
	return set, nil
}

// diagSocket is a socket as inet_diag names it, with the cookie, so that a successor with the same ports is spared.
type diagSocket struct {
	family uint8
	local  netip.Addr // unmapped
	id     [diagSockIDLen]byte
}

// parseDiagMsg reads struct inet_diag_msg of linux/inet_diag.h:
//
//	u8 family, u8 state, u8 timer, u8 retransmissions, id, and more
//
// where id is be16 source port, be16 destination port, 16 bytes source, 16 bytes destination, u32 interface, u32 cookie[2].
func parseDiagMsg(b []byte) (diagSocket, error) {
	if len(b) < diagMessageLen {
		return diagSocket{}, fmt.Errorf("%w: %d bytes", errDiagMsg, len(b))
	}
	s := diagSocket{family: b[0]}
	copy(s.id[:], b[4:])
	switch source := s.id[4:20]; s.family {
	case unix.AF_INET:
		s.local = netip.AddrFrom4([4]byte(source))
	case unix.AF_INET6:
		s.local = netip.AddrFrom16([16]byte(source)).Unmap()
	default:
		return diagSocket{}, fmt.Errorf("%w: family %d", errDiagMsg, s.family)
	}
	return s, nil
}

// request is struct inet_diag_req_v2:
//
//	u8 family, u8 protocol, u8 extensions, u8 pad, u32 states, id
func (s diagSocket) request(states uint32) []byte {
	b := make([]byte, 0, diagRequestLen)
	b = append(b, s.family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, states)
	return append(b, s.id[:]...)
}

// listSockets dumps the TCP sockets of one family that do not listen.
func listSockets(c *conn, fam uint8) ([]diagSocket, error) {
	var all []diagSocket
	body := diagSocket{family: fam}.request(^uint32(1 << tcpListen))
	err := c.dump(sockDiagByFamily, body, func() { all = nil }, func(_ uint16, b []byte) error {
		if len(b) > 1 && b[1] == tcpListen {
			return nil
		}
		s, err := parseDiagMsg(b)
		all = append(all, s)
		return err
	})
	return all, err
}

// unsupported wraps err, but returns nil if it says that the kernel lacks the subsystem or that the object is gone.
func unsupported(err error, what string) error {
	err = tolerate(err, unix.ENOENT, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT)
	if err != nil {
		return fmt.Errorf("netdev: %s: %w", what, err)
	}
	return nil
}
