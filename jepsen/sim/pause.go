package sim

import (
	"time"
)

// A paused guest: its hypervisor stops it, all processes at once, and its clocks stand still meanwhile.
// No fence that counts by the guest's own clock can notice, and that is no fault of the lease protocol:
// when it wakes, others may own what it owned. What is promised is how long that lasts: until its next
// renewal, a fifth of a lease at most, has been to the nearest voter and its answer is back.

// pauseHost pauses a host for a while. Only directed schedules do so: no other fault may hit the host meanwhile.
func (w *World) pauseHost(name, last string) {
	w.mu.Lock()
	h := w.named(name)
	p := h.proc
	if !h.powered || h.paused || p == nil || !p.gate.freeze() {
		w.mu.Unlock()
		w.violate("schedule", "%s has nothing to pause", name)
		return
	}
	stands := h.clockLocked()
	h.paused, p.frozenAt, h.hindered = true, stands, w.now()
	w.stats.Pauses++
	w.mu.Unlock()
	w.fault(last, func() {}, func() {
		w.mu.Lock()
		h.offset -= time.Duration(h.clockLocked() - stands)
		h.paused, h.wakes = false, w.now()+w.wakeBound()
		w.observe()
		w.mu.Unlock()
		w.thaw(p)
		time.AfterFunc(w.wakeBound(), func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.observe()
		})
	})
}

// wakeBound is how long after waking a host may answer for what others own.
func (w *World) wakeBound() time.Duration {
	const work = 2 * ms // the edge's own, and the turns of two loops
	return w.sched.Lease/5 + 2*w.sched.Delay + work
}

// waking: the host is within that time; with the world's lock held.
func (h *host) waking() bool { return h.w.now() < h.wakes }
