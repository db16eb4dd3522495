package health

import (
	"context"
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// connect takes a TCP connection to an address and cuts it with a reset. Most checks ask a service on
// their own host, whose kernel has answered by the time connect(2) is asked for the second time: then
// neither Go's poller nor a second goroutine is needed, and of five system calls one does the work.
func connect(ctx context.Context, to netip.AddrPort) error {
	family, sa := unix.AF_INET6, unix.Sockaddr(nil)
	if to.Addr().Unmap().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().Unmap().As4()}
	} else {
		sa = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	// It is only about the port that would stay in TIME_WAIT.
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	pending, err := begun(fd, sa)
	if pending {
		pending, err = begun(fd, sa)
	}
	if !pending {
		_ = unix.Close(fd)
		return os.NewSyscallError("connect", err)
	}
	return settled(ctx, fd, sa)
}

// begun asks a socket that does not block for a connection, for the first time or again: connect(2).
func begun(fd int, to unix.Sockaddr) (pending bool, err error) {
	for {
		switch err := unix.Connect(fd, to); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EINPROGRESS), errors.Is(err, unix.EALREADY):
			return true, nil
		case err == nil, errors.Is(err, unix.EISCONN):
			return false, nil
		default:
			return false, err
		}
	}
}

// settled waits for the end of a connection's begin, and closes the socket.
func settled(ctx context.Context, fd int, to unix.Sockaddr) error {
	f := os.NewFile(uintptr(fd), "connection of a check")
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.SetDeadline(deadlinePast) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := raw.Write(func(fd uintptr) bool {
		pending, err := begun(int(fd), to)
		result = err
		return !pending
	}); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	return os.NewSyscallError("connect", result)
}
