package placement

// Augmenting paths. Without hard groups, and with one weight for all, the places are a
// flow network: HAVIP -> ENI (at most per_eni) -> node (at most per_node, and its
// capacity). A HAVIP that finds no room is added by the cheapest path, along which others
// step aside; when there is none, the path may end at one of lower priority that goes
// without. Added one after another this way, the arrangement has at each moment the most
// HAVIPs by priority and the least cost that there can be (successive shortest paths).
// With groups or several weights only those of the same weight and without hard groups
// step aside, which is right but not always the best; improve goes on from there.

// network is the scratch of one search. Vertices are ENIs, then nodes, then HAVIPs.
type network struct {
	dist  []int
	from  []int32
	seen  []int32 // vertices with a distance
	queue []int32
	in    []bool
}

const unreached = int(^uint(0) >> 1)

func (m *model) prepareNet() {
	size := len(m.enis) + len(m.nodes) + len(m.v)
	g := &m.net
	if len(g.dist) != size {
		*g = network{dist: make([]int, size), from: make([]int32, size), in: make([]bool, size)}
		for i := range g.dist {
			g.dist[i] = unreached
		}
	}
	for _, u := range g.seen {
		g.dist[u], g.in[u] = unreached, false
	}
	g.seen, g.queue = g.seen[:0], g.queue[:0]
}

func (g *network) relax(u int32, dist int, from int32) {
	if dist >= g.dist[u] {
		return
	}
	if g.dist[u] == unreached {
		g.seen = append(g.seen, u)
	}
	g.dist[u], g.from[u] = dist, from
	if !g.in[u] {
		g.in[u] = true
		g.queue = append(g.queue, u)
	}
}

// augment seats x by moving others, and reports whether it could.
func (m *model) augment(x int32) bool {
	if m.allDead(x) {
		return false
	}
	m.prepareNet()
	g, sink := &m.net, none
	enis, nodes := int32(len(m.enis)), int32(len(m.nodes))
	for _, e := range m.places(x) {
		if len(m.inHard[x]) == 0 || m.grouped(x, m.nodeOf[e]) == "" {
			g.relax(e, m.cost(x, e), none)
		}
	}
	least := m.cheapest(x)
	for head := 0; head < len(g.queue); head++ {
		u := g.queue[head]
		g.in[u] = false
		d := g.dist[u]
		switch {
		case u < enis:
			m.fromENI(x, u, d)
		case u < enis+nodes:
			if n := u - enis; m.hasRoom(x, n) {
				if sink == none || d < g.dist[sink] {
					sink = u
				}
			}
			for _, e := range m.enisOf[u-enis] {
				if m.onENI[e] > 0 {
					g.relax(e, d, u)
				}
			}
		default:
			h := u - enis - nodes
			for _, e := range m.places(h) {
				if e != m.seat[h] {
					g.relax(e, d+m.cost(h, e), u)
				}
			}
			m.flowSteps -= len(m.places(h))
		}
		if m.flowSteps--; m.flowSteps < 0 {
			m.cut = true
			return false
		}
		if sink != none && g.dist[sink] <= least {
			break // nothing is cheaper
		}
	}
	if sink == none {
		return m.evict(x)
	}
	if e := m.choose(x, g.dist[sink]); e != none {
		m.put(x, e) // nobody has to step aside for that
		return true
	}
	return m.shift(x, sink)
}

// fromENI goes on to the ENI's node, if the ENI has room, and to those that could leave it.
func (m *model) fromENI(x, e int32, d int) {
	enis, nodes := int32(len(m.enis)), int32(len(m.nodes))
	if l := m.p.Limits.PerENI; l <= 0 || m.onENI[e] < l {
		m.net.relax(enis+m.nodeOf[e], d, e)
	}
	for _, h := range m.seated[e] {
		if m.movable(x, h) {
			m.net.relax(enis+nodes+h, d-m.cost(h, e), e)
		}
	}
	m.flowSteps -= len(m.seated[e])
}

// movable says that h may step aside for x: what h leaves is what x needs.
func (m *model) movable(x, h int32) bool {
	return m.free[h] && len(m.inHard[h]) == 0 && (m.weight[h] == m.weight[x] || !m.bounded)
}

func (m *model) hasRoom(x, n int32) bool {
	if l := m.p.Limits.PerNode; l > 0 && m.on[n] >= l {
		return false
	}
	return m.weight[x] == 0 || m.carries[n] <= m.capacity[n]-m.weight[x]
}

// shift carries out the path that ends at vertex last.
func (m *model) shift(x, last int32) bool {
	type step struct{ h, to int32 }
	g := &m.net
	enis, nodes := int32(len(m.enis)), int32(len(m.nodes))
	var path []step
	for u, hops := last, 0; ; hops++ {
		before := g.from[u]
		if hops > len(g.dist) {
			m.cut = true // a circle: the costs were not least before, which no known input does
			return false
		}
		if u < enis && (before == none || before >= enis+nodes) {
			h := x
			if before != none {
				h = before - enis - nodes
			}
			path = append(path, step{h, u})
		}
		if before == none {
			break
		}
		u = before
	}
	for _, s := range path {
		m.lift(s.h)
	}
	for _, s := range path {
		m.put(s.h, s.to)
	}
	return true
}

// evict ends the path at the one whose absence costs least: of the lowest priority below
// that of x, or of the same if the whole has fewer moves then.
func (m *model) evict(x int32) bool {
	first := int32(len(m.enis) + len(m.nodes))
	victim, price := none, 0
	for _, u := range m.net.seen {
		if u < first {
			continue
		}
		h := u - first
		p := m.net.dist[u] + bit(m.owner[h] != none)
		if m.v[h].Priority > m.v[x].Priority || (m.v[h].Priority == m.v[x].Priority && p >= bit(m.owner[x] != none)) {
			continue
		}
		if victim != none {
			lower, higher := m.v[h].Priority < m.v[victim].Priority, m.v[h].Priority > m.v[victim].Priority
			if higher || (!lower && (p > price || (p == price && h < victim))) {
				continue
			}
		}
		victim, price = h, p
	}
	if victim == none {
		m.markSeen(x)
		return false
	}
	if !m.shift(x, m.net.from[first+victim]) {
		return false
	}
	// shift has moved all but the victim, which still sits where the next one came.
	m.lift(victim)
	return true
}

// markSeen marks what a search without result has seen: none who comes later, and is no more
// important, finds a way out of there. That holds only where nobody in it could make the
// whole cheaper by stepping aside or by giving way.
func (m *model) markSeen(x int32) {
	if !m.exact {
		return
	}
	first := int32(len(m.enis) + len(m.nodes))
	for _, u := range m.net.seen {
		if u < first {
			continue
		}
		h := u - first
		if c := m.cost(h, m.seat[h]); c > 0 && (c > m.cheapest(h) || m.v[h].Priority <= m.v[x].Priority) {
			return
		}
	}
	if len(m.dead) == 0 {
		m.dead = append(m.dead, make([]bool, len(m.enis))...)
	}
	for _, u := range m.net.seen {
		if int(u) < len(m.enis) {
			m.dead[u] = true
		}
	}
}

func (m *model) allDead(x int32) bool {
	if len(m.dead) == 0 {
		return false
	}
	for _, e := range m.places(x) {
		if !m.dead[e] {
			return false
		}
	}
	return true
}

// uniform says that augmenting paths find the best there is: no hard group, and one weight
// where a capacity bounds the sum.
func (m *model) uniform() bool {
	for i := range m.v {
		if len(m.inHard[i]) > 0 {
			return false
		}
	}
	return m.oneWeight() || !m.bounded
}

func (m *model) oneWeight() bool {
	seen := none
	for i := range m.v {
		if !m.free[i] {
			continue
		}
		if seen != none && m.weight[i] != m.weight[seen] {
			return false
		}
		seen = int32(i)
	}
	return true
}
