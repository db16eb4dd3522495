package testbed

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// plug runs in the switch's namespace: it makes the veth pairs with their far ends in the host.
func (h *Host) plug() error {
	for i := range h.enis {
		if err := h.plugOne(i); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) plugOne(i int) error {
	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return err
	}
	veth := &netlink.Veth{
		LinkAttrs:        netlink.NewLinkAttrs(),
		PeerName:         h.Device(i),
		PeerHardwareAddr: h.enis[i].mac,
		PeerNamespace:    netlink.NsFd(int(h.ns)),
	}
	veth.Name, veth.MasterIndex = h.enis[i].port, bridge.Attrs().Index
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	return netlink.LinkSetUp(veth)
}

// configure runs in the host's namespace: links up, one address per ENI, no default route.
func (h *Host) configure() error {
	for i := range h.enis {
		if err := h.configureOne(i); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// configureOne gives an ENI its address. While a neighbour is unresolved one datagram waits
// for it, not a hundred as by default: else a client's probes sent in a gap would be
// answered after it, late instead of lost, and hide the gap.
func (h *Host) configureOne(i int) error {
	link, err := netlink.LinkByName(h.Device(i))
	if err != nil {
		return err
	}
	if err := sysctls(map[string]string{"net/ipv4/neigh/" + h.Device(i) + "/unres_qlen_bytes": "0"}); err != nil {
		return err
	}
	bits := h.lab.options.Subnet.Bits()
	address := &netlink.Addr{IPNet: &net.IPNet{IP: h.enis[i].ip.AsSlice(), Mask: net.CIDRMask(bits, 32)}}
	if err := netlink.AddrAdd(link, address); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// Unplug takes an ENI out of the host, as a cloud does when it is detached: the device is
// gone, with its addresses and whatever was attached to it. What has captured or probed
// through it hears nothing more.
func (h *Host) Unplug(eni int) error {
	err := h.lab.sw.Do(func() error {
		port, err := netlink.LinkByName(h.enis[eni].port)
		if err != nil {
			return err
		}
		return netlink.LinkDel(port)
	})
	if err != nil {
		return fmt.Errorf("testbed: unplug %s of %s: %w", h.Device(eni), h.Name, err)
	}
	return nil
}

// Plug puts an ENI back that Unplug took: the same MAC address and own address under a new
// index, and with a device name if it is not empty. It returns when the link carries frames.
// No other method of this ENI may run meanwhile.
func (h *Host) Plug(eni int, device string) error {
	if device != "" {
		h.enis[eni].device = device
	}
	err := h.lab.sw.Do(func() error { return h.plugOne(eni) })
	if err == nil {
		err = h.Do(func() error { return h.configureOne(eni) })
	}
	if err != nil {
		return fmt.Errorf("testbed: plug %s into %s: %w", h.Device(eni), h.Name, err)
	}
	return h.waitCarrier(eni, true)
}
