package fence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// proofWire sends and receives ARP frames at both ends of a pair, by direction as
// the fenced end sees it: where a frame goes in, and where it comes out. A packet
// socket for one protocol sees a frame only behind the ingress hooks.
type proofWire [2]struct{ in, out int }

func openWire(near, far int) (w proofWire, err error) {
	ends := [2]int{}
	for i, index := range []int{near, far} {
		ends[i] = -1
		fd, e := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if e == nil {
			ends[i] = fd
			e = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian16(unix.ETH_P_ARP), Ifindex: index})
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("packet socket (needs CAP_NET_RAW): %w", e))
		}
	}
	w[ingress].in, w[ingress].out = ends[1], ends[0]
	w[egress].in, w[egress].out = ends[0], ends[1]
	if err != nil {
		w.close()
	}
	return w, err
}

func (w proofWire) close() {
	for _, fd := range []int{w[ingress].in, w[ingress].out} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

func bigEndian16(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// arpAbout is an ARP request for ip (ingress) or a reply by ip (egress), RFC 826.
func arpAbout(dir direction, ip netip.Addr) []byte {
	b := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 + byte(dir)}
	sender, target := netip.AddrFrom4([4]byte{192, 0, 2, 1}), ip
	if dir == egress {
		sender, target = target, sender
	}
	b = append(append(b, 2, 0, 0, 0, 0, 9), sender.AsSlice()...)
	b = append(append(b, 0, 0, 0, 0, 0, 0), target.AsSlice()...)
	return append(b, make([]byte, 60-len(b))...) // the least of Ethernet
}

// pass sends a frame about the guarded address and then one about another, which
// must arrive, and reports whether the first one came before it.
func (w proofWire) pass(dir direction) (bool, error) {
	guarded, control := arpAbout(dir, proofIP), arpAbout(dir, proofOther)
	for _, frame := range [][]byte{guarded, control} {
		// ENOBUFS is what a packet socket makes of a drop.
		if _, err := unix.Write(w[dir].in, frame); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return false, fmt.Errorf("%s: send: %w", dir, err)
		}
	}
	passed := false
	buf := make([]byte, 128)
	for end := time.Now().Add(frameWait); ; {
		left := time.Until(end)
		if left <= 0 {
			return false, fmt.Errorf("%w: %s: a frame that no fence guards did not arrive within %v", errTooSlow, dir, frameWait)
		}
		tv := unix.NsecToTimeval(max(left, time.Millisecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(w[dir].out, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return false, fmt.Errorf("%s: time limit: %w", dir, err)
		}
		n, _, err := unix.Recvfrom(w[dir].out, buf, 0)
		if err != nil {
			continue // EINTR, or the limit
		}
		passed = passed || bytes.HasPrefix(buf[:n], guarded[:42])
		if bytes.HasPrefix(buf[:n], control[:42]) {
			return passed, nil
		}
	}
}
