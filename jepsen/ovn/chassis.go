package ovn

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"

	"havip-cluster/jepsen/netns"
)

// underlayName is the bridge, in the switch's namespace, that connects the hypervisors.
const underlayName = "underlay"

// underlay runs in the switch's namespace.
func underlay() error {
	off := false
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &off}
	bridge.Name = underlayName
	return errors.Join(netlink.LinkAdd(bridge), netlink.LinkSetUp(bridge))
}

// chassis is a hypervisor: Open vSwitch and ovn-controller in a namespace of their own.
type chassis struct {
	number int
	name   string
	dir    string
	host   *netns.Host
}

// cable is its port at the underlay.
func (c *chassis) cable() string { return fmt.Sprintf("under-%d", c.number) }

// hypervisor starts one, with the address 10.99.0.NUMBER for its tunnels.
func (f *Fabric) hypervisor(number int) (*chassis, error) {
	c := &chassis{number: number, name: fmt.Sprintf("chassis-%d", number)}
	c.dir = filepath.Join(f.dir, c.name)
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if c.host, err = f.lab.Host(c.name); err != nil {
		return nil, err
	}
	if err := f.lab.Switch().Do(func() error { return c.lay(underlayName, c.cable(), "phy") }); err != nil {
		return nil, err
	}
	if err := c.host.Do(func() error { return errors.Join(up("lo"), up("phy")) }); err != nil {
		return nil, err
	}
	if err := f.database(c.host, c.dir, "db", filepath.Join(f.tools, "usr/share/openvswitch/vswitch.ovsschema")); err != nil {
		return nil, err
	}
	db := "unix:" + filepath.Join(c.dir, "db.sock")
	if err := f.vs(c, "--no-wait", "init"); err != nil {
		return nil, err
	}
	err = f.vs(c, "--no-wait", "set", "open_vswitch", ".", "external-ids:system-id="+c.name, "external-ids:hostname="+c.name, "external-ids:ovn-remote="+f.socket("sb"),
		"external-ids:ovn-encap-type=geneve", fmt.Sprintf("external-ids:ovn-encap-ip=10.99.0.%d", number), "external-ids:ovn-bridge-datapath-type=netdev",
		"external-ids:ovn-bridge-mappings=bed:br-bed", "other-config:n-handler-threads=1", "other-config:n-revalidator-threads=1")
	if err != nil {
		return nil, err
	}
	if err := f.start(c.host, c.dir, "ovs-vswitchd", db, "--unixctl="+filepath.Join(c.dir, "vswitchd.ctl")); err != nil {
		return nil, err
	}
	for _, bridge := range []string{"br-int", "br-phy", "br-bed"} {
		if err := f.vs(c, "add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev"); err != nil {
			return nil, err
		}
	}
	if err := f.vs(c, "set", "bridge", "br-int", "fail-mode=secure", "--", "add-port", "br-phy", "phy"); err != nil {
		return nil, err
	}
	err = c.host.Do(func() error {
		link, err := netlink.LinkByName("br-phy")
		if err != nil {
			return err
		}
		address := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 99, 0, byte(number)), Mask: net.CIDRMask(24, 32)}}
		return errors.Join(netlink.AddrAdd(link, address), netlink.LinkSetUp(link))
	})
	if err != nil {
		return nil, err
	}
	return c, f.start(c.host, c.dir, "ovn-controller", db)
}

// vs runs a command at a hypervisor's switch.
func (f *Fabric) vs(c *chassis, args ...string) error {
	_, err := f.run(c.host, c.dir, "ovs-vsctl", append([]string{"--timeout=15", "--db=unix:" + filepath.Join(c.dir, "db.sock")}, args...)...)
	return err
}

// lay runs in the switch's namespace: a cable from one of its bridges to a device in the hypervisor.
func (c *chassis) lay(bridge, port, device string) error {
	sw, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: device, PeerNamespace: netlink.NsFd(c.host.Namespace())}
	veth.Name, veth.MasterIndex = port, sw.Attrs().Index
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	return netlink.LinkSetUp(veth)
}

// Lose takes the hypervisor of a node, counted from 1, off the others' network, as when it is lost; Return brings it back.
func (f *Fabric) Lose(node int) error { return f.underlink(node, false) }

// Return ends Lose.
func (f *Fabric) Return(node int) error { return f.underlink(node, true) }

func (f *Fabric) underlink(node int, on bool) error {
	return f.lab.Switch().Do(func() error {
		link, err := netlink.LinkByName(f.chassis[node-1].cable())
		if err != nil {
			return err
		}
		if on {
			return netlink.LinkSetUp(link)
		}
		return netlink.LinkSetDown(link)
	})
}

func up(device string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}
