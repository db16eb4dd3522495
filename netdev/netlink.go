package netdev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Protocol marks what this package puts into the kernel: addresses (IFA_PROTO), routes (rtm_protocol) and rules
// (FRA_PROTOCOL). It is 'H'. The kernel leaves values from 4 (addresses) and RTPROT_STATIC+1 (routes) on to user space;
// none of the daemons in the kernel's rtnetlink.h and iproute2's rt_protos uses this one.
const Protocol = 0x48

const (
	// socketTimeout bounds each request to the kernel. The library's default, 60 s, would outlast any lease.
	socketTimeout = time.Second

	// dumpAttempts bounds the repetition of an interrupted dump. A dump of a few hundred entries takes well below
	// 1 ms, so five interruptions in a row mean that something rewrites the tables without pause.
	dumpAttempts = 5
)

var (
	// ErrNoDevice is returned when an interface index or name does not exist (any more).
	ErrNoDevice = errors.New("netdev: no such device")

	// ErrNoMAC is returned when a device has no 6 byte hardware address to announce.
	ErrNoMAC = errors.New("netdev: device has no Ethernet address")

	// ErrAddress is returned when an address cannot be a HAVIP: invalid, zoned, unspecified, loopback, multicast or
	// the IPv4 broadcast address, or of a family that the operation does not have.
	ErrAddress = errors.New("netdev: not usable as a HAVIP")
)

// hostIP checks ip and unmaps an IPv4 address in IPv6 form. It returns ErrAddress for what no interface may own.
func hostIP(ip netip.Addr) (netip.Addr, error) {
	ip = ip.Unmap()
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if !ip.IsValid() || ip.Zone() != "" || ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() || ip == broadcast {
		return netip.Addr{}, fmt.Errorf("%w: %v", ErrAddress, ip)
	}
	return ip, nil
}

// family returns the netlink family of ip.
func family(ip netip.Addr) int {
	if ip.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// openHandle opens a route netlink handle whose requests end within socketTimeout.
func openHandle() (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netdev: netlink: %w", err)
	}
	if err := h.SetSocketTimeout(socketTimeout); err != nil {
		h.Close()
		return nil, fmt.Errorf("netdev: netlink timeout: %w", err)
	}
	return h, nil
}

// withHandle runs f with a handle of its own.
func withHandle(f func(*netlink.Handle) error) error {
	h, err := openHandle()
	if err != nil {
		return err
	}
	defer h.Close()
	return f(h)
}

// whole repeats a dump until the kernel says that nothing changed while it ran. After dumpAttempts it gives up with
// netlink.ErrDumpInterrupted and no result: from half a list nobody may conclude that something is absent.
func whole[T any](dump func() ([]T, error)) ([]T, error) {
	for attempt := 1; ; attempt++ {
		all, err := dump()
		if err == nil {
			return all, nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) || attempt == dumpAttempts {
			return nil, err
		}
	}
}

// device is what the packet sockets need to know of an interface.
type device struct {
	Name string
	MAC  net.HardwareAddr
}

// readDevice asks the kernel for one device: ErrNoDevice if it is gone, ErrNoMAC if it is not Ethernet.
func readDevice(h *netlink.Handle, index int) (device, error) {
	link, err := h.LinkByIndex(index)
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) || errors.Is(err, unix.ENODEV) {
		return device{}, fmt.Errorf("%w: index %d", ErrNoDevice, index)
	}
	if err != nil {
		return device{}, fmt.Errorf("netdev: device %d: %w", index, err)
	}
	d := device{link.Attrs().Name, link.Attrs().HardwareAddr}
	if len(d.MAC) != macLen {
		return d, fmt.Errorf("%w: %s", ErrNoMAC, d.Name)
	}
	return d, nil
}

// onDone calls f when ctx ends. The returned function, to be called once, calls that off and waits for f if it already
// began, so that no goroutine outlives its owner.
func onDone(ctx context.Context, f func()) (release func()) {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		f()
	})
	return func() {
		if !stop() {
			<-ended
		}
	}
}

// tolerate returns nil for the given errors and err for all others.
func tolerate(err error, allowed ...error) error {
	for _, a := range allowed {
		if errors.Is(err, a) {
			return nil
		}
	}
	return err
}

// timedOut says whether a socket operation ended by its deadline.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
