package ovn

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"

	"havip-cluster/jepsen/netns"
)

// network makes the logical network, and moves each host's cable from the lab's bridge to its hypervisor.
func (f *Fabric) network() error {
	lan := netip.PrefixFrom(f.lab.Address(lanRouter), f.lab.Subnet().Bits())
	for _, args := range [][]string{
		{"ls-add", "lan", "--", "ls-add", "far", "--", "lr-add", "router"},
		{"lrp-add", "router", "router-lan", "02:77:77:00:00:01", lan.String(), "--", "lrp-add", "router", "router-far", "02:77:77:00:00:02", netip.PrefixFrom(farRouter, farNet.Bits()).String()},
		{"lsp-add", "lan", "lan-router", "--", "lsp-set-type", "lan-router", "router", "--", "lsp-set-addresses", "lan-router", "router", "--", "lsp-set-options", "lan-router", "router-port=router-lan"},
		{"lsp-add", "far", "far-router", "--", "lsp-set-type", "far-router", "router", "--", "lsp-set-addresses", "far-router", "router", "--", "lsp-set-options", "far-router", "router-port=router-far"},
	} {
		if _, err := f.nb(args...); err != nil {
			return err
		}
	}
	rest := f.chassis[len(f.chassis)-1]
	for i, h := range f.lab.Nodes() {
		if err := f.move(h, f.chassis[i]); err != nil {
			return fmt.Errorf("ovn: %s: %w", h.Name, err)
		}
	}
	for _, h := range f.lab.Clients() {
		if err := f.move(h, rest); err != nil {
			return fmt.Errorf("ovn: %s: %w", h.Name, err)
		}
	}
	if err := f.placeFar(rest); err != nil {
		return fmt.Errorf("ovn: the far client: %w", err)
	}
	return f.bed(rest)
}

// move takes the other end of a host's first cable from the lab's bridge to a hypervisor, as a port of "lan".
func (f *Fabric) move(h *netns.Host, to *chassis) error {
	port := h.Port(0)
	err := f.lab.Switch().Do(func() error {
		link, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetNoMaster(link), netlink.LinkSetNsFd(link, to.host.Namespace()))
	})
	if err == nil {
		err = to.host.Do(func() error { return up(port) })
	}
	if err == nil {
		err = f.ready(h, h.Device(0), farNet, f.lab.Address(lanRouter))
	}
	if err != nil {
		return err
	}
	return f.attach(to, port, "lan", h.Name, h.MAC(0), h.IP(0))
}

// attach makes a device of a hypervisor a port of a logical switch.
func (f *Fabric) attach(c *chassis, device, lan, name string, mac net.HardwareAddr, ip netip.Addr) error {
	if _, err := f.nb("lsp-add", lan, name, "--", "lsp-set-addresses", name, mac.String()+" "+ip.String()); err != nil {
		return err
	}
	return f.vs(c, "add-port", "br-int", device, "--", "set", "interface", device, "external-ids:iface-id="+name)
}

// ready prepares a host: room for the tunnel's head, whole checksums (the user-space datapath takes frames as they
// are, and a veth pair's checksum is else left to a card that is not there), and the way to the other network.
func (f *Fabric) ready(h *netns.Host, device string, to netip.Prefix, via netip.Addr) error {
	cmd := h.Command("ethtool", "-K", device, "tx", "off")
	if err := h.Start(cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("ethtool: %w", err)
	}
	return h.Do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		dst := &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), 32)}
		return errors.Join(netlink.LinkSetMTU(link, mtu), netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: via.AsSlice()}))
	})
}

// placeFar gives the far client its cable and address.
func (f *Fabric) placeFar(c *chassis) error {
	mac := net.HardwareAddr{0x02, 0x77, 0x77, 0, 0, 0x10}
	err := c.host.Do(func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "eth0", PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(f.far.Namespace())}
		veth.Name = "far.0"
		return errors.Join(netlink.LinkAdd(veth), up("far.0"))
	})
	if err == nil {
		err = f.far.Do(func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			address := &netlink.Addr{IPNet: &net.IPNet{IP: farHost.AsSlice(), Mask: net.CIDRMask(farNet.Bits(), 32)}}
			return errors.Join(netlink.AddrAdd(link, address), netlink.LinkSetUp(link), up("lo"))
		})
	}
	if err == nil {
		err = f.ready(f.far, "eth0", f.lab.Subnet(), farRouter)
	}
	if err != nil {
		return err
	}
	return f.attach(c, "far.0", "far", "far", mac, farHost)
}

// bed makes the lab's bridge, where observers are, a port of "lan": an L2 gateway, since OVN learns no MAC addresses
// there, and an observer asks with a new one each time.
func (f *Fabric) bed(c *chassis) error {
	if err := f.lab.Switch().Do(func() error { return c.lay("lan", "to-ovn", "bed") }); err != nil {
		return err
	}
	if err := c.host.Do(func() error { return up("bed") }); err != nil {
		return err
	}
	if err := f.vs(c, "add-port", "br-bed", "bed", "--", "set", "bridge", "br-bed", "other-config:mac-aging-time=15"); err != nil {
		return err
	}
	_, err := f.nb("lsp-add", "lan", "bed", "--", "lsp-set-type", "bed", "l2gateway", "--", "lsp-set-addresses", "bed", "unknown",
		"--", "lsp-set-options", "bed", "network_name=bed", "l2gateway-chassis="+c.name)
	return err
}

// Far is a client that reaches the lab's network through a logical router.
func (f *Fabric) Far() *netns.Host { return f.far }

// Virtual makes a logical port of type virtual for a HAVIP: OVN sends its address to the node among members that
// announced it last. Called again it changes the members.
func (f *Fabric) Virtual(name string, address netip.Addr, members ...*netns.Host) error {
	var names []string
	for _, h := range members {
		names = append(names, h.Name)
	}
	_, err := f.nb("--may-exist", "lsp-add", "lan", name, "--", "lsp-set-type", name, "virtual", "--", "lsp-set-addresses", name, "02:77:77:00:00:64 "+address.String(),
		"--", "lsp-set-options", name, "virtual-ip="+address.String(), "virtual-parents="+strings.Join(names, ","))
	if err == nil {
		_, err = f.nb("--wait=hv", "sync")
	}
	return err
}
