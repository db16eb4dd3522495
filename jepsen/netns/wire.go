package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	wirePoll   = 50 * time.Millisecond // how soon Stop is noticed
	wireFrames = 1 << 20               // frames of one capture that are kept; more count as lost
)

// Frame is one frame that a host has sent in the name of an address.
type Frame struct {
	// At is when it left the host, in ns of CLOCK_BOOTTIME: the kernel's own time stamp at
	// the moment the far end of the cable took it over.
	At   int64
	From net.HardwareAddr
	Name netip.Addr // ARP sender, IPv4 source, IPv6 source
	ARP  bool
}

// Wire is a capture at the switch's end of one ENI's cable. It sees what the host sends
// before any partition does, and nothing that is sent to the host.
type Wire struct {
	fd   int
	stop chan struct{}
	done chan struct{}

	mu     sync.Mutex
	frames []Frame
	lost   uint64
	err    error
}

// Capture starts to record what a host sends through an ENI, in its own name or another.
// Its frames are judged by the host's egress hooks and stamped within one run of the
// kernel's transmit path, which is not preempted: what lies between is a few microseconds.
func (l *Lab) Capture(h *Host, eni int) (*Wire, error) {
	w := &Wire{fd: -1, stop: make(chan struct{}), done: make(chan struct{})}
	if err := l.Switch().Do(func() error { return w.open(h.Port(eni)) }); err != nil {
		if w.fd >= 0 {
			_ = unix.Close(w.fd)
		}
		return nil, fmt.Errorf("netns: capture at %s: %w", h.Name, err)
	}
	go w.run()
	return w, nil
}

func (w *Wire) open(port string) (err error) {
	link, err := netlink.LinkByName(port)
	if err != nil {
		return err
	}
	all := int(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL)))
	if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	_ = unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBytes)
	wait := unix.NsecToTimeval(int64(wirePoll))
	return errors.Join(
		unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: link.Attrs().Index}),
	)
}

func (w *Wire) run() {
	defer close(w.done)
	frame, control := make([]byte, 256), make([]byte, 128)
	for !w.stopped() {
		n, c, _, from, err := unix.Recvmsg(w.fd, frame, control, 0)
		switch {
		case err == nil:
			if at, ok := from.(*unix.SockaddrLinklayer); ok && at.Pkttype != unix.PACKET_OUTGOING {
				w.take(frame[:n], control[:c])
			}
		case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN):
			w.mu.Lock()
			w.err = err
			w.mu.Unlock()
			return
		}
	}
}

func (w *Wire) stopped() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

// take records a frame that speaks in the name of an address.
func (w *Wire) take(frame, control []byte) {
	f, ok := speaker(frame)
	if !ok {
		return
	}
	at, err := stamp(control)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.err = err
	}
	if len(w.frames) >= wireFrames {
		w.lost++
		return
	}
	f.At = at
	w.frames = append(w.frames, f)
}

// speaker reads in whose name an Ethernet frame without a tag speaks.
func speaker(b []byte) (f Frame, ok bool) {
	if len(b) < etherBytes+ipBytes {
		return f, false
	}
	f.From = slices.Clone(net.HardwareAddr(b[6:12]))
	switch binary.BigEndian.Uint16(b[12:]) {
	case etherARP:
		a, whole := parseARP(b)
		f.Name, f.ARP = a.senderIP, true
		return f, whole
	case etherIPv4:
		f.Name = netip.AddrFrom4([4]byte(b[etherBytes+12:]))
		return f, true
	case unix.ETH_P_IPV6:
		if len(b) < etherBytes+40 {
			return f, false
		}
		f.Name = netip.AddrFrom16([16]byte(b[etherBytes+8:]))
		return f, true
	}
	return f, false
}

// stamp converts the kernel's time stamp, on the wall clock, to CLOCK_BOOTTIME. The two
// are compared at each frame, so a step of the wall clock spoils only what waits unread.
func stamp(control []byte) (int64, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, err
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_TIMESTAMPNS || len(m.Data) < int(unsafe.Sizeof(unix.Timespec{})) {
			continue
		}
		at := (*unix.Timespec)(unsafe.Pointer(&m.Data[0])).Nano()
		return at - readClock(unix.CLOCK_REALTIME) + BootNow(), nil
	}
	return 0, errors.New("netns: a frame without a time stamp")
}

// BootNow is the time on CLOCK_BOOTTIME in ns: that of the fences and of Wire. All
// namespaces of a machine share it.
func BootNow() int64 { return readClock(unix.CLOCK_BOOTTIME) }

func readClock(clock int32) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		panic(fmt.Sprintf("netns: clock %d: %v", clock, err)) // both are older than anything else used here
	}
	return ts.Nano()
}

// Stop ends the capture and returns its frames in order. An error means that some are
// missing, so that a count of them proves nothing.
func (w *Wire) Stop() ([]Frame, error) {
	close(w.stop)
	<-w.done
	stats, err := unix.GetsockoptTpacketStats(w.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	err = errors.Join(w.err, err, unix.Close(w.fd))
	if err == nil && uint64(stats.Drops)+w.lost > 0 {
		err = fmt.Errorf("netns: the capture has lost %d frames", uint64(stats.Drops)+w.lost)
	}
	return w.frames, err
}
