package netdev

import (
	"errors"
	"fmt"
	"net"
	"time"
	"unsafe"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

const (
	// sendBurst is how many frames go into one sendmmsg; the kernel takes at most 1024 (UIO_MAXIOV).
	sendBurst = 512

	// sendTimeout bounds the wait for room in the device's queue, for one call; sendEach is added for every frame.
	sendTimeout = 100 * time.Millisecond
	sendEach    = 50 * time.Microsecond
)

// ErrFenced is returned when the kernel dropped a frame on its way out (ENOBUFS): the fence is shut for that address, or
// another filter of traffic control took it, or the device's queue was full.
var ErrFenced = errors.New("netdev: the frame was dropped at the device: the fence is shut, or the queue is full")

// errNoRoom is returned when a device takes no frame for sendTimeout.
var errNoRoom = errors.New("netdev: no room in the device's queue")

// frame is what goes on the wire, and to which hardware address.
type frame struct {
	to    net.HardwareAddr // 6 bytes
	bytes []byte
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	sent   uint32
}

// sendFrames sends the frames of one device, in as few system calls as possible, and returns an error for each, in their
// order. A frame that is refused does not hold up the next; a device that is down or gone is the error of all that remain.
func sendFrames(conn *packet.Conn, index int, frames []frame) []error {
	errs := make([]error, len(frames))
	remain := func(from int, err error) []error {
		for i := from; i < len(errs); i++ {
			errs[i] = err
		}
		return errs
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return remain(0, err)
	}
	if err := conn.SetWriteDeadline(time.Now().Add(sendTimeout + time.Duration(len(frames))*sendEach)); err != nil {
		return remain(0, err)
	}
	headers := messageHeaders(index, frames)
	for next := 0; next < len(headers); {
		burst := headers[next:min(next+sendBurst, len(headers))]
		sent, errno := 0, unix.Errno(0)
		err := raw.Write(func(fd uintptr) bool {
			n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&burst[0])), uintptr(len(burst)), unix.MSG_DONTWAIT, 0, 0)
			if e == unix.EAGAIN { // wait for room, until the deadline
				return false
			}
			if errno = e; e == 0 {
				sent = int(n)
			}
			return true
		})
		switch {
		case timedOut(err):
			return remain(next, fmt.Errorf("%w: %w", errNoRoom, err))
		case err != nil:
			return remain(next, err)
		case errno == unix.EINTR:
		case errno == unix.ENETDOWN, errno == unix.ENXIO, errno == unix.ENODEV, errno == unix.EBADF:
			return remain(next, errno)
		case errno == unix.ENOBUFS:
			errs[next] = fmt.Errorf("%w: %w", ErrFenced, errno)
			next++
		case errno != 0:
			errs[next] = errno
			next++
		default:
			next += sent
		}
	}
	return errs
}

// messageHeaders prepares the arguments of sendmmsg. They point at the frames and at each other, and keep them alive.
func messageHeaders(index int, frames []frame) []mmsghdr {
	headers := make([]mmsghdr, len(frames))
	vectors := make([]unix.Iovec, len(frames))
	names := make([]unix.RawSockaddrLinklayer, len(frames))
	for i, f := range frames {
		names[i] = unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Ifindex: int32(index), Halen: macLen}
		copy(names[i].Addr[:], f.to)
		vectors[i].Base = &f.bytes[0]
		vectors[i].SetLen(len(f.bytes))
		headers[i].header.Name = (*byte)(unsafe.Pointer(&names[i]))
		headers[i].header.Namelen = unix.SizeofSockaddrLinklayer
		headers[i].header.Iov = &vectors[i]
		headers[i].header.SetIovlen(1)
	}
	return headers
}
