package pacemaker

import (
	"fmt"
	"slices"
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// bond says that two resources are on one node: neighbours in a group, or bound by a
// colocation with INFINITY.
type bond struct{ a, b string }

// need says that one resource runs only while another does.
type need struct{ on, why string }

// draft is a group of the result in the making.
type draft struct {
	e         *element
	id        string
	kind      fsm.GroupKind
	hard      bool
	resources []string
}

func (r *reader) draft(e *element, id string, kind fsm.GroupKind, hard bool, resources []string) {
	r.drafts = append(r.drafts, draft{e, id, kind, hard, resources})
}

// cluster is what Pacemaker places as one: addresses, and the services that are bound to
// them, whose scores and stickiness count as much.
type cluster struct {
	all       []*resource // in the order of the file
	addresses []*resource
	sum       *sums    // of all, once it was asked for
	parts     []string // what the stickiness is made of, once it was asked for
}

// clusters joins what is bound. The result says of each resource which cluster it is in.
func (r *reader) clusters(bonds []bond) map[string]*cluster {
	root := map[string]string{}
	for _, id := range r.order {
		root[id] = id
	}
	find := func(id string) string {
		for root[id] != id {
			root[id] = root[root[id]]
			id = root[id]
		}
		return id
	}
	for _, b := range bonds {
		if r.found[b.a] != nil && r.found[b.b] != nil {
			root[find(b.b)] = find(b.a)
		}
	}
	byRoot, out := map[string]*cluster{}, map[string]*cluster{}
	for _, id := range r.order {
		c := byRoot[find(id)]
		if c == nil {
			c = &cluster{}
			byRoot[find(id)] = c
		}
		c.all = append(c.all, r.found[id])
		if r.found[id].havip != nil {
			c.addresses = append(c.addresses, r.found[id])
		}
		out[id] = c
	}
	return out
}

// namesShown bounds the names in one finding.
const namesShown = 8

// shown lists names, at most namesShown of them.
func shown(names []string) string {
	if n := len(names) - namesShown; n > 0 {
		return strings.Join(names[:namesShown], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(names, ", ")
}

// names lists the HAVIPs of a cluster.
func (c *cluster) names() string {
	var out []string
	for _, a := range c.addresses {
		out = append(out, a.havip.Name)
	}
	return shown(out)
}

// down says why a resource does not run although nobody stopped it, "" if it runs: something
// that it needs, or what that needs in turn, is stopped.
func (r *reader) down(id string) string {
	if why, known := r.downs[id]; known {
		return why
	}
	r.downs[id] = "" // for a circle
	// The chain of a large group is deep, so what is needed is decided first, without recursion.
	stack, order := []string{id}, []string{}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		order = append(order, at)
		for _, n := range r.needs[at] {
			if _, known := r.downs[n.on]; !known && r.found[n.on] != nil {
				r.downs[n.on] = ""
				stack = append(stack, n.on)
			}
		}
	}
	for i := len(order) - 1; i >= 0; i-- {
		for _, n := range r.needs[order[i]] {
			on := r.found[n.on]
			switch {
			case r.downs[order[i]] != "" || on == nil:
			case on.stopped:
				r.downs[order[i]] = n.on + ", " + n.why + ", is stopped (target-role)"
			case r.downs[n.on] != "":
				r.downs[order[i]] = r.downs[n.on]
			}
		}
	}
	return r.downs[id]
}

// finishGroups makes groups of the drafts, and one for each cluster whose addresses no group
// holds together yet.
func (r *reader) finishGroups(clusters map[string]*cluster) {
	var joined []bond
	for _, d := range r.drafts {
		for n := 1; d.kind == fsm.Together && d.hard && n < len(d.resources); n++ {
			joined = append(joined, bond{d.resources[0], d.resources[n]})
		}
	}
	held := r.clusters(joined)
	for _, id := range r.order {
		c := clusters[id]
		if len(c.addresses) < 2 || c.addresses[0].id != id {
			continue
		}
		apart := slices.ContainsFunc(c.addresses, func(a *resource) bool { return held[a.id] != held[id] })
		if !apart {
			continue
		}
		var ids, services []string
		for _, m := range c.all {
			if m.havip == nil {
				services = append(services, m.id)
				continue
			}
			ids = append(ids, m.id)
		}
		r.add(manifest.Changed, &element{line: r.found[id].line}, "primitive "+id, "is on one node with %s through %s: a hard group", shown(ids[1:]), shown(services))
		r.draft(&element{name: "together", line: r.found[id].line}, "with-"+strings.Join(services[:min(1, len(services))], ""), fsm.Together, true, ids)
	}
	for _, d := range r.drafts {
		r.finishGroup(d, clusters)
	}
}

// finishGroup enters one group, unless it contradicts what is bound.
func (r *reader) finishGroup(d draft, clusters map[string]*cluster) {
	var havips []string
	seen := map[*cluster]string{}
	for _, id := range d.resources {
		if d.kind == fsm.Apart && d.hard {
			if first := seen[clusters[id]]; first != "" {
				r.lose(d.e, d.e.name+" "+d.id, "%s and %s must be apart here and are on one node by other constraints; Pacemaker runs only one of them. Not taken", first, id)
				return
			}
			seen[clusters[id]] = id
		}
		if name := r.found[id].havip.Name; !slices.Contains(havips, name) {
			havips = append(havips, name)
		}
	}
	if len(havips) < 2 {
		return
	}
	g := manifest.Group{Name: r.groups.Free(manifest.Label(d.id)), Kind: string(d.kind), Hard: d.hard, HAVIPs: havips}
	r.report.Manifest.Groups = append(r.report.Manifest.Groups, g)
	word := "soft"
	if d.hard {
		word = "hard"
	}
	r.add(manifest.Taken, d.e, d.e.name+" "+d.id, "%s group %s, %s: %s", word, g.Name, d.kind, shown(havips))
}
