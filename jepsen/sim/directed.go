package sim

import (
	"slices"
	"time"
)

// What follows is for directed schedules: they bring a situation about, and demand something.

// untilLeads makes a host the leader, for a directed schedule.
func (w *World) untilLeads(name string) {
	for end := time.Now().Add(formBound); time.Now().Before(end) && !w.isBroken(); time.Sleep(operatorPause) {
		lead := w.leader()
		if lead == nil {
			continue
		}
		if lead.h.name == name {
			return
		}
		_ = lead.raft.Load().TransferLeadership()
	}
	w.violate("schedule", "%s does not become leader", name)
}

// untilOwns moves a HAVIP to a host and waits, for a directed schedule.
func (w *World) untilOwns(havip, name string) {
	owns := func() bool { return w.answeredBy(w.named(name), havip) }
	for end := time.Now().Add(formBound); !owns() && time.Now().Before(end) && !w.isBroken(); time.Sleep(operatorPause) {
		w.move(havip, name)
	}
	if !owns() {
		w.violate("schedule", "%s does not get %s", name, havip)
	}
}

// mustBeAnswered demands service while there are faults, in a directed schedule.
func (w *World) mustBeAnswered(havip string, bound time.Duration) {
	for end := time.Now().Add(bound); !w.isBroken(); time.Sleep(ms) {
		for _, h := range w.hosts {
			if w.answeredBy(h, havip) {
				return
			}
		}
		if time.Now().After(end) {
			w.violate("availability", "nobody answers for %s for %v", havip, bound)
		}
	}
}

// mustBeRecalled demands that a host has been asked so often at least about claims that it does not serve.
func (w *World) mustBeRecalled(name string, times int) {
	w.mu.Lock()
	got := w.named(name).recalled
	w.mu.Unlock()
	if got < times {
		w.violate("schedule", "%s was asked %d times about claims of which it does not know, want %d", name, got, times)
	}
}

// awaitRenewal returns when a host sends its next renewal to another one. The times of a
// directed schedule count from there, as if it had come when the event says.
func (w *World) awaitRenewal(d direction) {
	ch := make(chan struct{})
	w.mu.Lock()
	w.awaited, w.renewed = d, ch
	w.mu.Unlock()
	t := time.NewTimer(formBound)
	defer t.Stop()
	select {
	case <-ch:
	case <-w.broken:
	case <-t.C:
		w.violate("schedule", "%s sends no renewal", w.hosts[d.from].name)
	}
}

// awaitBack returns when the log of the leader has that a host that was stopped runs again: its vote does not rest, and
// it has a session. The times of a directed schedule count from there, as if it had come when the event says.
func (w *World) awaitBack(name string) {
	w.mu.Lock()
	id := w.named(name).node
	w.mu.Unlock()
	for end := time.Now().Add(formBound); time.Now().Before(end) && !w.isBroken(); time.Sleep(ms) {
		lead := w.leader()
		if lead == nil {
			continue
		}
		s := lead.raft.Load().State()
		if _, open := s.SessionOf(id); open && !s.Nodes[id].Resting {
			return
		}
	}
	w.violate("schedule", "%s does not come back", name)
}

// mustStay demands that a HAVIP is answered all the time, in a directed schedule.
func (w *World) mustStay(havip string, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end) && !w.isBroken(); time.Sleep(ms) {
		if !slices.ContainsFunc(w.hosts, func(h *host) bool { return w.answeredBy(h, havip) }) {
			w.violate("availability", "nobody answers for %s", havip)
		}
	}
}

// mustIdle demands that each edge turns and reads no more often than so many times a second
// while nothing happens, in a directed schedule.
func (w *World) mustIdle(turns, readings int, d time.Duration) {
	work := func() (out [][2]int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, h := range w.hosts {
			out = append(out, [2]int{h.turns, h.readings})
		}
		return out
	}
	before := work()
	w.pause(d)
	for i, now := range work() {
		perSecond := func(n int) float64 { return float64(n) / d.Seconds() }
		t, r := perSecond(now[0]-before[i][0]), perSecond(now[1]-before[i][1])
		w.notef("%s: %.1f turns and %.1f readings a second", w.hosts[i].name, t, r)
		if t > float64(turns) || r > float64(readings) || r == 0 {
			w.violate("idle", "the edge of %s makes %.1f turns and %.1f readings a second while nothing happens, at most %d and %d are due", w.hosts[i].name, t, r, turns, readings)
		}
	}
}

func (w *World) answeredBy(h *host, havip string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ip, a := range h.kernel.addrs {
		if a.havip.Name == havip && h.answers(ip) {
			return true
		}
	}
	return false
}
