package fence

import (
	"encoding/binary"
	"errors"
	"maps"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"havip-cluster/internal/limits"
)

const (
	portOpen  = 61000 + uint16(blockOpen) // the port that is tied to the HAVIP of a block
	portShut  = 61000 + uint16(blockShut)
	portOther = 61000 // tied to nothing
	portLost  = 60999 // tied to an address that is no HAVIP
)

// tcp4 is a segment from a port; offset is that of a fragment, in units of eight bytes.
func tcp4(src, dst netip.Addr, from uint16, offset uint16) []byte {
	f := ip4(src, dst, offset)
	f = portOf(f[:len(f)-8], from)
	f[14+9] = unix.IPPROTO_TCP
	return lengthened(f)
}

// lengthened makes the length and the checksum of an IPv4 header what they are with a nonce.
func lengthened(f []byte) []byte {
	binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14+len(nonceMark)+4))
	f[24], f[25] = 0, 0
	binary.BigEndian.PutUint16(f[24:], checksum(f[14:14+int(f[14]&15)*4], 0))
	return f
}

func tcp6(src, dst netip.Addr, from uint16) []byte {
	f := portOf(ip6(src, dst, unix.IPPROTO_TCP), from)
	binary.BigEndian.PutUint16(f[18:], uint16(len(f)-54+len(nonceMark)+4))
	return f
}

// portOf appends a TCP header, a SYN-ACK, to a frame.
func portOf(frame []byte, from uint16) []byte {
	h := make([]byte, 20)
	binary.BigEndian.PutUint16(h, from)
	binary.BigEndian.PutUint16(h[2:], 40000)
	h[12], h[13] = 5<<4, 0x12
	return append(frame[:len(frame):len(frame)], h...)
}

// withOptions makes the IPv4 header of a frame one word longer.
func withOptions(frame []byte) []byte {
	f := append(append(append([]byte{}, frame[:34]...), 1, 1, 1, 0), frame[34:]...)
	f[14] = 0x46
	return lengthened(f)
}

// portRows are frames about a port; silent says that nothing may leave from it now.
func portRows(name string, from uint16, silent bool) []row {
	out := [2]bool{egress: silent}
	return []row{
		{name + ", ipv4", tcp4(other4, host4(blockUnmanaged, 7), from, 0), out},
		{name + ", ipv4 with options", withOptions(tcp4(other4, host4(blockUnmanaged, 7), from, 0)), out},
		{name + ", ipv6", tcp6(other6, host6(blockUnmanaged, 7), from), out},
		{name + ", later fragment", tcp4(other4, host4(blockUnmanaged, 7), from, 185), [2]bool{}},
		{name + ", from an open HAVIP", tcp4(host4(blockOpen, 1), other4, from, 0), out},
	}
}

// besides is eachKind with all kinds at the same time, each in a world of its own.
func besides(t *testing.T, f func(w *world)) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.variant = v
				f(w)
			})
		})
	}
}

func (w *world) tie(f Fence) {
	w.t.Helper()
	for _, block := range []byte{blockOpen, blockShut} {
		w.must("guard", f.Guard(host4(block, 1), host6(block, 1)))
	}
	w.must("open", f.Open(host4(blockOpen, 1), host6(blockOpen, 1)))
	w.must("tie", f.Tie(portOpen, host4(blockOpen, 1)))
	w.must("tie", f.Tie(portShut, host4(blockShut, 1)))
	w.must("tie", f.Tie(portLost, host4(blockUnmanaged, 1)))
}

// TestPorts asks the wire what leaves from the ports of probes, in each state of their HAVIPs.
func TestPorts(t *testing.T) {
	besides(t, func(w *world) {
		w.bridged()
		f := w.newFence()
		defer func() { w.must("uninstall", f.Uninstall()) }()
		w.must("attach", f.Attach(index(w.eni)))
		w.tie(f)
		future := func() { w.must("deadline", f.SetDeadline(BootNow()+time.Hour.Nanoseconds())) }
		future()
		w.check(append(portRows("open", portOpen, false), portRows("shut", portShut, true)...))
		w.check(append(portRows("tied to no HAVIP", portLost, true), portRows("not tied", portOther, false)...))
		w.must("deadline", f.SetDeadline(BootNow()-1))
		w.check([]row{portRows("expired", portOpen, true)[0], portRows("expired", portOpen, true)[2], portRows("not tied, expired", portOther, false)[0]})
		future()

		w.must("tie to another", f.Tie(portShut, host6(blockOpen, 1)))
		w.check(portRows("open, of IPv6", portShut, false))
		w.must("shut", f.Shut(host6(blockOpen, 1)))
		w.check(portRows("shut, of IPv6", portShut, true)[:3])
		w.must("untie", errors.Join(f.Untie(portShut), f.Untie(portShut), f.Untie(portLost)))
		w.check(append(portRows("untied", portShut, false), portRows("untied", portLost, false)...))
	})
}

// TestPortsAreKept: the next process finds them, and more than there may be are refused.
func TestPortsAreKept(t *testing.T) {
	besides(t, func(w *world) {
		w.wire()
		f := w.newFence()
		w.must("attach", f.Attach(index(w.eni)))
		w.tie(f)
		want := map[uint16]netip.Addr{portOpen: host4(blockOpen, 1), portShut: host4(blockShut, 1), portLost: host4(blockUnmanaged, 1)}
		w.must("close", f.Close())
		f = w.newFence()
		r, err := f.Read()
		w.must("read", err)
		if !maps.Equal(r.Ports, want) {
			w.t.Errorf("the next process reads %v, want %v", r.Ports, want)
		}
		for _, err := range []error{f.Tie(0, host4(1, 1)), f.Tie(1, netip.Addr{})} {
			if err == nil {
				w.t.Error("a pair that cannot be was tied")
			}
		}
		full := error(nil)
		for i := range limits.Probes - len(want) + 1 {
			full = f.Tie(uint16(1000+i), host4(1, 1))
		}
		if !errors.Is(full, ErrFull) {
			w.t.Errorf("one too many: %v, want ErrFull", full)
		}
		w.must("uninstall", f.Uninstall())
	})
}

// TestPortsAfterFlush: with nftables another program may flush the rules; the ports come back.
func TestPortsAfterFlush(t *testing.T) {
	inWorld(t, func(w *world) {
		w.variant = variants[2]
		w.wire()
		f := w.newFence()
		w.must("attach", f.Attach(index(w.eni)))
		w.tie(f)
		other := w.newFence()
		w.must("flush", other.Uninstall())
		w.must("attach again", f.Attach(index(w.eni)))
		r, err := f.Read()
		w.must("read", err)
		if len(r.Ports) != 3 {
			w.t.Errorf("ports after a flush: %v", r.Ports)
		}
		w.must("uninstall", f.Uninstall())
	})
}

// TestFrozenListener: nobody accepts, as in a stopped process, and the kernel goes on to
// complete handshakes. None is answered after the deadline, and no answer to a request that
// came before it is repeated then.
func TestFrozenListener(t *testing.T) {
	besides(t, func(w *world) {
		w.wire()
		own := addr("10.1.255.254")
		a, err := netlink.ParseAddr(own.String() + "/16")
		w.must("address", err)
		w.must("address", netlink.AddrAdd(w.eni, a))
		l, err := net.Listen("tcp", netip.AddrPortFrom(own, portOpen).String())
		w.must("listen", err)
		defer l.Close()
		w.must("neighbour", netlink.NeighSet(&netlink.Neigh{
			LinkIndex: index(w.eni), State: netlink.NUD_PERMANENT, IP: net.IP{10, 1, 255, 1}, HardwareAddr: w.peer.Attrs().HardwareAddr,
		}))
		f := w.newFence()
		defer func() { w.must("uninstall", f.Uninstall()) }()
		w.must("attach", f.Attach(index(w.eni)))
		w.tie(f)
		s := w.socket(w.peer)
		port := uint16(20000)
		syn := func() {
			port++
			s.send(w.syn(addr("10.1.255.1"), own, port, portOpen))
		}
		var before, after, last int
		proved := func() bool { return before >= 5 || emulated && before > 0 }
		for tries := 0; tries < 5 && !proved(); tries++ { // again, where the machine stood still before the deadline
			before = 0
			deadline := BootNow() + (250 * time.Millisecond).Nanoseconds()
			w.must("deadline", f.SetDeadline(deadline))
			until := deadline + (1250 * time.Millisecond).Nanoseconds() // the kernel repeats an answer after a second
			for over := false; !over; {
				over = BootNow() >= until
				syn()
				for got, ok := s.next(); ok; got, ok = s.next() {
					if len(got.frame) < 54 || got.frame[23] != unix.IPPROTO_TCP || binary.BigEndian.Uint16(got.frame[34:]) != portOpen {
						continue
					}
					switch {
					case got.boot <= deadline+lateMax.Nanoseconds():
						before++
					default:
						after++
						last = int(time.Duration(got.boot - deadline).Milliseconds())
					}
				}
			}
		}
		if !proved() {
			w.t.Fatalf("only %d answers before the deadline: nothing was proved", before)
		}
		if after > 0 {
			w.t.Errorf("%d answers after the deadline, the last %d ms late", after, last)
		}
	})
}

// syn is a request for a connection, as the peer sends it to the ENI.
func (w *world) syn(src, dst netip.Addr, from, to uint16) []byte {
	f := tcp4(src, dst, from, 0)
	copy(f, w.eni.Attrs().HardwareAddr)
	copy(f[6:], w.peer.Attrs().HardwareAddr)
	f[16], f[17] = 0, 40 // length
	binary.BigEndian.PutUint16(f[24:], 0)
	binary.BigEndian.PutUint16(f[24:], checksum(f[14:34], 0))
	h := f[34:]
	binary.BigEndian.PutUint16(h[2:], to)
	h[13] = 2
	binary.BigEndian.PutUint16(h[14:], 1000)
	sum := uint32(unix.IPPROTO_TCP + 20)
	for i := 26; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(f[i:]))
	}
	binary.BigEndian.PutUint16(h[16:], checksum(h, sum))
	return f
}

func checksum(b []byte, sum uint32) uint16 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
