package netdev

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

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

// Tentative says that an IPv6 address is not yet, or never, answered for: duplicate address detection runs or has failed.
func (a Address) Tentative() bool { return a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 }
