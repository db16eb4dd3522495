package netdev

import (
	"errors"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
)

// Held is a managed address that is on a device.
type Held struct {
	Index  int
	Device string
	IP     netip.Addr
}

// Add is AddAll for one address, on a device whose name it looks up.
func (a *Addresses) Add(index int, ip netip.Addr, validFor time.Duration) error {
	r, err := oneRequest(index, ip, validFor)
	if err != nil {
		return err
	}
	return a.AddAll(r)[0]
}

// Extend is ExtendAll for one address, on a device whose name it looks up.
func (a *Addresses) Extend(index int, ip netip.Addr, validFor time.Duration) error {
	r, err := oneRequest(index, ip, validFor)
	if err != nil {
		return err
	}
	return a.ExtendAll(r)[0]
}

func oneRequest(index int, ip netip.Addr, validFor time.Duration) ([]AddressRequest, error) {
	if _, err := hostIP(ip); err != nil {
		return nil, err
	}
	dev, err := deviceOf(index)
	if err != nil && !errors.Is(err, ErrNoMAC) {
		return nil, err
	}
	return []AddressRequest{{index, dev.Name, ip, validFor}}, nil
}

// Remove is RemoveAll for one address.
func (a *Addresses) Remove(index int, ip netip.Addr) error {
	return a.RemoveAll([]AddressKey{{index, ip}})[0]
}

// Has says whether ip is on the device as a HAVIP, with the mark. It reads the kernel. Addresses without the mark do not
// count: Add makes them managed.
func (a *Addresses) Has(index int, ip netip.Addr) (bool, error) {
	all, err := a.Read()
	for _, m := range all {
		if m.Managed && m.Index == index && m.IP() == ip.Unmap() {
			return true, err
		}
	}
	return false, err
}

// Holding lists every managed address on any device, sorted by Index and IP, whichever process added it.
func (a *Addresses) Holding() ([]Held, error) {
	return a.held(func(m Address) bool { return m.Managed })
}

// Strangers lists every bare /32 and /128 that is not managed, as Holding does: somebody else added it.
func (a *Addresses) Strangers() ([]Held, error) {
	return a.held(func(m Address) bool { return m.Prefix.IsSingleIP() && !m.Managed })
}

func (a *Addresses) held(which func(Address) bool) ([]Held, error) {
	all, err := a.Read()
	if err != nil {
		return nil, err
	}
	held := []Held{}
	names := map[int]string{} // "": it went, and its addresses with it
	err = withHandle(func(h *netlink.Handle) error {
		for _, m := range all {
			if !which(m) {
				continue
			}
			name, known := names[m.Index]
			if !known {
				dev, err := readDevice(h, m.Index)
				if err != nil && !errors.Is(err, ErrNoMAC) && !errors.Is(err, ErrNoDevice) {
					return err
				}
				name = dev.Name
				names[m.Index] = name
			}
			if name != "" {
				held = append(held, Held{m.Index, name, m.IP()})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return held, nil
}

// Sweep removes everything that Holding lists and returns what it removed, also next to an error: one address that
// resists does not protect the others.
func (a *Addresses) Sweep() ([]Held, error) {
	held, err := a.Holding()
	if err != nil {
		return nil, err
	}
	keys := make([]AddressKey, len(held))
	for i, h := range held {
		keys[i] = AddressKey{h.Index, h.IP}
	}
	removed := []Held{}
	errs := a.RemoveAll(keys)
	for i, h := range held {
		if errs[i] == nil {
			removed = append(removed, h)
		}
	}
	return removed, errors.Join(errs...)
}
