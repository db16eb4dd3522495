package fakecloud

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
)

// Announce is a gratuitous ARP frame that the fabric saw: sender MAC and the address that it claims. It reports whether
// the fabric took it, and why not. The rules: the ENI is attached, is in the subnet of the HAVIP, is in its range if that
// is enforced, and has claimed nothing for ClaimMS. The owner's own repetition changes nothing.
func (c *Cloud) Announce(mac string, ip netip.Addr) (taken bool, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	i := slices.IndexFunc(c.sorted(), func(v *HAVIP) bool { return v.Vip == ip.String() })
	if i < 0 {
		return false, "no HAVIP"
	}
	v := c.sorted()[i]
	i = slices.IndexFunc(c.cfg.ENIs, func(e ENI) bool { return strings.EqualFold(e.MAC, mac) })
	if i < 0 {
		return false, "no ENI has this MAC"
	}
	e := c.cfg.ENIs[i]
	switch {
	case e.Instance == "":
		return false, "not attached"
	case e.Subnet != v.SubnetId:
		return false, "another subnet"
	case v.CheckAssociate && !permitted(v, e):
		return false, "not in the range"
	case v.NetworkInterfaceId == e.ID:
		return true, ""
	}
	if last, claimed := c.claims[e.ID]; claimed && c.now().Sub(last) < time.Duration(c.cfg.ClaimMS)*time.Millisecond {
		return false, "claimed too soon"
	}
	c.claims[e.ID] = c.now()
	v.NetworkInterfaceId, v.InstanceId, v.State, v.FlushedTime = e.ID, e.Instance, "AVAILABLE", c.stamp()
	return true, ""
}

func permitted(v *HAVIP, e ENI) bool {
	return slices.ContainsFunc(v.HaVipAssociationSet, func(a Association) bool {
		return a.InstanceType == "ENI" && a.InstanceId == e.ID || a.InstanceType == "CVM" && a.InstanceId == e.Instance
	})
}

// Hear hands the cloud what is announced at a device of the present network namespace, until stop:
// gratuitous ARP is a broadcast, so any port of the switch shows it. seen, if it is not nil, is
// called for each of these frames.
func (c *Cloud) Hear(device string, seen func()) (stop func() error, err error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("fakecloud: %w", err)
	}
	conn, err := packet.Listen(link, packet.Raw, int(ethernet.EtherTypeARP), nil)
	if err != nil {
		return nil, fmt.Errorf("fakecloud: listen at %s: %w", device, err)
	}
	go func() { // ends with the connection
		raw := make([]byte, 128)
		for {
			n, _, err := conn.ReadFrom(raw)
			if err != nil {
				return
			}
			var f ethernet.Frame
			var p arp.Packet
			if f.UnmarshalBinary(raw[:n]) != nil || p.UnmarshalBinary(f.Payload) != nil || p.SenderIP != p.TargetIP {
				continue
			}
			if seen != nil {
				seen()
			}
			c.Announce(p.SenderHardwareAddr.String(), p.SenderIP)
		}
	}()
	return conn.Close, nil
}
