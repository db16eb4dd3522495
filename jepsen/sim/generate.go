package sim

import (
	"fmt"
	"slices"
	"time"
)

// Generate makes the schedule of a seed: a cluster, and a swarm of faults. Each seed uses
// only some kinds of fault, so that a rare one is not always drowned by the others.
func Generate(seed uint64, duration time.Duration) Schedule {
	return (&generator{dice: newDice(seed, 42)}).schedule(seed, duration)
}

// GenerateTwo is Generate for clusters of two voters, sometimes with an agent. Their hosts are stopped in order
// more often than by anything else, so that stops meet each other and every fault in all of their steps.
func GenerateTwo(seed uint64, duration time.Duration) Schedule {
	return (&generator{dice: newDice(seed, 43), two: true}).schedule(seed, duration)
}

func (g *generator) schedule(seed uint64, duration time.Duration) Schedule {
	// An hour of a slow cluster costs the least to play: each profile gets about the same
	// real time.
	name := []string{"wan", "wan", "wan", "wan", "wan", "wan", "wan", "wan", "lan", "lan", "lan", "fast"}[g.IntN(12)]
	prof := profiles[name]
	s := Schedule{Seed: seed, Profile: name, Lease: prof.lease, Delay: prof.delay, ENIs: 1 + g.IntN(2), HAVIPs: 1 + g.IntN(4), Duration: duration}
	s.Roles = g.roles()
	for range s.Roles {
		s.Rates = append(s.Rates, g.IntN(2*ppmMax+1)-ppmMax)
	}
	g.s = &s
	g.swarm()
	if g.percent(25) {
		s.Old = true
		for i := range s.Roles {
			g.at = g.between(0, duration*3/4).Round(ms)
			g.add("upgrade", string(rune('a'+i)), g.last())
		}
	}
	pace := []time.Duration{2 * time.Second, 5 * time.Second, 15 * time.Second}[g.IntN(3)]
	if name == "wan" {
		pace *= 2
	}
	for at := g.between(0, pace); at < duration; at += g.between(0, 2*pace) {
		g.at = at.Round(time.Microsecond)
		g.fault()
	}
	return s
}

// ppmMax keeps the rates of two clocks within the 1 % that the lease protocol allows.
const ppmMax = 4900

type generator struct {
	dice
	s    *Schedule
	at   time.Duration
	uses []choice
	sum  int
	two  bool // hosts vote
}

// choice is one kind of fault, how often it comes, and what makes one.
type choice struct {
	weight int
	make   func(g *generator)
}

var choices = []choice{
	{8, func(g *generator) { g.add("kill", g.host(), g.keep(), g.last()) }},
	{4, func(g *generator) { g.add("power", g.host(), g.keep(), g.last()) }},
	{4, func(g *generator) { g.add("stop", g.host(), g.last()) }},
	{8, func(g *generator) { g.add("freeze", g.host(), g.last()) }},
	{8, func(g *generator) { g.add("freeze-at", g.host(), g.seam(), g.last()) }},
	{6, func(g *generator) { g.add("isolate", g.host(), g.last()) }},
	{6, func(g *generator) { a, b := g.pair(); g.add("cut", a, b, g.last()) }},
	{6, func(g *generator) { a, b := g.pair(); g.add("oneway", a, b, g.last()) }},
	{4, func(g *generator) { g.add("shut", g.door(), g.host(), g.last()) }},
	{3, func(g *generator) { a, b := g.pair(); g.add("shut-to", g.door(), a, b, g.last()) }},
	{6, func(g *generator) { // a node does not hear of what it is given when another one, which still votes, is lost
		a, b := g.pair()
		g.add("shut", "raft", a, g.long())
		g.at += g.between(0, g.s.Lease)
		g.add("shut", "words", b, g.long())
	}},
	{4, func(g *generator) { g.add("split", g.side(), g.last()) }},
	{6, func(g *generator) {
		g.add("weather", fmt.Sprint(g.IntN(30)), fmt.Sprint(g.IntN(20)), fmt.Sprint(g.IntN(10)), g.between(0, g.s.Lease/20).Round(time.Microsecond).String(), g.last())
	}},
	{3, func(g *generator) { g.add("stall", g.host(), g.last()) }},
	{3, func(g *generator) { g.add("full", g.host(), g.last()) }},
	{3, func(g *generator) {
		g.add("slow", g.host(), g.between(ms, 50*ms).Round(time.Microsecond).String(), g.last())
	}},
	{4, func(g *generator) { g.add("edge", g.host(), g.call(), g.last()) }},
	{2, func(g *generator) { g.add("flush", g.host()) }},
	{4, func(g *generator) {
		if !g.s.Old { // below level 3 of the log nobody waits for the fences
			g.add("stray", g.host(), g.havip(), []string{"lo", "eth0"}[g.IntN(2)])
		}
	}},
	{3, func(g *generator) {
		if !g.s.Old {
			g.add("keep", g.host(), g.havip(), []string{"lo", "eth0"}[g.IntN(2)], g.last())
		}
	}},
	{3, func(g *generator) { g.add("unfence", g.host(), []string{"nft", "detach"}[g.IntN(2)]) }},
	{3, func(g *generator) { g.add("recreate", g.havip()) }},
	{3, func(g *generator) { // an owner is stopped, and its HAVIP deleted and made again meanwhile
		v := g.havip()
		g.add("freeze", g.host(), g.last())
		g.at += g.between(0, g.s.Lease)
		g.add("recreate", v)
	}},
	{3, func(g *generator) { g.add("link", g.host(), fmt.Sprint(g.IntN(g.s.ENIs)), g.last()) }},
	{2, func(g *generator) {
		g.add("wall", g.host(), (g.between(0, time.Hour) - 30*time.Minute).Round(ms).String())
	}},
	{2, func(g *generator) { g.add("lies", g.host(), g.last()) }},
	{3, func(g *generator) {
		if !g.s.Old { // by gossip everybody speaks for everybody there
			g.add("forge", g.host(), g.last())
		}
	}},
	{3, func(g *generator) { a, b := g.pair(); g.add("replay", a, b, g.last()) }},
	{10, func(g *generator) { g.add("move", g.havip(), g.host()) }},
	{4, func(g *generator) { g.add("standby", g.host(), g.last()) }},
	{2, func(g *generator) { g.add("maintenance", g.host(), g.last()) }},
	{4, func(g *generator) { g.add("disable", g.havip(), g.last()) }},
	{3, func(g *generator) { g.add("ban", g.havip(), g.host(), g.last()) }},
	{3, func(g *generator) {
		v := g.havip()
		g.add("delete", v)
		g.at += g.between(0, time.Second)
		g.add("create", v)
	}},
	{2, func(g *generator) { g.add("lease", g.length()) }},
	{3, func(g *generator) { g.add("replace", g.host(), g.last()) }},
	{2, func(g *generator) { g.add("repeat", "open-session", fmt.Sprint(g.IntN(hostsMax))) }},
	{2, func(g *generator) { g.add("repeat", "place", "0") }},
}

func (g *generator) roles() []string {
	if g.two {
		return []string{"voter", "voter", "agent"}[:2+g.IntN(2)]
	}
	n := []int{3, 3, 3, 4, 4, 5, 5, 7}[g.IntN(8)]
	out := []string{}
	for range n {
		out = append(out, "voter")
	}
	if n > 3 && g.percent(40) {
		out[n-1] = "agent"
	}
	if g.percent(25) {
		out[1+g.IntN(2)] = "witness"
	}
	return out
}

// swarm picks the kinds of fault of this schedule.
func (g *generator) swarm() {
	for len(g.uses) < 3 {
		g.uses, g.sum = nil, 0
		some := 25 + g.IntN(60)
		for _, c := range choices {
			if g.percent(some) {
				g.uses, g.sum = append(g.uses, c), g.sum+c.weight
			}
		}
	}
}

func (g *generator) fault() {
	if g.two && g.percent(40) {
		g.add("stop", g.host(), g.last())
		return
	}
	n := g.IntN(g.sum)
	for _, c := range g.uses {
		if n -= c.weight; n < 0 {
			c.make(g)
			return
		}
	}
}

func (g *generator) add(op string, args ...string) {
	g.s.Events = append(g.s.Events, Event{g.at, op, args})
	slices.SortStableFunc(g.s.Events, func(a, b Event) int { return int(a.At - b.At) })
}

func (g *generator) host() string { return string(rune('a' + g.IntN(len(g.s.Roles)))) }

func (g *generator) pair() (a, b string) {
	for a == b {
		a, b = g.host(), g.host()
	}
	return a, b
}

func (g *generator) side() string {
	n := len(g.s.Roles)
	perm := g.Perm(n)[:1+g.IntN(n-1)]
	slices.Sort(perm)
	out := ""
	for i, p := range perm {
		if i > 0 {
			out += ","
		}
		out += string(rune('a' + p))
	}
	return out
}

func (g *generator) havip() string { return fmt.Sprintf("v%d", g.IntN(g.s.HAVIPs)) }

func (g *generator) keep() string { return []string{"keep", "lose"}[g.IntN(2)] }

// last is how long a fault lasts: less than a lease, about one, or much longer.
func (g *generator) last() string {
	l := g.s.Lease
	var d time.Duration
	switch g.IntN(4) {
	case 0:
		d = g.between(ms, l/2)
	case 1, 2:
		d = g.between(l/2, 3*l)
	default:
		d = g.between(2*l, 20*l)
	}
	return d.Round(time.Microsecond).String()
}

// long is a fault that lasts long enough to be found by what is said once in a while.
func (g *generator) long() string {
	return g.between(3*g.s.Lease, 20*g.s.Lease).Round(time.Microsecond).String()
}

func (g *generator) door() string { return doorways[g.IntN(len(doorways))] }

func (g *generator) seam() string {
	seams := []string{"send", "receive", "answer", "disk", "guard", "read", "up", "down", "keep", "announce", "clean", "deadline", "propose", "submit", "log"}
	return seams[g.IntN(len(seams))]
}

func (g *generator) call() string {
	calls := []string{"guard", "read", "up", "down", "keep", "announce", "clean", "inventory"}
	return calls[g.IntN(len(calls))]
}

func (g *generator) length() string {
	base := profiles[g.s.Profile].lease
	return []time.Duration{base / 2, base, base * 2, base * 3}[g.IntN(4)].String()
}
