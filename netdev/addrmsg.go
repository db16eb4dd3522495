package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// ifaProto is IFA_PROTO of linux/if_addr.h: who added the address. Kernel 5.18 keeps and reports it, older ones
	// ignore it. The netlink library neither sets nor reads it.
	ifaProto = 11

	// forever is INFINITY_LIFE_TIME of the kernel's addrconf.h, in seconds.
	forever = 0xffffffff

	// labelSuffix ends the label of a managed IPv4 address, "eth0:hv". It is the mark that a kernel without IFA_PROTO
	// keeps, and what a person sees in `ip address`.
	labelSuffix = ":hv"

	// labelLen is IFNAMSIZ without the final zero.
	labelLen = unix.IFNAMSIZ - 1
)

var (
	// ErrLifetime is returned when an address is to be added with a lifetime that has already passed.
	ErrLifetime = errors.New("netdev: negative address lifetime")

	errAddrMsg = errors.New("netdev: malformed address message")
)

// addrMsg is the part of struct ifaddrmsg and its attributes (rtnetlink(7), RTM_NEWADDR) that this package uses.
type addrMsg struct {
	index     int
	prefix    netip.Prefix // address with prefix length, not masked
	scope     uint8
	flags     uint32 // IFA_F_...
	proto     uint8  // IFA_PROTO, 0 = not said
	label     string // IPv4 only
	valid     uint32 // seconds, forever = no end
	preferred uint32 // seconds, <= valid
}

// managedAddr describes ip as a HAVIP on a device: one address wide (so it brings no subnet and can neither be nor become
// the primary address of one), global, without a prefix route, and without duplicate address detection (RFC 4862 section 5.4
// takes 1 s, and the old owner's last answer would make the address unusable).
//
// IPv6: preferred for 0 s, which is deprecated (RFC 4862 section 5.5.4): answers, but not chosen as source of new connections.
// IPv4 knows no such thing, its kernel refuses neither but ignores the preferred lifetime in source selection.
func managedAddr(index int, device string, ip netip.Addr, valid uint32) addrMsg {
	m := addrMsg{
		index:  index,
		prefix: netip.PrefixFrom(ip, ip.BitLen()),
		scope:  unix.RT_SCOPE_UNIVERSE,
		flags:  unix.IFA_F_NOPREFIXROUTE,
		proto:  Protocol,
		valid:  valid,
	}
	if ip.Is4() {
		m.label = device[:min(len(device), labelLen-len(labelSuffix))] + labelSuffix
		m.preferred = valid
	} else {
		m.flags |= unix.IFA_F_NODAD
	}
	return m
}

// marked says whether an address carries the mark of this project. anonymous says that the kernel knows no IFA_PROTO:
// then an IPv6 address, which has no label, is recognised by a shape that nobody else uses (/128, nodad, no prefix route,
// preferred lifetime 0).
func marked(m addrMsg, anonymous bool) bool {
	if !m.prefix.IsSingleIP() {
		return false
	}
	if m.proto == Protocol || strings.HasSuffix(m.label, labelSuffix) {
		return true
	}
	const shape = unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD
	return anonymous && m.prefix.Addr().Is6() && m.flags&shape == shape && m.preferred == 0
}

// lifetime turns a duration into a kernel lifetime: whole seconds, rounded up, so never 0, which many programs take for
// "permanent". The duration 0 means no end, a negative one is ErrLifetime.
func lifetime(d time.Duration) (uint32, error) {
	switch {
	case d < 0:
		return 0, fmt.Errorf("%w: %v", ErrLifetime, d)
	case d == 0:
		return forever, nil
	}
	seconds := d / time.Second
	if d%time.Second != 0 {
		seconds++
	}
	return uint32(min(seconds, forever-1)), nil
}

// marshal returns the body of an RTM_NEWADDR or RTM_DELADDR message:
//
//	u8 family, u8 prefix length, u8 flags, u8 scope, u32 index, then attributes (u16 length, u16 type, value, padding to 4)
//
// The lifetimes are always there, because a message without them means "permanent".
func (m addrMsg) marshal() []byte {
	ip := m.prefix.Addr()
	b := []byte{uint8(family(ip)), uint8(m.prefix.Bits()), uint8(m.flags), m.scope}
	b = binary.NativeEndian.AppendUint32(b, uint32(m.index))
	attr := func(kind uint16, value []byte) { b = appendAttribute(b, kind, value) }
	u32 := func(v ...uint32) (s []byte) {
		for _, x := range v {
			s = binary.NativeEndian.AppendUint32(s, x)
		}
		return s
	}
	attr(unix.IFA_LOCAL, ip.AsSlice())
	attr(unix.IFA_ADDRESS, ip.AsSlice())
	attr(unix.IFA_FLAGS, u32(m.flags))
	if m.label != "" {
		attr(unix.IFA_LABEL, append([]byte(m.label), 0))
	}
	// struct ifa_cacheinfo: preferred, valid, and two time stamps that only the kernel writes.
	attr(unix.IFA_CACHEINFO, u32(m.preferred, m.valid, 0, 0))
	if m.proto != 0 {
		attr(ifaProto, []byte{m.proto})
	}
	return b
}

// parseAddrMsg is the inverse of marshal. The local address counts, not that of a peer.
func parseAddrMsg(b []byte) (addrMsg, error) {
	if len(b) < unix.SizeofIfAddrmsg {
		return addrMsg{}, fmt.Errorf("%w: %d bytes", errAddrMsg, len(b))
	}
	bits := int(b[1])
	m := addrMsg{flags: uint32(b[2]), scope: b[3], index: int(binary.NativeEndian.Uint32(b[4:])), valid: forever, preferred: forever}
	var local, peer netip.Addr
	err := attributes(b[unix.SizeofIfAddrmsg:], func(kind uint16, v []byte) {
		switch {
		case kind == unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(v)
		case kind == unix.IFA_ADDRESS:
			peer, _ = netip.AddrFromSlice(v)
		case kind == unix.IFA_FLAGS && len(v) >= 4:
			m.flags = binary.NativeEndian.Uint32(v)
		case kind == unix.IFA_LABEL:
			m.label = zeroTerminated(v)
		case kind == unix.IFA_CACHEINFO && len(v) >= 8:
			m.preferred, m.valid = binary.NativeEndian.Uint32(v), binary.NativeEndian.Uint32(v[4:])
		case kind == ifaProto && len(v) >= 1:
			m.proto = v[0]
		}
	})
	if err != nil {
		return addrMsg{}, fmt.Errorf("%w: %w", errAddrMsg, err)
	}
	if !local.IsValid() { // IPv6 says the local address in IFA_ADDRESS unless it has a peer
		local = peer
	}
	m.prefix = netip.PrefixFrom(local, bits)
	if !m.prefix.IsValid() || int(b[0]) != family(local) {
		return addrMsg{}, fmt.Errorf("%w: family %d, address %v/%d", errAddrMsg, b[0], local, bits)
	}
	return m, nil
}

// remaining is the valid lifetime as Address.Valid has it.
func (m addrMsg) remaining() time.Duration {
	switch m.valid {
	case forever:
		return 0
	case 0: // still there, and about to go
		return time.Millisecond
	}
	return time.Duration(m.valid) * time.Second
}
