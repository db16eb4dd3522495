package netdev

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// stationFrame is how many bytes of a frame are looked at: a neighbor advertisement has 24 and its options.
	stationFrame = 256

	icmp6Advertisement = 136 // RFC 4861 section 4.4
)

// stationFilter is a socket filter (the kernel's networking/filter.rst) that keeps, of what other stations sent, ARP for
// IPv4 over Ethernet and neighbor advertisements that no router forwarded. Frames of a VLAN that is a device of its own are
// dropped: a socket for all protocols is shown them without their tag.
func stationFilter() ([]bpf.RawInstruction, error) {
	const outgoing = 4 // PACKET_OUTGOING of linux/if_packet.h
	raw, err := bpf.Assemble(append([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: outgoing, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadExtension{Num: bpf.ExtVLANTag},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xfff},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}, stationBytes()...))
	if err != nil {
		return nil, fmt.Errorf("netdev: assemble filter: %w", err)
	}
	return raw, nil
}

// stationBytes is the part of stationFilter that looks at the bytes of the frame.
func stationBytes() []bpf.Instruction {
	type check struct{ offset, size, value uint32 }
	// all is a block that keeps the frame if every check holds, else drops it.
	all := func(keep uint32, checks ...check) (block []bpf.Instruction) {
		for i, c := range checks {
			toDrop := 2*(len(checks)-i-1) + 1
			block = append(block,
				bpf.LoadAbsolute{Off: c.offset, Size: int(c.size)},
				bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.value, SkipFalse: uint8(toDrop)})
		}
		return append(block, bpf.RetConstant{Val: keep}, bpf.RetConstant{Val: 0})
	}
	v4 := all(etherLen+arpLen, check{14, 4, arpOverEthernet}, check{18, 2, arpLengths})
	v6 := all(stationFrame, check{20, 1, unix.IPPROTO_ICMPV6}, check{21, 1, ndpHopLimit}, check{etherLen + ipv6Len, 1, icmp6Advertisement})
	return slices.Concat([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(ethernet.EtherTypeARP), SkipTrue: uint8(len(v4))},
	}, v4, []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(ethernet.EtherTypeIPv6), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}, v6)
}

// parseStation returns what a frame that passed stationFilter says: this address is at that MAC. Frames come from
// strangers; ok is false for whatever is not as it should be.
func parseStation(b []byte) (ip netip.Addr, mac net.HardwareAddr, ok bool) {
	if len(b) < etherLen {
		return ip, nil, false
	}
	if binary.BigEndian.Uint16(b[12:]) == uint16(ethernet.EtherTypeARP) {
		p, err := parseARP(b)
		if err != nil {
			return ip, nil, false
		}
		return p.SenderIP, p.SenderHardwareAddr, true
	}
	if len(b) < etherLen+ipv6Len || binary.BigEndian.Uint16(b[12:]) != uint16(ethernet.EtherTypeIPv6) ||
		b[20] != unix.IPPROTO_ICMPV6 || b[21] != ndpHopLimit {
		return ip, nil, false
	}
	payload := b[etherLen+ipv6Len:]
	payload = payload[:min(len(payload), int(binary.BigEndian.Uint16(b[18:])))]
	m, err := ndp.ParseMessage(payload)
	if err != nil {
		return ip, nil, false
	}
	na, isNA := m.(*ndp.NeighborAdvertisement)
	if !isNA {
		return ip, nil, false
	}
	mac = net.HardwareAddr(slices.Clone(b[macLen : 2*macLen]))
	for _, o := range na.Options {
		if a, named := o.(*ndp.LinkLayerAddress); named && a.Direction == ndp.Target && len(a.Addr) == macLen {
			mac = a.Addr
		}
	}
	return na.TargetAddress.Unmap(), mac, true
}
