package netns

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// The frames below are Ethernet II; offsets are from the start of the frame.
const (
	etherBytes = 14
	arpBytes   = etherBytes + 28
	ipBytes    = 20
	udpBytes   = 8
	etherIPv4  = 0x0800
	etherARP   = 0x0806
	opRequest  = 1
	opReply    = 2
	protoUDP   = 17
)

// arpFrame is an ARP packet (RFC 826) in an Ethernet frame.
type arpFrame struct {
	to, from             net.HardwareAddr // Ethernet
	op                   uint16
	senderMAC, targetMAC net.HardwareAddr
	senderIP, targetIP   netip.Addr // IPv4
}

// append encodes the frame:
//
//	0  to(6) from(6) 0806
//	14 hardware 1, protocol 0800, lengths 6 and 4, op(2)
//	22 sender MAC(6) IP(4), target MAC(6) IP(4)
func (f arpFrame) append(b []byte) []byte {
	b = appendEther(b, f.to, f.from, etherARP)
	b = append(b, 0, 1, etherIPv4>>8, etherIPv4&0xff, 6, 4)
	b = binary.BigEndian.AppendUint16(b, f.op)
	b = append(append(b, f.senderMAC...), f.senderIP.AsSlice()...)
	return append(append(b, f.targetMAC...), f.targetIP.AsSlice()...)
}

// parseARP decodes a frame; its slices are parts of b.
func parseARP(b []byte) (f arpFrame, ok bool) {
	if len(b) < arpBytes || binary.BigEndian.Uint16(b[12:]) != etherARP ||
		[6]byte(b[14:20]) != [6]byte{0, 1, etherIPv4 >> 8, etherIPv4 & 0xff, 6, 4} {
		return f, false
	}
	return arpFrame{
		to: b[0:6], from: b[6:12], op: binary.BigEndian.Uint16(b[20:]),
		senderMAC: b[22:28], senderIP: netip.AddrFrom4([4]byte(b[28:32])),
		targetMAC: b[32:38], targetIP: netip.AddrFrom4([4]byte(b[38:42])),
	}, true
}

// udpFrame is a datagram over IPv4 in an Ethernet frame.
type udpFrame struct {
	to, from net.HardwareAddr // Ethernet
	src, dst netip.AddrPort   // IPv4
	payload  []byte
}

// append encodes the frame. The UDP checksum is 0, which in IPv4 says that there is none (RFC 768).
func (f udpFrame) append(b []byte) []byte {
	b = appendEther(b, f.to, f.from, etherIPv4)
	start := len(b)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(ipBytes+udpBytes+len(f.payload)))
	b = append(b, 0, 0, 0x40, 0, 64, protoUDP, 0, 0) // don't fragment; 64 hops; checksum below
	b = append(append(b, f.src.Addr().AsSlice()...), f.dst.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(b[start+10:], checksum(b[start:]))
	b = binary.BigEndian.AppendUint16(b, f.src.Port())
	b = binary.BigEndian.AppendUint16(b, f.dst.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(udpBytes+len(f.payload)))
	return append(append(b, 0, 0), f.payload...)
}

// parseUDP decodes a frame; its slices are parts of b. Checksums are not verified: between veths
// the kernel leaves them to be filled in by hardware that does not exist.
func parseUDP(b []byte) (f udpFrame, ok bool) {
	if len(b) < etherBytes+ipBytes+udpBytes || binary.BigEndian.Uint16(b[12:]) != etherIPv4 {
		return f, false
	}
	ip := b[etherBytes:]
	header, size := int(ip[0]&0x0f)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || ip[9] != protoUDP || header < ipBytes || size > len(ip) || size < header+udpBytes {
		return f, false
	}
	udp := ip[header:size]
	port := func(at int) uint16 { return binary.BigEndian.Uint16(udp[at:]) }
	return udpFrame{
		to: b[0:6], from: b[6:12],
		src:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:16])), port(0)),
		dst:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:20])), port(2)),
		payload: udp[udpBytes:],
	}, true
}

func appendEther(b []byte, to, from net.HardwareAddr, kind uint16) []byte {
	return binary.BigEndian.AppendUint16(append(append(b, to...), from...), kind)
}

// checksum is the Internet checksum (RFC 1071) of a header of even length.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
