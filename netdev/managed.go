package netdev

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// ManagedAddress is a managed address that is on a device.
type ManagedAddress struct {
	Index  int
	Device string
	IP     netip.Addr
}

// Managed lists every managed address on any device, sorted by Index and IP, whichever process added it.
func (a *Addresses) Managed() ([]ManagedAddress, error) {
	return a.listed(func(m Address) bool { return m.Managed })
}

func (a *Addresses) listed(which func(Address) bool) ([]ManagedAddress, error) {
	all, err := a.Read()
	if err != nil {
		return nil, err
	}
	held := []ManagedAddress{}
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
				held = append(held, ManagedAddress{m.Index, name, m.IP()})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return held, nil
}

// Sweep removes everything that Managed lists and returns what it removed, also next to an error: one address that
// resists does not protect the others.
func (a *Addresses) Sweep() ([]ManagedAddress, error) {
	held, err := a.Managed()
	if err != nil {
		return nil, err
	}
	keys := make([]AddressKey, len(held))
	for i, h := range held {
		keys[i] = AddressKey{h.Index, h.IP}
	}
	removed := []ManagedAddress{}
	errs := a.RemoveAll(keys)
	for i, h := range held {
		if errs[i] == nil {
			removed = append(removed, h)
		}
	}
	return removed, errors.Join(errs...)
}
