package placement

import (
	"cmp"
	"slices"
)

// The exhaustive search. Groups and several weights make the question as hard as packing
// bins, so there is no fast way that is always right. Up to searchSize HAVIPs are arranged
// by trying everything, cut short by bounds and by maxSearchSteps; of larger problems
// only the neighbourhood of each HAVIP that goes without is.

// improve looks for an arrangement with more HAVIPs placed, fewer faults, or fewer moves.
func (m *model) improve() {
	if m.exact && !m.cut {
		return
	}
	var open, missing []int32
	best := true
	for i := range m.v {
		h := int32(i)
		if !m.free[h] || len(m.places(h)) == 0 {
			continue
		}
		open = append(open, h)
		if m.seat[h] == none {
			missing = append(missing, h)
		} else if m.cost(h, m.seat[h]) > m.cheapest(h) {
			best = false
		}
	}
	if len(missing) == 0 && best {
		return
	}
	if len(open) <= searchSize {
		m.search(open)
		return
	}
	for _, h := range missing {
		if m.seat[h] == none && m.steps > 0 {
			m.search(m.neighbours(h))
		}
	}
}

// neighbours are h, those it is in a hard group with, and those that stand in its way and
// could go elsewhere, the least important first.
func (m *model) neighbours(h int32) []int32 {
	out := []int32{h}
	add := func(list []int32) {
		for _, o := range slices.Backward(list) {
			if len(out) < searchSize && m.free[o] && len(m.places(o)) > 1 && !slices.Contains(out, o) {
				out = append(out, o)
			}
		}
	}
	for _, k := range m.inHard[h] {
		add(m.groups[k].members)
	}
	var nodes []int32
	for _, e := range m.places(h) {
		if n := m.nodeOf[e]; !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	slices.SortStableFunc(nodes, func(a, b int32) int { return cmp.Compare(m.carries[a], m.carries[b]) })
	for _, n := range nodes {
		var there []int32
		for _, e := range m.enisOf[n] {
			there = append(there, m.seated[e]...)
		}
		slices.Sort(there)
		add(there)
	}
	slices.Sort(out)
	return out
}

// trial is one exhaustive search: where each of its HAVIPs goes in the best arrangement so
// far, and what that is worth.
type trial struct {
	m       *model
	h       []int32
	options [][]int32 // by HAVIP, best first
	level   []uint64  // what it weighs to leave one out: less important ones weigh less
	rest    []int     // least cost of all from here on

	at, best []int32
	bestOut  uint64 // sum of the levels of those left out
	bestCost int
	improved bool
}

// search arranges some HAVIPs as well as possible, and leaves all others where they are.
// It keeps the present arrangement unless another one is better.
func (m *model) search(list []int32) {
	t := &trial{m: m, h: slices.Clone(list)}
	slices.SortStableFunc(t.h, func(a, b int32) int {
		return cmp.Or(cmp.Compare(m.v[b].Priority, m.v[a].Priority), bit(m.owner[b] != none)-bit(m.owner[a] != none))
	})
	t.prepare()
	for i, h := range t.h {
		t.best[i] = m.lift(h)
		if t.best[i] == none {
			t.bestOut += t.level[i]
			t.bestCost += bit(m.owner[h] != none)
		} else {
			t.bestCost += m.cost(h, t.best[i])
		}
	}
	t.try(0, 0, 0)
	for i, h := range t.h {
		if t.best[i] != none {
			m.put(h, t.best[i])
		}
	}
}

func (t *trial) prepare() {
	m := t.m
	t.options, t.level = make([][]int32, len(t.h)), make([]uint64, len(t.h))
	t.rest = make([]int, len(t.h)+1)
	t.at, t.best = make([]int32, len(t.h)), make([]int32, len(t.h))
	// At most searchSize of a level: five bits each, so that no sum reaches the next.
	level := uint64(1)
	for i := len(t.h) - 1; i >= 0; i-- {
		h := t.h[i]
		if i+1 < len(t.h) && m.v[h].Priority != m.v[t.h[i+1]].Priority {
			level <<= 5
		}
		t.level[i] = level
		t.rest[i] = t.rest[i+1] + min(m.cheapest(h), bit(m.owner[h] != none)) // left out it may cost less
		t.options[i] = m.sortedPlaces(h)
	}
}

// sortedPlaces are the places of h by cost and then by wish, as things are arranged.
func (m *model) sortedPlaces(h int32) []int32 {
	seat := m.lift(h)
	list := make([]option, 0, len(m.places(h)))
	for _, e := range m.places(h) {
		list = append(list, m.option(h, e))
	}
	if seat != none {
		m.put(h, seat)
	}
	slices.SortFunc(list, func(a, b option) int {
		return cmp.Or(cmp.Compare(m.cost(h, a.e), m.cost(h, b.e)), m.better(&a, &b))
	})
	out := make([]int32, len(list))
	for i := range list {
		out[i] = list[i].e
	}
	return out
}

// try places the i-th and all after it; out and cost are of those before.
func (t *trial) try(i int, out uint64, cost int) {
	if out > t.bestOut || (out == t.bestOut && cost+t.rest[i] >= t.bestCost) {
		return
	}
	if i == len(t.h) {
		t.bestOut, t.bestCost, t.improved = out, cost, true
		copy(t.best, t.at)
		return
	}
	m := t.m
	if m.steps--; m.steps < 0 {
		m.cut = true
		return
	}
	h := t.h[i]
	for _, e := range t.options[i] {
		if m.fits(h, e) != "" {
			continue
		}
		m.put(h, e)
		t.at[i] = e
		t.try(i+1, out, cost+m.cost(h, e))
		m.lift(h)
	}
	t.at[i] = none
	t.try(i+1, out+t.level[i], cost+bit(m.owner[h] != none))
}
