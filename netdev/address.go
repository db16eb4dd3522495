package netdev

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ErrOwnAddress is returned when an IPv6 address that is to be added is on the device as the host's own, with a subnet's
// prefix. (IPv4 has room for both, so nothing is noticed there.)
var ErrOwnAddress = errors.New("netdev: the address belongs to the host itself")

// Address is one address of one device as the kernel showed it.
type Address struct {
	Index   int          // of the device
	Prefix  netip.Prefix // not masked
	Managed bool         // a bare /32 or /128 with the mark of this project
	Flags   uint32       // IFA_F_..., rtnetlink(7)
	Label   string       // IPv4 only

	// Valid is the lifetime that is left: 0 = for ever, else whole seconds; less than one second is 1 ms.
	Valid time.Duration
}

// IP is the address without its prefix length.
func (a Address) IP() netip.Addr { return a.Prefix.Addr() }

// AddressRequest asks for a HAVIP on a device.
type AddressRequest struct {
	Index  int
	Device string // its name, for the label of an IPv4 address; not checked
	IP     netip.Addr

	// ValidFor is rounded up to whole seconds, after which the kernel removes the address by itself. 0 = never.
	ValidFor time.Duration
}

// AddressKey names the bare /32 or /128 of IP on a device.
type AddressKey struct {
	Index int
	IP    netip.Addr
}

// Addresses puts HAVIPs on interfaces and reads what is there. It is safe for concurrent use; requests go out one batch
// after the other. A batch takes about 10 µs for each address, and at most 1 s when the kernel does not answer.
type Addresses struct {
	conn *conn

	// own tells the Watcher of this process which notifications it need not hear.
	own *expected

	// anonymous: the kernel forgets IFA_PROTO, see marked.
	anonymous bool
}

// NewAddresses opens the socket, in the network namespace of the calling thread.
func NewAddresses() (*Addresses, error) {
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	return &Addresses{c, newExpected(), !kernelAtLeast(5, 18)}, nil
}

// Close closes the socket. The addresses stay.
func (a *Addresses) Close() { a.conn.close() }

// Read returns every address of every device, sorted by Index and address: one dump, about 1 µs for each.
func (a *Addresses) Read() ([]Address, error) {
	all, err := a.list()
	if err != nil {
		return nil, err
	}
	out := make([]Address, len(all))
	for i, m := range all {
		out[i] = Address{m.index, m.prefix, a.marked(m), m.flags, m.label, m.remaining()}
	}
	slices.SortFunc(out, func(x, y Address) int {
		return cmp.Or(cmp.Compare(x.Index, y.Index), x.Prefix.Addr().Compare(y.Prefix.Addr()), cmp.Compare(x.Prefix.Bits(), y.Prefix.Bits()))
	})
	return out, nil
}

// AddAll puts HAVIPs on devices or refreshes their lifetimes. A bare /32 or /128 of the same address that somebody else
// added is taken over, because two of them cannot exist.
//
// There is one error for each request, in their order; nil means that the kernel has acknowledged it. Errors: ErrAddress,
// ErrLifetime, ErrNoDevice, ErrOwnAddress, ErrNoAnswer, and what the kernel says.
func (a *Addresses) AddAll(requests []AddressRequest) []error {
	wanted, errs := describe(requests)
	// Activation, which hurries, is this one burst; a refresh, which does not, needs the look below.
	a.newAll(wanted, unix.NLM_F_CREATE|unix.NLM_F_EXCL, errs)
	exists := map[int]bool{}
	for i, err := range errs {
		if errors.Is(err, unix.EEXIST) {
			exists[i] = true
		}
	}
	if len(exists) > 0 {
		a.refreshAll(wanted, exists, errs)
	}
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("netdev: add %v to %s: %w", requests[i].IP, requests[i].Device, err)
		}
	}
	return errs
}

// ExtendAll refreshes the lifetimes of addresses that Read has just shown as managed: no look, where AddAll would have one.
// One that has gone since is added. Errors as for AddAll.
func (a *Addresses) ExtendAll(requests []AddressRequest) []error {
	wanted, errs := describe(requests)
	a.newAll(wanted, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, errs)
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("netdev: extend %v on %s: %w", requests[i].IP, requests[i].Device, err)
		}
	}
	return errs
}

// RemoveAll takes exactly ip/32 or ip/128 off the devices, whoever added it: afterwards the device does not answer for the
// HAVIP. The same address with a subnet's prefix is the host's own and stays. An absent address or device is no error.
//
// There is one error for each key, in their order: ErrAddress, ErrNoAnswer, and what the kernel says.
func (a *Addresses) RemoveAll(keys []AddressKey) []error {
	gone, errs := make([]addrMsg, len(keys)), make([]error, len(keys))
	for i, k := range keys {
		ip, err := hostIP(k.IP)
		if err != nil {
			errs[i] = err
			continue
		}
		gone[i] = addrMsg{index: k.Index, prefix: netip.PrefixFrom(ip, ip.BitLen())}
	}
	a.removeAll(gone, errs)
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("netdev: remove %v from device %d: %w", keys[i].IP, keys[i].Index, err)
		}
	}
	return errs
}

// describe turns requests into messages. Where it fails, there is an error and no message.
func describe(requests []AddressRequest) ([]addrMsg, []error) {
	wanted, errs := make([]addrMsg, len(requests)), make([]error, len(requests))
	for i, r := range requests {
		ip, err := hostIP(r.IP)
		if err != nil {
			errs[i] = err
			continue
		}
		valid, err := lifetime(r.ValidFor)
		if err != nil {
			errs[i] = err
			continue
		}
		if r.Index <= 0 || r.Device == "" {
			errs[i] = fmt.Errorf("%w: index %d, name %q", ErrNoDevice, r.Index, r.Device)
			continue
		}
		wanted[i] = managedAddr(r.Index, r.Device, ip, valid)
	}
	return wanted, errs
}

// newAll sends RTM_NEWADDR for every address that has no error yet.
func (a *Addresses) newAll(wanted []addrMsg, flags uint16, errs []error) {
	a.change(unix.RTM_NEWADDR, flags, wanted, errs)
	for i, err := range errs {
		if errors.Is(err, unix.ENODEV) {
			errs[i] = fmt.Errorf("%w: index %d: %w", ErrNoDevice, wanted[i].index, err)
		}
	}
}

// removeAll sends RTM_DELADDR for every address that has no error yet.
func (a *Addresses) removeAll(gone []addrMsg, errs []error) {
	var ours []addrMsg
	gone = slices.Clone(gone)
	for i, m := range gone {
		// The kernel would look for one of that label.
		gone[i] = addrMsg{index: m.index, prefix: m.prefix}
		if errs[i] == nil && m.prefix.Addr().Is6() {
			ours = append(ours, m)
		}
	}
	a.own.expect(ours)
	a.change(unix.RTM_DELADDR, 0, gone, errs)
	for i, err := range errs {
		if err != nil && gone[i].prefix.IsValid() {
			a.own.forget(gone[i]) // no notification comes, or it is unknown whether one does
		}
		errs[i] = tolerate(err, unix.EADDRNOTAVAIL, unix.ENOENT, unix.ENODEV)
	}
}

// change sends one message for every address that has no error yet, and fills in the kernel's answers.
func (a *Addresses) change(kind, flags uint16, all []addrMsg, errs []error) {
	var requests []request
	var places []int
	for i, m := range all {
		if errs[i] == nil {
			requests = append(requests, request{kind, flags, m.marshal()})
			places = append(places, i)
		}
	}
	for i, err := range a.conn.batch(requests) {
		errs[places[i]] = err
	}
}

// refreshAll renews the lifetimes of the addresses that exist. The kernel's replacement leaves the flags and the label of
// an IPv4 address as they were (inet_rtm_newaddr), so one without the mark has to go first.
func (a *Addresses) refreshAll(wanted []addrMsg, exists map[int]bool, errs []error) {
	all, err := a.list()
	if err != nil {
		for i := range exists {
			errs[i] = err
		}
		return
	}
	have := map[AddressKey][]addrMsg{}
	for _, m := range all {
		k := AddressKey{m.index, m.prefix.Addr()}
		have[k] = append(have[k], m)
	}
	// The rest of the work is on copies in which all others have an error, and are so left out.
	bare, again := slices.Clone(errs), slices.Clone(errs)
	for i, m := range wanted {
		if !exists[i] {
			bare[i], again[i] = errSkip, errSkip
			continue
		}
		bare[i], again[i] = errSkip, nil
		for _, old := range have[AddressKey{m.index, m.prefix.Addr()}] {
			if old.prefix != m.prefix && m.prefix.Addr().Is6() { // an IPv6 address exists once, whatever its prefix
				again[i] = fmt.Errorf("%w: %v", ErrOwnAddress, old.prefix)
			}
			if old.prefix == m.prefix && !a.marked(old) {
				bare[i] = nil
			}
		}
	}
	a.removeAll(wanted, bare)
	for i := range again {
		if again[i] == nil && bare[i] != nil && !errors.Is(bare[i], errSkip) {
			again[i] = bare[i]
		}
	}
	a.newAll(wanted, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, again)
	for i := range exists {
		errs[i] = again[i]
	}
}

// errSkip marks an entry of a batch that is not to be sent. It never leaves this file.
var errSkip = errors.New("netdev: skipped")

// marked applies the package function to this kernel.
func (a *Addresses) marked(m addrMsg) bool { return marked(m, a.anonymous) }

// list dumps the addresses of all devices, both families.
func (a *Addresses) list() ([]addrMsg, error) { return listAddresses(a.conn) }

func listAddresses(c *conn) ([]addrMsg, error) {
	var all []addrMsg
	err := c.dump(unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), func() { all = nil }, func(kind uint16, b []byte) error {
		if kind != unix.RTM_NEWADDR {
			return nil
		}
		m, err := parseAddrMsg(b)
		all = append(all, m)
		return err
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
