package placement

import (
	"fmt"
	"slices"
)

// Why each HAVIP is where it is, said of the final arrangement: what a reason counts, the
// others have when everything is carried out.

// conclude finds the cause and the reason of each change.
func (m *model) conclude() {
	for i := range m.v {
		h := int32(i)
		m.reason[h] = ""
		m.because[h] = m.causeOf(h)
		switch m.because[h] {
		case Stays, Lost: // said on demand
		case Frozen:
			m.reason[h] = m.frozenOn(h, m.start[h])
		default:
			m.reason[h] = m.reasonOf(h)
		}
	}
}

func (m *model) causeOf(h int32) Cause {
	e, was, v := m.seat[h], m.start[h], m.v[h]
	switch {
	case m.frozenOn(h, was) != "":
		return Frozen
	case e == was && (e != none || v.Owner == ""):
		return Stays
	case e == none:
		return Lost
	case v.Owner == "":
		return Placed
	case !m.canStay(h):
		return Forced
	case m.wished[h]:
		return Wish
	case m.faulty(h, was) && !m.faulty(h, e):
		return Fault
	case m.worthWish(h, e):
		return Wish
	case m.worthEven(h, e):
		return Even
	}
	m.lift(h)
	defer m.put(h, e)
	if m.fits(h, was) != "" && !m.pushed(h, m.nodeOf[was]) {
		return Forced // a limit or a group that changed, rather than somebody who came
	}
	return Room
}

// pushed says that somebody came to node n who stands in the way of h there.
func (m *model) pushed(h, n int32) bool {
	came := func(o int32) bool {
		return m.seat[o] != none && m.nodeOf[m.seat[o]] == n && (m.start[o] == none || m.nodeOf[m.start[o]] != n)
	}
	if m.grouped(h, n) != "" {
		return slices.ContainsFunc(m.inHard[h], func(k int32) bool { return slices.ContainsFunc(m.groups[k].members, came) })
	}
	for _, e := range m.enisOf[n] {
		if slices.ContainsFunc(m.seated[e], came) {
			return true
		}
	}
	return false
}

func (m *model) reasonOf(h int32) string {
	e, was := m.seat[h], m.start[h]
	if m.because[h] == Wish && m.wished[h] {
		return m.whyCluster(h)
	}
	m.lift(h)
	defer m.put(h, e)
	switch m.because[h] {
	case Wish:
		return m.whyWish(h, e)
	case Even:
		return fmt.Sprintf("an even spread: node %s carries %d, node %s %d", m.nodes[m.nodeOf[was]].Name, m.carries[m.nodeOf[was]],
			m.nodes[m.nodeOf[e]].Name, m.carries[m.nodeOf[e]]+m.weight[h])
	}
	text := m.whyBest(h, e)
	if was == none || !m.canStay(h) {
		return text
	}
	full := m.full(h, was)
	switch {
	case m.because[h] == Room && full != nil:
		return "it makes room for another HAVIP; " + text
	case m.because[h] == Forced && full != nil:
		return fmt.Sprintf("it may not stay on %s: %s; %s", m.enis[was].ID, full.Text, text)
	}
	return text
}

// whyCluster is the reason of a move for the wishes of a group as a whole.
func (m *model) whyCluster(h int32) string {
	gain, to, apart := 0, m.nodeOf[m.seat[h]], false
	from := m.nodeOf[m.start[h]]
	for _, o := range m.clusters[h].members {
		if m.seat[o] == none || m.start[o] == none || m.nodeOf[m.start[o]] != from {
			apart = true // they did not come from there as one
			continue
		}
		gain += m.score(o, m.seat[o]) - m.score(o, m.start[o])
	}
	if apart || from == none || from == to || gain <= 0 {
		return "node " + m.nodes[to].Name + " has room for the group that it is placed together with"
	}
	return fmt.Sprintf("node %s is preferred by the group that it is placed together with (%d more than node %s)", m.nodes[to].Name, gain, m.nodes[from].Name)
}

// whyWish names the owner's place, or one with room and a score between the two.
func (m *model) whyWish(h, e int32) string {
	best, second := m.option(h, e), m.option(h, m.start[h])
	for _, place := range m.places(h) {
		if m.fits(h, place) != "" {
			continue
		}
		o := m.option(h, place)
		if o.score < best.score && o.score > second.score && !o.suspect && bit(o.fault) <= bit(best.fault) {
			second = o
		}
	}
	return fmt.Sprintf("%s is preferred (score %d, next is %s with %d)", m.enis[e].ID, best.score, m.enis[second.e].ID, second.score)
}

// lostBy is the first wish that tells a worse option from a better one.
type lostBy int

const (
	byFault lostBy = iota
	bySuspect
	byGroup
	byScore
	byLast
	byLoad
	byENI
	byID
	ahead // it is the better one
)

func (m *model) lost(best, o *option) lostBy {
	switch {
	case m.better(o, best) < 0:
		return ahead
	case o.fault != best.fault:
		return byFault
	case o.suspect != best.suspect:
		return bySuspect
	case o.broken != best.broken:
		return byGroup
	case o.score != best.score:
		return byScore
	case o.was != best.was:
		return byLast
	case o.carries != best.carries || o.onNode != best.onNode:
		return byLoad
	case o.onENI != best.onENI:
		return byENI
	}
	return byID
}

// whyBest names the first wish that tells e from any other place with room, and the best of
// those that lost by it. h is not seated.
func (m *model) whyBest(h, e int32) string {
	id, best := m.enis[e].ID, m.option(h, e)
	next := [ahead + 1]option{}
	count := [ahead + 1]int{}
	others := 0
	for _, other := range m.places(h) {
		if other == e || m.fits(h, other) != "" {
			continue
		}
		o := m.option(h, other)
		by := m.lost(&best, &o)
		if count[by]++; count[by] == 1 || m.better(&o, &next[by]) < 0 {
			next[by] = o
		}
		others++
	}
	switch {
	case others <= 0 && len(m.places(h)) > 1:
		return m.whyOnly(h, &best)
	case others <= 0:
		return id + " is the only one eligible"
	case count[ahead] > 0:
		return id + " has room for it"
	case count[byFault] == others:
		return id + " is the only one eligible without a fault"
	}
	return m.whyBetter(h, &best, &next, &count)
}

func (m *model) whyBetter(h int32, best *option, next *[ahead + 1]option, count *[ahead + 1]int) string {
	id, node := m.enis[best.e].ID, m.nodes[best.n].Name
	eni := func(o *option) string { return m.enis[o.e].ID }
	on := func(o *option) string { return m.nodes[o.n].Name }
	for by := bySuspect; by < byID; by++ {
		o := &next[by]
		if count[by] == 0 {
			continue
		}
		switch by {
		case bySuspect:
			return fmt.Sprintf("node %s is steadier than node %s, which is %s", node, on(o), m.unsteady(h, o.n))
		case byGroup:
			return fmt.Sprintf("%s goes against its groups less (%d, next is %s with %d)", id, best.broken, eni(o), o.broken)
		case byScore:
			return fmt.Sprintf("%s is preferred (score %d, next is %s with %d)", id, best.score, eni(o), o.score)
		case byLast:
			return id + " owned it last"
		case byLoad:
			if o.carries == best.carries || o.carries == o.onNode && best.carries == best.onNode {
				return fmt.Sprintf("node %s owns fewer HAVIPs (%d, next is %s with %d)", node, best.onNode, on(o), o.onNode)
			}
			return fmt.Sprintf("node %s carries less (weight %d, next is %s with %d)", node, best.carries, on(o), o.carries)
		case byENI:
			return fmt.Sprintf("%s owns fewer HAVIPs (%d, next is %s with %d)", id, best.onENI, eni(o), o.onENI)
		}
	}
	return fmt.Sprintf("%s comes first among %d that are equal", id, 1+count[byID])
}

// whyOnly tells whether the others of a HAVIP lack room or soundness.
func (m *model) whyOnly(h int32, best *option) string {
	id := m.enis[best.e].ID
	for _, e := range m.places(h) {
		if e != best.e && (!m.faulty(h, e) || best.fault) {
			return id + " is the only one eligible with room"
		}
	}
	return id + " is the only one eligible without a fault"
}
