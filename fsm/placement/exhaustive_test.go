package placement_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// The second implementation of the placement: it writes down every arrangement there is,
// throws away those that break a rule, and keeps the best. It shares no code with the first
// one and knows nothing of wishes. What both must agree on, in this order:
//
//  1. no hard rule is broken;
//  2. the HAVIPs without an owner: as few as possible of the highest priority, then as few
//     as possible of the next one, and so on;
//  3. the HAVIPs on an ENI with a fault: as few as possible;
//  4. the moves, that is, owners that lose what they have: as few as possible. Moves for a
//     wish (failback, even spread) come on top and are not counted here.

var everything = flag.Bool("exhaustive", false, "try all small problems, not every 101st")

// worth is how good an arrangement is; smaller is better, field by field.
type worth struct {
	out    []int // HAVIPs without an owner, by falling priority
	faults int
	moves  int
}

func (a worth) compare(b worth) int {
	return slices.Compare(append(slices.Clone(a.out), a.faults, a.moves), append(slices.Clone(b.out), b.faults, b.moves))
}

// dumb is one problem being enumerated.
type dumb struct {
	p      placement.Problem
	node   map[string]placement.Node
	eni    map[string]placement.ENI
	frozen []bool
	asOne  []bool     // its group has failed back as one, see value
	can    [][]string // by HAVIP: the ENIs that it may own on its own
	levels []int      // priorities, highest first
}

func newDumb(p placement.Problem) *dumb {
	d := &dumb{p: p, asOne: make([]bool, len(p.HAVIPs)), node: map[string]placement.Node{}, eni: map[string]placement.ENI{}}
	for _, n := range p.Nodes {
		d.node[n.Name] = n
	}
	for _, e := range p.ENIs {
		d.eni[e.ID] = e
	}
	for _, v := range p.HAVIPs {
		owner, known := d.eni[v.Owner]
		d.frozen = append(d.frozen, p.Maintenance || v.Unmanaged || v.Maintenance || v.Draining >= fsm.MaxDraining ||
			(known && d.node[owner.Node].Maintenance && !d.node[owner.Node].Removing))
		var can []string
		for _, e := range p.ENIs {
			if d.allowed(v, e) {
				can = append(can, e.ID)
			}
		}
		d.can = append(d.can, can)
		if !slices.Contains(d.levels, v.Priority) {
			d.levels = append(d.levels, v.Priority)
		}
	}
	slices.Sort(d.levels)
	slices.Reverse(d.levels)
	return d
}

// allowed are the rules about one HAVIP and one ENI.
func (d *dumb) allowed(v placement.HAVIP, e placement.ENI) bool {
	n, known := d.node[e.Node]
	is := func(list []string) bool { return slices.Contains(list, n.Name) || slices.Contains(list, e.ID) }
	banned := slices.ContainsFunc(v.Bans, func(b fsm.Ban) bool {
		return is([]string{b.Target}) && (b.Until == 0 || b.Until > d.p.Now)
	})
	limit := (fsm.Spec{}).FailureLimit()
	if v.FailLimit != nil {
		limit = *v.FailLimit
	}
	inRange := !v.Range.Limit || (len(v.Range.Members) > 0 && is(v.Range.Members))
	if v.Range.Limit && v.Range.Type == fsm.RangeENI && e.Primary {
		inRange = false
	}
	return known && inRange && !banned && !is(v.Forbid) && (len(v.Require) == 0 || is(v.Require)) &&
		!v.Disabled && !v.Deleting && v.OwnAddress == "" && (len(v.Waits) == 0 || v.Owner == e.ID) && !e.Detached && e.Up && slices.Contains(e.Subnets, v.Subnet) &&
		n.Role != fsm.RoleWitness && n.Alive && !n.Leaving && !n.Draining && !n.Removing && !n.Standby && n.Health != fsm.HealthRed && (n.Behind == 0 || v.Owner == e.ID) &&
		(limit == 0 || v.Fails[n.Name].Count < limit) && v.Checked[n.Name].Bars == "" && v.GaveUp[e.ID].Until <= d.p.Now
}

// breaks names a rule about several HAVIPs that an arrangement breaks, "" for none. What
// only frozen ones do to each other is nobody's fault.
func (d *dumb) breaks(at []string) string {
	count, free, weight, heavy, onENI := map[string]int{}, map[string]bool{}, map[string]int{}, map[string]bool{}, map[string]int{}
	freeENI := map[string]bool{}
	for i, id := range at {
		if id == "" {
			continue
		}
		n := d.eni[id].Node
		w := 1
		if p := d.p.HAVIPs[i].Weight; p != nil {
			w = *p
		}
		count[n]++
		onENI[id]++
		weight[n] += w
		if !d.frozen[i] {
			free[n], freeENI[id] = true, true
			heavy[n] = heavy[n] || w > 0
		}
	}
	for n := range free {
		if l := d.p.Limits.PerNode; l > 0 && count[n] > l {
			return "per_node"
		}
		if c := d.node[n].Capacity; c != nil && heavy[n] && weight[n] > *c {
			return "capacity"
		}
	}
	for e := range freeENI {
		if l := d.p.Limits.PerENI; l > 0 && onENI[e] > l {
			return "per_eni"
		}
	}
	for _, g := range d.p.Groups {
		if !g.Hard {
			continue
		}
		for i := range at {
			for k := range i {
				in := slices.Contains(g.HAVIPs, d.p.HAVIPs[i].ID) && slices.Contains(g.HAVIPs, d.p.HAVIPs[k].ID)
				if !in || at[i] == "" || at[k] == "" || (d.frozen[i] && d.frozen[k]) {
					continue
				}
				if same := d.eni[at[i]].Node == d.eni[at[k]].Node; same != (g.Kind == fsm.Together) {
					return "group " + g.Name
				}
			}
		}
	}
	return ""
}

// faulty says that an ENI or a check speaks against a place.
func (d *dumb) faulty(i int, e string) bool {
	return d.eni[e].Fault != "" || d.p.HAVIPs[i].Checked[d.eni[e].Node].Fault != ""
}

func (d *dumb) worth(at []string) worth {
	w := worth{out: make([]int, len(d.levels))}
	for i, id := range at {
		v := d.p.HAVIPs[i]
		if id == "" {
			w.out[slices.Index(d.levels, v.Priority)]++
		} else if d.faulty(i, id) {
			w.faults++
		}
		if v.Owner != "" && id != v.Owner {
			w.moves++
		}
	}
	return w
}

// best tries everything.
func (d *dumb) best() worth {
	var best *worth
	at := make([]string, len(d.p.HAVIPs))
	var try func(i int)
	try = func(i int) {
		if i == len(at) {
			if d.breaks(at) != "" {
				return
			}
			if w := d.worth(at); best == nil || w.compare(*best) < 0 {
				best = &w
			}
			return
		}
		if d.frozen[i] {
			at[i] = d.p.HAVIPs[i].Owner
			try(i + 1)
			return
		}
		for _, e := range append([]string{""}, d.can[i]...) {
			at[i] = e
			try(i + 1)
		}
	}
	try(0)
	return *best
}

// compare holds the engine's answer against the best of all, and asks it again.
func compare(t fatal, p placement.Problem) {
	t.Helper()
	d := newDumb(p)
	at, wishes := make([]string, len(p.HAVIPs)), 0
	var told []string
	for _, x := range placement.Solve(p) {
		i := slices.IndexFunc(p.HAVIPs, func(v placement.HAVIP) bool { return v.ID == x.HAVIP })
		at[i] = x.To
		told = append(told, fmt.Sprintf("%s: %q -> %q %s: %s", x.HAVIP, x.From, x.To, x.Cause, x.Reason))
		if x.Moves && (x.Cause == placement.Wish || x.Cause == placement.Even) {
			wishes++
		}
		if d.frozen[i] && x.To != p.HAVIPs[i].Owner {
			t.Fatalf("%s is frozen and goes from %q to %q\n%s", x.HAVIP, p.HAVIPs[i].Owner, x.To, show(p))
		}
		if !d.frozen[i] && x.To != "" && !slices.Contains(d.can[i], x.To) {
			t.Fatalf("%s goes to %s, which may not own it\n%s", x.HAVIP, x.To, show(p))
		}
	}
	if rule := d.breaks(at); rule != "" {
		t.Fatalf("%v breaks %s\n%v\n%s", at, rule, told, show(p))
	}
	got := d.worth(at)
	got.moves -= wishes
	if want := d.best(); got.compare(want) != 0 && (got.compare(want) > 0 || wishes == 0) {
		t.Fatalf("it comes to %+v, the best is %+v\n%q\n%s", got, want, told, show(p))
	}
	for _, x := range placement.Solve(placement.Settled(p)) {
		if x.Moves {
			t.Fatalf("asked again, %s moves on from %q to %q: %s\nfirst %q\n%s", x.HAVIP, x.From, x.To, x.Reason, told, show(p))
		}
	}
}

func show(p placement.Problem) string {
	out := fmt.Sprintf("limits %+v even %v\n", p.Limits, p.Even)
	for _, n := range p.Nodes {
		c := -1
		if n.Capacity != nil {
			c = *n.Capacity
		}
		out += fmt.Sprintf("node %+v capacity %d\n", n, c)
	}
	for _, e := range p.ENIs {
		out += fmt.Sprintf("eni %s fault %q up %v\n", e.ID, e.Fault, e.Up)
	}
	for _, v := range p.HAVIPs {
		w, st := 1, (fsm.Spec{}).Sticky()
		if v.Weight != nil {
			w = *v.Weight
		}
		if v.Stickiness != nil {
			st = *v.Stickiness
		}
		out += fmt.Sprintf("havip %s owner %q prio %d weight %d sticky %d failback %q forbid %v prefer %v unmanaged %v disabled %v checked %+v\n", v.ID, v.Owner, v.Priority, w, st, v.Failback, v.Forbid, v.Prefer, v.Unmanaged, v.Disabled, v.Checked)
	}
	for _, g := range p.Groups {
		out += fmt.Sprintf("group %+v\n", g)
	}
	return out
}

// small has the given nodes, each with one ENI, and HAVIPs that may not own the ENIs whose
// bits are set in forbid.
func small(nodes int, forbid []int) placement.Problem {
	p := placement.Problem{Now: start}
	for i := range nodes {
		name := fmt.Sprint("n", i)
		p.Nodes = append(p.Nodes, placement.Node{Name: name, Alive: true})
		p.ENIs = append(p.ENIs, placement.ENI{ID: name + "/e", Node: name, Subnets: []string{"net"}, Up: true})
	}
	for i, bits := range forbid {
		v := placement.HAVIP{ID: fmt.Sprint("h", i), Name: fmt.Sprint("h", i), Subnet: "net"}
		for k := range nodes {
			if bits&(1<<k) != 0 {
				v.Forbid = append(v.Forbid, fmt.Sprint("n", k))
			}
		}
		p.HAVIPs = append(p.HAVIPs, v)
	}
	return p
}

// variants are the ways in which small problems differ beside who may own what. Each
// dimension is one rule kind; all combinations are made.
var variants = [][]func(p *placement.Problem){
	{ // limits
		func(*placement.Problem) {},
		func(p *placement.Problem) { p.Limits.PerNode = 1 },
		func(p *placement.Problem) { p.Limits.PerENI = 2 },
		func(p *placement.Problem) { // several weights in little room
			for i := range p.Nodes {
				p.Nodes[i].Capacity = ptr(2 + i%2)
			}
			for i := range p.HAVIPs {
				p.HAVIPs[i].Weight = ptr(1 + (i*2+1)%3)
			}
		},
	},
	{ // groups
		func(*placement.Problem) {},
		func(p *placement.Problem) { group(p, fsm.Apart, 0, 1) },
		func(p *placement.Problem) { group(p, fsm.Together, 0, 1, 2) },
		func(p *placement.Problem) { group(p, fsm.Together, 1, 3); group(p, fsm.Apart, 0, 1, 2) },
		func(p *placement.Problem) { group(p, fsm.Together, 0, 2); group(p, fsm.Apart, 0, 2, 3) }, // contradicts itself
	},
	{ // owners
		func(*placement.Problem) {},
		func(p *placement.Problem) { owners(p, 0, 0, 0, 0) },
		func(p *placement.Problem) { owners(p, 0, 1, 2, 0) },
		func(p *placement.Problem) { owners(p, 1, 1, -1, 0) },
	},
	{ // importance, faults, what is frozen
		func(*placement.Problem) {},
		func(p *placement.Problem) { p.HAVIPs[len(p.HAVIPs)-1].Priority = 5 },
		func(p *placement.Problem) { p.ENIs[0].Fault = "gateway"; p.HAVIPs[0].Priority = -1 },
		func(p *placement.Problem) { p.HAVIPs[0].Unmanaged = true },
		func(p *placement.Problem) { // a service that is down in one place for one, and everywhere for another
			p.HAVIPs[0].Checked = map[string]placement.Verdict{"n0": {Fault: "down"}}
			p.HAVIPs[len(p.HAVIPs)-1].Checked = map[string]placement.Verdict{"n0": {Fault: "down"}, "n1": {Fault: "down"}, "n2": {Awaits: "not yet"}}
		},
	},
}

func group(p *placement.Problem, kind fsm.GroupKind, members ...int) {
	g := placement.Group{Name: fmt.Sprint("g", len(p.Groups)), Kind: kind, Hard: true}
	for _, i := range members {
		g.HAVIPs = append(g.HAVIPs, fmt.Sprint("h", i)) // some of them may not be there
	}
	p.Groups = append(p.Groups, g)
}

func owners(p *placement.Problem, nodes ...int) {
	for i := range p.HAVIPs {
		if n := nodes[i]; n >= 0 && n < len(p.Nodes) {
			p.HAVIPs[i].Owner = p.ENIs[n].ID
		}
	}
}

// Every problem of up to 3 nodes and 4 HAVIPs: all relations of who may own what, times
// all combinations of the variants.
func TestAgainstTheExhaustiveOne(t *testing.T) {
	stride, tried, all := 101, 0, 0
	if *everything {
		stride = 1
	}
	for nodes := 1; nodes <= 3; nodes++ {
		for havips := 1; havips <= 4; havips++ {
			relations := 1 << (nodes * havips)
			for r := range relations {
				forbid := make([]int, havips)
				for i := range forbid {
					forbid[i] = r >> (nodes * i) & (1<<nodes - 1)
				}
				for c := range combinations() {
					if all++; all%stride == 0 || relations < 64 {
						p := small(nodes, forbid)
						combine(&p, c)
						compare(t, p)
						tried++
					}
				}
			}
		}
	}
	t.Logf("%d of %d small problems", tried, all)
}

func combinations() int {
	n := 1
	for _, dimension := range variants {
		n *= len(dimension)
	}
	return n
}

func combine(p *placement.Problem, c int) {
	for _, dimension := range variants {
		dimension[c%len(dimension)](p)
		c /= len(dimension)
	}
}

// Problems with everything at once: two ENIs per node, scores, failback, soft groups.
func TestAgainstTheExhaustiveOneAtRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		compare(t, drawProblem(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), 3, 4))
	})
}
