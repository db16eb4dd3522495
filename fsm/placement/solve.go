package placement

import (
	"slices"
)

// Cause is why a HAVIP changes its place, or keeps it.
type Cause string

// The causes. All but stays and frozen change something.
const (
	Stays  Cause = "stays"  // also without an owner, when nobody may own it
	Frozen Cause = "frozen" // maintenance, not managed, or too many unreleased claims
	Placed Cause = "placed" // nobody owned it
	Forced Cause = "forced" // a rule forbids the present owner
	Fault  Cause = "fault"  // the owner's node does not trust the ENI, or a check fails there
	Room   Cause = "room"   // it makes room for another one
	Wish   Cause = "wish"   // a better place, by its failback policy
	Even   Cause = "even"   // the spread, with rebalance even
	Lost   Cause = "lost"   // nobody is left who may own it
)

// Limits of one call. What they cut off is not improved; hard rules hold all the same.
const (
	// maxRounds bounds how often an answer is given to the solver again. Each round that
	// changes something makes the arrangement better, so it ends long before.
	maxRounds = 16
	// maxRests bounds how often an answer is posed again as if it had been carried out. Once is
	// mostly enough: of 600,000 random problems 32 took two, and none took three.
	maxRests = 4
	// maxFlowSteps bounds the edges that augmenting paths look at.
	maxFlowSteps = 5_000_000
	// maxSearchSteps bounds the exhaustive search over groups and weights.
	maxSearchSteps = 100_000
	// searchSize is how many HAVIPs one exhaustive search arranges at most.
	searchSize = 12
	// maxEvenings bounds the moves for an even spread in one round.
	maxEvenings = maxHAVIPs
)

// solve arranges, looks whether the answer would stay once it is carried out, and says why.
func (m *model) solve() {
	m.arrange()
	m.rest()
	m.conclude()
}

// arrange makes rounds until the arrangement is one that the solver would leave alone.
func (m *model) arrange() {
	m.polishSteps = maxPolishSteps
	for round := range maxRounds {
		m.steps, m.flowSteps, m.cut = maxSearchSteps, maxFlowSteps, false
		m.round()
		if slices.Equal(m.seat, m.owner) || round == maxRounds-1 {
			break
		}
		copy(m.owner, m.seat)
	}
}

// rest poses the problem again with the answer carried out, until what comes out is what went
// in: so asking again changes nothing. The costs of moves are then those from the new owners,
// which opens a way now and then that the old ones closed. It costs what asking again costs; an
// answer that changes nothing is not asked about.
func (m *model) rest() {
	for range maxRests {
		if slices.Equal(m.seat, m.start) {
			return
		}
		q := *m.p
		q.HAVIPs = make([]HAVIP, len(m.v))
		for h, v := range m.v {
			q.HAVIPs[h] = *v
			if m.frozenOn(int32(h), m.start[h]) == "" {
				q.HAVIPs[h].carryOut(m.idOf(m.seat[h]))
			}
		}
		again := newModel(&q)
		again.arrange()
		if slices.Equal(again.seat, m.seat) {
			return
		}
		for h := range m.v {
			m.lift(int32(h))
		}
		for h, e := range again.seat {
			if e != none {
				m.put(int32(h), e)
			}
		}
	}
}

// idOf is the id of an ENI, "" for none.
func (m *model) idOf(e int32) string {
	if e == none {
		return ""
	}
	return m.enis[e].ID
}

// round arranges everything once, starting from the present owners.
func (m *model) round() {
	m.clear()
	if m.loose == nil {
		m.loose = slices.Clone(m.free)
	}
	pending := m.keepOwners()
	for _, h := range pending {
		m.insert(h)
	}
	m.improve()
	m.settleWishes()
	m.polish()
}

func (m *model) clear() {
	clear(m.on)
	clear(m.carries)
	clear(m.onENI)
	for e := range m.seated {
		m.seated[e] = m.seated[e][:0]
	}
	for k := range m.groups {
		clear(m.groups[k].on)
		m.groups[k].total = 0
	}
	for h := range m.v {
		m.seat[h], m.because[h] = none, ""
		m.freezes[h] = m.frozenNow(int32(h))
		m.free[h] = m.freezes[h] == ""
	}
	for _, c := range m.clusters {
		if c != nil {
			c.tried = false
		}
	}
	m.dead = m.dead[:0]
	m.exact = m.uniform()
}

func (m *model) frozenNow(h int32) string { return m.frozenOn(h, m.owner[h]) }

// frozenOn says why h stays if e owns it, none for nobody.
func (m *model) frozenOn(h, e int32) string {
	if e == none {
		return m.p.frozen(m.v[h], nil)
	}
	return m.p.frozen(m.v[h], m.site(e))
}

// keepOwners seats what is frozen and every owner that may stay, and returns the others in
// the order in which they are served.
func (m *model) keepOwners() []int32 {
	for h := range m.v {
		if !m.free[h] {
			if e := m.owner[h]; e != none {
				m.put(int32(h), e)
			}
		}
	}
	var pending []int32
	for i := range m.v {
		h := int32(i)
		if !m.free[h] || m.seat[h] != none {
			continue
		}
		if c := m.clusterOf(h); c != nil && !c.tried && m.ownedIn(c) {
			c.tried = true
			m.seatCluster(c)
		}
		if m.seat[h] == none && m.keeps(h) && m.fits(h, m.owner[h]) == "" {
			m.put(h, m.owner[h])
		}
		if m.seat[h] == none {
			pending = append(pending, h)
		}
	}
	// Among equals those with an owner come first: to leave them out would be a move.
	slices.SortStableFunc(pending, func(a, b int32) int {
		if d := m.v[b].Priority - m.v[a].Priority; d != 0 {
			return sign(d)
		}
		return bit(m.owner[b] != none) - bit(m.owner[a] != none)
	})
	return slices.DeleteFunc(pending, func(h int32) bool { return m.seat[h] != none })
}

func sign(d int) int {
	if d < 0 {
		return -1
	}
	return 1
}

// keeps says that the present owner may stay and that no fault is a reason to leave it.
func (m *model) keeps(h int32) bool {
	e := m.owner[h]
	if e == none || !m.may(h, e) {
		return false
	}
	return !m.faulty(h, e) || m.cheapest(h) == faultCost
}

// insert finds a place for one more HAVIP. Where no place of the least cost has room, it
// looks for an arrangement of the others that makes it, and then takes what there is.
func (m *model) insert(h int32) {
	if m.seat[h] != none || len(m.places(h)) == 0 {
		return
	}
	if c := m.clusterOf(h); c != nil && m.seatedIn(c) == 0 {
		m.seatCluster(c)
		if m.seat[h] != none {
			return
		}
	}
	if e := m.choose(h, m.cheapest(h)); e != none {
		m.put(h, e)
		return
	}
	if m.augment(h) {
		return
	}
	if e := m.choose(h, -1); e != none {
		m.put(h, e)
	}
}

// cluster is HAVIPs that hard groups hold on one node.
type cluster struct {
	members []int32 // by priority
	tried   bool    // in this round
}

// clusterOf returns the cluster of a HAVIP, or nil if it is free of any.
func (m *model) clusterOf(h int32) *cluster {
	if len(m.inHard[h]) == 0 {
		return nil
	}
	m.findClusters()
	return m.clusters[h]
}

func (m *model) findClusters() {
	if m.clusters != nil {
		return
	}
	m.clusters = make([]*cluster, len(m.v))
	for k := range m.groups {
		g := &m.groups[k]
		if !g.Hard || g.Kind != Together {
			continue
		}
		c := &cluster{}
		for _, h := range g.members {
			if old := m.clusters[h]; old != nil && old != c {
				for _, o := range old.members {
					m.clusters[o] = c
				}
				c.members = append(c.members, old.members...)
			} else if old == nil {
				m.clusters[h] = c
				c.members = append(c.members, h)
			}
		}
		slices.Sort(c.members) // HAVIPs are numbered by priority
	}
}

func (m *model) ownedIn(c *cluster) bool {
	return slices.ContainsFunc(c.members, func(h int32) bool { return m.owner[h] != none })
}

func (m *model) seatedIn(c *cluster) (count int) {
	for _, h := range c.members {
		if m.seat[h] != none {
			count++
		}
	}
	return count
}

// seatCluster tries every node and seats the cluster on the best one: most members by
// priority, fewest faults, fewest moves, then the wishes.
func (m *model) seatCluster(c *cluster) {
	best, bestKey := none, clusterKey(nil)
	for n := range m.nodes {
		key := m.tryCluster(c, int32(n))
		for _, h := range c.members {
			if m.free[h] {
				m.lift(h)
			}
		}
		if key != nil && (bestKey == nil || slices.Compare(key, bestKey) > 0) {
			best, bestKey = int32(n), key
		}
	}
	if best != none {
		m.tryCluster(c, best)
	}
}

// clusterKey is greater for a better node; nil when no member fits.
type clusterKey []int

func (m *model) tryCluster(c *cluster, n int32) clusterKey {
	var placed []int
	faults, moves, suspect, broken, score := 0, 0, 0, 0, 0
	for i, h := range c.members {
		if i == 0 || m.v[h].Priority != m.v[c.members[i-1]].Priority {
			placed = append(placed, 0)
		}
		if !m.free[h] {
			continue
		}
		m.lift(h)
		e := m.onNode(h, n)
		if e == none {
			if m.owner[h] != none {
				moves++
			}
			continue
		}
		o := m.option(h, e)
		m.put(h, e)
		placed[len(placed)-1]++
		faults += bit(o.fault)
		moves += m.cost(h, e) % faultCost
		suspect += bit(o.suspect)
		broken += int(o.broken)
		score += o.score
	}
	if m.seatedIn(c) == 0 {
		return nil
	}
	load := m.carries[n]
	return append(clusterKey(placed), -faults, -moves, -suspect, -broken, score, -load)
}

// onNode is the best place of h on one node, or none.
func (m *model) onNode(h, n int32) int32 {
	var best option
	found := false
	for _, e := range m.enisOf[n] {
		if !m.may(h, e) || m.fits(h, e) != "" {
			continue
		}
		o := m.option(h, e)
		if found {
			if c := m.cost(h, e) - m.cost(h, best.e); c > 0 || (c == 0 && m.better(&o, &best) >= 0) {
				continue
			}
		}
		best, found = o, true
	}
	if !found {
		return none
	}
	return best.e
}
