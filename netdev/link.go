package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var errLinkMsg = errors.New("netdev: malformed link message")

// linkMsg is the part of struct ifinfomsg and its attributes (rtnetlink(7), RTM_NEWLINK) that this package uses.
type linkMsg struct {
	index     int
	hardware  uint16 // ARPHRD_...
	flags     uint32 // IFF_...
	name      string
	mac       net.HardwareAddr
	mtu       int
	master    int   // 0 = none
	operstate uint8 // RFC 2863, IF_OPER_...
	kind      string
	netns     bool // the lower device or the peer is in another namespace
}

// up is what ENI.Up says.
func (m linkMsg) up() bool {
	return m.flags&unix.IFF_UP != 0 && m.flags&unix.IFF_LOWER_UP != 0 &&
		(m.operstate == uint8(netlink.OperUp) || m.operstate == uint8(netlink.OperUnknown))
}

// parseLinkMsg reads the body of an RTM_NEWLINK:
//
//	u8 family, u8 pad, u16 type, s32 index, u32 flags, u32 change, attributes
func parseLinkMsg(b []byte) (linkMsg, error) {
	if len(b) < unix.SizeofIfInfomsg {
		return linkMsg{}, fmt.Errorf("%w: %d bytes", errLinkMsg, len(b))
	}
	m := linkMsg{
		hardware: binary.NativeEndian.Uint16(b[2:]),
		index:    int(int32(binary.NativeEndian.Uint32(b[4:]))),
		flags:    binary.NativeEndian.Uint32(b[8:]),
	}
	var nested error
	err := attributes(b[unix.SizeofIfInfomsg:], func(kind uint16, v []byte) {
		switch {
		case kind == unix.IFLA_IFNAME:
			m.name = zeroTerminated(v)
		case kind == unix.IFLA_ADDRESS:
			m.mac = slices.Clone(net.HardwareAddr(v))
		case kind == unix.IFLA_MTU && len(v) >= 4:
			m.mtu = int(binary.NativeEndian.Uint32(v))
		case kind == unix.IFLA_MASTER && len(v) >= 4:
			m.master = int(binary.NativeEndian.Uint32(v))
		case kind == unix.IFLA_OPERSTATE && len(v) >= 1:
			m.operstate = v[0]
		case kind == unix.IFLA_LINK_NETNSID:
			m.netns = true
		case kind == unix.IFLA_LINKINFO:
			nested = attributes(v, func(kind uint16, v []byte) {
				if kind == unix.IFLA_INFO_KIND {
					m.kind = zeroTerminated(v)
				}
			})
		}
	})
	if err = errors.Join(err, nested); err != nil {
		return linkMsg{}, fmt.Errorf("%w: %w", errLinkMsg, err)
	}
	return m, nil
}

// listLinks dumps the devices, without their counters.
func listLinks(c *conn) ([]linkMsg, error) {
	const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h, 4.4
	var all []linkMsg
	body := appendAttribute32(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_EXT_MASK, skipStats)
	err := c.dump(unix.RTM_GETLINK, body, func() { all = nil }, func(kind uint16, b []byte) error {
		if kind != unix.RTM_NEWLINK {
			return nil
		}
		m, err := parseLinkMsg(b)
		all = append(all, m)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("netdev: list devices: %w", err)
	}
	return all, nil
}
