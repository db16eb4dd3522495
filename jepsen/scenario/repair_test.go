package scenario

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"

	"havip-cluster/jepsen/netns"
)

// journalQuiet: of one kind the journal has one event per HAVIP in that time.
const journalQuiet = 5 * time.Second

// Somebody else changes what belongs to the agent. It puts it back while its lease runs,
// or another node takes over; in no case do two nodes answer.
func TestRepair(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	for _, c := range []struct {
		name   string
		budget time.Duration
		event  string // that must be in the journal afterwards
		harm   func(owner *netns.Host) error
	}{
		{"the address is deleted", 100 * time.Millisecond, "the address was gone", func(h *netns.Host) error {
			return netlink.AddrDel(eth0(), hostAddr(b.HAVIP))
		}},
		{"another program adds the address on another node", 20 * time.Millisecond, "was added by another program", func(h *netns.Host) error {
			other := b.Lab.Node(b.other(b.Owner()))
			if err := other.Do(func() error { return netlink.AddrAdd(eth0(), hostAddr(b.HAVIP)) }); err != nil {
				return err
			}
			b.Eventually("it is removed there", func() bool {
				gone := false
				b.must(other.Do(func() error {
					list, err := netlink.AddrList(eth0(), netlink.FAMILY_V4)
					gone = !slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(b.HAVIP.AsSlice()) })
					return err
				}))
				return gone
			})
			return nil
		}},
		{"nft flush ruleset", 20 * time.Millisecond, "", func(h *netns.Host) error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			c.FlushRuleset()
			return c.Flush()
		}},
		{"the link goes down and up", 3 * Lease, "link down", func(h *netns.Host) error {
			if err := netlink.LinkSetDown(eth0()); err != nil {
				return err
			}
			time.Sleep(100 * time.Millisecond)
			return netlink.LinkSetUp(eth0())
		}},
		{"the MAC changes", 3 * Lease, "", func(h *netns.Host) error {
			return netlink.LinkSetHardwareAddr(eth0(), net.HardwareAddr{0x02, 0x77, 0, 0, 0x99, byte(time.Now().UnixNano())})
		}},
		{"the fence is detached from the device", 100 * time.Millisecond, "the fence was damaged", func(h *netns.Host) error {
			return joinErr(netns.Unfence(h, 0), netlink.AddrAdd(eth0(), &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("192.0.2.1/32"))}),
				netlink.AddrDel(eth0(), &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("192.0.2.1/32"))}))
		}},
		// The kernel tells nobody of a setting that changed: it is read once a second.
		{"arp_ignore silences the device", 1200 * time.Millisecond, "arp_ignore was 8", func(h *netns.Host) error {
			return os.WriteFile("/proc/sys/net/ipv4/conf/eth0/arp_ignore", []byte("8"), 0)
		}},
		{"arp_announce is set back", 20 * time.Millisecond, "arp_announce was 0", func(h *netns.Host) error {
			return os.WriteFile("/proc/sys/net/ipv4/conf/eth0/arp_announce", []byte("0"), 0)
		}},
		{"rp_filter becomes strict", 20 * time.Millisecond, "", func(h *netns.Host) error {
			return os.WriteFile("/proc/sys/net/ipv4/conf/eth0/rp_filter", []byte("1"), 0)
		}},
		{"all addresses are flushed", 3 * Lease, "", func(h *netns.Host) error {
			list, err := netlink.AddrList(eth0(), netlink.FAMILY_V4)
			for i := range list {
				err = netlink.AddrDel(eth0(), &list[i])
			}
			time.Sleep(2 * Lease)
			return joinErr(err, netlink.AddrAdd(eth0(), &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(h.IP(0), 24))}))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.event != "" {
				time.Sleep(journalQuiet)
			}
			s := &Series{Name: c.name}
			for range Runs(1) {
				b.WaitSessions(3)
				owner := b.Lab.Node(b.Owner())
				m := b.Watch(func() {
					b.must(owner.Do(func() error { return c.harm(owner) }))
					time.Sleep(2 * Lease)
				})
				noDual(t, m)
				s.Add(m)
				b.Owner()
			}
			report(t, s, c.budget)
			if c.event != "" {
				told := false
				for end := time.Now().Add(ownedWait); !told && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
					out, err := b.Cluster.CLI(b.Leader(), "events")
					told = err == nil && strings.Contains(string(out), c.event)
				}
				if !told {
					timely(t, "no event tells that %s", c.event) // a busy host may have moved it instead
				}
			}
		})
	}
}

// A station outside the cluster claims the HAVIP: an event with its MAC, one defence at
// most, and still one owner of ours.
func TestForeignClaim(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	foreign := net.HardwareAddr{0x02, 0xde, 0xad, 0, 0, 1}
	m := b.Watch(func() {
		for range 5 {
			b.must(b.Lab.Client().Do(func() error { return claim(b.HAVIP, foreign) }))
			time.Sleep(100 * time.Millisecond)
		}
	})
	noDual(t, m)
	b.Eventually("the conflict event", func() bool {
		return strings.Contains(string(b.CLI(b.Leader(), "events")), foreign.String())
	})
	b.Owner()
}

// claim sends a gratuitous ARP reply for ip in the name of mac.
func claim(ip netip.Addr, mac net.HardwareAddr) error {
	dev, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	conn, err := packet.Listen(dev, packet.Raw, int(ethernet.EtherTypeARP), nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	p, err := arp.NewPacket(arp.OperationReply, mac, ip, ethernet.Broadcast, ip)
	if err != nil {
		return err
	}
	raw, err := p.MarshalBinary()
	if err != nil {
		return err
	}
	frame, err := (&ethernet.Frame{Destination: ethernet.Broadcast, Source: mac, EtherType: ethernet.EtherTypeARP, Payload: raw}).MarshalBinary()
	if err != nil {
		return err
	}
	_, err = conn.WriteTo(frame, &packet.Addr{HardwareAddr: ethernet.Broadcast})
	return err
}

func eth0() netlink.Link {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return &netlink.GenericLink{}
	}
	return link
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func hostAddr(ip netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(ip, ip.BitLen()))}
}

func joinErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("harm: %w", err)
		}
	}
	return nil
}
