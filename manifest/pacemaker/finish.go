package pacemaker

import (
	"fmt"
	"maps"
	"slices"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// sums is what Pacemaker adds up over a cluster.
type sums struct {
	scores map[string]int
	named  map[string]bool
	bans   map[string]string
	sticky int
}

func sumOf(list []*resource) sums {
	s := sums{scores: map[string]int{}, named: map[string]bool{}, bans: map[string]string{}}
	for _, p := range list {
		for node, n := range p.scores {
			s.scores[node] = plus(s.scores[node], n)
		}
		for node := range p.named {
			s.named[node] = s.named[node] || p.named[node]
		}
		for node, until := range p.bans {
			if before, there := s.bans[node]; !there || before != "" && (until == "" || until > before) {
				s.bans[node] = until
			}
		}
		s.sticky = plus(s.sticky, p.sticky)
	}
	return s
}

// finish turns scores into ranges, preferences and failback.
func (r *reader) finish() {
	r.report.Manifest.Nodes = append(r.report.Manifest.Nodes, r.nodes...)
	clusters := r.clusters(r.sticks)
	r.finishGroups(clusters)
	r.finishPings()
	r.finishMonitors(clusters)
	for _, id := range r.order {
		if p := r.found[id]; p.havip != nil {
			r.finishAddress(p, clusters[id])
			r.report.Manifest.HAVIPs = append(r.report.Manifest.HAVIPs, *p.havip)
		}
	}
}

// sumFor adds up what counts for an address: its cluster, or where that bars every node what
// it needs itself, as Pacemaker then leaves the rest down.
func (r *reader) sumFor(p *resource, c *cluster) sums {
	if c.sum == nil {
		all := sumOf(c.all)
		c.sum = &all
	}
	s := *c.sum
	if slices.ContainsFunc(r.nodes, func(n manifest.Node) bool { return s.scores[n.Name] > -Infinity }) || len(c.all) == 1 {
		return s
	}
	needed, seen := []*resource{p}, map[string]bool{p.id: true}
	for n := 0; n < len(needed); n++ {
		for _, d := range r.needs[needed[n].id] {
			if on := r.found[d.on]; on != nil && !seen[d.on] {
				seen[d.on] = true
				needed = append(needed, on)
			}
		}
	}
	return sumOf(needed)
}

func (r *reader) finishAddress(p *resource, c *cluster) {
	e, h, s := &element{line: p.line}, p.havip, r.sumFor(p, c)
	barred := map[string]bool{}
	for _, n := range r.nodes {
		t := s.scores[n.Name]
		switch {
		case t <= -Infinity:
			barred[n.Name] = true
		case t < 0 && t+max(0, s.sticky) < 0:
			barred[n.Name] = true
			r.add(manifest.Changed, e, "score of "+p.id, "the sum for %s is %d, and Pacemaker runs nothing below 0: forbid %s", n.Name, t, n.Name)
		case t < 0:
			r.add(manifest.Changed, e, "score of "+p.id, "the sum for %s is %d: a wish, as the stickiness of %d keeps what is there already", n.Name, t, s.sticky)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(s.bans)) {
		h.Bans = append(h.Bans, node)
		if until := s.bans[node]; until != "" {
			if h.BanEnds == nil {
				h.BanEnds = map[string]string{}
			}
			h.BanEnds[node] = until
		}
	}
	h.Forbid = append(h.Forbid, slices.Sorted(maps.Keys(barred))...)
	r.rangeOf(e, p.id, h, barred, s.named)
	for node, n := range s.scores {
		if n != 0 && !barred[node] {
			if h.Prefer == nil {
				h.Prefer = map[string]int{}
			}
			h.Prefer[node] = n
		}
	}
	r.stickiness(e, p, c, s)
	r.failback(e, p, s)
	if why := r.down(p.id); why != "" && h.Enabled {
		h.Enabled = false
		r.add(manifest.Changed, e, "enabled of "+p.id, "false: it is down there as well, as %s", why)
	}
	if r.opt.stopped {
		h.Enabled = false
	}
}

// stickiness adds up over what is on one node. A hard group of this cluster weighs the sum of
// its addresses' gains against its largest stickiness, so each address has the sum as often
// as there are addresses. One more than that: Pacemaker stays where the gain equals the stickiness, here that
// is worth a move. 0 stays 0, so that rebalance: even still moves it.
func (r *reader) stickiness(e *element, p *resource, c *cluster, s sums) {
	h, n := p.havip, len(c.addresses)
	sum := max(0, s.sticky)
	if sum > 0 {
		h.Stickiness = min(sum*n+1, fsm.ScoreLimit)
	}
	if c.parts == nil {
		for _, m := range c.all {
			if m.sticky != 0 {
				c.parts = append(c.parts, fmt.Sprintf("%s %d", m.id, m.sticky))
			}
		}
	}
	times := ""
	if n > 1 && sum > 0 {
		times = fmt.Sprintf("; %d here, once for each of its %d addresses, whose gains add up as well", h.Stickiness, n)
	}
	switch {
	case sum == 0:
		r.add(manifest.Changed, e, "stickiness of "+p.id, "0 let Pacemaker move it to even the count; here nothing moves for that unless rebalance: even")
	case len(c.all) > 1:
		r.add(manifest.Changed, e, "stickiness of "+p.id, "%d: it adds up over what is on one node with it (%s)%s", sum, shown(c.parts), times)
	default:
		r.add(manifest.Taken, e, "resource-stickiness of "+p.id, "%d; %d here, so that a tie stays where it is, as there", p.sticky, h.Stickiness)
	}
}

func (r *reader) failback(e *element, p *resource, s sums) {
	best, worst, sticky := -Infinity, Infinity, max(0, s.sticky)
	for _, m := range p.havip.Range.Members {
		best, worst = max(best, s.scores[m]), min(worst, s.scores[m])
	}
	if len(p.havip.Prefer) > 0 && best-worst > sticky && sticky < Infinity {
		p.havip.Failback = manifest.FailbackImmediate
		r.add(manifest.Taken, e, "failback of "+p.id, "immediate: preferences differ by %d, stickiness is %d", best-worst, sticky)
		return
	}
	r.add(manifest.Taken, e, "failback of "+p.id, "never: preferences differ by %d at most, stickiness is %d", max(0, best-worst), sticky)
}

// rangeOf lists the nodes that may own: all but the forbidden, or in an opt-in cluster
// those that a score of 0 or more names.
func (r *reader) rangeOf(e *element, id string, h *manifest.HAVIP, barred, named map[string]bool) {
	h.Range.Type = string(fsm.RangeCVM)
	for _, n := range r.nodes {
		if !barred[n.Name] && (!r.opt.optIn || named[n.Name]) {
			h.Range.Members = append(h.Range.Members, n.Name)
		}
	}
	switch n := len(h.Range.Members); {
	case n > fsm.MaxRangeMembers:
		r.add(manifest.Changed, e, "range of "+id, "%d nodes; a range holds %d, so the limit is off and every node of the subnet may own it", n, fsm.MaxRangeMembers)
		h.Range = manifest.Range{Members: []string{}}
	case n == 0:
		h.Range.Type = ""
		r.add(manifest.Wrong, e, "range of "+id, "no node may own it")
	}
}
