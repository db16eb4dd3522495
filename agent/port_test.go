package agent

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"havip-cluster/edge"
	"havip-cluster/failover/lease"
	"havip-cluster/failover/owner"
	"havip-cluster/fsm"
	"havip-cluster/netdev"
)

const self = "n-1"

func mac(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// bed is a port of a host with two NICs in the cluster's networks, and a bridge elsewhere.
type bed struct {
	*EdgePort
	state   *fsm.State
	hearing []string
	managed []bool // whether each inventory took the address of HAVIP a for one
}

func newBed(t *testing.T, tight bool) *bed {
	t.Helper()
	b := &bed{state: fsm.New(), hearing: []string{"br9", "eth0", "eth1"}}
	b.state.Index = 7
	b.state.Cluster.LeaseMax = 500 * time.Millisecond
	b.state.Nodes[self] = fsm.Node{ID: self, Name: "node-1", Address: "10.0.0.1"}
	b.state.Subnets["first"] = fsm.Subnet{Name: "first", CIDR: netip.MustParsePrefix("10.0.0.0/24")}
	b.state.Subnets["second"] = fsm.Subnet{Name: "second", CIDR: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.254")}
	b.state.ENIs["node-1/eth0"] = fsm.ENI{ID: "node-1/eth0", Node: self, Device: "eth0", MAC: mac(1).String(), Prefixes: prefixes("10.0.0.1/24")}
	b.state.ENIs["node-1/eth1"] = fsm.ENI{ID: "node-1/eth1", Node: self, Device: "eth1", MAC: mac(2).String(), Prefixes: prefixes("10.1.0.1/24")}
	b.EdgePort = NewEdgePort(EdgeConfig{
		Node: self, Log: slog.New(slog.DiscardHandler), Clock: func() lease.Instant { return 1 }, Tight: tight,
		Inventory: func(managed func(netip.Addr) bool, _ func(string) bool) ([]netdev.ENI, netdev.Leftout, error) {
			b.managed = append(b.managed, managed(netip.MustParseAddr("10.0.0.100")))
			return b.devices, nil, nil
		},
		Hearing: func() []string { return b.hearing },
	})
	b.devices = []netdev.ENI{
		{Device: "eth0", Index: 2, MAC: mac(1), Prefixes: prefixes("10.0.0.1/24"), Primary: true, Up: true},
		{Device: "eth1", Index: 3, MAC: mac(2), Prefixes: prefixes("10.1.0.1/24"), Up: true},
		{Device: "br9", Index: 4, MAC: mac(3), Prefixes: prefixes("192.168.9.1/24"), Up: true},
	}
	b.havip("a", "10.0.0.100", "first")
	b.havip("b", "10.1.0.100", "second")
	if _, _, err := b.Inventory(b.state); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bed) havip(id, ip, subnet string) {
	b.state.HAVIPs[id] = fsm.HAVIP{ID: id, Name: id, IP: netip.MustParseAddr(ip), Subnet: subnet}
}

func (b *bed) activation(id, eni string) owner.Activation {
	return owner.Activation{HAVIP: b.state.HAVIPs[id], ENI: b.state.ENIs[eni], Lifetime: b.state.Cluster.LeaseMax + time.Second}
}

// wanted is what the port makes of the log and of what this node may answer for.
func (b *bed) wanted(activations ...owner.Activation) edge.Desired {
	w := owner.Wanted{State: b.state, CaughtUp: true, Activations: activations}
	b.follow(w)
	b.overlay(w, &owner.Report{})
	return b.desired
}

// A HAVIP on a NIC without an address of its own, or on a second one, has a table of its own,
// with the gateway of its subnet.
func TestSteering(t *testing.T) {
	b := newBed(t, false)
	d := b.wanted(b.activation("a", "node-1/eth0"), b.activation("b", "node-1/eth1"))
	if w := d.HAVIPs[b.state.HAVIPs["a"].IP]; w.Index != 2 || w.Steer != nil {
		t.Errorf("on the first NIC: %+v", w)
	}
	if w := d.HAVIPs[b.state.HAVIPs["b"].IP]; w.Index != 3 || w.Steer == nil || w.Steer.ENI.Gateway != b.state.Subnets["second"].Gateway {
		t.Errorf("on the second NIC: %+v", w)
	}
	b.devices[0].Prefixes = nil
	if w := b.wanted(b.activation("a", "node-1/eth0")).HAVIPs[b.state.HAVIPs["a"].IP]; w.Steer == nil || w.Steer.Subnet != b.state.Subnets["first"].CIDR {
		t.Errorf("on a NIC without an address: %+v", w)
	}
}

// A NIC is found by its MAC after the kernel gave it another name, and by its name after somebody
// gave it another MAC. With neither the HAVIP is a fault.
func TestRenamedNIC(t *testing.T) {
	b := newBed(t, false)
	index := func() int { return b.wanted(b.activation("b", "node-1/eth1")).HAVIPs[b.state.HAVIPs["b"].IP].Index }
	b.devices[1].Device = "lan1"
	if got := index(); got != 3 {
		t.Errorf("renamed: device %d", got)
	}
	b.devices[1].Device, b.devices[1].MAC = "eth1", mac(9)
	if got := index(); got != 3 {
		t.Errorf("with another MAC: device %d", got)
	}
	b.devices[1].Device = "lan1"
	report := owner.Report{}
	w := owner.Wanted{State: b.state, Activations: []owner.Activation{b.activation("b", "node-1/eth1")}}
	b.follow(w)
	if b.overlay(w, &report); len(report.Faults) != 1 || report.Faults[0].HAVIP != "b" {
		t.Errorf("with neither: %+v", report)
	}
}

// The settings of every device that hears ARP count as soon as this node answers for anything.
func TestSettledDevices(t *testing.T) {
	b := newBed(t, false)
	if d := b.wanted(); len(d.Settled) > 0 {
		t.Errorf("nothing is here, and wanted are %v", d.Settled)
	}
	b.hearing = append(b.hearing, "eth9")
	if _, _, err := b.Inventory(b.state); err != nil {
		t.Fatal(err)
	}
	d := b.wanted(b.activation("a", "node-1/eth0"))
	for _, device := range []string{"br9", "eth0", "eth1", "eth9"} {
		if _, ok := d.Settled[device]; !ok {
			t.Errorf("%s may answer for the HAVIP", device)
		}
	}
}

// The fence stands where HAVIPs are, not on a bridge of containers.
func TestFencedDevices(t *testing.T) {
	b := newBed(t, false)
	if d := b.wanted(); !d.Devices[2] || !d.Devices[3] || d.Devices[4] {
		t.Errorf("the fence is wanted on %v", d.Devices)
	}
}

// Without a fence that stays, an address lives no longer than whole seconds demand; half of that
// is at least a lease.
func TestTightLifetime(t *testing.T) {
	for lease, want := range map[time.Duration]time.Duration{
		100 * time.Millisecond: time.Second, 500 * time.Millisecond: time.Second, 501 * time.Millisecond: 2 * time.Second, 3 * time.Second: 6 * time.Second,
	} {
		if got := tightLifetime(lease); got != want || got/2 < lease {
			t.Errorf("lease %v: %v, want %v", lease, got, want)
		}
	}
	for _, c := range []struct {
		tight bool
		lease time.Duration
		want  time.Duration
	}{{false, 500 * time.Millisecond, 1500 * time.Millisecond}, {true, 500 * time.Millisecond, time.Second}, {true, 3 * time.Second, 4 * time.Second}} {
		b := newBed(t, c.tight)
		b.state.Cluster.LeaseMax = c.lease
		if got := b.wanted(b.activation("a", "node-1/eth0")).HAVIPs[b.state.HAVIPs["a"].IP].Lifetime; got != c.want {
			t.Errorf("tight %t, lease %v: %v, want %v", c.tight, c.lease, got, c.want)
		}
	}
}

// TestTheFirstInventoryKnowsTheHAVIPs: another program's copy of a HAVIP is no own address of this node,
// also in the first report of an agent, which comes before its first turn.
func TestTheFirstInventoryKnowsTheHAVIPs(t *testing.T) {
	b := newBed(t, false)
	b.wanted()
	if _, _, err := b.Inventory(b.state); err != nil {
		t.Fatal(err)
	}
	if len(b.managed) != 2 || !b.managed[0] || !b.managed[1] {
		t.Errorf("it is taken for a HAVIP: %v", b.managed)
	}
}
