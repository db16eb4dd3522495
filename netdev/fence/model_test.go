package fence

import (
	"encoding/binary"
	"net/netip"
)

// The dumb second implementation: the frame table as plain Go over a slice.

// look returns a HAVIP's state: reasonOther (not managed), Open, Shut, Expired.
type look func(netip.Addr) int

// model judges a frame, for a fence that has the ports of world.tie.
func model(frame []byte, dir direction, state look) int {
	if len(frame) < 14 {
		return reasonMalformed
	}
	at := 12
	typ := binary.BigEndian.Uint16(frame[at:])
	for tags := 0; tags < 4 && (typ == 0x8100 || typ == 0x88a8 || typ == 0x9100); tags++ {
		at += 4
		if len(frame) < at+2 {
			return reasonMalformed
		}
		typ = binary.BigEndian.Uint16(frame[at:])
	}
	l3 := frame[at+2:]
	switch typ {
	case 0x0806:
		return modelARP(l3, dir, state)
	case 0x0800:
		at := map[direction]int{ingress: 16, egress: 12}[dir]
		if len(l3) < at+4 {
			return reasonMalformed
		}
		r := state(netip.AddrFrom4([4]byte(l3[at:])))
		if dir == egress && len(l3) >= 10 && binary.BigEndian.Uint16(l3[6:])&0x1fff == 0 {
			return modelPort(l3, int(l3[0]&15)*4, l3[9], r, state)
		}
		return r
	case 0x86dd:
		at := map[direction]int{ingress: 24, egress: 8}[dir]
		if len(l3) < at+16 {
			return reasonMalformed
		}
		ip, nd := state(netip.AddrFrom16([16]byte(l3[at:])).Unmap()), reasonOther
		if dir == egress && l3[6] == 6 {
			return modelPort(l3, 40, 6, ip, state)
		}
		if len(l3) >= 40 {
			nd = modelND(l3[40:], l3[6], dir, state)
		} else if ip == reasonOther {
			nd = modelND(nil, l3[6], dir, state)
		}
		if ip < reasonShut && (nd >= reasonShut || ip == reasonOther) {
			return nd
		}
		return ip
	}
	return reasonOther
}

// modelPort judges what leaves from a port; r is the verdict on its source address.
func modelPort(l3 []byte, at int, proto byte, r int, state look) int {
	if r >= reasonShut || proto != 6 || len(l3) < at+2 {
		return r
	}
	whose := map[uint16]netip.Addr{portOpen: host4(blockOpen, 1), portShut: host4(blockShut, 1), portLost: host4(blockUnmanaged, 1)}
	ip, tied := whose[binary.BigEndian.Uint16(l3[at:])]
	switch {
	case !tied:
		return r
	case state(ip) == reasonOther:
		return reasonShut
	}
	return state(ip)
}

func modelARP(b []byte, dir direction, state look) int {
	if len(b) < 28 {
		return reasonMalformed
	}
	if binary.BigEndian.Uint16(b[2:]) != 0x0800 || b[4] != 6 || b[5] != 4 {
		return reasonOther
	}
	spa, tpa := netip.AddrFrom4([4]byte(b[14:])), netip.AddrFrom4([4]byte(b[24:]))
	if dir == egress {
		return state(spa)
	}
	if r := state(tpa); r < reasonShut || spa != tpa {
		return r
	}
	return reasonAnnounce
}

func modelND(b []byte, next byte, dir direction, state look) int {
	for range 8 {
		skip := 0
		switch next {
		case 58:
			if len(b) < 1 {
				return reasonMalformed
			}
			if b[0] != map[direction]byte{ingress: 135, egress: 136}[dir] {
				return reasonOther
			}
			if len(b) < 24 {
				return reasonMalformed
			}
			return state(netip.AddrFrom16([16]byte(b[8:])).Unmap())
		case 0, 43, 60, 44, 51:
			if len(b) < 4 {
				return reasonMalformed
			}
			skip = (int(b[1]) + 1) * 8
			if next == 51 {
				skip = (int(b[1]) + 2) * 4
			}
			if next == 44 {
				if skip = 8; b[2] != 0 || b[3]&0xf8 != 0 {
					return reasonOther
				}
			}
		default:
			return reasonOther
		}
		next, b = b[0], b[min(skip, len(b)):]
	}
	return reasonOther
}
