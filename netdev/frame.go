package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/sys/unix"
)

const (
	macLen      = 6
	etherLen    = 14 // Ethernet header without a VLAN tag
	arpLen      = 28 // ARP for IPv4 over Ethernet, RFC 826
	ipv6Len     = 40 // IPv6 header, RFC 8200 section 3
	ndpHopLimit = 255
)

// errNotARP is returned by parseARP for a frame that is not ARP for IPv4 over Ethernet.
var errNotARP = errors.New("netdev: not an ARP frame for IPv4 over Ethernet")

var (
	// allNodes is ff02::1 and the group MAC that RFC 2464 section 7 derives from it.
	allNodes    = netip.MustParseAddr("ff02::1")
	allNodesMAC = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}

	noMAC = net.HardwareAddr{0, 0, 0, 0, 0, 0}
)

// Frames are Ethernet frames as they go on the wire, without checksum, in the order of sending.
type Frames [][]byte

// arpAnnouncements returns the two forms of a gratuitous ARP, sender = target = ip. Some receivers take only the one, some
// only the other.
//
// The request is the ARP Announcement of RFC 5227 section 2.3; its target hardware address is zero (section 2.1.1).
// The reply names the sender's MAC as target hardware address too, RFC 5944 section 4.6.
func arpAnnouncements(mac net.HardwareAddr, ip netip.Addr) ([]*arp.Packet, error) {
	request, err := arp.NewPacket(arp.OperationRequest, mac, ip, noMAC, ip)
	if err != nil {
		return nil, fmt.Errorf("netdev: ARP request for %v from %v: %w", ip, mac, err)
	}
	reply, err := arp.NewPacket(arp.OperationReply, mac, ip, mac, ip)
	if err != nil {
		return nil, fmt.Errorf("netdev: ARP reply for %v from %v: %w", ip, mac, err)
	}
	return []*arp.Packet{request, reply}, nil
}

// arpQuestion asks who has ip. With the sender 0.0.0.0 it is the probe of RFC 5227 section 2.1.1, from which no cache learns.
func arpQuestion(mac net.HardwareAddr, sender, ip netip.Addr) (*arp.Packet, error) {
	p, err := arp.NewPacket(arp.OperationRequest, mac, sender, noMAC, ip)
	if err != nil {
		return nil, fmt.Errorf("netdev: ARP question for %v from %v: %w", ip, mac, err)
	}
	return p, nil
}

// marshalARP returns the Ethernet frame, padded to the minimum of 60 bytes:
//
//	6 destination, 6 source, 2 type 0x0806,
//	2 hardware type 1, 2 protocol type 0x0800, 1 length 6, 1 length 4, 2 operation,
//	6 sender MAC, 4 sender address, 6 target MAC, 4 target address, 18 zeros
func marshalARP(p *arp.Packet, destination net.HardwareAddr) ([]byte, error) {
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("netdev: marshal ARP: %w", err)
	}
	f := ethernet.Frame{Destination: destination, Source: p.SenderHardwareAddr, EtherType: ethernet.EtherTypeARP, Payload: payload}
	b, err := f.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("netdev: marshal Ethernet: %w", err)
	}
	return b, nil
}

// parseARP is the inverse of marshalARP. Frames come from strangers: anything but ARP for IPv4 over Ethernet is errNotARP.
func parseARP(b []byte) (*arp.Packet, error) {
	if len(b) < etherLen+arpLen ||
		binary.BigEndian.Uint16(b[12:]) != uint16(ethernet.EtherTypeARP) ||
		binary.BigEndian.Uint32(b[14:]) != arpOverEthernet || binary.BigEndian.Uint16(b[18:]) != arpLengths {
		return nil, errNotARP
	}
	p := new(arp.Packet)
	if err := p.UnmarshalBinary(b[etherLen:]); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotARP, err)
	}
	return p, nil
}

const (
	arpOverEthernet = 0x0001_0800 // hardware type, protocol type
	arpLengths      = 0x0604      // length of a MAC, length of an IPv4 address
)

// neighborAdvertisement returns an unsolicited Neighbor Advertisement (RFC 4861 sections 4.4 and 7.2.6) as Ethernet frame:
// from ip, the target itself, to all nodes, with the override flag, which makes neighbours replace the MAC that they know,
// and the target link-layer address option. router says whether this host forwards, section 4.4: a neighbour believes it.
//
//	6 destination, 6 source, 2 type 0x86dd, 40 IPv6 header, 24 ICMPv6 type 136, 8 option
func neighborAdvertisement(mac net.HardwareAddr, ip netip.Addr, router bool) ([]byte, error) {
	if len(mac) != macLen || !ip.Is6() || ip.Is4In6() {
		return nil, fmt.Errorf("%w: neighbor advertisement of %v by %v", ErrAddress, ip, mac)
	}
	message, err := ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
		Router:        router,
		Override:      true,
		TargetAddress: ip,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
	}, ip, allNodes)
	if err != nil {
		return nil, fmt.Errorf("netdev: marshal neighbor advertisement: %w", err)
	}
	return icmp6Frame(mac, allNodesMAC, ip, allNodes, message), nil
}

// neighborSolicitation asks who has ip (RFC 4861 section 4.3). The unspecified sender makes it the question of duplicate
// address detection (RFC 4862 section 5.4.2), which names no MAC and which every owner answers to all nodes.
func neighborSolicitation(mac net.HardwareAddr, sender, ip netip.Addr) (frame, error) {
	if len(mac) != macLen || !ip.Is6() || ip.Is4In6() || !sender.Is6() || sender.Is4In6() {
		return frame{}, fmt.Errorf("%w: neighbor solicitation for %v by %v (%v)", ErrAddress, ip, sender, mac)
	}
	// The solicited-node group of RFC 4291 section 2.7.1, ff02::1:ff00:0/104, and its MAC.
	v6 := ip.As16()
	group := netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: v6[13], 14: v6[14], 15: v6[15]})
	to := net.HardwareAddr{0x33, 0x33, 0xff, v6[13], v6[14], v6[15]}
	question := &ndp.NeighborSolicitation{TargetAddress: ip}
	if !sender.IsUnspecified() {
		question.Options = []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}}
	}
	message, err := ndp.MarshalMessageChecksum(question, sender, group)
	if err != nil {
		return frame{}, fmt.Errorf("netdev: marshal neighbor solicitation: %w", err)
	}
	return frame{to, icmp6Frame(mac, to, sender, group, message)}, nil
}

// icmp6Frame puts a message of neighbor discovery into an Ethernet frame.
func icmp6Frame(mac, to net.HardwareAddr, from, group netip.Addr, message []byte) []byte {
	b := make([]byte, 0, etherLen+ipv6Len+len(message))
	b = append(b, to...)
	b = append(b, mac...)
	b = binary.BigEndian.AppendUint16(b, uint16(ethernet.EtherTypeIPv6))
	b = append(b, 6<<4, 0, 0, 0) // version 6, no traffic class, no flow label
	b = binary.BigEndian.AppendUint16(b, uint16(len(message)))
	b = append(b, unix.IPPROTO_ICMPV6, ndpHopLimit)
	b = append(b, from.AsSlice()...)
	b = append(b, group.AsSlice()...)
	return append(b, message...)
}
