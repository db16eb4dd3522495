package testbed

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// cablesMax is how many cables a lab can have: one byte of their MAC addresses.
const cablesMax = 250

// Cable gives a host one more NIC while it runs, with a link that carries frames. lan names the
// switch at the other end: "" is the LAN of the lab, and the NIC is one more ENI of the host, which
// instruments ask too; any other name (at most 15 bytes) is a switch of its own, made when first
// named. address may be invalid: none. No instrument may be started meanwhile.
func (h *Host) Cable(device, lan string, address netip.Prefix) error {
	l := h.lab
	l.mu.Lock()
	l.cables++
	number := l.cables
	l.mu.Unlock()
	if number > cablesMax {
		return fmt.Errorf("testbed: no more than %d cables", cablesMax)
	}
	e := eni{ip: address.Addr(), mac: net.HardwareAddr{0x02, 0x77, 1, 0, 0, byte(number)}, port: fmt.Sprintf("cable-%d", number), device: device}
	bridge := bridgeName
	if lan != "" {
		bridge = lan
	}
	err := l.sw.Do(func() error { return h.lay(e, bridge) })
	if err == nil {
		err = h.Do(func() error {
			link, err := netlink.LinkByName(device)
			if err != nil {
				return err
			}
			if address.IsValid() {
				ip := &net.IPNet{IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), address.Addr().BitLen())}
				err = netlink.AddrAdd(link, &netlink.Addr{IPNet: ip})
			}
			return errors.Join(err, netlink.LinkSetUp(link))
		})
	}
	if err != nil {
		return fmt.Errorf("testbed: cable %s of %s: %w", device, h.Name, err)
	}
	if lan == "" {
		h.enis = append(h.enis, e)
		return h.waitCarrier(len(h.enis)-1, true)
	}
	return nil
}

// lay runs in the switch's namespace.
func (h *Host) lay(e eni, bridge string) error {
	sw, err := netlink.LinkByName(bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		off := false
		made := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &off}
		made.Name = bridge
		if err = netlink.LinkAdd(made); err == nil {
			err = netlink.LinkSetUp(made)
		}
		sw = made
	}
	if err != nil {
		return err
	}
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: e.device, PeerHardwareAddr: e.mac, PeerNamespace: netlink.NsFd(int(h.ns))}
	veth.Name, veth.MasterIndex = e.port, sw.Attrs().Index
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	return netlink.LinkSetUp(veth)
}

// Host makes one more host without any cable; Lab.Close takes it away like a client. No
// instrument and no partition knows it.
func (l *Lab) Host(name string) (*Host, error) {
	handle, err := l.namespace()
	if err != nil {
		return nil, err
	}
	h := &Host{Name: name, lab: l, ns: handle}
	if err := h.Do(prepareHost); err != nil {
		return nil, errors.Join(err, handle.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.more = append(l.more, h)
	return h, nil
}
