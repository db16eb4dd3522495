package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"havip-cluster/edge"
)

// op is one word of a schedule. args tells what it takes: h host, hs hosts with commas,
// d duration, n number, s a word, v HAVIP; a trailing d is how long a fault lasts.
type op struct {
	args string
	do   func(w *World, a []string)
}

var ops map[string]op

func init() { // in init, because play refers to ops
	ops = map[string]op{
		"cut":     {"h h d", func(w *World, a []string) { w.cut(a[2], pair(a[0], a[1]), pair(a[1], a[0])) }},
		"oneway":  {"h h d", func(w *World, a []string) { w.cut(a[2], pair(a[0], a[1])) }},
		"isolate": {"h d", func(w *World, a []string) { w.isolate(a[0], a[1]) }},
		"split":   {"hs d", func(w *World, a []string) { w.cut(a[1], w.across(a[0])...) }},
		"shut":    {"s h d", func(w *World, a []string) { w.shut(a[2], doorway(a[0]), w.into(a[1])...) }},
		"shut-to": {"s h h d", func(w *World, a []string) { w.shut(a[3], doorway(a[0]), pair(a[1], a[2])) }},
		"weather": {"n n n d d", (*World).setWeather},
		"hold":    {"s h h d d", (*World).hold},
		"freeze":  {"h d", func(w *World, a []string) { w.freezeHost(w.named(a[0]), dur(a[1])) }},
		"freeze-at": {"h s d", func(w *World, a []string) {
			if p := w.process(w.named(a[0])); p != nil {
				p.gate.arm(a[1], dur(a[2]))
			}
		}},
		"pause": {"h d", func(w *World, a []string) { w.pauseHost(a[0], a[1]) }},
		"kill":  {"h s d", func(w *World, a []string) { w.kill(a[0], a[1], a[2], false) }},
		"power": {"h s d", func(w *World, a []string) { w.kill(a[0], a[1], a[2], true) }},
		"stop":  {"h d", func(w *World, a []string) { w.stop(a[0], a[1]) }},
		"upgrade": {"h d", func(w *World, a []string) {
			w.onHost(a[0], func(h *host) { h.old = false })
			w.stop(a[0], a[1])
		}},
		"stall":   {"h d", (*World).stall},
		"full":    {"h d", (*World).full},
		"slow":    {"h d d", (*World).slow},
		"edge":    {"h s d", (*World).failEdge},
		"flush":   {"h", (*World).flush},
		"stray":   {"h v s", func(w *World, a []string) { w.stray(a[0], a[1], a[2]) }},
		"keep":    {"h v s d", (*World).keepStray},
		"unfence": {"h s", func(w *World, a []string) { w.unfence(a[0], a[1]) }},
		"link":    {"h n d", (*World).link},
		"wall":    {"h d", func(w *World, a []string) { w.onHost(a[0], func(h *host) { h.wallStep += dur(a[1]) }) }},
		"forge":   {"h d", func(w *World, a []string) { w.forge(a[0], a[1]) }},
		"replay":  {"h h d", func(w *World, a []string) { w.replay(a[0], a[1], a[2]) }},
		"lies": {"h d", func(w *World, a []string) {
			w.fault(a[1], func() { w.onHost(a[0], func(h *host) { h.lies++ }) }, func() { w.onHost(a[0], func(h *host) { h.lies-- }) })
		}},

		"move":        {"v h", func(w *World, a []string) { w.operator(func() { w.move(a[0], a[1]) }) }},
		"standby":     {"h d", func(w *World, a []string) { w.operator(func() { w.standby(a[0], dur(a[1])) }) }},
		"maintenance": {"h d", func(w *World, a []string) { w.operator(func() { w.maintenance(a[0], dur(a[1])) }) }},
		"disable":     {"v d", func(w *World, a []string) { w.operator(func() { w.disable(a[0], dur(a[1])) }) }},
		"ban":         {"v h d", func(w *World, a []string) { w.operator(func() { w.ban(a[0], a[1], dur(a[2])) }) }},
		"delete":      {"v", func(w *World, a []string) { w.operator(func() { w.remove(a[0]) }) }},
		"create":      {"v", func(w *World, a []string) { w.operator(func() { w.create(a[0]) }) }},
		"recreate":    {"v", func(w *World, a []string) { w.operator(func() { w.remove(a[0]); w.create(a[0]) }) }},
		"lease":       {"d", func(w *World, a []string) { w.operator(func() { w.setLease(dur(a[0])) }) }},
		"replace":     {"h d", func(w *World, a []string) { w.operator(func() { w.replace(w.named(a[0]), dur(a[1])) }) }},
		"lead":        {"h", func(w *World, a []string) { w.untilLeads(a[0]) }},
		"own":         {"v h", func(w *World, a []string) { w.untilOwns(a[0], a[1]) }},
		"repeat":      {"s n", (*World).repeatCommand},
		"align":       {"h h", func(w *World, a []string) { w.awaitRenewal(pair(a[0], a[1])) }},
		"back":        {"h", func(w *World, a []string) { w.awaitBack(a[0]) }},
		"steady":      {"v d", func(w *World, a []string) { w.operator(func() { w.mustStay(a[0], dur(a[1])) }) }},
		"idle":        {"n n d", func(w *World, a []string) { w.operator(func() { w.mustIdle(num(a[0]), num(a[1]), dur(a[2])) }) }},
		"recalled":    {"h n", func(w *World, a []string) { w.mustBeRecalled(a[0], num(a[1])) }},
		"answered":    {"v d", func(w *World, a []string) { w.mustBeAnswered(a[0], dur(a[1])) }},
	}
}

// checkEvent refuses what do could not carry out.
func checkEvent(e Event, hosts int) error {
	o, known := ops[e.Op]
	want := strings.Fields(o.args)
	if !known || len(want) != len(e.Args) || e.At < 0 {
		return fmt.Errorf("operation %q takes %q", e.Op, o.args)
	}
	for i, kind := range want {
		arg := e.Args[i]
		bad := false
		switch kind {
		case "h", "hs":
			for name := range strings.SplitSeq(arg, ",") {
				bad = bad || len(name) != 1 || int(name[0]-'a') >= hosts || name[0] < 'a' || kind == "h" && len(arg) != 1
			}
		case "d":
			_, err := time.ParseDuration(arg)
			bad = err != nil
		case "n":
			_, err := strconv.Atoi(arg)
			bad = err != nil
		}
		if bad {
			return fmt.Errorf("%q is no %s", arg, map[string]string{"h": "host", "hs": "list of hosts", "d": "duration", "n": "number"}[kind])
		}
	}
	if word := map[string][]string{"stray": {"lo", "eth0"}, "keep": {"lo", "eth0"}, "unfence": {"nft", "detach"}, "shut": doorways, "shut-to": doorways}[e.Op]; word != nil && !slices.ContainsFunc(e.Args, func(a string) bool { return slices.Contains(word, a) }) {
		return fmt.Errorf("%s needs one of %q", e.Op, word)
	}
	if e.Op == "hold" && kinds[e.Args[0]] == 0 {
		return fmt.Errorf("%q is no kind of datagram", e.Args[0])
	}
	return nil
}

func dur(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(fmt.Sprintf("sim: %q passed checkEvent: %v", s, err))
	}
	return d
}

func num(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(fmt.Sprintf("sim: %q passed checkEvent: %v", s, err))
	}
	return n
}

func (w *World) named(name string) *host { return w.hosts[name[0]-'a'] }

func (w *World) process(h *host) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return h.proc
}

func (w *World) onHost(name string, f func(h *host)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w.named(name))
}

// fault begins now and ends after a while, or when all faults end.
func (w *World) fault(last string, begin, end func()) {
	begin()
	w.mu.Lock()
	w.healSeq++
	id := w.healSeq
	w.heals[id] = end
	w.mu.Unlock()
	time.AfterFunc(dur(last), func() { w.endFault(id) })
}

func (w *World) endFault(id int) {
	w.mu.Lock()
	end := w.heals[id]
	delete(w.heals, id)
	over := w.over
	w.mu.Unlock()
	if end != nil && !over {
		end()
	}
}

// direction is one way between two hosts.
type direction struct{ from, to int }

func pair(from, to string) direction { return direction{int(from[0] - 'a'), int(to[0] - 'a')} }

func (w *World) cut(last string, ways ...direction) {
	change := func(by int) {
		for _, d := range ways {
			if d.from != d.to {
				w.net.cut(d.from, d.to, by)
			}
		}
	}
	w.fault(last, func() { change(1) }, func() { change(-1) })
}

// shut has a firewall shut a door against some ways.
func (w *World) shut(last string, door doorway, ways ...direction) {
	w.count(func(st *Stats) { st.Shut++ })
	change := func(by int) {
		for _, d := range ways {
			w.net.shut(d.from, d.to, door, by)
		}
	}
	w.fault(last, func() { change(1) }, func() { change(-1) })
}

// into lists the ways to a host.
func (w *World) into(name string) (out []direction) {
	for _, h := range w.hosts {
		if h.name != name {
			out = append(out, pair(h.name, name))
		}
	}
	return out
}

// across lists the ways between some hosts and all others.
func (w *World) across(side string) []direction {
	in := strings.Split(side, ",")
	var out []direction
	for _, x := range w.hosts {
		for _, y := range w.hosts {
			if slices.Contains(in, x.name) != slices.Contains(in, y.name) {
				out = append(out, direction{x.index, y.index})
			}
		}
	}
	return out
}

// isolate cuts a host off from everybody, clients included.
func (w *World) isolate(name, last string) {
	w.cut(last, w.across(name)...)
	w.fault(last, func() { w.onHost(name, func(h *host) { h.offFabric++ }) }, func() {
		w.onHost(name, func(h *host) { h.offFabric-- })
		w.interfacesChanged(w.named(name))
	})
}

func (w *World) setWeather(a []string) {
	add := func(sign int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		n := &w.net.weather
		n.loss += sign * num(a[0])
		n.dup += sign * num(a[1])
		n.late += sign * num(a[2])
		n.extra += time.Duration(sign) * dur(a[3])
	}
	w.fault(a[4], func() { add(1) }, func() { add(-1) })
}

func (w *World) hold(a []string) {
	d := pair(a[1], a[2])
	h := &hold{kinds[a[0]], d.from, d.to, dur(a[3])}
	set := func(on bool) func() {
		return func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.net.holds = slices.DeleteFunc(w.net.holds, func(x *hold) bool { return x == h }); on {
				w.net.holds = append(w.net.holds, h)
			}
		}
	}
	w.fault(a[4], set(true), set(false))
}

// freeze stops a process for a while.
func (w *World) freeze(p *process, d time.Duration) {
	w.mu.Lock()
	if p.h.proc != p || !p.gate.freeze() {
		w.mu.Unlock()
		return
	}
	p.frozenAt = p.h.clockLocked()
	p.h.hindered = w.now()
	w.stats.Freezes++
	w.mu.Unlock()
	w.fault(d.String(), func() {}, func() { w.thaw(p) })
}

func (w *World) freezeHost(h *host, d time.Duration) {
	if p := w.process(h); p != nil {
		w.freeze(p, d)
	}
}

// thaw lets a process go on; then it gets what its sockets hold.
func (w *World) thaw(p *process) {
	p.gate.resume()
	w.mu.Lock()
	p.h.hindered = w.now()
	waiting, m := p.inbox, p.member
	p.inbox = nil
	w.mu.Unlock()
	for _, c := range waiting {
		if m != nil {
			c.give(m)
		}
	}
}

// kill ends a process, or with power its whole host, for a while.
func (w *World) kill(name, keep, last string, power bool) {
	h := w.named(name)
	w.fault(last, func() {
		h.kill(keep == "keep")
		w.onHost(name, func(h *host) {
			h.down++
			w.stats.Kills++
			if power {
				w.stats.PowerCuts++
				h.off++
				h.powered = false
				h.kernel = newKernel(len(h.kernel.links))
			}
		})
	}, func() {
		w.onHost(name, func(h *host) {
			h.down--
			if !power {
				return
			}
			if h.off--; h.off == 0 {
				h.powered, h.booted, h.offset = true, time.Now(), bootTime
			}
		})
		h.boot()
	})
}

// stop ends a process as SIGTERM does: hand over, leave, end.
func (w *World) stop(name, last string) {
	h := w.named(name)
	p := w.process(h)
	if p == nil || p.member == nil || p.stopping.Swap(true) {
		return
	}
	w.fault(last, func() { w.onHost(name, func(h *host) { h.down++ }) }, func() {
		w.onHost(name, func(h *host) { h.down-- })
		h.boot()
	})
	w.wg.Go(func() { p.handOver() })
}

func (w *World) stall(a []string) {
	ch := make(chan struct{})
	w.fault(a[1], func() {
		w.onHost(a[0], func(h *host) {
			w.stats.DiskFaults++
			if h.disk.stalls++; h.disk.stalled == nil {
				h.disk.stalled = ch
			}
		})
	}, func() {
		w.onHost(a[0], func(h *host) {
			if h.disk.stalls--; h.disk.stalls == 0 {
				close(h.disk.stalled)
				h.disk.stalled = nil
			}
		})
	})
}

func (w *World) full(a []string) {
	w.fault(a[1], func() {
		w.onHost(a[0], func(h *host) { h.disk.full++; w.stats.DiskFaults++ })
	}, func() { w.onHost(a[0], func(h *host) { h.disk.full-- }) })
}

func (w *World) slow(a []string) {
	w.fault(a[2], func() {
		w.onHost(a[0], func(h *host) { h.disk.extra += dur(a[1]); w.stats.DiskFaults++ })
	}, func() { w.onHost(a[0], func(h *host) { h.disk.extra -= dur(a[1]) }) })
}

func (w *World) failEdge(a []string) {
	w.fault(a[2], func() {
		w.onHost(a[0], func(h *host) { h.kernel.fails[a[1]]++ })
	}, func() {
		w.onHost(a[0], func(h *host) {
			if h.kernel.fails[a[1]] > 0 { // the host may have been rebooted
				h.kernel.fails[a[1]]--
			}
		})
	})
}

// flush is another program that removes every address.
func (w *World) flush(a []string) {
	w.onHost(a[0], func(h *host) {
		clear(h.kernel.addrs)
		clear(h.kernel.strays)
		h.kernel.changed |= edge.Addresses
	})
	w.interfacesChanged(w.named(a[0]))
}

func (w *World) link(a []string) {
	set := func(up bool) func() {
		return func() {
			w.onHost(a[0], func(h *host) {
				if i := num(a[1]); i < len(h.kernel.links) {
					h.kernel.links[i] = up
					h.kernel.changed |= edge.Everything
				}
			})
			w.interfacesChanged(w.named(a[0]))
		}
	}
	w.fault(a[2], set(false), set(true))
}

// interfacesChanged tells a host's process that its interfaces changed.
func (w *World) interfacesChanged(h *host) {
	if p := w.process(h); p != nil {
		select {
		case p.changes <- struct{}{}:
		default:
		}
	}
}
