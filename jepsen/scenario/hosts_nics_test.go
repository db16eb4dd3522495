package scenario

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"

	"havip-cluster/jepsen/netns"
)

// answerARP has the calling thread's host answer, with its own MAC address, each ARP request for ip
// that comes from mac, until the test ends: what a switch with proxy ARP does.
func answerARP(t *testing.T, ip netip.Addr, mac net.HardwareAddr) error {
	dev, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	conn, err := packet.Listen(dev, packet.Raw, int(ethernet.EtherTypeARP), nil)
	if err != nil {
		return err
	}
	client, err := arp.New(dev, conn)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			p, _, err := client.Read()
			select {
			case <-done:
				return
			default:
			}
			if err == nil && p.Operation == arp.OperationRequest && p.TargetIP == ip && p.SenderHardwareAddr.String() == mac.String() {
				_ = client.Reply(p, dev.HardwareAddr, ip)
			}
		}
	}()
	t.Cleanup(func() { close(done); _ = conn.Close(); <-ended })
	return nil
}

// A01: two NICs of one host in one LAN.
func TestHostHasTwoNICsInOneLAN(t *testing.T) {
	beside(t)
	for _, c := range []struct {
		name    string
		address string
	}{
		{"the second with an address", "10.77.0.41/24"},
		{"the second without", ""},
		{"variant: the second with an address of another subnet", "10.99.0.41/24"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := unformed(t, 3)
			prefix, _ := netip.ParsePrefix(c.address)
			b.must(b.Lab.Node(1).Cable("eth1", "", prefix))
			b.form(3)
			b.silentNIC(1, 1)
		})
	}
	for _, c := range []struct{ name, address string }{{"one that comes later, without", ""}, {"variant: one that comes later, with an address", "10.77.0.42/24"}} {
		t.Run(c.name, func(t *testing.T) {
			b := NewBed(t, 3)
			prefix, _ := netip.ParsePrefix(c.address)
			b.must(b.Lab.Node(2).Cable("eth1", "", prefix))
			b.silentNIC(2, 1)
		})
	}
}

// silentNIC demands that a NIC says nothing in the name of a HAVIP that another NIC of its host owns.
func (b *Bed) silentNIC(node, nic int) {
	b.t.Helper()
	b.CLI(1, "havip", "update", "web", "--range", fmt.Sprintf("cvm:node-%d", node), "--evict")
	b.Eventually("the move", func() bool { return b.Owner() == node && b.has(node) })
	wire, err := b.Lab.Capture(b.Lab.Node(node), nic)
	b.must(err)
	m := b.Watch(func() { time.Sleep(time.Second) })
	noDual(b.t, m)
	frames, err := wire.Stop()
	b.must(err)
	n := 0
	for _, f := range frames {
		if f.Name == b.HAVIP && f.ARP {
			n++
		}
	}
	if n > 0 {
		b.t.Errorf("%d ARP frames in the name of the HAVIP left node-%d by %s, which does not own it", n, node, b.Lab.Node(node).Device(nic))
	}
}

// A02: more Ethernet devices than any host has NICs.
func TestHostHasManyDevices(t *testing.T) {
	beside(t)
	for _, c := range []struct{ name, line string }{
		{"33 veth pairs", "for i in $(seq 33); do ip link add va$i type veth peer vb$i; ip link set va$i up; ip link set vb$i up; done"},
		{"variant: 70 macvlans without an address", "for i in $(seq 70); do ip link add link eth0 name mv$i type macvlan; ip link set mv$i up; done"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := NewBed(t, 3)
			b.must(b.Lab.Node(2).Cable("eth1", "lan2", netip.MustParsePrefix("10.78.0.12/24")))
			b.must(b.Lab.Node(3).Cable("eth1", "lan2", netip.MustParsePrefix("10.78.0.13/24")))
			b.Eventually("the ENI", func() bool { return contains(b.CLI(1, "eni", "list"), "node-2/eth1") })
			b.sh(2, c.line)
			time.Sleep(2 * time.Second)
			b.CLI(1, "havip", "create", "far", "--ip", "10.78.0.100", "--prefer", "node-2=100", "--no-range-limit")
			if _, err := b.Cluster.WaitOwned("far", ownedWait); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(b.Cluster.LogPath(2))
			b.must(err)
			time.Sleep(3 * time.Second)
			after, err := os.ReadFile(b.Cluster.LogPath(2))
			b.must(err)
			if lines := strings.Count(string(after[len(before):]), "\n"); lines > 10 {
				t.Errorf("%d lines in the log within 3 s while nothing changes", lines)
			}
			b.sh(2, "ip link set eth1 down")
			b.Eventually("the HAVIP leaves the device that is down", func() bool { return b.owners(1)["far"] == "node-3" })
		})
	}
}

// A05: the host's address is not on the NIC itself.
func TestHostsAddressIsOnAnotherDevice(t *testing.T) {
	long(t)
	beside(t)
	for _, c := range []struct {
		name, device string
		lines        []string
	}{
		{"a bridge", "br0", []string{"ip link add br0 type bridge", "ip link set eth0 master br0", "ip link add vm0 type veth peer vm1", "ip link set vm0 master br0 up"}},
		{"a bond", "bond0", []string{"ip link add bond0 type bond mode active-backup", "ip link set eth0 down", "ip link set eth0 master bond0"}},
		{"a VLAN", "eth0.5", []string{"ip link add link eth0 name eth0.5 type vlan id 5"}},
		{"a team", "team0", []string{"ip link add team0 type team", "ip link set eth0 down", "ip link set eth0 master team0"}},
		{"variant: a macvlan", "mac0", []string{"ip link add link eth0 name mac0 type macvlan mode bridge"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := unformed(t, 3)
			if out, err := b.at(b.Lab.Node(1), c.lines[0]); err != nil && strings.Contains(out, "Unknown device type") {
				t.Skipf("this kernel knows no such device: %s", strings.TrimSpace(out))
			} else if err != nil {
				t.Fatal(err)
			}
			own := b.Lab.Node(1).IP(0).String()
			b.sh(1, c.lines[1:]...)
			b.sh(1, "ip addr flush dev eth0", "ip addr add "+own+"/24 dev "+c.device, "ip link set "+c.device+" up", "ip link set eth0 up")
			if strings.Contains(c.device, "eth0.") { // the switch is not part of that VLAN
				b.sh(1, "ip addr flush dev "+c.device, "ip addr add "+own+"/24 dev eth0", "ip addr add 10.79.0.11/24 dev "+c.device)
			}
			time.Sleep(time.Second) // until a port of a bridge forwards
			b.form(3)
			list := string(b.CLI(1, "eni", "list"))
			if !strings.Contains(list, "node-1/"+c.device) {
				t.Fatalf("%s has an address and is no ENI:\n%s", c.device, list)
			}
			for _, never := range []string{"node-1/vm0", "node-1/vm1"} {
				if hasLine(list, never, "10.77.0") {
					t.Errorf("%s is an ENI:\n%s", never, list)
				}
			}
			if strings.Contains(c.device, ".") {
				return
			}
			b.CLI(1, "havip", "update", "web", "--range", "cvm:node-1", "--evict")
			b.Eventually("the move", func() bool { return b.Owner() == 1 && b.has(1) })
			if ok, node := b.reaches(b.Lab.Client(), b.HAVIP, ownedWait); !ok || node != "node-1" {
				t.Errorf("the HAVIP on %s answers %t, as %q", c.device, ok, node)
			}
		})
	}
}

// A07: the kernel gives a NIC another name.
func TestHostsNICIsRenamed(t *testing.T) {
	long(t)
	beside(t)
	for _, c := range []struct {
		name string
		rule []string // who may own it, or should
	}{
		{"an ENI range keeps its member", []string{"--range", "eni:node-2/eth1,node-3/eth1", "--prefer", "node-2=1"}},
		{"variant: so does a score", []string{"--no-range-limit", "--prefer", "node-2/eth1=500"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := NewBed(t, 3)
			for i := 2; i <= 3; i++ {
				b.must(b.Lab.Node(i).Cable("eth1", "lan2", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 78, 0, byte(10 + i)}), 24)))
			}
			b.Eventually("the ENIs", func() bool { return strings.Count(string(b.CLI(1, "eni", "list")), "/eth1") >= 2 })
			b.CLI(1, append([]string{"havip", "create", "far", "--ip", "10.78.0.100"}, c.rule...)...)
			far := b.of(netip.MustParseAddr("10.78.0.100"))
			b.Eventually("the owner", func() bool { return b.owners(1)["far"] == "node-2" && far.has(2) })
			b.sh(2, "ip link set eth1 down", "ip link set eth1 name lan1", "ip link set lan1 up", "ip addr replace 10.78.0.12/24 dev lan1")
			time.Sleep(heard / 2)                                             // several looks at the inventory
			_, _ = b.Cluster.CLI(1, "havip", "move", "far", "--to", "node-3") // and back, if node-2 may still own it
			for end := time.Now().Add(heard); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
				_, _ = b.Cluster.CLI(1, "havip", "move", "far", "--to", "node-2")
				if far.has(2) && b.owners(1)["far"] == "node-2" {
					break
				}
			}
			explained := string(b.CLI(1, "explain", "far"))
			kept := far.has(2) && b.owners(1)["far"] == "node-2" && (hasLine(explained, "node-2/", "500") || c.rule[0] == "--range")
			if !kept && !b.says("eth1", "lan1") {
				t.Errorf("the rule for node-2/eth1 is lost, and nobody is told with the command that mends it; the owner is %q:\n%s", b.owners(1)["far"], explained)
			}
		})
	}
}

// A28: the owning NIC has no IPv4 address of its own.
func TestHostsNICHasNoAddress(t *testing.T) {
	beside(t)
	for _, c := range []struct{ name, address string }{{"none at all", ""}, {"variant: one of IPv6", "fd00:78::11/64"}} {
		t.Run(c.name, func(t *testing.T) {
			b := NewBed(t, 3)
			prefix, _ := netip.ParsePrefix(c.address)
			b.must(b.Lab.Node(1).Cable("eth1", "lan2", prefix))
			b.must(b.Lab.Client().Cable("eth1", "lan2", netip.MustParsePrefix("10.78.0.200/24")))
			b.CLI(1, "subnet", "create", "second", "--cidr", "10.78.0.0/24")
			set := func() bool {
				_, err := b.Cluster.CLI(1, "eni", "set", "node-1/eth1", "--subnet", "second")
				return err == nil
			}
			b.Eventually("the ENI", set)
			b.CLI(1, "havip", "create", "far", "--ip", "10.78.0.100", "--range", "eni:node-1/eth1")
			time.Sleep(2 * time.Second)
			if ok, _ := b.reaches(b.Lab.Client(), netip.MustParseAddr("10.78.0.100"), 10*time.Second); ok {
				return
			}
			if out := string(b.CLI(1, "explain", "far")); b.owners(1)["far"] != "" || !hasLine(out, "node-1/eth1", "address") {
				t.Errorf("a client of that LAN gets no answer, the owner is %q, and explain says:\n%s", b.owners(1)["far"], out)
			}
		})
	}
}

// routed is a cluster with a HAVIP on second NICs, and a client behind a gateway.
type routed struct {
	*Bed
	far   netip.Addr  // the HAVIP
	away  *netns.Host // the client
	owner int
}

const gatewayUp = "ip addr add 10.78.0.1/24 dev lan2; ip link set lan2 up; ip addr add 10.79.0.1/24 dev away; ip link set away up; echo 1 > /proc/sys/net/ipv4/ip_forward"

// newRouted makes the gateway reachable or not.
func newRouted(t *testing.T, up bool) *routed {
	t.Helper()
	b := NewBed(t, 3)
	r := &routed{Bed: b, far: netip.MustParseAddr("10.78.0.100")}
	gateway := b.Lab.Client()
	b.must(gateway.Cable("lan2", "lan2", netip.Prefix{}))
	b.must(gateway.Cable("away", "away", netip.Prefix{}))
	spare, err := b.Lab.Host("client-far")
	b.must(err)
	r.away = spare
	b.must(spare.Cable("eth0", "away", netip.MustParsePrefix("10.79.0.2/24")))
	_, err = b.at(spare, "ip route add default via 10.79.0.1")
	b.must(err)
	if up {
		_, err := b.at(gateway, gatewayUp)
		b.must(err)
	}
	b.CLI(1, "subnet", "create", "second", "--cidr", "10.78.0.0/24", "--gateway", "10.78.0.1")
	for i := 1; i <= 3; i++ {
		b.must(b.Lab.Node(i).Cable("eth1", "lan2", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 78, 0, byte(10 + i)}), 24)))
	}
	b.Eventually("the ENIs", func() bool { return strings.Count(string(b.CLI(1, "eni", "list")), "/eth1") >= 3 })
	if up { // the bed proves itself: with a route made by hand the way is there and back
		b.sh(1, "ip route add 10.79.0.0/24 via 10.78.0.1")
		if ok, _ := b.reaches(r.away, netip.MustParseAddr("10.78.0.11"), ownedWait); !ok {
			t.Fatal("the gateway does not pass anything on")
		}
		b.sh(1, "ip route del 10.79.0.0/24")
	}
	b.CLI(1, "havip", "create", "far", "--ip", r.far.String(), "--no-range-limit")
	r.owner, err = b.Cluster.WaitOwned("far", ownedWait)
	b.must(err)
	return r
}

func (r *routed) served(when string) {
	r.t.Helper()
	if ok, _ := r.reaches(r.away, r.far, ownedWait); !ok {
		r.t.Errorf("%s: a client beyond the gateway gets no answer; rules and routes of node-%d:\n%s", when, r.owner,
			r.sh(r.owner, "ip rule show; ip route show table all | grep -v -e local -e broadcast"))
	}
}

// A12: the client is beyond a gateway of the second NIC's subnet.
func TestHostRepliesThroughASecondGateway(t *testing.T) {
	long(t)
	beside(t)
	t.Run("the gateway of the subnet", func(t *testing.T) {
		r := newRouted(t, true)
		r.served("at first")
		r.sh(r.owner, "ip rule flush", "ip rule add pref 32766 lookup main", "ip rule add pref 32767 lookup default")
		r.served("after ip rule flush")
	})
	t.Run("a gateway that appears later", func(t *testing.T) {
		r := newRouted(t, false)
		_, err := r.at(r.Lab.Client(), gatewayUp)
		r.must(err)
		r.served("the gateway has come up")
	})
	t.Run("variant: the routes of the HAVIP's table are flushed", func(t *testing.T) {
		r := newRouted(t, true)
		r.served("at first")
		r.sh(r.owner, "for t in $(ip rule show | sed -n 's/.*lookup \\([0-9][0-9]*\\).*/\\1/p'); do ip route flush table $t; done")
		r.served("after ip route flush")
	})
}
