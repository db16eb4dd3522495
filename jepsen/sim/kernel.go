package sim

import (
	"fmt"
	"net/netip"
	"time"

	"havip-cluster/failover"
	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// kernel is one host's interfaces and fence. It outlives the process: what it has goes on
// answering until the fence's deadline, which is compared with the host's own clock.
// Everything in it is guarded by the world's lock.
type kernel struct {
	addrs    map[string]address // by HAVIP id
	open     map[string]bool    // the fence lets this HAVIP pass, before the deadline
	deadline lease.Instant
	links    []bool // of the ENIs: up
	fails    map[string]int
}

// address is one managed address on an interface.
type address struct {
	havip  fsm.HAVIP
	claim  fsm.Claim
	device string
	until  lease.Instant // its lifetime, the backstop
}

func newKernel(enis int) *kernel {
	k := &kernel{addrs: map[string]address{}, open: map[string]bool{}, fails: map[string]int{}}
	for range enis {
		k.links = append(k.links, true)
	}
	return k
}

// answers reports whether the host would answer for a HAVIP now; with the world's lock held.
func (h *host) answers(id string) bool {
	a, present := h.kernel.addrs[id]
	now := h.clockLocked()
	return h.powered && present && now.Before(a.until) && h.kernel.open[id] && now.Before(h.kernel.deadline)
}

const edgeTime = 200 * time.Microsecond

// edge passes the gate and says whether a call fails. Each takes its time.
func (p *process) edge(call string) error {
	if !p.gate.pass(call) || !p.gate.sleep(edgeTime/2) || !p.gate.pass(call) {
		return errDead
	}
	w := p.h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.h.kernel.fails[call] > 0 {
		w.stats.EdgeFailures++
		return fmt.Errorf("sim: %s fails here", call)
	}
	return nil
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
	w.look()
	return true
}

// Clean implements failover.Edge.
func (p *process) Clean() error {
	if err := p.edge("clean"); err != nil {
		return err
	}
	p.change(func(k *kernel) {
		k.deadline = 0
		clear(k.open)
	})
	if !p.gate.pass("clean") {
		return errDead
	}
	p.change(func(k *kernel) { clear(k.addrs) })
	return nil
}

// Up implements failover.Edge: guarded and shut, the address, open. The process may be
// stopped or killed between any two of these.
func (p *process) Up(h failover.Holding) error {
	if !p.gate.pass("up") {
		return errDead
	}
	p.h.w.activation(p, h)
	id := h.HAVIP.ID
	p.change(func(k *kernel) {
		delete(k.open, id)
		k.addrs[id] = address{h.HAVIP, h.Claim, h.ENI.Device, p.h.clockLocked().Add(h.Lifetime.Truncate(time.Second) + time.Second)}
	})
	if err := p.edge("up"); err != nil {
		return err
	}
	if !p.change(func(k *kernel) { k.open[id] = true }) {
		return errDead
	}
	return nil
}

// Down implements failover.Edge: the fence shuts, the address goes.
func (p *process) Down(h failover.Holding) error {
	if err := p.edge("down"); err != nil {
		return err
	}
	p.change(func(k *kernel) { delete(k.open, h.HAVIP.ID) })
	if !p.gate.sleep(edgeTime/2) || !p.gate.pass("down") {
		return errDead
	}
	p.change(func(k *kernel) { delete(k.addrs, h.HAVIP.ID) })
	return nil
}

// Keep implements failover.Edge.
func (p *process) Keep(h failover.Holding) (repairs []string, err error) {
	if err := p.edge("keep"); err != nil {
		return nil, err
	}
	id := h.HAVIP.ID
	p.change(func(k *kernel) {
		a, present := k.addrs[id]
		if !present || !k.open[id] {
			repairs = append(repairs, "the address was gone, or the fence was damaged")
			p.h.w.stats.Repairs++
		}
		a.havip, a.claim, a.device = h.HAVIP, h.Claim, h.ENI.Device
		a.until = p.h.clockLocked().Add(h.Lifetime.Truncate(time.Second) + time.Second)
		k.addrs[id], k.open[id] = a, true
	})
	return repairs, nil
}

// Announce implements failover.Edge. The fabric binds the HAVIP to the last announcer
// whose frame the fence let pass.
func (p *process) Announce(h failover.Holding) error {
	if err := p.edge("announce"); err != nil {
		return err
	}
	p.change(func(*kernel) { p.h.w.fabric.announce(p.h, h.HAVIP.ID) })
	return nil
}

// SetDeadline implements failover.Edge: one memory store, which never waits.
func (p *process) SetDeadline(t lease.Instant) {
	p.gate.store(func() { p.change(func(k *kernel) { k.deadline = t }) })
}

// Changes implements failover.Edge.
func (p *process) Changes() <-chan struct{} { return p.changes }

// RemoveStrays implements failover.Edge. This world has no other programs.
func (p *process) RemoveStrays() ([]failover.Stray, error) { return nil, nil }

// Inventory implements failover.Edge.
func (p *process) Inventory() ([]fsm.ENI, error) {
	if err := p.edge("inventory"); err != nil {
		return nil, err
	}
	w := p.h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []fsm.ENI
	for i, up := range p.h.kernel.links {
		ip := netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + p.h.index + 20*i)})
		out = append(out, fsm.ENI{
			Device: fmt.Sprintf("eth%d", i), MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", p.h.index, i), Up: up, Primary: i == 0,
			Prefixes: []netip.Prefix{netip.PrefixFrom(ip, 24)},
		})
	}
	return out, nil
}

// fabric is the network that the clients see: a HAVIP is where it was announced last, for
// the fabric and for each client that heard it. Guarded by the world's lock.
type fabric struct {
	w      *World
	bound  map[string]int   // HAVIP id, host
	caches []map[string]int // of the clients
	dice   dice
	frames int
}

const clients = 2

func newFabric(w *World) *fabric {
	f := &fabric{w: w, bound: map[string]int{}, dice: newDice(w.sched.Seed, 7)}
	for range clients {
		f.caches = append(f.caches, map[string]int{})
	}
	return f
}

// announce takes a frame of a host that answers; the fence lets no other pass.
func (f *fabric) announce(h *host, id string) {
	if !h.answers(id) || h.offFabric > 0 {
		f.w.stats.FramesStopped++
		return
	}
	f.frames++
	f.bound[id] = h.index
	for _, c := range f.caches {
		if !f.dice.percent(f.w.net.weather.loss) {
			c[id] = h.index
		}
	}
}
