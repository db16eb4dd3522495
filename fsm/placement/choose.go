package placement

import (
	"cmp"
)

// option is one ENI as one HAVIP sees it when its turn comes: what the others do is in it.
type option struct {
	e, n           int32
	fault, suspect bool
	broken         int32 // members of soft groups that it would go against
	score          int
	was            bool // see returns
	carries        int  // weight of what its node owns beside this HAVIP; 0 if that weighs nothing
	onNode, onENI  int  // HAVIPs
}

// better is the order of wishes: it sorts the better option first.
func (m *model) better(a, b *option) int {
	switch {
	case a.fault != b.fault:
		return bit(a.fault) - bit(b.fault)
	case a.suspect != b.suspect:
		return bit(a.suspect) - bit(b.suspect)
	case a.broken != b.broken:
		return cmp.Compare(a.broken, b.broken)
	case a.score != b.score:
		return cmp.Compare(b.score, a.score)
	case a.was != b.was:
		return bit(b.was) - bit(a.was)
	case a.carries != b.carries:
		return cmp.Compare(a.carries, b.carries)
	case a.onNode != b.onNode:
		return cmp.Compare(a.onNode, b.onNode)
	case a.onENI != b.onENI:
		return cmp.Compare(a.onENI, b.onENI)
	}
	return cmp.Compare(a.e, b.e) // ENIs are in the order of their ids
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// score is what an ENI is worth to a HAVIP: its wishes for the ENI and for the node, what
// failing checks take from that, and the node's own score.
func (m *model) score(h, e int32) int {
	n := m.nodeOf[e]
	if n == none {
		return 0
	}
	if len(m.v[h].Prefer) == 0 && len(m.v[h].Checked) == 0 {
		return m.nodes[n].Score
	}
	if m.scored != h {
		m.weigh(m.scored, false)
		m.weigh(h, true)
		m.scored = h
	}
	return m.scores[0][n] + m.scores[1][e] + m.nodes[n].Score
}

// weigh writes the preferences of a HAVIP and the marks of its checks where score finds them, or takes them away.
func (m *model) weigh(h int32, on bool) {
	if h == none {
		return
	}
	for name, s := range m.v[h].Prefer {
		if !on {
			s = 0
		}
		if n, known := m.node[name]; known {
			m.scores[0][n] = s
		}
		if e, known := m.eni[name]; known {
			m.scores[1][e] = s
		}
	}
	for name := range m.v[h].Checked {
		n, known := m.node[name]
		if !known {
			continue
		}
		if !on {
			m.scores[0][n] = 0
			continue
		}
		for _, mark := range m.verdict(h, n).Marks {
			m.scores[0][n] += mark.Value
		}
	}
}

// option sees e through the eyes of h, which is not seated.
func (m *model) option(h, e int32) option {
	n := m.nodeOf[e]
	o := option{
		e: e, n: n, fault: m.faulty(h, e), suspect: m.shaky(h, n), score: m.score(h, e),
		carries: m.carries[n], onNode: m.on[n], onENI: m.onENI[e],
	}
	if len(m.inSoft[h]) > 0 {
		o.broken = m.broken(h, n)
	}
	if m.weight[h] == 0 {
		o.carries = 0 // it adds nothing to that
	}
	o.was = m.returns(h, e)
	return o
}

// returns says that e owned h last and nobody does now, which is a wish. What may move for the
// spread has no such wish: it would go on from there at once.
func (m *model) returns(h, e int32) bool {
	v := m.v[h]
	return v.Owner == "" && v.Last != "" && v.Last == m.enis[e].ID && !m.evens(h)
}

// cost is what the arrangement as a whole pays for h on e: first ENIs with a fault, then moves.
func (m *model) cost(h, e int32) int {
	c := 0
	if m.faulty(h, e) {
		c = faultCost
	}
	if m.owner[h] != none && m.owner[h] != e {
		c++
	}
	return c
}

// faultCost makes one fault weigh more than a move of every HAVIP.
const faultCost = 1 << 30

// cheapest is the least cost of h on any ENI that it may own.
func (m *model) cheapest(h int32) int {
	least := 2 * faultCost
	for _, e := range m.places(h) {
		if least = min(least, m.cost(h, e)); least == 0 {
			break
		}
	}
	return least
}

// choose returns the best ENI that has room for h, which is not seated, or none. With
// atCost >= 0 only ENIs of that cost count.
func (m *model) choose(h int32, atCost int) int32 {
	best := option{e: none}
	for _, e := range m.places(h) {
		if (atCost >= 0 && m.cost(h, e) != atCost) || m.fits(h, e) != "" {
			continue
		}
		if o := m.option(h, e); best.e == none || m.better(&o, &best) < 0 {
			best = o
		}
	}
	return best.e
}

// unsteady says why others come first for h than node n.
func (m *model) unsteady(h, n int32) string {
	switch {
	case m.nodes[n].Unheard:
		return "not heard by the leader"
	case m.nodes[n].Flapping:
		return "flapping"
	case !m.suspect[n] && m.unchecked(h, n):
		return "unchecked"
	}
	return string(m.nodes[n].Health)
}
