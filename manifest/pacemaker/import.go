package pacemaker

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// Import reads a CIB. The error is a manifest.Faults with file and line.
func Import(src manifest.Source) (manifest.Import, error) {
	report := manifest.Import{Manifest: manifest.New()}
	root, err := parse(src)
	if err != nil {
		return report, err
	}
	config := root
	if root.name == "cib" {
		config = root.child("configuration")
	}
	if config == nil || config.name != "configuration" {
		return report, manifest.Refuse(src.Name, root.line, 1, fsm.CodeMalformed, "<%s> is no CIB; give what `cibadmin -Q` prints", root.name)
	}
	r := &reader{file: src.Name, report: &report, byID: map[string]*element{}, byIP: map[netip.Addr]string{}, names: manifest.Names{}, groups: manifest.Names{},
		havips: map[string]*address{}, members: map[string][]string{}, defaults: map[string]string{}}
	if err := r.index(config); err != nil {
		return report, err
	}
	r.properties(config.child("crm_config"))
	if err := r.readNodes(config.child("nodes")); err != nil {
		return report, err
	}
	r.rest(config)
	if resources := config.child("resources"); resources != nil {
		if err := r.resources(resources, r.defaults, ""); err != nil {
			return report, err
		}
	}
	r.tags(config.child("tags"))
	if err := r.constraints(config.child("constraints")); err != nil {
		return report, err
	}
	r.finish()
	report.Finish()
	return report, manifest.CheckImport(report, src.Name)
}

func (r *reader) properties(section *element) {
	if section == nil {
		return
	}
	for _, set := range section.all("cluster_property_set") {
		for _, nv := range set.all("nvpair") {
			name, value := strings.ReplaceAll(nv.attr("name"), "_", "-"), nv.attr("value")
			p, known := properties[name]
			if !known {
				p = rule{manifest.LeftOut, noDaemon}
			}
			text := p.text
			switch name {
			case "symmetric-cluster":
				r.opt.optIn = !truth(value)
			case "maintenance-mode":
				on := truth(value)
				r.report.Manifest.Maintenance = &on
				text = "maintenance: " + strconv.FormatBool(on)
			case "stop-all-resources":
				r.opt.stopped = truth(value)
				text = "every HAVIP disabled: " + strconv.FormatBool(r.opt.stopped)
			case "default-resource-stickiness":
				r.defaults["resource-stickiness"] = value
				text = "stickiness " + value
			case "no-quorum-policy":
				if value == "ignore" {
					r.add(manifest.Wrong, nv, name+"="+value, "with a cut between the nodes both sides served the address")
				}
			case "stonith-enabled":
				if !truth(value) {
					r.add(manifest.Wrong, nv, name+"="+value, "without fencing a node that hangs and comes back serves the address a second time")
				}
			}
			r.add(p.kind, nv, name+"="+value, "%s", text)
		}
	}
}

// readNodes reads members and their states.
func (r *reader) readNodes(section *element) error {
	seen := map[string]bool{}
	for _, e := range section.all("node") {
		uname := e.attr("uname")
		if uname == "" {
			uname = e.attr("id")
		}
		if kind := e.attr("type"); kind == "remote" || kind == "ping" {
			r.add(manifest.LeftOut, e, "node "+uname, "a node of type %s is no member; add it with `node add --role agent` if it shall own addresses", kind)
			continue
		}
		n := manifest.Node{Name: manifest.NodeName(uname), Health: string(fsm.HealthGreen)}
		if seen[n.Name] {
			return manifest.Refuse(r.file, e.line, 1, fsm.CodeDuplicate, "node %s is here twice", n.Name)
		}
		seen[n.Name] = true
		if n.Name != uname {
			r.add(manifest.Changed, e, "node "+uname, "called %s: names are lower-case letters, digits, '-' and '.'", n.Name)
		}
		attrs := r.values(e, "instance_attributes")
		for _, name := range slices.Sorted(maps.Keys(attrs)) {
			value := attrs[name]
			switch {
			case name == "standby":
				n.Standby = truth(value)
				r.add(manifest.Taken, e, "standby of "+uname, "%s", value)
			case name == "maintenance":
				n.Maintenance = truth(value)
				r.add(manifest.Taken, e, "maintenance of "+uname, "%s", value)
			case strings.HasPrefix(name, "#health"):
				r.add(manifest.LeftOut, e, name+" of "+uname, "a measured state, not a wish; set the node's health instead")
			default:
				r.add(manifest.LeftOut, e, name+" of "+uname, "an attribute that only rules read")
			}
		}
		if used := r.values(e, "utilization"); len(used) > 0 {
			r.add(manifest.LeftOut, e, "utilization of "+uname, "capacity is one number here, the sum of the HAVIPs' weights; set it by hand")
		}
		r.nodes = append(r.nodes, n)
	}
	return nil
}

// rest reports the sections that hold nothing for a HAVIP.
func (r *reader) rest(config *element) {
	for _, e := range config.kids {
		switch e.name {
		case "crm_config", "nodes", "resources", "constraints", "tags":
		case "rsc_defaults":
			for name, value := range r.values(e, "meta_attributes") {
				r.defaults[name] = value
			}
			for _, name := range slices.Sorted(maps.Keys(r.values(e, "meta_attributes"))) {
				m, known := metaRules[name]
				if !known {
					m = rule{manifest.LeftOut, noDaemon}
				}
				text := m.text
				if text == "" {
					text = "default of every resource: " + r.defaults[name]
				}
				r.add(m.kind, e, name, "%s", text)
			}
		default:
			text, known := sections[e.name]
			if !known {
				text = "not known in a configuration"
			}
			if len(e.kids) > 0 {
				r.add(manifest.LeftOut, e, e.name, "%s", text)
			}
		}
	}
}

func (r *reader) tags(section *element) {
	for _, tag := range section.all("tag") {
		for _, ref := range tag.all("obj_ref") {
			r.members[tag.attr("id")] = append(r.members[tag.attr("id")], ref.attr("id"))
		}
		r.add(manifest.Taken, tag, "tag "+tag.attr("id"), "stands for its resources in constraints")
	}
}

// finish turns scores into ranges, preferences and failback.
func (r *reader) finish() {
	r.report.Manifest.Nodes = append(r.report.Manifest.Nodes, r.nodes...)
	for _, id := range r.order {
		a := r.havips[id]
		e := &element{line: a.line}
		a.Forbid = append(a.Forbid, slices.Sorted(maps.Keys(a.banned))...)
		r.rangeOf(e, id, a)
		best, worst := -Infinity, Infinity
		for _, m := range a.Range.Members {
			if !a.banned[m] {
				best, worst = max(best, a.scores[m]), min(worst, a.scores[m])
			}
		}
		for node, n := range a.scores {
			if n != 0 && !a.banned[node] {
				if a.Prefer == nil {
					a.Prefer = map[string]int{}
				}
				a.Prefer[node] = n
			}
		}
		sticky := max(0, min(a.sticky, fsm.ScoreLimit))
		if a.Stickiness = sticky; sticky > 0 {
			a.Stickiness = min(sticky+1, fsm.ScoreLimit) // Pacemaker stays at a tie, here it is worth a move
		}
		switch {
		case len(a.Prefer) > 0 && best-worst > sticky && sticky < Infinity:
			a.Failback = manifest.FailbackImmediate
			r.add(manifest.Taken, e, "failback of "+id, "immediate: preferences differ by %d, stickiness is %d", best-worst, sticky)
		default:
			r.add(manifest.Taken, e, "failback of "+id, "never: preferences differ by %d at most, stickiness is %d", max(0, best-worst), sticky)
		}
		if a.sticky == 0 {
			r.add(manifest.Changed, e, "stickiness of "+id, "0 let Pacemaker move it to even the count; here nothing moves for that unless rebalance: even")
		}
		if r.opt.stopped {
			a.Enabled = false
		}
		r.report.Manifest.HAVIPs = append(r.report.Manifest.HAVIPs, a.HAVIP)
	}
}

// rangeOf lists the nodes that may own: all but the forbidden, or in an opt-in cluster
// those that a score of 0 or more names.
func (r *reader) rangeOf(e *element, id string, a *address) {
	a.Range.Type = string(fsm.RangeCVM)
	for _, n := range r.nodes {
		if !a.banned[n.Name] && (!r.opt.optIn || a.named[n.Name]) {
			a.Range.Members = append(a.Range.Members, n.Name)
		}
	}
	switch n := len(a.Range.Members); {
	case n > fsm.MaxRangeMembers:
		r.add(manifest.Changed, e, "range of "+id, "%d nodes; a range holds %d, so the limit is off and every node of the subnet may own it", n, fsm.MaxRangeMembers)
		a.Range = manifest.Range{Members: []string{}}
	case n == 0:
		a.Range.Type = ""
		r.add(manifest.Wrong, e, "range of "+id, "no node may own it")
	}
}
