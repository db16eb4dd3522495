package placement

import (
	"math"
	"slices"
	"strings"

	"havip-cluster/havip"
)

// none is the index of nobody.
const none = int32(-1)

// model is a Problem with numbers in the place of names, in an order that does not depend
// on that of the lists, and the arrangement that is being made.
type model struct {
	p     *Problem
	nodes []*Node
	enis  []*ENI
	v     []*HAVIP // by priority, then name, then id
	node  map[string]int32
	eni   map[string]int32

	nodeOf   []int32            // by ENI; none for an unknown node
	enisOf   [][]int32          // by node
	suspect  []bool             // by node: yellow, flapping or unheard
	behind   bool               // some node does not apply the log
	capacity []int              // by node
	bounded  bool               // some node has a capacity
	bySubnet map[string][]int32 // ENIs that take a HAVIP without rules of its own, by id

	weight   []int
	start    []int32 // the owner when the problem was posed
	owner    []int32 // the owner of this round; none also for an owner that is not known
	freezes  []string
	free     []bool
	loose    []bool // free when the problem was posed
	failback []Failback
	eligible [][]int32 // filled when asked for
	asked    []bool
	groups   []group
	inHard   [][]int32 // hard groups, by HAVIP
	inSoft   [][]int32

	// The arrangement.
	seat      []int32
	because   []Cause
	reason    []string
	on        []int     // HAVIPs, by node
	carries   []int     // weight, by node
	onENI     []int     // HAVIPs, by ENI
	seated    [][]int32 // HAVIPs, by ENI
	scores    [2][]int  // what the HAVIP scored prefers, by node and by ENI
	scored    int32
	net       network
	steps     int    // of the bounded search, left
	flowSteps int    // of the augmenting paths, left
	dead      []bool // ENIs from which no augmenting path leads anywhere, in this round
	clusters  []*cluster
	exact     bool   // augmenting paths find the best: see uniform
	cut       bool   // a limit ended a search: the arrangement may not be the best
	watched   []bool // those that are explained
	wished    []bool // moved for the wishes of a cluster

	// Of the polish.
	polishSteps int              // left
	mixed       bool             // several weights
	topScore    int              // the highest of a node
	hosts       []bool           // by node: something may be there
	stay        []int8           // by HAVIP: 0 not asked yet, 1 it may not stay with its owner, 2 it may
	floors      map[string]floor // by subnet, until something moves
}

type group struct {
	*Group
	members []int32
	on      []int32 // members, by node
	total   int32
}

func newModel(p *Problem) *model {
	m := &model{p: p, bySubnet: map[string][]int32{}, floors: map[string]floor{}}
	m.addSites()
	m.addHAVIPs()
	m.addGroups()
	return m
}

func pointers[T any](list []T, order func(a, b *T) int) []*T {
	out := make([]*T, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	slices.SortFunc(out, order)
	return out
}

func (m *model) addSites() {
	p := m.p
	m.nodes = pointers(p.Nodes, func(a, b *Node) int { return strings.Compare(a.Name, b.Name) })
	m.enis = pointers(p.ENIs, func(a, b *ENI) int { return strings.Compare(a.ID, b.ID) })
	m.node, m.eni = make(map[string]int32, len(m.nodes)), make(map[string]int32, len(m.enis))
	m.suspect, m.capacity = make([]bool, len(m.nodes)), make([]int, len(m.nodes))
	m.enisOf, m.on, m.carries = make([][]int32, len(m.nodes)), make([]int, len(m.nodes)), make([]int, len(m.nodes))
	for i, n := range m.nodes {
		if _, twice := m.node[n.Name]; !twice {
			m.node[n.Name] = int32(i)
		}
		m.suspect[i] = n.Flapping || n.Unheard || n.Health == HealthYellow
		m.behind = m.behind || n.Behind != 0
		m.bounded = m.bounded || n.Capacity != nil
		m.capacity[i] = math.MaxInt
		if n.Capacity != nil {
			m.capacity[i] = max(0, *n.Capacity)
		}
	}
	m.nodeOf = make([]int32, len(m.enis))
	m.onENI, m.seated = make([]int, len(m.enis)), make([][]int32, len(m.enis))
	for i, e := range m.enis {
		m.nodeOf[i] = none
		if _, twice := m.eni[e.ID]; !twice {
			m.eni[e.ID] = int32(i)
		}
		at, known := m.node[e.Node]
		if !known {
			continue
		}
		m.nodeOf[i] = at
		n := m.nodes[at]
		m.enisOf[at] = append(m.enisOf[at], int32(i))
		for k, s := range e.Subnets {
			if !slices.Contains(e.Subnets[:k], s) && e.takes(p.Now, s, n) {
				m.bySubnet[s] = append(m.bySubnet[s], int32(i))
			}
		}
	}
	m.hosts = make([]bool, len(m.nodes))
	for _, list := range m.bySubnet {
		for _, e := range list {
			if n := m.nodeOf[e]; !m.hosts[n] {
				m.hosts[n] = true
			}
		}
	}
	for i, n := range m.nodes {
		if i == 0 || n.Score > m.topScore {
			m.topScore = n.Score
		}
	}
	m.scores = [2][]int{make([]int, len(m.nodes)), make([]int, len(m.enis))}
	m.scored = none
}

func (m *model) addHAVIPs() {
	p := m.p
	m.v = pointers(p.HAVIPs, byPriority)
	h := len(m.v)
	m.weight, m.failback = make([]int, h), make([]Failback, h)
	m.start, m.owner, m.seat = make([]int32, h), make([]int32, h), make([]int32, h)
	m.freezes, m.free, m.because, m.reason = make([]string, h), make([]bool, h), make([]Cause, h), make([]string, h)
	m.wished, m.stay = make([]bool, h), make([]int8, h)
	m.eligible, m.asked = make([][]int32, h), make([]bool, h)
	m.inHard, m.inSoft = make([][]int32, h), make([][]int32, h)
	for i, v := range m.v {
		m.weight[i], m.failback[i] = v.weight(), havip.FailbackOf(v.Failback)
		m.start[i] = none
		if v.Owner != "" {
			if e, known := m.eni[v.Owner]; known {
				m.start[i] = e
			}
		}
		m.owner[i] = m.start[i]
	}
}

func (m *model) addGroups() {
	if len(m.p.Groups) == 0 {
		return
	}
	id := make(map[string]int32, len(m.v))
	for i, v := range m.v {
		if _, twice := id[v.ID]; !twice {
			id[v.ID] = int32(i)
		}
	}
	member := make([]bool, len(m.v))
	for _, g := range pointers(m.p.Groups, func(a, b *Group) int { return strings.Compare(a.Name, b.Name) }) {
		var members []int32
		for _, name := range g.HAVIPs {
			if h, known := id[name]; known && !member[h] {
				member[h] = true
				members = append(members, h)
			}
		}
		for _, h := range members {
			member[h] = false
		}
		if len(members) < 2 || (g.Kind != Together && g.Kind != Apart) {
			continue
		}
		slices.Sort(members)
		k := int32(len(m.groups))
		m.groups = append(m.groups, group{Group: g, members: members, on: make([]int32, len(m.nodes))})
		for _, h := range members {
			if g.Hard {
				m.inHard[h] = append(m.inHard[h], k)
			} else {
				m.inSoft[h] = append(m.inSoft[h], k)
			}
		}
	}
}

// put seats a HAVIP, lift takes it away.
func (m *model) put(h, e int32) {
	m.seat[h] = e
	m.onENI[e]++
	m.seated[e] = append(m.seated[e], h)
	m.book(h, e, 1)
}

func (m *model) lift(h int32) int32 {
	e := m.seat[h]
	if e == none {
		return e
	}
	m.seat[h] = none
	m.onENI[e]--
	i := slices.Index(m.seated[e], h)
	m.seated[e] = slices.Delete(m.seated[e], i, i+1)
	m.book(h, e, -1)
	return e
}

func (m *model) book(h, e int32, by int) {
	n := m.nodeOf[e]
	if n == none {
		return // frozen on an ENI whose node nobody knows
	}
	m.on[n] += by
	m.carries[n] += by * m.weight[h]
	for _, list := range [][]int32{m.inHard[h], m.inSoft[h]} {
		for _, g := range list {
			m.groups[g].on[n] += int32(by)
			m.groups[g].total += int32(by)
		}
	}
}

// The rules that concern several HAVIPs. fits returns "" or the name of the first one that
// keeps h off e as things are arranged; h itself is not seated.
func (m *model) fits(h, e int32) string {
	n := m.nodeOf[e]
	if l := m.p.Limits.PerENI; l > 0 && m.onENI[e] >= l {
		return ruleENIFull
	}
	if l := m.p.Limits.PerNode; l > 0 && m.on[n] >= l {
		return ruleNodeFull
	}
	if m.weight[h] > 0 && m.carries[n] > m.capacity[n]-m.weight[h] {
		return ruleCapacity
	}
	if len(m.inHard[h]) == 0 {
		return ""
	}
	return m.grouped(h, n)
}

func (m *model) grouped(h, n int32) string {
	for _, k := range m.inHard[h] {
		g := &m.groups[k]
		if g.Kind == Apart && g.on[n] > 0 {
			return ruleApart
		}
		if g.Kind == Together && g.on[n] < g.total {
			return ruleTogether
		}
	}
	return ""
}

// Names of the rules of fits, as `explain` shows them.
const (
	ruleENIFull  = "eni-full"
	ruleNodeFull = "node-full"
	ruleCapacity = "capacity"
	ruleApart    = "apart"
	ruleTogether = "together"
)

// broken counts the members of soft groups that a place on node n would go against.
func (m *model) broken(h, n int32) int32 {
	var count int32
	for _, k := range m.inSoft[h] {
		if g := &m.groups[k]; g.Kind == Apart {
			count += g.on[n]
		} else {
			count += g.total - g.on[n]
		}
	}
	return count
}

// may says whether h may own e as far as it alone is concerned.
func (m *model) may(h, e int32) bool {
	rule, _ := firstRule(m.p.Now, m.v[h], m.enis[e], m.site(e))
	return rule == ""
}

// site is the node of an ENI, nil if nobody knows it.
func (m *model) site(e int32) *Node {
	if n := m.nodeOf[e]; n != none {
		return m.nodes[n]
	}
	return nil
}

// places lists the ENIs that h may own as far as it alone is concerned, by id. Those that
// nothing tells apart share one list; nobody may write to it.
func (m *model) places(h int32) []int32 {
	if m.asked[h] {
		return m.eligible[h]
	}
	m.asked[h] = true
	v := m.v[h]
	all := m.bySubnet[v.Subnet]
	switch { // all leads to the same answer, and some is much to look at
	case v.nowhere() != "", len(v.Waits) > 0 && m.start[h] == none:
		return nil
	case v.plain() && !m.behind:
		m.eligible[h] = all
		return all
	case len(v.Waits) > 0:
		all = m.start[h : h+1]
	case v.Range.Limit && v.Range.Type == RangeCVM:
		all = m.ofMembers(v.Range.Members)
	}
	var out []int32
	for _, e := range all {
		if m.may(h, e) {
			out = append(out, e)
		}
	}
	m.eligible[h] = out
	return out
}

// ofMembers lists the ENIs of some nodes, by id.
func (m *model) ofMembers(members []string) []int32 {
	var out []int32
	for _, name := range members {
		if n, known := m.node[name]; known {
			out = append(out, m.enisOf[n]...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
