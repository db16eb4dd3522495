package datagram

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"havip-cluster/internal/realtime"
)

// conn is a UDP socket whose reader waits in the kernel (recvfrom(2)), not in Go's network poller:
// between a datagram and its reader no other thread of the process has to run. It is not in the
// poller at all. One goroutine reads; any may write.
type conn struct {
	fd     int
	local  netip.AddrPort
	v6     bool
	ended  atomic.Bool  // nothing is read any more
	closed bool         // with open held
	open   sync.RWMutex // held for reading while the descriptor is used

	from unix.RawSockaddrInet6 // of the last datagram; large enough for IPv4
	size uint32                // of from
}

// readWait is how long one read waits at most, in seconds: should shutdown(2) not wake it.
const readWait = 1

func listenUDP(at netip.AddrPort) (*conn, error) {
	c := &conn{v6: at.Addr().Is6() && !at.Addr().Is4In6()}
	family := unix.AF_INET
	if c.v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	c.fd = fd
	if err := c.bind(at); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return c, nil
}

func (c *conn) bind(at netip.AddrPort) error {
	// The kernel's own limits may be lower; then those count.
	_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBytes)
	_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBytes)
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: readWait}); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	var sa unix.Sockaddr
	if c.v6 {
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	} else {
		sa = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().Unmap().As4()}
	}
	if err := unix.Bind(c.fd, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	bound, err := unix.Getsockname(c.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch b := bound.(type) {
	case *unix.SockaddrInet4:
		c.local = netip.AddrPortFrom(netip.AddrFrom4(b.Addr), uint16(b.Port))
	case *unix.SockaddrInet6:
		c.local = netip.AddrPortFrom(netip.AddrFrom16(b.Addr), uint16(b.Port))
	}
	return nil
}

// read returns the next datagram, or net.ErrClosed.
func (c *conn) read(buf []byte) (n int, from netip.AddrPort, err error) {
	c.open.RLock()
	defer c.open.RUnlock()
	for !c.ended.Load() {
		c.size = uint32(unsafe.Sizeof(c.from))
		r, errno := realtime.Block(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0,
			uintptr(unsafe.Pointer(&c.from)), uintptr(unsafe.Pointer(&c.size)))
		switch {
		case errno == unix.EINTR || errno == unix.EAGAIN:
			continue
		case errno != 0:
			return 0, netip.AddrPort{}, os.NewSyscallError("recvfrom", errno)
		case c.ended.Load():
			return 0, netip.AddrPort{}, net.ErrClosed
		}
		return int(r), c.sender(), nil
	}
	return 0, netip.AddrPort{}, net.ErrClosed
}

// sender is the address in from, as recvfrom has left it there (ip(7), ipv6(7): port in network order).
func (c *conn) sender() netip.AddrPort {
	if c.v6 {
		port := (*[2]byte)(unsafe.Pointer(&c.from.Port))
		return netip.AddrPortFrom(netip.AddrFrom16(c.from.Addr), binary.BigEndian.Uint16(port[:]))
	}
	v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&c.from))
	port := (*[2]byte)(unsafe.Pointer(&v4.Port))
	return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), binary.BigEndian.Uint16(port[:]))
}

// write sends a datagram and never waits: one for which there is no room is lost, as on the wire. The
// call is made without telling Go's scheduler (internal/boottime says why): a thread that renews
// keeps its turn.
func (c *conn) write(frame []byte, to netip.AddrPort) error {
	c.open.RLock()
	defer c.open.RUnlock()
	if c.closed {
		return net.ErrClosed
	}
	var raw unix.RawSockaddrInet6
	size := unsafe.Sizeof(raw)
	if c.v6 {
		raw.Family, raw.Addr = unix.AF_INET6, to.Addr().As16()
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&raw.Port))[:], to.Port())
	} else {
		if !to.Addr().Is4() && !to.Addr().Is4In6() {
			return fmt.Errorf("sendto: %s is no IPv4 address", to)
		}
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&raw))
		v4.Family, v4.Addr = unix.AF_INET, to.Addr().Unmap().As4()
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&v4.Port))[:], to.Port())
		size = unsafe.Sizeof(*v4)
	}
	if _, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(&frame[0])), uintptr(len(frame)), unix.MSG_DONTWAIT,
		uintptr(unsafe.Pointer(&raw)), size); errno != 0 {
		return os.NewSyscallError("sendto", errno)
	}
	return nil
}

// stop ends reading, for good, and wakes the reader. Writing goes on until close.
func (c *conn) stop() {
	c.open.RLock()
	defer c.open.RUnlock()
	if !c.ended.Swap(true) && !c.closed {
		_ = unix.Shutdown(c.fd, unix.SHUT_RD) // ENOTCONN, and the reader wakes all the same
	}
}

// close ends the socket. It waits for a read that is under way.
func (c *conn) close() error {
	c.stop()
	c.open.Lock()
	defer c.open.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return os.NewSyscallError("close", unix.Close(c.fd))
}
