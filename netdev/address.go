package netdev

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrOwnAddress is returned by Add when an IPv6 address is already on the device as the host's own, with a subnet's prefix.
// (IPv4 has room for both, so Add does not notice.)
var ErrOwnAddress = errors.New("netdev: the address belongs to the host itself")

// Held is a managed address that is on a device.
type Held struct {
	Index  int
	Device string
	IP     netip.Addr
}

// Addresses puts HAVIPs on interfaces and finds them again, also those that an earlier process left. It is safe for
// concurrent use. A request to the kernel takes tens of microseconds and at most 1 s.
type Addresses struct {
	links *netlink.Handle

	// sockets carries the requests that links cannot build, those with IFA_PROTO.
	sockets map[int]*nl.SocketHandle

	// anonymous: the kernel forgets IFA_PROTO, see marked.
	anonymous bool
}

// NewAddresses opens the sockets, in the network namespace of the calling thread.
func NewAddresses() (*Addresses, error) {
	links, err := openHandle()
	if err != nil {
		return nil, err
	}
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		links.Close()
		return nil, fmt.Errorf("netdev: netlink: %w", err)
	}
	a := &Addresses{links, map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}, !kernelAtLeast(5, 18)}
	tv := unix.NsecToTimeval(socketTimeout.Nanoseconds())
	// SetExtAck: the kernel adds a sentence to its errors.
	if err := errors.Join(s.SetSendTimeout(&tv), s.SetReceiveTimeout(&tv), s.SetExtAck(true)); err != nil {
		a.Close()
		return nil, fmt.Errorf("netdev: netlink options: %w", err)
	}
	return a, nil
}

// Close closes the sockets. The addresses stay.
func (a *Addresses) Close() {
	a.links.Close()
	a.sockets[unix.NETLINK_ROUTE].Close()
}

// Add puts ip on the device as a HAVIP, or refreshes its lifetime: validFor rounded up to whole seconds, after which the
// kernel removes the address by itself, or 0 for no end. A bare /32 or /128 of the same address that somebody else added
// is taken over, because two of them cannot exist.
//
// Errors: ErrAddress, ErrLifetime, ErrNoDevice, ErrOwnAddress, and what the kernel says.
func (a *Addresses) Add(index int, ip netip.Addr, validFor time.Duration) error {
	m, name, err := a.message(index, ip, validFor)
	if err != nil {
		return err
	}
	// Activation, which hurries, is this one request; a refresh, which does not, needs the look below.
	err = a.change(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, m)
	if errors.Is(err, unix.EEXIST) {
		err = a.refresh(m)
	}
	if err != nil {
		return fmt.Errorf("netdev: add %v to %s: %w", m.prefix, name, err)
	}
	return nil
}

// Extend refreshes the lifetime of an address that Holding has just listed: one request, where Add would look at all
// addresses. One that has gone since is added. Errors as for Add.
func (a *Addresses) Extend(index int, ip netip.Addr, validFor time.Duration) error {
	m, name, err := a.message(index, ip, validFor)
	if err != nil {
		return err
	}
	if err := a.change(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, m); err != nil {
		return fmt.Errorf("netdev: extend %v on %s: %w", m.prefix, name, err)
	}
	return nil
}

// message is the request for an address on a device, whose name comes with it.
func (a *Addresses) message(index int, ip netip.Addr, validFor time.Duration) (m addrMsg, device string, err error) {
	if ip, err = hostIP(ip); err != nil {
		return m, "", err
	}
	valid, err := lifetime(validFor)
	if err != nil {
		return m, "", err
	}
	dev, err := readDevice(a.links, index)
	if err != nil && !errors.Is(err, ErrNoMAC) {
		return m, "", err
	}
	return managedAddr(index, dev.Name, ip, valid), dev.Name, nil
}

// refresh renews the lifetime of an address that exists. The kernel's replacement leaves the flags and the label of an IPv4
// address as they were (inet_rtm_newaddr), so one without the mark has to go first.
func (a *Addresses) refresh(m addrMsg) error {
	all, err := a.list()
	if err != nil {
		return err
	}
	for _, old := range all {
		if old.index != m.index || old.prefix.Addr() != m.prefix.Addr() {
			continue
		}
		if old.prefix != m.prefix && m.prefix.Addr().Is6() { // an IPv6 address exists once, whatever its prefix
			return fmt.Errorf("%w: %v", ErrOwnAddress, old.prefix)
		}
		if old.prefix == m.prefix && !a.marked(old) {
			if err := a.remove(m); err != nil {
				return err
			}
		}
	}
	return a.change(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, m)
}

// Remove takes exactly ip/32 or ip/128 off the device, whoever added it: afterwards the device does not answer for the
// HAVIP. The same address with a subnet's prefix is the host's own and stays. An absent address or device is no error.
func (a *Addresses) Remove(index int, ip netip.Addr) error {
	ip, err := hostIP(ip)
	if err != nil {
		return err
	}
	return a.remove(addrMsg{index: index, prefix: netip.PrefixFrom(ip, ip.BitLen())})
}

func (a *Addresses) remove(m addrMsg) error {
	err := a.change(unix.RTM_DELADDR, 0, addrMsg{index: m.index, prefix: m.prefix})
	if err = tolerate(err, unix.EADDRNOTAVAIL, unix.ENOENT, unix.ENODEV); err != nil {
		return fmt.Errorf("netdev: remove %v from device %d: %w", m.prefix, m.index, err)
	}
	return nil
}

// Has says whether ip is on the device as a HAVIP, with the mark. It reads the kernel. Addresses without the mark do not
// count: Add makes them managed.
func (a *Addresses) Has(index int, ip netip.Addr) (bool, error) {
	all, err := a.list()
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(all, func(m addrMsg) bool {
		return m.index == index && m.prefix.Addr() == ip.Unmap() && a.marked(m)
	}), nil
}

// Holding lists every managed address on any device, sorted by Index and IP, whichever process added it.
func (a *Addresses) Holding() ([]Held, error) { return a.held(a.marked) }

// Strangers lists every bare /32 and /128 that is not managed, as Holding does: somebody else added it.
func (a *Addresses) Strangers() ([]Held, error) {
	return a.held(func(m addrMsg) bool { return m.prefix.IsSingleIP() && !a.marked(m) })
}

func (a *Addresses) held(which func(m addrMsg) bool) ([]Held, error) {
	all, err := a.list()
	if err != nil {
		return nil, err
	}
	held := []Held{}
	names := map[int]string{} // "": it went, and its addresses with it
	for _, m := range all {
		if !which(m) {
			continue
		}
		name, known := names[m.index]
		if !known {
			dev, err := readDevice(a.links, m.index)
			if err != nil && !errors.Is(err, ErrNoMAC) && !errors.Is(err, ErrNoDevice) {
				return nil, err
			}
			if !errors.Is(err, ErrNoDevice) {
				name = dev.Name
			}
			names[m.index] = name
		}
		if name != "" {
			held = append(held, Held{m.index, name, m.prefix.Addr()})
		}
	}
	slices.SortFunc(held, func(x, y Held) int { return cmp.Or(cmp.Compare(x.Index, y.Index), x.IP.Compare(y.IP)) })
	return held, nil
}

// Sweep removes everything that Holding lists and returns what it removed, also next to an error: one address that
// resists does not protect the others.
func (a *Addresses) Sweep() ([]Held, error) {
	held, err := a.Holding()
	if err != nil {
		return nil, err
	}
	removed := []Held{}
	var failed []error
	for _, h := range held {
		if err := a.Remove(h.Index, h.IP); err != nil {
			failed = append(failed, err)
			continue
		}
		removed = append(removed, h)
	}
	return removed, errors.Join(failed...)
}

// marked applies the package function to this kernel.
func (a *Addresses) marked(m addrMsg) bool { return marked(m, a.anonymous) }

// change sends one RTM_NEWADDR or RTM_DELADDR and waits for the kernel's answer.
func (a *Addresses) change(kind, flags int, m addrMsg) error {
	req := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	req.Sockets = a.sockets
	req.AddRawData(m.marshal())
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// list dumps the addresses of all devices, both families.
func (a *Addresses) list() ([]addrMsg, error) {
	all, err := whole(func() ([]addrMsg, error) {
		req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
		req.Sockets = a.sockets
		req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
		raw, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
		if err != nil {
			return nil, err
		}
		var all []addrMsg
		for _, b := range raw {
			m, err := parseAddrMsg(b)
			if err != nil {
				return nil, err
			}
			all = append(all, m)
		}
		return all, nil
	})
	if err != nil {
		return nil, fmt.Errorf("netdev: list addresses: %w", err)
	}
	return all, nil
}

// kernelAtLeast compares the running kernel's version. An unreadable one counts as old.
func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var gotMajor, gotMinor int
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &gotMajor, &gotMinor); n != 2 {
		return false
	}
	return gotMajor > major || gotMajor == major && gotMinor >= minor
}
