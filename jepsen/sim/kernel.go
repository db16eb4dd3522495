package sim

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"havip-cluster/agent"
	"havip-cluster/edge"
	"havip-cluster/failover/lease"
	"havip-cluster/failover/owner"
	"havip-cluster/fsm"
	"havip-cluster/netdev"
)

// kernel is one host's interfaces and fence. It outlives the process: what it has goes on
// answering until the fence's deadline, which is compared with the host's own clock.
// Everything in it is guarded by the world's lock.
type kernel struct {
	addrs    map[netip.Addr]address    // of ours
	strays   map[netip.Addr]int        // put there by another program, on that device; 9 is lo
	fence    map[netip.Addr]edge.State // what the fence knows
	attached map[int]bool              // ENIs on which it stands
	ports    map[uint16]edge.Port      // of probes; nobody listens any more when the process has died
	damage   damage
	routing  netdev.Routing
	deadline lease.Instant
	links    []bool // of the ENIs: up
	fails    map[string]int
	changed  edge.Parts // by another program, since the last look
}

// address is one managed address on an interface.
type address struct {
	havip fsm.HAVIP
	claim fsm.Claim // under which it was put up
	index int       // of the device: 1 is eth0
	until lease.Instant
}

const loIndex = 9

func newKernel(enis int) *kernel {
	k := &kernel{
		addrs: map[netip.Addr]address{}, strays: map[netip.Addr]int{}, fence: map[netip.Addr]edge.State{},
		attached: map[int]bool{}, ports: map[uint16]edge.Port{}, fails: map[string]int{}, damage: damage{addresses: map[netip.Addr]bool{}, devices: map[int]bool{}},
	}
	for range enis {
		k.links = append(k.links, true)
	}
	return k
}

// answers reports whether the host would answer for an address now; with the world's lock held.
// A frame that the fence does not know passes, and so do all where it does not stand.
func (h *host) answers(ip netip.Addr) bool {
	k, now := h.kernel, h.clockLocked()
	a, ours := k.addrs[ip]
	ours = ours && now.Before(a.until)
	_, stray := k.strays[ip]
	if !h.powered || h.paused || !ours && !stray {
		return false
	}
	index := 1 // what is on lo answers on every device (arp_ignore 0)
	if ours {
		index = a.index
	}
	bare := !k.attached[index] || k.fence[ip] == edge.Unknown
	switch {
	case bare && (k.damage.devices[index] || k.damage.addresses[ip]):
		// Until the next reading nothing can keep silent what another program has laid bare.
		return ours && now.Before(k.deadline)
	case bare && !ours:
		// What others put on a host without a lease is any station's business.
		return now.Before(k.deadline)
	case bare:
		return true
	case k.fence[ip] == edge.Shut:
		return false
	}
	return now.Before(k.deadline)
}

// answersProbe reports whether a host would answer a load balancer at a port now; with the world's
// lock held. A stopped process's kernel does, a dead one's has no socket; and nothing leaves from a tied
// port but by the word of the fence for its HAVIP.
func (h *host) answersProbe(port uint16) bool {
	k := h.kernel
	at, known := k.ports[port]
	if !h.powered || h.paused || !known || !at.Listening {
		return false
	}
	if bare := !k.attached[at.Index] || !at.Tied; bare {
		return !k.damage.devices[at.Index] || h.clockLocked().Before(k.deadline)
	}
	return k.fence[at.HAVIP] == edge.Open && h.clockLocked().Before(k.deadline)
}

// hangUp closes the sockets of a process that has died.
func (k *kernel) hangUp() {
	for port, at := range k.ports {
		at.Listening = false
		k.ports[port] = at
	}
}

// up finds the address of a HAVIP of ours on a host, unless the kernel has taken it away by
// now; with the world's lock held.
func (h *host) up(id string) (address, bool) {
	for _, a := range h.kernel.addrs {
		if a.havip.ID == id && h.clockLocked().Before(a.until) {
			return a, true
		}
	}
	return address{}, false
}

const edgeTime = 200 * time.Microsecond

// seams are the names under which a schedule stops or fails an operation of the edge.
var seams = map[edge.OpKind]string{
	edge.OpGuard: "guard", edge.OpAttach: "guard", edge.OpForget: "guard", edge.OpShut: "down", edge.OpUnlisten: "down", edge.OpRemove: "down",
	edge.OpListen: "up", edge.OpAdd: "up", edge.OpOpen: "up", edge.OpExtend: "keep", edge.OpAnnounce: "announce",
}

var errFails = errors.New("sim: it fails here")

// simEdge is the process's edge: the real plan and loop, on the model kernel. It notes under
// which claims they act.
type simEdge struct {
	*agent.EdgePort
	p *process
}

func newSimEdge(p *process) *simEdge {
	e := &simEdge{p: p}
	e.EdgePort = agent.NewEdgePort(agent.EdgeConfig{
		Node: p.node, Log: slog.New(logGate{p}), Kernel: p, Clock: p.clock, Changes: p.changes, Inventory: p.inventory,
		Deadline: func(t edge.Instant) {
			p.gate.store(func() { p.change(func(k *kernel) { k.deadline = lease.Instant(t) }) })
		},
	})
	return e
}

// Turn implements failover.Edge.
func (e *simEdge) Turn(want owner.Wanted) owner.Report {
	wanted := map[netip.Addr]owner.Activation{}
	for _, h := range want.Activations {
		wanted[h.HAVIP.IP] = h
	}
	e.p.wanted = wanted
	e.p.h.w.wants(e.p, want.Activations)
	return e.EdgePort.Turn(want)
}

const (
	simCleanTurns = 10000
	simCleanPause = 5 * time.Millisecond
)

// clean is agent.Edge.Clean.
func (e *simEdge) clean() error {
	e.SetDeadline(0)
	for range simCleanTurns {
		if e.p.gate.isDead() {
			return errDead
		}
		if e.Turn(owner.Wanted{State: e.p.stateOf()}).Clean {
			return nil
		}
		if !e.p.gate.sleep(simCleanPause) {
			return errDead
		}
	}
	return errFails
}

// stateOf is the log as this process knows it; empty before Raft runs.
func (p *process) stateOf() *fsm.State {
	if node := p.raft.Load(); node != nil {
		return node.State()
	}
	return fsm.New()
}

// change changes the kernel, unless the process is dead by now, and looks who answers.
func (p *process) change(f func(k *kernel)) bool {
	if p.gate.isDead() {
		return false
	}
	w := p.h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	f(p.h.kernel)
	w.observe()
	return true
}

// fails passes a gate and says whether a call is to fail. Each takes its time.
func (p *process) fails(seam string) error {
	if !p.gate.pass(seam) || !p.gate.sleep(edgeTime/2) || !p.gate.pass(seam) {
		return errDead
	}
	w := p.h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.h.kernel.fails[seam] > 0 {
		w.stats.EdgeFailures++
		p.h.hindered = w.now()
		return errFails
	}
	return nil
}

// Changed implements edge.Kernel.
func (p *process) Changed() edge.Parts {
	w := p.h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	parts := p.h.kernel.changed
	p.h.kernel.changed = 0
	return parts
}

// Read implements edge.Kernel.
func (p *process) Read(_ *edge.Desired, parts edge.Parts, before *edge.Reading) (*edge.Reading, error) {
	now := edge.Instant(p.clock())
	if err := p.fails("read"); err != nil {
		return nil, err
	}
	r := &edge.Reading{}
	if before != nil {
		*r = *before
	}
	r.At = now
	w := p.h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	k := p.h.kernel
	p.h.readings++
	defer func() { p.seen = r }()
	if parts&edge.Addresses != 0 {
		r.Addresses = map[netip.Addr][]edge.At{}
		for ip, a := range k.addrs {
			if p.h.clockLocked().Before(a.until) {
				r.Addresses[ip] = []edge.At{{Index: a.index, Device: device(a.index), Bits: ip.BitLen(), Managed: true, Until: edge.Instant(a.until)}}
			}
		}
		for ip, index := range k.strays {
			r.Addresses[ip] = append(r.Addresses[ip], edge.At{Index: index, Device: device(index), Bits: ip.BitLen()})
		}
	}
	if parts&edge.Fence != 0 {
		r.Fence, r.Attached, r.Ports = maps.Clone(k.fence), map[int]error{}, maps.Clone(k.ports)
		for index := range k.attached {
			r.Attached[index] = nil
		}
	}
	if parts&edge.Routing != 0 {
		r.Routing = k.routing
	}
	return r, nil
}

func device(index int) string {
	if index == loIndex {
		return "lo"
	}
	return fmt.Sprintf("eth%d", index-1)
}

// Do implements edge.Kernel. The process may be stopped or killed between any two items.
func (p *process) Do(op edge.Op) []error {
	seam := seams[op.Kind]
	errs := make([]error, op.Len())
	for i, c := range op.Routes {
		if !p.change(func(k *kernel) { k.route(c) }) {
			errs[i] = errDead
		}
	}
	for i, it := range op.Items {
		if len(p.wanted) == 0 && seam == "down" {
			if errs[i] = p.fails("clean"); errs[i] != nil {
				continue
			}
		}
		if op.Kind == edge.OpAdd && !p.isOpen(it.IP) { // else it is a repair
			p.h.w.activation(p, p.wanted[it.IP])
		}
		if seam != "" {
			if errs[i] = p.fails(seam); errs[i] != nil && op.Kind != edge.OpAdd {
				continue
			}
		}
		if errors.Is(errs[i], errDead) || !p.do(op.Kind, it) { // a failing add may have had its effect
			errs[i] = errDead
		}
	}
	return errs
}

func (p *process) isOpen(ip netip.Addr) bool {
	p.h.w.mu.Lock()
	defer p.h.w.mu.Unlock()
	return p.h.kernel.fence[ip] == edge.Open
}

// route carries out one change of our rules and routes.
func (k *kernel) route(c netdev.RouteChange) {
	sameRoute := func(r netdev.SteerRoute) bool { return r.Table == c.Route.Table && r.Dst == c.Route.Dst }
	sameRule := func(r netdev.SteerRule) bool { return r == c.Rule }
	k.routing.Routes = slices.DeleteFunc(slices.Clone(k.routing.Routes), sameRoute)
	k.routing.Rules = slices.DeleteFunc(slices.Clone(k.routing.Rules), sameRule)
	switch c.Action {
	case netdev.AddRoute, netdev.ReplaceRoute:
		k.routing.Routes = append(k.routing.Routes, c.Route)
	case netdev.AddRule:
		k.routing.Rules = append(k.routing.Rules, c.Rule)
	}
}

// do carries out one item.
func (p *process) do(kind edge.OpKind, it edge.Item) bool {
	ip := it.IP
	return p.change(func(k *kernel) {
		p.allowed(kind, it)
		switch kind {
		case edge.OpAttach:
			k.attached[it.Index] = true
			delete(k.damage.devices, it.Index)
		case edge.OpGuard, edge.OpShut:
			k.fence[ip] = edge.Shut
			delete(k.damage.addresses, ip)
		case edge.OpOpen:
			k.fence[ip] = edge.Open
		case edge.OpListen:
			k.ports[it.Probe.Port] = edge.Port{HAVIP: ip, Tied: true, Listening: true, Index: it.Index, Probe: it.Probe}
		case edge.OpUnlisten:
			delete(k.ports, it.Probe.Port)
		case edge.OpForget:
			delete(k.fence, ip)
		case edge.OpAdd, edge.OpExtend:
			h := p.wanted[ip]
			delete(k.strays, ip) // two bare ones cannot exist: it is taken over
			k.addrs[ip] = address{h.HAVIP, h.Claim, it.Index, p.h.clockLocked().Add(it.Lifetime.Truncate(time.Second) + time.Second)}
		case edge.OpRemove:
			if a, up := k.addrs[ip]; up && a.index == it.Index {
				delete(k.addrs, ip)
			}
			if k.strays[ip] == it.Index {
				delete(k.strays, ip)
			}
		case edge.OpAnnounce:
			p.h.w.fabric.announce(p.h, ip)
		}
	})
}

// inventory is netdev.Inventory.
func (p *process) inventory(func(netip.Addr) bool, func(string) bool) ([]netdev.ENI, netdev.Leftout, error) {
	if err := p.fails("inventory"); err != nil {
		return nil, nil, err
	}
	w := p.h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []netdev.ENI
	for i, up := range p.h.kernel.links {
		ip := netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + p.h.index + 20*i)})
		out = append(out, netdev.ENI{
			Device: device(i + 1), Index: i + 1, MAC: net.HardwareAddr{2, 0, 0, 0, byte(p.h.index), byte(i)}, Up: up, Primary: i == 0,
			Prefixes: []netip.Prefix{netip.PrefixFrom(ip, 24)},
		})
	}
	return out, nil, nil
}

// fabric is the network that the clients see: a HAVIP is where it was announced last, for
// the fabric and for each client that heard it. Guarded by the world's lock.
type fabric struct {
	w      *World
	bound  map[netip.Addr]int   // address, host
	caches []map[netip.Addr]int // of the clients
	dice   dice
	frames int
}

const clients = 2

func newFabric(w *World) *fabric {
	f := &fabric{w: w, bound: map[netip.Addr]int{}, dice: newDice(w.sched.Seed, 7)}
	for range clients {
		f.caches = append(f.caches, map[netip.Addr]int{})
	}
	return f
}

// announce takes a frame of a host that answers; the fence lets no other pass.
func (f *fabric) announce(h *host, ip netip.Addr) {
	if !h.answers(ip) || h.offFabric > 0 {
		f.w.stats.FramesStopped++
		return
	}
	f.frames++
	f.bound[ip] = h.index
	for _, c := range f.caches {
		if !f.dice.percent(f.w.net.weather.loss) {
			c[ip] = h.index
		}
	}
}

// addressesUp lists the addresses that anybody has put on any host, sorted.
func (w *World) addressesUp() []netip.Addr {
	all := map[netip.Addr]bool{}
	for _, h := range w.hosts {
		for ip := range h.kernel.addrs {
			all[ip] = true
		}
		for ip := range h.kernel.strays {
			all[ip] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), netip.Addr.Compare)
}
