package pacemaker

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// resolve lists the resources that a name stands for: a primitive, the members of a group,
// what is made of a template, or what a tag names. ok is false for what does not exist.
func (r *reader) resolve(name string) (ids []string, ok bool) {
	if r.found[name] != nil {
		return []string{name}, true
	}
	list, known := r.members[name]
	if !known {
		return nil, r.byID[name] != nil
	}
	for _, id := range list {
		if r.found[id] != nil {
			ids = append(ids, id)
			continue
		}
		for _, inner := range r.members[id] { // a tag may name a group
			if r.found[inner] != nil {
				ids = append(ids, inner)
			}
		}
	}
	return ids, true
}

// addressesOf lists the addresses among resources.
func (r *reader) addressesOf(ids []string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return r.found[id].havip == nil })
}

// constraints reads the section: first what binds resources to one another, then where they
// may run, which counts for all that are bound.
func (r *reader) constraints(section *element) {
	if section == nil {
		return
	}
	for _, c := range section.kids {
		switch c.name {
		case "rsc_location":
		case "rsc_colocation":
			r.colocation(c)
		case "rsc_order":
			r.add(manifest.LeftOut, c, "rsc_order "+c.attr("id"), "addresses have no order of start; a service that needs its address waits for the hook on-acquire")
		case "rsc_ticket":
			r.add(manifest.LeftOut, c, "rsc_ticket "+c.attr("id"), "there are no tickets between sites")
		default:
			r.add(manifest.LeftOut, c, c.name+" "+c.attr("id"), "not known among constraints")
		}
	}
	clusters := r.clusters(r.sticks)
	for _, h := range r.held {
		if c := clusters[h.id]; len(c.addresses) > 0 {
			r.follows(h.e, c.names()+" (on one node with "+h.id+")", h.what, h.score)
			continue
		}
		r.add(manifest.LeftOut, h.e, "rsc_colocation "+h.e.attr("id"), "%s and %s: nothing of it is an address", h.id, h.what)
	}
	for _, c := range section.all("rsc_location") {
		r.location(c, clusters)
	}
}

// concerned lists the resources of a location constraint. The score of a group whose members
// are on one node counts once, so its first one stands for it.
func (r *reader) concerned(c *element) []string {
	if pattern := c.attr("rsc-pattern"); pattern != "" {
		text, negative := strings.CutPrefix(pattern, "!")
		re, err := regexp.CompilePOSIX(text)
		if err != nil {
			r.add(manifest.Wrong, c, "rsc_location "+c.attr("id"), "rsc-pattern %q is no expression (%v); Pacemaker ignores the constraint", pattern, err)
			return nil
		}
		return slices.DeleteFunc(slices.Clone(r.order), func(id string) bool { return re.MatchString(id) == negative })
	}
	names := []string{c.attr("rsc")}
	for _, set := range c.all("resource_set") {
		for _, ref := range set.all("resource_ref") {
			names = append(names, ref.attr("id"))
		}
	}
	var ids []string
	for _, name := range names {
		found, known := r.resolve(name)
		if name != "" && !known {
			r.add(manifest.Wrong, c, "rsc_location "+c.attr("id"), "names the resource %q, which does not exist", name)
		}
		if r.tied[name] && len(found) > 1 {
			found = found[:1]
		}
		ids = append(ids, found...)
	}
	return ids
}

func (r *reader) location(c *element, clusters map[string]*cluster) {
	id := "rsc_location " + c.attr("id")
	ids := slices.DeleteFunc(r.concerned(c), func(id string) bool { return len(clusters[id].addresses) == 0 })
	if len(ids) == 0 {
		r.add(manifest.LeftOut, c, id, "concerns no address")
		return
	}
	if role := c.attr("role"); role != "" && !strings.EqualFold(role, "Started") {
		r.add(manifest.LeftOut, c, id, "is about the role %s; an address has none", role)
		return
	}
	if d := c.attr("resource-discovery"); d != "" && d != "always" {
		r.add(manifest.LeftOut, c, id, "resource-discovery=%s: each agent looks at its own addresses always", d)
	}
	var life facts
	if e := c.child("lifetime"); e != nil {
		for _, rule := range e.all("rule") {
			if r.rule(rule, "", &life) != yes {
				r.add(manifest.LeftOut, c, id, "%s", life.reason())
				return
			}
		}
	}
	if node := c.attr("node"); node != "" {
		r.score(c, id, ids, clusters, map[string]string{manifest.NodeName(node): c.attr("score")}, life)
		return
	}
	for _, rule := range c.all("rule") {
		r.locationRule(rule, id, ids, clusters, life)
	}
}

// locationRule decides a rule for each node.
func (r *reader) locationRule(rule *element, id string, ids []string, clusters map[string]*cluster, f facts) {
	if ref := rule.attr("id-ref"); ref != "" && r.byID[ref] != nil {
		rule = r.byID[ref]
	}
	if role := rule.attr("role"); role != "" && !strings.EqualFold(role, "Started") {
		r.add(manifest.LeftOut, rule, id, "is about the role %s; an address has none", role)
		return
	}
	scores := map[string]string{}
	from := rule.attr("score-attribute")
	for _, n := range r.nodes {
		switch r.rule(rule, n.Name, &f) {
		case unknown:
			r.add(manifest.LeftOut, rule, id, "%s", f.reason())
			return
		case yes:
			scores[n.Name] = rule.attr("score")
			if from != "" {
				scores[n.Name] = r.attributes[n.Name][from]
			}
		}
	}
	if f.ping != "" {
		r.add(manifest.Changed, rule, id, "%s: taken as if the target answered; a link that is down counts always, and check_gateway: true in the agent's settings adds the gateway", f.ping)
	}
	watched := slices.Compact(slices.Sorted(slices.Values(f.pinged)))
	if from != "" && r.pings[from] != nil && !slices.Contains(watched, from) {
		watched = append(watched, from)
	}
	switch len(watched) {
	case 0:
	case 1:
		r.watch(rule, id, ids, clusters, watched[0])
	default:
		r.add(manifest.LeftOut, rule, id, "depends on %s together; a check has one target", strings.Join(watched, " and "))
	}
	switch {
	case from != "" && r.pings[from] != nil: // the same score for every node that reaches all
	case len(watched) > 0 && len(scores) == 0:
	case from != "" && !r.permanent(from):
		r.add(manifest.LeftOut, rule, id, "takes its score from the attribute %s of the node, which the CIB does not hold", from)
	case len(scores) > 0:
		r.score(rule, id, ids, clusters, scores, f)
	case f.ping == "":
		r.add(manifest.LeftOut, rule, id, "%s", f.reason())
	}
}

// score books scores of resources, by node.
func (r *reader) score(e *element, id string, ids []string, clusters map[string]*cluster, scores map[string]string, f facts) {
	for _, node := range slices.Sorted(maps.Keys(scores)) {
		n, ok := score(scores[node])
		if !ok {
			r.add(manifest.Wrong, e, id, "%q is not a score; Pacemaker takes it for %d", scores[node], n)
		}
		if !slices.ContainsFunc(r.nodes, func(m manifest.Node) bool { return m.Name == node }) {
			r.add(manifest.Wrong, e, id, "names the node %s, which is no member here; not taken", node)
			continue
		}
		for _, resource := range ids {
			r.scoreOne(e, id, r.found[resource], clusters[resource], node, n, f)
		}
	}
}

// scoreOne books one score, and says what it means for the addresses that are on one node
// with the resource.
func (r *reader) scoreOne(e *element, id string, p *resource, c *cluster, node string, n int, f facts) {
	leftover := strings.HasPrefix(id, "rsc_location cli-")
	who, kind := c.names(), manifest.Taken
	if p.havip == nil {
		who, kind = fmt.Sprintf("%s (on one node with %s)", who, p.id), manifest.Changed
	} else {
		who = p.havip.Name
	}
	until := ""
	if !f.until.IsZero() {
		until = f.until.Format(time.RFC3339)
	}
	switch {
	case n <= -Infinity && until != "":
		p.bans[node] = until
		r.add(manifest.Wrong, e, id, "%s bans %s until %s, by a move or ban with --lifetime; here that is `havip ban --for`", who, node, until)
		return
	case n <= -Infinity && leftover:
		p.bans[node] = ""
		r.add(manifest.Wrong, e, id, "was left behind by a move or ban: %s bans %s until `havip unban`", who, node)
		return
	case n <= -Infinity:
		r.add(kind, e, id, "%s: forbid %s", who, node)
	case leftover:
		n = Infinity
		r.add(manifest.Wrong, e, id, "was left behind by a move: %s prefers %s for ever. A move leaves nothing behind here; delete the preference if it is not meant", who, node)
	default:
		r.add(kind, e, id, "%s: prefer %s %d", who, node, n)
	}
	if until != "" {
		r.add(manifest.Wrong, e, id, "holds until %s only, and is taken for ever; delete the preference then", until)
	}
	p.scores[node] = plus(p.scores[node], n)
	p.named[node] = p.named[node] || n >= 0
}

// pulls is a colocation: the sides, in their order, and the score.
type pulls struct {
	sides [][]string // resources
	names []string
	score int
}

// colocation binds what must be on one node, and makes a group of addresses that only shall,
// or that shall or must not.
func (r *reader) colocation(c *element) {
	id := "rsc_colocation " + c.attr("id")
	p, ok := r.pulls(c, id)
	if !ok {
		return
	}
	var havips, others []string
	sides := 0
	for n, ids := range p.sides {
		addresses := r.addressesOf(ids)
		if len(addresses) == 0 {
			others = append(others, p.names[n])
			continue
		}
		sides++
		if p.score < 0 {
			addresses = addresses[:1] // the others of a group are with it anyway
		}
		havips = append(havips, addresses...)
	}
	if p.score >= Infinity {
		r.bind(c, p)
	}
	switch {
	case p.score == 0:
		r.add(manifest.LeftOut, c, id, "a score of 0 says nothing")
		return
	case sides == 0:
		r.ofServices(c, id, p, others)
		return
	case sides < 2 || len(havips) < 2:
		r.halfColocation(c, id, p, havips, others)
		return
	case c.attr("node-attribute") != "" && c.attr("node-attribute") != "#uname":
		r.add(manifest.Changed, c, id, "node-attribute %s: together and apart are about nodes only", c.attr("node-attribute"))
	}
	kind := fsm.Together
	if p.score < 0 {
		kind = fsm.Apart
	}
	r.add(manifest.Changed, c, id, "groups are symmetric: neither yields to the other")
	r.draft(c, c.attr("id"), kind, p.score >= Infinity || p.score <= -Infinity, havips)
}

// held is a service that follows what is not placed here, or keeps away from it.
type held struct {
	e        *element
	id, what string
	score    int
}

// ofServices reports a colocation without an address. When a service of it follows copies, so
// may an address that is bound to the service, which is known later.
func (r *reader) ofServices(c *element, id string, p pulls, others []string) {
	role := cmp.Or(c.attr("with-rsc-role"), c.attr("rsc-role"))
	for n := range p.sides {
		for m := range p.sides {
			if n != m && len(p.sides[n]) > 0 && (len(p.sides[m]) == 0 || role != "" && !strings.EqualFold(role, "Started")) {
				r.held = append(r.held, held{c, p.sides[n][0], p.names[m], p.score})
				return
			}
		}
	}
	if p.score >= Infinity {
		r.add(manifest.LeftOut, c, id, "%s: nothing of it is an address; it counts where one is bound to it", shown(others))
		return
	}
	r.add(manifest.LeftOut, c, id, "%s: nothing of it is an address", shown(others))
}

// follows is the fault of an address whose place depends on what is not placed here.
func (r *reader) follows(c *element, who, what string, score int) {
	id := "rsc_colocation " + c.attr("id")
	if score > 0 {
		r.add(manifest.Wrong, c, id, "%s goes where %s runs (a copy or a role that Pacemaker chose); nothing here knows that, so it may part from it. Let its service call `havip move`, or move it by hand", who, what)
		return
	}
	r.add(manifest.Wrong, c, id, "%s keeps away from %s, which is no address: nothing here knows where that runs, so they may meet", who, what)
}

// halfColocation reports a colocation of addresses with what is none.
func (r *reader) halfColocation(c *element, id string, p pulls, havips, others []string) {
	who, what := shown(havips), shown(others)
	placed := true // what is placed here as part of an address's cluster
	for n, ids := range p.sides {
		placed = placed && (len(ids) > 0 || r.byID[p.names[n]] == nil)
	}
	role := cmp.Or(c.attr("with-rsc-role"), c.attr("rsc-role"))
	switch {
	case p.score >= Infinity && placed && (role == "" || strings.EqualFold(role, "Started")):
		r.add(manifest.Changed, c, id, "%s is no address and moves with %s: its scores and its stickiness count for it, and it follows by the hook on-acquire", what, who)
	default:
		r.follows(c, who, what, p.score)
	}
}

// pulls reads the sides of a colocation, also in the form of Heartbeat 2 (from, to).
func (r *reader) pulls(c *element, id string) (p pulls, ok bool) {
	text := c.attr("score")
	p.names = []string{cmp.Or(c.attr("rsc"), c.attr("from")), cmp.Or(c.attr("with-rsc"), c.attr("to"))}
	if sets := c.all("resource_set"); len(sets) > 0 {
		p.names = nil
		for _, set := range sets {
			for _, ref := range set.all("resource_ref") {
				p.names = append(p.names, ref.attr("id"))
			}
			text = cmp.Or(text, set.attr("score"))
		}
	}
	var known bool
	if p.score, known = score(cmp.Or(text, "INFINITY")); !known {
		r.add(manifest.Wrong, c, id, "%q is not a score; Pacemaker ignores the constraint", text)
		return p, false
	}
	for _, name := range p.names {
		ids, known := r.resolve(name)
		if !known {
			r.add(manifest.Wrong, c, id, "names the resource %q, which does not exist", name)
		}
		p.sides = append(p.sides, ids)
	}
	return p, true
}

// bind joins the sides of a mandatory colocation, and says who needs whom.
func (r *reader) bind(c *element, p pulls) {
	role := cmp.Or(c.attr("with-rsc-role"), c.attr("rsc-role"))
	if role != "" && !strings.EqualFold(role, "Started") {
		return
	}
	inSets := len(c.all("resource_set")) > 0
	for n := 1; n < len(p.sides); n++ {
		a, b := p.sides[n-1], p.sides[n]
		if len(a) == 0 || len(b) == 0 {
			continue
		}
		r.sticks = append(r.sticks, bond{a[0], b[0]})
		if !inSets {
			for _, who := range a {
				r.needs[who] = append(r.needs[who], need{b[len(b)-1], "which it is with by " + c.attr("id")})
			}
		}
	}
}
