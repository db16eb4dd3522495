package failover

import (
	"context"
	"log/slog"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/owner"
	"havip-cluster/fsm"
)

// host is one machine: a clock, a kernel and perhaps a process.
type host struct {
	w        *world
	node     fsm.Node
	ppm      int64 // error of the clock's rate
	jump     lease.Instant
	lag      time.Duration // until an entry that has come is applied
	member   *Member
	cancel   context.CancelFunc
	alive    bool // the process
	current  *process
	done     chan error
	applied  int
	watchers map[chan struct{}]bool
	kernel   map[string]map[string]bool // HAVIP id, ENI: what is on the interfaces
	deadline lease.Instant
	links    chan struct{}
	fails    map[string]bool // "up", "down", "keep", "clean"
	calls    map[string]int
	changes  []owner.Change  // what the Agent told, of all processes
	has      map[string]bool // HAVIP id: acquired and not released, by what it told
	reads    int             // of the state: a measure of how busy the process is
}

func (h *host) boot() {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{host: h}
	h.w.mu.Lock()
	h.applied = len(h.w.states) - 1
	h.w.mu.Unlock()
	m := New(Config{
		Node: h.node.ID, Log: p, Submit: p.submit, Post: p, Gossip: byGossip{p}, Edge: p, Clock: h.clock,
		Logger: slog.New(slog.DiscardHandler), Owner: h.node.Role != fsm.RoleWitness, Lease: worldLease, Changed: p.changed,
		Sent: func(havip string, _ fsm.Epoch) bool { h.w.mu.Lock(); defer h.w.mu.Unlock(); return !h.w.unsent[havip] },
	})
	h.w.mu.Lock()
	h.member, h.cancel, h.alive, h.done = m, cancel, true, make(chan error, 1)
	p.alive, p.has = true, map[string]bool{}
	h.process(p)
	h.w.mu.Unlock()
	done := h.done
	h.w.wg.Go(func() { done <- m.Run(ctx) })
}

func (h *host) end() {
	h.w.mu.Lock()
	cancel, alive := h.cancel, h.alive
	h.w.mu.Unlock()
	if alive {
		cancel()
	}
}

// clock is CLOCK_BOOTTIME of this host.
func (h *host) clock() lease.Instant {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return h.clockLocked()
}

func (h *host) clockLocked() lease.Instant {
	t := int64(time.Since(h.w.start) + time.Hour)
	return lease.Instant(t+t/1_000_000*h.ppm) + h.jump
}

// answers is the kernel's own view: the address is there and the fence is open.
func (h *host) answers(havip string) bool {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return len(h.kernel[havip]) > 0 && h.clockLocked().Before(h.deadline)
}

func (h *host) held() map[string]bool {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	out := map[string]bool{}
	for id := range h.kernel {
		out[id] = true
	}
	return out
}

func (h *host) applyTo(index int) {
	h.w.mu.Lock()
	h.applied = max(h.applied, index)
	h.w.mu.Unlock()
	h.wake()
}

func (h *host) applyLater(index int) {
	h.w.mu.Lock()
	wait := worldTrip + h.lag
	h.w.mu.Unlock()
	time.AfterFunc(wait, func() { h.applyTo(index) })
}

func (h *host) wake() {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	for ch := range h.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (h *host) Leading() (uint64, bool) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return h.w.term, h.w.leader == h.node.ID
}
