package pacemaker

import (
	"regexp"
	"slices"
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// resolve lists the address resources that a name stands for: a primitive, the addresses
// of a group, or what a tag names. ok is false for what does not exist at all.
func (r *reader) resolve(name string) (ids []string, ok bool) {
	if r.havips[name] != nil {
		return []string{name}, true
	}
	if list, known := r.members[name]; known {
		for _, id := range list {
			if r.havips[id] != nil {
				ids = append(ids, id)
			} else if id != name {
				for _, inner := range r.members[id] {
					if r.havips[inner] != nil {
						ids = append(ids, inner)
					}
				}
			}
		}
		return ids, true
	}
	return nil, r.byID[name] != nil
}

// constraints reads the section; one that names no address is left out.
func (r *reader) constraints(section *element) error {
	if section == nil {
		return nil
	}
	for _, c := range section.kids {
		var err error
		switch c.name {
		case "rsc_location":
			err = r.location(c)
		case "rsc_colocation":
			err = r.colocation(c)
		case "rsc_order":
			r.add(manifest.LeftOut, c, "rsc_order "+c.attr("id"), "addresses have no order of start; a service that needs its address waits for the hook on-acquire")
		case "rsc_ticket":
			r.add(manifest.LeftOut, c, "rsc_ticket "+c.attr("id"), "there are no tickets between sites")
		default:
			r.add(manifest.LeftOut, c, c.name+" "+c.attr("id"), "not known among constraints")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// concerned lists the addresses of a location constraint.
func (r *reader) concerned(c *element) ([]string, error) {
	if pattern := c.attr("rsc-pattern"); pattern != "" {
		text, negative := strings.CutPrefix(pattern, "!")
		re, err := regexp.CompilePOSIX(text)
		if err != nil {
			return nil, manifest.Refuse(r.file, c.line, 1, fsm.CodeMalformed, "rsc-pattern %q: %v", pattern, err)
		}
		return slices.DeleteFunc(slices.Clone(r.order), func(id string) bool { return re.MatchString(id) == negative }), nil
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
		ids = append(ids, found...)
	}
	return ids, nil
}

func (r *reader) location(c *element) error {
	id := "rsc_location " + c.attr("id")
	ids, err := r.concerned(c)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		r.add(manifest.LeftOut, c, id, "concerns no address")
		return nil
	}
	if role := c.attr("role"); role != "" && !strings.EqualFold(role, "Started") {
		r.add(manifest.LeftOut, c, id, "is about the role %s; an address has none", role)
		return nil
	}
	if d := c.attr("resource-discovery"); d != "" && d != "always" {
		r.add(manifest.LeftOut, c, id, "resource-discovery=%s: each agent looks at its own addresses always", d)
	}
	if c.child("lifetime") != nil {
		r.add(manifest.Changed, c, id, "has a lifetime in it; taken as if it held for ever. Use `havip ban --for` for one that ends")
	}
	if node := c.attr("node"); node != "" {
		return r.scoreNode(c, id, ids, node, c.attr("score"))
	}
	for _, rule := range c.all("rule") {
		if err := r.locationRule(rule, id, ids); err != nil {
			return err
		}
	}
	return nil
}

// locationRule takes the one rule that is a name of a node, and names what the others
// would have to be.
func (r *reader) locationRule(rule *element, id string, ids []string) error {
	if ref := rule.attr("id-ref"); ref != "" && r.byID[ref] != nil {
		rule = r.byID[ref]
	}
	var nodes []string
	either := rule.attr("boolean-op") == "or"
	for i, k := range rule.kids {
		attribute, operation := k.attr("attribute"), k.attr("operation")
		switch {
		case k.name == "expression" && attribute == "#uname" && operation == "eq" && (i == 0 || either):
			nodes = append(nodes, k.attr("value"))
		case k.name == "expression" && attribute == "#uname" && operation == "ne" && len(rule.kids) == 1:
			for _, n := range r.nodes {
				if n.Name != manifest.NodeName(k.attr("value")) {
					nodes = append(nodes, n.Name)
				}
			}
		case k.name == "expression" && (strings.Contains(attribute, "ping") || strings.Contains(attribute, "ethmonitor")):
			r.add(manifest.Changed, rule, id, "%s %s: a link that is down counts always; check_gateway: true in the agent's settings adds the gateway", attribute, operation)
			return nil
		case k.name == "date_expression":
			r.add(manifest.LeftOut, rule, id, "holds at times only; a daily window is a failback such as 02:00-04:00")
			return nil
		default:
			r.add(manifest.LeftOut, rule, id, "the rule on %s %s cannot be told by a node's name", k.name, attribute)
			return nil
		}
	}
	if rule.attr("score-attribute") != "" {
		r.add(manifest.LeftOut, rule, id, "takes its score from the attribute %s of the node", rule.attr("score-attribute"))
		return nil
	}
	for _, node := range nodes {
		if err := r.scoreNode(rule, id, ids, node, rule.attr("score")); err != nil {
			return err
		}
	}
	return nil
}

// scoreNode books a score of addresses for a node.
func (r *reader) scoreNode(e *element, id string, ids []string, uname, text string) error {
	n, ok := score(text)
	if !ok {
		return manifest.Refuse(r.file, e.line, 1, fsm.CodeMalformed, "%s: %q is not a score", id, text)
	}
	node := manifest.NodeName(uname)
	leftover := strings.HasPrefix(id, "rsc_location cli-")
	for _, resource := range ids {
		a := r.havips[resource]
		switch {
		case n <= -Infinity && leftover:
			if !slices.Contains(a.Bans, node) {
				a.Bans = append(a.Bans, node)
			}
			r.add(manifest.Wrong, e, id, "was left behind by a move or ban: %s bans %s until `havip unban`", a.Name, node)
		case n <= -Infinity:
			a.banned[node] = true
			r.add(manifest.Taken, e, id, "%s: forbid %s", a.Name, node)
		case leftover:
			a.named[node] = true
			a.scores[node] = Infinity
			r.add(manifest.Wrong, e, id, "was left behind by a move: %s prefers %s for ever. A move leaves nothing behind here; delete the preference if it is not meant", a.Name, node)
		case n < 0:
			a.scores[node] = max(-Infinity, a.scores[node]+n)
			r.add(manifest.Changed, e, id, "%s: score %d for %s is a wish; in Pacemaker a total below 0 bars the node", a.Name, n, node)
		default:
			a.named[node] = true
			a.scores[node] = min(Infinity, a.scores[node]+n)
			r.add(manifest.Taken, e, id, "%s: prefer %s %d", a.Name, node, n)
		}
	}
	return nil
}

func (r *reader) colocation(c *element) error {
	id := "rsc_colocation " + c.attr("id")
	text := c.attr("score")
	names := [][]string{{c.attr("rsc")}, {c.attr("with-rsc")}}
	sets := c.all("resource_set")
	if len(sets) > 0 {
		names = nil
		for _, set := range sets {
			for _, ref := range set.all("resource_ref") {
				names = append(names, []string{ref.attr("id")})
			}
			if text == "" {
				text = set.attr("score")
			}
		}
	}
	if text == "" {
		text = "INFINITY"
	}
	n, ok := score(text)
	if !ok {
		return manifest.Refuse(r.file, c.line, 1, fsm.CodeMalformed, "%s: %q is not a score", id, text)
	}
	var havips []string
	sides, others := 0, []string{}
	for _, side := range names {
		ids, known := r.resolve(side[0])
		if !known {
			r.add(manifest.Wrong, c, id, "names the resource %q, which does not exist", side[0])
		}
		if len(ids) == 0 {
			others = append(others, side[0])
			continue
		}
		sides++
		if n < 0 {
			ids = ids[:1] // the others of a group are with it anyway
		}
		for _, resource := range ids {
			if name := r.havips[resource].Name; !slices.Contains(havips, name) {
				havips = append(havips, name)
			}
		}
	}
	switch {
	case sides < 2 || len(havips) < 2:
		r.add(manifest.LeftOut, c, id, "%s: nothing of it is an address, so nothing is placed with it; a service follows its address by the hook on-acquire", strings.Join(others, ", "))
		return nil
	case c.attr("node-attribute") != "" && c.attr("node-attribute") != "#uname":
		r.add(manifest.Changed, c, id, "node-attribute %s: together and apart are about nodes only", c.attr("node-attribute"))
	case n == 0:
		r.add(manifest.LeftOut, c, id, "a score of 0 says nothing")
		return nil
	}
	kind := "together"
	if n < 0 {
		kind = "apart"
	}
	r.add(manifest.Changed, c, id, "groups are symmetric: neither yields to the other")
	r.group(c, c.attr("id"), kind, n >= Infinity || n <= -Infinity, havips)
	return nil
}
