package placement

import "slices"

// Candidates counts, for each HAVIP by id, the nodes that may own it by the hard rules about one
// HAVIP and one ENI, its owner among them. Two ENIs of a node are one candidate.
func (p *Problem) Candidates() map[string]int {
	nodes := make(map[string]*Node, len(p.Nodes))
	for i := range p.Nodes {
		nodes[p.Nodes[i].Name] = &p.Nodes[i]
	}
	enis := make([]*ENI, 0, len(p.ENIs))
	for i := range p.ENIs {
		enis = append(enis, &p.ENIs[i])
	}
	slices.SortStableFunc(enis, func(a, b *ENI) int { // those of a node together
		switch {
		case a.Node < b.Node:
			return -1
		case a.Node > b.Node:
			return 1
		}
		return 0
	})
	out := make(map[string]int, len(p.HAVIPs))
	for i := range p.HAVIPs {
		v, last := &p.HAVIPs[i], ""
		for _, e := range enis {
			if e.Node == last {
				continue
			}
			if rule, _ := firstRule(p.Now, v, e, nodes[e.Node]); rule == "" {
				out[v.ID]++
				last = e.Node
			}
		}
	}
	return out
}
