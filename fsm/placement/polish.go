package placement

import (
	"cmp"
	"slices"
)

// The last part of a round: single moves, and exchanges of two, until none of them makes the
// arrangement better in the order of goals that DESIGN.md gives. Each step makes it strictly
// better, so it ends; maxPolishSteps bounds what it looks at. Costs and wishes are judged
// against the owners when the problem was posed.

// maxPolishSteps bounds what all polishes of one answer look at: 1 for a place or a pair at a
// glance, pairCost for a pair that is weighed. That is some 100 ms; 16 nodes with 1,000 HAVIPs
// take a hundredth of it.
const (
	maxPolishSteps = 2_000_000
	pairCost       = 8
)

// polish returns whether it changed anything.
func (m *model) polish() (changed bool) {
	m.mixed = !m.oneWeight()
	for m.polishSteps > 0 {
		clear(m.floors)
		moved := m.moveAll()
		if moved = m.swapAll() || moved; !moved {
			return changed
		}
		changed = true
	}
	m.cut = true
	return changed
}

// worth says that a move from the owner to e is one that a wish pays for.
func (m *model) worth(h, e int32) bool { return m.worthWish(h, e) || m.worthEven(h, e) }

// worthWish is failback: the policy allows it, and the gain of score is worth the stickiness.
func (m *model) worthWish(h, e int32) bool {
	n := m.nodeOf[e]
	return m.mayMove(h) && m.noWorse(h, e) &&
		m.score(h, e)-m.score(h, m.start[h]) >= max(1, m.v[h].stickiness()) && m.settled(h, n)
}

// worthEven is rebalance: another node, at no cost of score.
func (m *model) worthEven(h, e int32) bool {
	return m.evens(h) && m.noWorse(h, e) && m.nodeOf[e] != m.nodeOf[m.start[h]] && m.score(h, e) >= m.score(h, m.start[h])
}

// evens says that h may move for an even spread: it has no stickiness, and no group that could
// have a say in it.
func (m *model) evens(h int32) bool {
	return m.p.Even && m.weight[h] > 0 && m.v[h].stickiness() == 0 && len(m.inSoft[h]) == 0 && m.clusterOf(h) == nil
}

// onlyEven says that nothing but the spread pays for h on e: then e counts as no steadier and
// no better liked than the owner's place is.
func (m *model) onlyEven(h, e int32) bool {
	return m.p.Even && m.moved(h, e) && m.unpaid(h, e) == 0 && m.worthEven(h, e) && !m.worthWish(h, e)
}

// noWorse are the conditions of any move for a wish. What hard groups hold on one node moves
// for a wish as one, see failBackCluster.
func (m *model) noWorse(h, e int32) bool {
	was := m.start[h]
	return was != none && m.nodeOf[was] != none && !m.shaky(h, m.nodeOf[e]) && bit(m.faulty(h, e)) <= bit(m.faulty(h, was)) && m.clusterOf(h) == nil
}

// unpaid is 1 where an owner loses h and no wish pays for it. One that may not stay loses it
// wherever it goes; what a group's wish has moved is paid for.
func (m *model) unpaid(h, e int32) int {
	switch was := m.start[h]; {
	case was == none || e == was || e != none && m.wished[h]:
		return 0
	case e == none || !m.canStay(h) || m.faulty(h, was) && !m.faulty(h, e):
		return 1 // whatever else it is for
	default:
		return bit(!m.worth(h, e))
	}
}

// canStay says that h may stay with its owner as far as it alone is concerned.
func (m *model) canStay(h int32) bool {
	if m.stay[h] == 0 {
		m.stay[h] = 1
		if m.start[h] != none && m.may(h, m.start[h]) {
			m.stay[h] = 2
		}
	}
	return m.stay[h] == 2
}

func (m *model) moved(h, e int32) bool { return m.start[h] != none && e != m.start[h] }

// standing is an option with what the whole pays for it.
type standing struct {
	option
	unpaid int
	moved  bool
}

// stand is option with the costs; h is not seated.
func (m *model) stand(h, e int32) standing {
	s := standing{m.option(h, e), m.unpaid(h, e), m.moved(h, e)}
	if m.onlyEven(h, e) {
		s.suspect, s.score = m.suspect[m.nodeOf[m.start[h]]], m.score(h, m.start[h])
	}
	return s
}

// compareStanding is the order of goals as far as one HAVIP's place decides them: the better
// sorts first.
func compareStanding(a, b *standing) int {
	return cmp.Or(
		cmp.Compare(bit(a.fault), bit(b.fault)),
		cmp.Compare(a.unpaid, b.unpaid),
		cmp.Compare(bit(a.suspect), bit(b.suspect)),
		cmp.Compare(a.broken, b.broken),
		cmp.Compare(b.score, a.score),
		cmp.Compare(bit(b.was), bit(a.was)),
		cmp.Compare(a.carries, b.carries),
		cmp.Compare(a.onNode, b.onNode),
		cmp.Compare(a.onENI, b.onENI),
		cmp.Compare(bit(a.moved), bit(b.moved)),
		cmp.Compare(a.e, b.e),
	)
}

// moveAll gives each HAVIP the best place that has room for it.
func (m *model) moveAll() (changed bool) {
	for i := range m.v {
		h := int32(i)
		if !m.loose[h] || len(m.places(h)) == 0 || m.content(h) {
			continue
		}
		if m.polishSteps -= len(m.places(h)); m.polishSteps < 0 {
			return changed
		}
		from := m.lift(h)
		to, best := from, standing{}
		if from != none {
			best = m.stand(h, from)
		}
		for _, e := range m.places(h) {
			if e == from || m.fits(h, e) != "" {
				continue
			}
			if s := m.stand(h, e); to == none || compareStanding(&s, &best) < 0 {
				to, best = e, s
			}
		}
		if to != none {
			m.put(h, to)
		}
		if to != from {
			changed = true
			clear(m.floors)
		}
	}
	return changed
}

// content says at a glance that no other place is better for h. It may say no where that is
// so; it never says yes where it is not.
func (m *model) content(h int32) bool {
	e := m.seat[h]
	if e == none || m.faulty(h, e) {
		return false
	}
	if e == m.start[h] && !m.mayMove(h) {
		return !m.evens(h) || m.level(h, e)
	}
	if e == m.start[h] && m.highest(h)-m.score(h, e) < max(1, m.v[h].stickiness()) && !m.evens(h) {
		return true
	}
	return m.pleased(h) && m.level(h, e)
}

// pleased says that nothing but the spread could be better for h, wherever it is.
func (m *model) pleased(h int32) bool {
	e := m.seat[h]
	if e == none || m.faulty(h, e) || m.shaky(h, m.nodeOf[e]) || m.moved(h, e) && m.canStay(h) {
		return false
	}
	if len(m.inSoft[h]) > 0 && m.brokenThere(h) > 0 {
		return false
	}
	v := m.v[h]
	if last, known := m.eni[v.Last]; known && last != e && m.returns(h, last) && m.may(h, last) {
		return false
	}
	return m.score(h, e) >= m.highest(h)
}

// brokenThere is broken for the place that h has.
func (m *model) brokenThere(h int32) int32 {
	e := m.lift(h)
	defer m.put(h, e)
	return m.broken(h, m.nodeOf[e])
}

// highest is a score that no place of h exceeds.
func (m *model) highest(h int32) int {
	node, eni := 0, 0
	for name, s := range m.v[h].Prefer {
		if n, known := m.node[name]; known && m.hosts[n] {
			node = max(node, s)
		}
		if _, known := m.eni[name]; known {
			eni = max(eni, s)
		}
	}
	return node + eni + m.topScore
}

// floor is the emptiest ENI of a steady node with room, for HAVIPs of one subnet: with weight,
// and without.
type floor struct {
	carries, onNode, onENI, e int
	few, fewest, first        int
}

// level says that no place is emptier than e is beside h.
func (m *model) level(h, e int32) bool {
	v, n := m.v[h], m.nodeOf[e]
	if !v.plain() || m.behind {
		return false
	}
	for _, o := range m.enisOf[n] {
		if m.onENI[o] < m.onENI[e]-1 || o < e && m.onENI[o] < m.onENI[e] {
			return false
		}
	}
	f, known := m.floors[v.Subnet]
	if !known {
		f = m.lowest(m.bySubnet[v.Subnet])
		m.floors[v.Subnet] = f
	}
	if m.weight[h] == 0 {
		return cmp.Or(cmp.Compare(m.on[n]-1, f.few), cmp.Compare(m.onENI[e]-1, f.fewest), cmp.Compare(int(e), f.first)) <= 0
	}
	return cmp.Or(cmp.Compare(m.carries[n]-m.weight[h], f.carries), cmp.Compare(m.on[n]-1, f.onNode), cmp.Compare(m.onENI[e]-1, f.onENI), cmp.Compare(int(e), f.e)) <= 0
}

func (m *model) lowest(list []int32) floor {
	const most = int(^uint(0) >> 1)
	f := floor{most, most, most, most, most, most, most}
	for _, e := range list {
		n := m.nodeOf[e]
		if l := m.p.Limits; m.suspect[n] || m.enis[e].Fault != "" || l.PerENI > 0 && m.onENI[e] >= l.PerENI || l.PerNode > 0 && m.on[n] >= l.PerNode {
			continue
		}
		if cmp.Or(cmp.Compare(m.on[n], f.few), cmp.Compare(m.onENI[e], f.fewest)) < 0 {
			f.few, f.fewest, f.first = m.on[n], m.onENI[e], int(e)
		}
		if m.carries[n] < m.capacity[n] && cmp.Or(cmp.Compare(m.carries[n], f.carries), cmp.Compare(m.on[n], f.onNode), cmp.Compare(m.onENI[e], f.onENI)) < 0 {
			f.carries, f.onNode, f.onENI, f.e = m.carries[n], m.on[n], m.onENI[e], int(e)
		}
	}
	return f
}

// swapAll exchanges the places of two where that is better. One of them may be without.
func (m *model) swapAll() (changed bool) {
	for i := range m.v {
		h := int32(i)
		if !m.loose[h] || len(m.places(h)) == 0 || m.rooted(h) || m.pleased(h) && !m.mixed {
			continue
		}
		if m.swapFor(h) {
			changed = true
		}
		if m.polishSteps < 0 {
			return changed
		}
	}
	return changed
}

// rooted says that nothing pays for a move of h from its owner. An exchange is better then only
// if the other one has something of it, whose turn it is.
func (m *model) rooted(h int32) bool {
	return m.seat[h] != none && m.seat[h] == m.start[h] && m.canStay(h) && !m.evens(h) &&
		!m.faulty(h, m.seat[h]) && (!m.mayMove(h) || m.highest(h)-m.score(h, m.seat[h]) < max(1, m.v[h].stickiness()))
}

// swapFor exchanges h with whoever makes that better, at most once.
func (m *model) swapFor(h int32) bool {
	at, here := m.seat[h], valuation{}
	if at != none {
		here = m.valuation(h, at)
	}
	for _, e := range m.places(h) {
		if m.polishSteps--; m.polishSteps < 0 {
			return false
		}
		if e == at || len(m.seated[e]) == 0 {
			continue
		}
		// Where h alone has nothing of being on e, an exchange is better only if it evens the
		// weights, or if the other one has something of it, whose turn it is then.
		tempting := at == none || len(m.inSoft[h]) > 0 || m.valuation(h, e).compare(here) < 0
		if excess := m.excess(at, e); tempting || excess > 1 {
			if m.swapOn(h, e, tempting, excess) {
				clear(m.floors)
				return true
			}
		}
	}
	return false
}

// excess is how much more the node of one place carries than that of another, where several
// weights make that matter.
func (m *model) excess(at, e int32) int {
	if !m.mixed || at == none {
		return 0
	}
	return m.carries[m.nodeOf[at]] - m.carries[m.nodeOf[e]]
}

// swapOn exchanges h with somebody on e, if that is better.
func (m *model) swapOn(h, e int32, tempting bool, excess int) bool {
	for _, k := range slices.Clone(m.seated[e]) {
		m.polishSteps--
		if d := m.weight[h] - m.weight[k]; !m.loose[k] || !tempting && (d <= 0 || d >= excess) || m.seat[h] == none && !m.mayOust(h, k) {
			continue
		}
		if m.polishSteps -= pairCost; m.polishSteps < 0 {
			return false
		}
		if m.swap(h, k) {
			return true
		}
	}
	return false
}

// mayOust says that there may be something in k going without for h: it is less important, or
// as important, and then a fault, a move, a check without a result or a soft group decides.
func (m *model) mayOust(h, k int32) bool {
	if a, b := m.v[h].Priority, m.v[k].Priority; a != b {
		return a > b
	}
	return m.start[h] != none || len(m.inSoft[h])+len(m.inSoft[k]) > 0 || m.faulty(k, m.seat[k]) || m.unchecked(k, m.nodeOf[m.seat[k]])
}

// valuation is what a place means to one HAVIP, whoever else is where: the goals that an exchange
// of two can change, but for soft groups and the spread.
type valuation struct {
	fault, unpaid, suspect, score, was, moved int
}

func (m *model) valuation(h, e int32) valuation {
	as := e
	if m.onlyEven(h, e) {
		as = m.start[h]
	}
	return valuation{
		bit(m.faulty(h, e)), m.unpaid(h, e), bit(m.shaky(h, m.nodeOf[as])), -m.score(h, as), bit(!m.returns(h, e)), bit(m.moved(h, e)),
	}
}

func (a valuation) compare(b valuation) int {
	return cmp.Or(cmp.Compare(a.fault, b.fault), cmp.Compare(a.unpaid, b.unpaid), a.wish(b), cmp.Compare(a.moved, b.moved))
}

// wish compares what is of the HAVIP alone.
func (a valuation) wish(b valuation) int {
	return cmp.Or(cmp.Compare(a.suspect, b.suspect), cmp.Compare(a.score, b.score), cmp.Compare(a.was, b.was))
}

// swap exchanges the places of h and k, k being seated, if the whole is better then.
func (m *model) swap(h, k int32) bool {
	a, b := m.seat[h], m.seat[k]
	if k == h || !m.may(h, b) || a != none && !m.may(k, a) {
		return false
	}
	verdict := 0 // below 0 it is better, whatever follows
	if a == none {
		verdict = cmp.Compare(m.v[k].Priority, m.v[h].Priority)
	}
	var rest int // what decides after the soft groups
	if verdict == 0 {
		verdict, rest = m.weighSwap(h, k, a, b)
	}
	soft := len(m.inSoft[h])+len(m.inSoft[k]) > 0
	if verdict > 0 || verdict == 0 && !soft && rest >= 0 {
		return false
	}
	m.lift(h)
	pairs := -m.brokenAt(h, a)
	m.lift(k)
	pairs -= m.brokenAt(k, b)
	if m.fits(h, b) == "" {
		pairs += m.brokenAt(h, b)
		m.put(h, b)
		if a == none || m.fits(k, a) == "" {
			if pairs += m.brokenAt(k, a); cmp.Or(verdict, int(pairs), rest) < 0 {
				if a != none {
					m.put(k, a)
				}
				return true
			}
		}
		m.lift(h)
	}
	m.put(k, b)
	if a != none {
		m.put(h, a)
	}
	return false
}

func (m *model) brokenAt(h, e int32) int32 {
	if e == none || len(m.inSoft[h]) == 0 {
		return 0
	}
	return m.broken(h, m.nodeOf[e])
}

// weighSwap compares the faults, the moves and what is on unsteady nodes; rest is what decides if they
// and the soft groups tie: the wishes of the more important one, those of the other, the spread.
func (m *model) weighSwap(h, k, a, b int32) (first, rest int) {
	hThere, kHere := m.valuation(h, b), m.valuation(k, b)
	if a == none {
		return cmp.Or(hThere.fault-kHere.fault, hThere.unpaid+m.unpaid(k, a)-m.unpaid(h, a)-kHere.unpaid, hThere.suspect-kHere.suspect), 0
	}
	hHere, kThere := m.valuation(h, a), m.valuation(k, a)
	first = cmp.Or(hThere.fault+kThere.fault-hHere.fault-kHere.fault, hThere.unpaid+kThere.unpaid-hHere.unpaid-kHere.unpaid, hThere.suspect+kThere.suspect-hHere.suspect-kHere.suspect)
	mine, other := hThere.wish(hHere), kThere.wish(kHere)
	if k < h {
		mine, other = other, mine
	}
	return first, cmp.Or(mine, other, m.spreadOfSwap(h, k), hThere.moved+kThere.moved-hHere.moved-kHere.moved)
}

// spreadOfSwap is below 0 where an exchange evens what two nodes carry.
func (m *model) spreadOfSwap(h, k int32) int {
	na, nb, d := m.nodeOf[m.seat[h]], m.nodeOf[m.seat[k]], m.weight[h]-m.weight[k]
	if na == nb {
		return 0
	}
	if d < 0 {
		na, nb, d = nb, na, -d
	}
	return -cmp.Compare(d*(m.carries[na]-m.carries[nb]-d), 0) // d goes from na to nb
}
