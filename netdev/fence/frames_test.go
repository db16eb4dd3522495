package fence

import (
	"encoding/binary"
	"net/netip"
)

// Frames, built by hand. other4 and other6 are ordinary hosts; testMAC is
// nobody's, so that no stack answers an injected frame.

var (
	other4  = addr("10.250.0.9")
	other6  = addr("2001:db8:fa::9")
	testMAC = [6]byte{0x02, 0, 0, 0, 0, 9}
	destMAC = [6]byte{0x02, 0, 0, 0, 0, 8}
)

func plain(etherType uint16, payload ...byte) []byte {
	f := append(append([]byte{}, destMAC[:]...), testMAC[:]...)
	return append(binary.BigEndian.AppendUint16(f, etherType), payload...)
}

// tagged puts 802.1Q tags into a frame, outermost first.
func tagged(frame []byte, tpids ...uint16) []byte {
	out := append([]byte{}, frame[:12]...)
	for i, tpid := range tpids {
		out = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(out, tpid), uint16(100+i))
	}
	return append(out, frame[12:]...)
}

func arpFrame(op uint16, sender, target netip.Addr) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, 1, 8, 0, 6, 4}, op)
	b = append(append(b, testMAC[:]...), sender.AsSlice()...)
	b = append(append(b, make([]byte, 6)...), target.AsSlice()...)
	return plain(0x0806, b...)
}

// ip4 is a UDP packet with room for the nonce, or with an offset (units of eight bytes) a later fragment.
func ip4(src, dst netip.Addr, fragment uint16) []byte {
	b := []byte{0x45, 0, 0, 42, 0, 1, byte(fragment >> 8), byte(fragment), 64, 17, 0, 0}
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	return plain(0x0800, append(b, 0, 9, 0, 9, 0, 22, 0, 0)...)
}

func ip6(src, dst netip.Addr, next byte, payload ...byte) []byte {
	b := []byte{0x60, 0, 0, 0, 0, 0, next, 255}
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)+len(nonceMark)+4))
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	return plain(0x86dd, append(b, payload...)...)
}

func nd(kind byte, target netip.Addr) []byte {
	return append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)
}

const (
	ns = 135
	na = 136
)

var allNodes = addr("ff02::1")

// sample is a sort of frame about a HAVIP, and which direction guards it.
type sample struct {
	name    string
	frame   []byte
	in, out bool
}

func samples4(ip netip.Addr) []sample {
	return []sample{
		{"arp request for it", arpFrame(1, other4, ip), true, false},
		{"arp request by it", arpFrame(1, ip, other4), false, true},
		{"arp probe for it", arpFrame(1, netip.IPv4Unspecified(), ip), true, false},
		{"arp reply by it", arpFrame(2, ip, other4), false, true},
		{"arp reply to it", arpFrame(2, other4, ip), true, false},
		{"gratuitous request", arpFrame(1, ip, ip), false, true},
		{"gratuitous reply", arpFrame(2, ip, ip), false, true},
		{"ipv4 to it", ip4(other4, ip, 0), true, false},
		{"ipv4 from it", ip4(ip, other4, 0), false, true},
		{"ipv4 first fragment to it", ip4(other4, ip, 0x2000), true, false},
		{"ipv4 later fragment to it", ip4(other4, ip, 185), true, false},
		{"ipv4 later fragment from it", ip4(ip, other4, 185), false, true},
	}
}

func samples6(ip netip.Addr) []sample {
	hop := []byte{58, 0, 1, 4, 0, 0, 0, 0}  // hop-by-hop, then ICMPv6
	hops := []byte{60, 0, 1, 4, 0, 0, 0, 0} // hop-by-hop, then destination options
	frag := []byte{17, 0, 0x05, 0xc8, 0, 0, 0, 1}
	return []sample{
		{"ipv6 to it", ip6(other6, ip, 17), true, false},
		{"ipv6 from it", ip6(ip, other6, 17), false, true},
		{"ipv6 later fragment to it", ip6(other6, ip, 44, frag...), true, false},
		{"ipv6 later fragment from it", ip6(ip, other6, 44, frag...), false, true},
		{"ns for it", ip6(other6, allNodes, 58, nd(ns, ip)...), true, false},
		{"ns by it", ip6(ip, allNodes, 58, nd(ns, other6)...), false, true},
		{"na for it", ip6(other6, allNodes, 58, nd(na, ip)...), false, true},
		{"na by it", ip6(ip, allNodes, 58, nd(na, ip)...), false, true},
		{"ns for it behind hop-by-hop", ip6(other6, allNodes, 0, append(hop, nd(ns, ip)...)...), true, false},
		{"na for it behind two headers", ip6(other6, allNodes, 0, append(append(hops, hop...), nd(na, ip)...)...), false, true},
		{"echo request about it", ip6(other6, allNodes, 58, nd(128, ip)...), false, false},
	}
}
