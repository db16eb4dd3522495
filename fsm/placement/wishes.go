package placement

import (
	"cmp"
	"slices"
)

// Wishes of HAVIPs that have an owner. They move one only where its policy allows, only
// into room that is there, and never against a rule, to a fault or to an unsteady node.

// settleWishes moves for failback and for an even spread until nobody gains by it. Each
// move raises the sum of the scores, or keeps it and evens the loads: so it ends.
func (m *model) settleWishes() {
	for m.failBack() || m.evenOut() {
	}
}

// mayWish says that a HAVIP is served where it is, and may move on for a wish.
func (m *model) mayWish(h int32) bool {
	return m.free[h] && m.seat[h] != none && m.seat[h] == m.owner[h]
}

// failBack moves each HAVIP whose policy allows it to the best place that is worth it.
func (m *model) failBack() (moved bool) {
	for i := range m.v {
		h := int32(i)
		if !m.mayMove(h) || (!m.mayWish(h) && m.because[h] != Wish) {
			continue
		}
		if c := m.clusterOf(h); c != nil {
			moved = m.failBackCluster(h, c) || moved
			continue
		}
		from := m.lift(h)
		here := m.option(h, from)
		to := m.bestWish(h, &here, func(o *option) bool {
			return o.score-here.score >= max(1, m.v[h].stickiness()) && m.settled(h, o.n)
		})
		if to == nil {
			m.put(h, from)
			continue
		}
		m.put(h, to.e)
		m.because[h], moved = Wish, true
	}
	return moved
}

// bestWish is the best option that is worth it and no worse than here in anything that
// comes before the score.
func (m *model) bestWish(h int32, here *option, worth func(o *option) bool) *option {
	var best *option
	for _, e := range m.places(h) {
		if e == here.e || m.fits(h, e) != "" {
			continue
		}
		o := m.option(h, e)
		if bit(o.fault) > bit(here.fault) || o.suspect || o.broken > here.broken || !worth(&o) {
			continue
		}
		if best == nil || m.better(&o, best) < 0 {
			best = &o
		}
	}
	return best
}

// failBackCluster moves HAVIPs that hard groups hold on one node, all at once. It looks once,
// at the most important of them, and wants the sum of the gains to be worth the largest stickiness.
func (m *model) failBackCluster(h int32, c *cluster) bool {
	if h != c.members[0] {
		return false
	}
	now, sticky := 0, 1
	before := make([]int32, len(c.members))
	here, leaves := none, m.anyMarked(c)
	for i, o := range c.members {
		before[i] = m.seat[o]
		if !m.mayWish(o) || !leaves && !mayMove(m.failback[o], m.p.Now) {
			return false
		}
		here = m.nodeOf[m.seat[o]]
		now += m.score(o, m.seat[o])
		sticky = max(sticky, m.v[o].stickiness())
	}
	best, gain := none, sticky-1
	for n := range m.nodes {
		if g, ok := m.clusterGain(c, int32(n), now); int32(n) != here && ok && g > gain {
			best, gain = int32(n), g
		}
		m.restore(c, before)
	}
	if best == none {
		return false
	}
	m.tryCluster(c, best)
	for _, o := range c.members {
		m.because[o], m.wished[o] = Wish, true
	}
	return true
}

func (m *model) restore(c *cluster, seats []int32) {
	for _, o := range c.members {
		m.lift(o)
	}
	for i, o := range c.members {
		m.put(o, seats[i])
	}
}

// clusterGain seats a cluster on a node and says what the sum of the scores gains by it;
// not ok if one of them has no place there, or a worse one.
func (m *model) clusterGain(c *cluster, n int32, now int) (int, bool) {
	if slices.ContainsFunc(c.members, func(o int32) bool { return m.shaky(o, n) }) {
		return 0, false
	}
	faults, broken, leaves := 0, 0, m.anyMarked(c)
	for _, o := range c.members {
		faults += bit(m.faulty(o, m.seat[o]))
		broken += int(m.broken(o, m.nodeOf[m.seat[o]]))
		if !leaves && !settled(m.failback[o], m.p.Now, m.nodes[n]) {
			return 0, false
		}
	}
	for _, o := range c.members {
		m.lift(o)
	}
	m.tryCluster(c, n)
	if m.seatedIn(c) < len(c.members) {
		return 0, false
	}
	sum := 0
	for _, o := range c.members {
		sum += m.score(o, m.seat[o])
		faults -= bit(m.faulty(o, m.seat[o]))
		broken -= int(m.broken(o, m.nodeOf[m.seat[o]]))
	}
	return sum - now, faults >= 0 && broken >= 0
}

// evenOut moves one HAVIP after another from the node that carries most, if the policy of
// the cluster says so, until that evens nothing any more.
func (m *model) evenOut() (moved bool) {
	if !m.p.Even {
		return false
	}
	for range maxEvenings {
		if !m.evenOne() {
			return moved
		}
		moved = true
	}
	return moved
}

func (m *model) evenOne() bool {
	if len(m.nodes) == 0 {
		return false
	}
	nodes := make([]int32, len(m.nodes))
	for n := range nodes {
		nodes[n] = int32(n)
	}
	slices.SortStableFunc(nodes, func(a, b int32) int { return cmp.Compare(m.carries[b], m.carries[a]) })
	least := m.carries[nodes[len(nodes)-1]]
	for _, n := range nodes {
		if m.carries[n]-least < 2 {
			return false
		}
		for _, e := range m.enisOf[n] {
			there := slices.Sorted(slices.Values(m.seated[e])) // trying one changes the list
			for _, h := range slices.Backward(there) {         // the least important first
				if m.evenHAVIP(h, e) {
					return true
				}
			}
		}
	}
	return false
}

func (m *model) evenHAVIP(h, from int32) bool {
	if !m.evens(h) || !(m.mayWish(h) || m.because[h] == Even) {
		return false
	}
	n := m.nodeOf[from]
	excess := m.carries[n]
	m.lift(h)
	here := m.option(h, from)
	to := m.bestWish(h, &here, func(o *option) bool {
		return o.n != n && o.score >= here.score && excess-o.carries > m.weight[h]
	})
	if to == nil {
		m.put(h, from)
		return false
	}
	m.put(h, to.e)
	m.because[h] = Even
	return true
}
