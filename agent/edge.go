package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"havip-cluster/edge"
	"havip-cluster/failover/owner"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
	"havip-cluster/netdev"
	"havip-cluster/netdev/fence"
)

// cleanTurns bounds the turns in which Clean tries, of a millisecond and more each.
const cleanTurns = 1000

// Edge is everything of one node that looks at its kernel, and the one loop that changes it.
type Edge struct {
	*EdgePort
	log      *slog.Logger
	kernel   *edge.Linux
	kind     fence.Kind
	fence    fence.Fence // nil: none
	gateways *edge.Gateways
	asker    *edge.Asker
	// wake makes the Agent look again; set it before Run.
	wake   func()
	report func()
	// named is what the cloud calls the interface with a MAC; nil: nobody asks one. Set it before Run.
	named func(mac string) (fsm.CloudENI, bool)
}

// NewEdge opens the kernel's side, in the network namespace of the calling thread. f may be
// nil: then this process alone shuts at the deadline, which a stopped process cannot.
func NewEdge(log *slog.Logger, node string, f fence.Fence) (*Edge, error) {
	kernel, err := edge.NewLinux(log, f, func() edge.Instant { return edge.Instant(ports.Boot()) })
	if err != nil {
		return nil, err
	}
	e := &Edge{log: log, kernel: kernel, kind: fence.None, fence: f, wake: func() {}, report: func() {}}
	if f != nil {
		e.kind = f.Kind()
	}
	e.gateways = &edge.Gateways{ENIs: e.withGateways, Changed: func() { e.report() }}
	e.asker = edge.NewAsker(e.who, func() { e.wake() })
	e.EdgePort = NewEdgePort(EdgeConfig{
		Node: node, Log: log, Kernel: kernel, Clock: ports.Boot, Deadline: kernel.SetDeadline, Changes: kernel.Changes(),
		Inventory: netdev.Inventory, Fault: e.fault, Asker: e.asker, Hearing: e.hearing, Cloud: e.cloud, Tight: e.kind != fence.EBPF,
	})
	return e, nil
}

// Run watches until ctx ends. a is told of what is seen.
func (e *Edge) Run(ctx context.Context, a *owner.Agent) {
	e.wake, e.report = a.Wake, a.Report
	claims := &edge.Claims{
		Indexes: e.indexes, Ours: e.ofCluster,
		HAVIP:  func(ip netip.Addr) bool { _, ok := e.HAVIP(ip); return ok },
		Report: func(c netdev.Claim) { a.Foreign(c.IP, c.MAC, c.Device) },
		Failed: func(index int, err error) {
			e.log.Debug("no longer listening for foreign claims", "index", index, "err", err)
		},
	}
	var wg sync.WaitGroup
	for _, run := range []func(context.Context){e.kernel.Run, e.gateways.Run, e.asker.Run, claims.Run} {
		wg.Go(func() { run(ctx) })
	}
	wg.Wait()
}

// Clean shuts the fence and removes every address of ours, whoever put it there. It returns
// nil only when nothing is left. Not while Run's Agent works.
func (e *Edge) Clean() error {
	e.kernel.SetDeadline(0)
	why := "there was no turn"
	for range cleanTurns {
		r := e.Turn(owner.Wanted{State: e.state()})
		if r.Clean {
			return nil
		}
		if why = r.Unguarded; why == "" {
			why = "an address of ours is still on an interface"
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("agent: this node's interfaces cannot be cleaned: %s", why)
}

// Close closes the sockets. What is in the kernel stays.
func (e *Edge) Close() error { return e.kernel.Close() }

// Taken asks the neighbours of an ENI of this node, whose subnet has an address, whether one of
// them has it, and says who; "" is nobody, or that there is no such ENI. It takes askWait of
// package edge. Anybody may call it.
func (e *Edge) Taken(ctx context.Context, ip netip.Addr) string {
	for _, d := range e.Devices() {
		if d.Up && slices.ContainsFunc(d.Prefixes, func(p netip.Prefix) bool { return p.Contains(ip) }) {
			return e.asker.Ask(ctx, d.Index, ip)
		}
	}
	return ""
}

// lifetimeLate is how long after its lifetime the kernel may remove an address (it gathers
// removals, ADDRCONF_TIMER_FUZZ of net/addrconf.h).
const lifetimeLate = 250 * time.Millisecond

// FenceNote says what the kind of fence of this node cannot do; "" is nothing.
func (e *Edge) FenceNote() string {
	if e.kind != fence.NFTables {
		return ""
	}
	return fmt.Sprintf("if the agent is killed and another program then flushes the rules, its HAVIPs answer until the lifetime of their addresses ends, at most %v after the death",
		tightLifetime(e.state().Cluster.LeaseMax)+lifetimeLate)
}

// errNoFence is returned by LetIn where no fence counts.
var errNoFence = errors.New("agent: there is no fence that counts frames")

// LetIn implements owner.Witness. With nftables it costs a dump under the lock that renewals take,
// so there it is not told.
func (e *Edge) LetIn() (uint64, error) {
	if e.kind != fence.EBPF {
		return 0, errNoFence
	}
	c, err := e.fence.Counters()
	return c.Ingress.Open, err
}

// CheckGateways switches the check of gateways on or off.
func (e *Edge) CheckGateways(on bool) { e.gateways.Switch(on) }

// fault is why a device is not to be trusted.
func (e *Edge) fault(device string) string {
	if mute, err := netdev.Mute(); err == nil && mute {
		return "net.ipv4.conf.all.arp_ignore is 8: this host answers no ARP request; set it to 2 or less"
	}
	return e.gateways.Fault(device)
}

// cloud is what the cloud calls the interface with a MAC.
func (e *Edge) cloud(mac string) (fsm.CloudENI, bool) {
	if e.named == nil {
		return fsm.CloudENI{}, false
	}
	return e.named(mac)
}

func (e *Edge) indexes() []int {
	var out []int
	for _, d := range e.Devices() {
		out = append(out, d.Index)
	}
	return out
}

// hearing lists the devices that hear the ARP of others: Ethernet, up, and no port of a
// bridge or bond.
func (e *Edge) hearing() []string {
	list, err := netdev.HearingDevices()
	if err != nil {
		e.log.Debug("cannot list the devices that hear ARP", "err", err)
	}
	return list
}

// withGateways lists the ENIs with their gateways: that of the default route, else of the subnet.
func (e *Edge) withGateways() []netdev.ENI {
	subnets := e.state().SubnetList()
	list := append([]netdev.ENI(nil), e.Devices()...)
	for i, d := range list {
		for _, sub := range subnets {
			for _, p := range d.Prefixes {
				if !list[i].Gateway.IsValid() && sub.CIDR.Contains(p.Addr()) {
					list[i].Gateway = sub.Gateway
				}
			}
		}
	}
	return list
}

// who says whose a MAC is: "" is this host, by any of its interfaces.
func (e *Edge) who(mac net.HardwareAddr) (name string, node bool) {
	devices, err := net.Interfaces()
	if err != nil || slices.ContainsFunc(devices, func(d net.Interface) bool { return bytes.Equal(d.HardwareAddr, mac) }) {
		return "", false
	}
	s := e.state()
	for _, eni := range s.ENIList() {
		if strings.EqualFold(eni.MAC, mac.String()) {
			return fmt.Sprintf("node %s (ENI %s), whose agent does not keep it silent", s.NodeName(eni.Node), eni.ID), true
		}
	}
	return "a station outside the cluster", false
}

// ofCluster reports whether a MAC belongs to an ENI of the cluster, or to this host.
func (e *Edge) ofCluster(mac net.HardwareAddr) bool {
	text := mac.String()
	for _, d := range e.Devices() { // one that the log does not know yet
		if strings.EqualFold(d.MAC.String(), text) {
			return true
		}
	}
	return ofCluster(e.state(), text)
}

func ofCluster(s *fsm.State, mac string) bool {
	for _, eni := range s.ENIs {
		if strings.EqualFold(eni.MAC, mac) {
			return true
		}
	}
	return false
}
