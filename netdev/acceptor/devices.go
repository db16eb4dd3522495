package acceptor

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// DevicesMax is how many devices the program is on at most; what comes in on others goes to the process.
const DevicesMax = 16

// loopback is the index of that device in every network namespace.
const loopback = 1

// devices are those that the program is on. A link holds it there until the process ends.
type devices struct {
	program *ebpf.Program
	mu      sync.Mutex
	links   map[int]link.Link
	ended   bool
}

// possible reports why the program can be on no device of this kernel. It asks the kernel itself: the library takes a
// missing right for an old kernel.
func possible() error {
	attr := struct { // the part of union bpf_attr that BPF_PROG_QUERY takes (linux/bpf.h); nothing is asked for
		target, attach, flags, attachFlags uint32
		progs                              uint64
		count, _                           uint32
		progFlags, links, linkFlags        uint64
		revision                           uint64
	}{target: loopback, attach: uint32(ebpf.AttachTCXIngress)}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_QUERY, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	switch errno {
	case 0:
		return nil
	case unix.EPERM:
		return rights(errno)
	}
	return fmt.Errorf("acceptor: TCX, which needs Linux 6.6: %w", errno)
}

// Follow has the program on the devices by which the kernel sends to these addresses, and on no others. Of a
// device that went and came again under the same name it is put on the new one. Its errors are of single devices.
func (a *Acceptor) Follow(peers []netip.Addr) error {
	want, err := towards(peers)
	d := &a.devices
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended || want == nil {
		return err
	}
	for _, index := range slices.Sorted(maps.Keys(d.links)) {
		if !want[index] || !attached(d.links[index], index) {
			_ = d.links[index].Close()
			delete(d.links, index)
		}
	}
	for _, index := range slices.Sorted(maps.Keys(want)) {
		if d.links[index] != nil {
			continue
		}
		if len(d.links) >= DevicesMax {
			return errors.Join(err, fmt.Errorf("acceptor: more than %d devices", DevicesMax))
		}
		// Without an anchor it is the last: whatever judges frames here has seen them before.
		l, attachErr := link.AttachTCX(link.TCXOptions{Interface: index, Program: d.program, Attach: ebpf.AttachTCXIngress})
		if attachErr != nil {
			err = errors.Join(err, fmt.Errorf("acceptor: device %d: %w", index, attachErr))
			continue
		}
		if d.links == nil {
			d.links = map[int]link.Link{}
		}
		d.links[index] = l
	}
	return err
}

// Devices returns the indexes of the devices that the program is on, in order.
func (a *Acceptor) Devices() []int {
	a.devices.mu.Lock()
	defer a.devices.mu.Unlock()
	return slices.Sorted(maps.Keys(a.devices.links))
}

// attached reports whether a link still is on the device with that index: the kernel cuts it when the device goes.
func attached(l link.Link, index int) bool {
	info, err := l.Info()
	if err != nil {
		return false
	}
	at := info.TCX()
	return at != nil && at.Ifindex == uint32(index)
}

// lookTurn is how many routes are asked for before others have their turn: a guard has real-time priority.
const lookTurn = 16

// towards finds the devices with Ethernet frames by which the kernel sends to addresses; nil: it cannot be asked.
func towards(peers []netip.Addr) (map[int]bool, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE) // one socket for all: a third of the time
	if err != nil {
		return nil, fmt.Errorf("acceptor: routes: %w", err)
	}
	defer h.Close()
	ethernet := map[int]bool{loopback: false}
	var errs error
	for i, peer := range peers {
		if i%lookTurn == lookTurn-1 {
			time.Sleep(time.Millisecond)
		}
		routes, err := h.RouteGet(net.IP(peer.AsSlice()))
		if err != nil || len(routes) == 0 {
			continue // unreachable now; its renewals do not come either
		}
		index := routes[0].LinkIndex
		if _, looked := ethernet[index]; looked {
			continue
		}
		l, err := h.LinkByIndex(index)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("acceptor: device %d: %w", index, err))
		}
		ethernet[index] = err == nil && l.Attrs().EncapType == "ether"
	}
	maps.DeleteFunc(ethernet, func(_ int, is bool) bool { return !is })
	return ethernet, errs
}

func (d *devices) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	for _, l := range d.links {
		_ = l.Close()
	}
	clear(d.links)
}
