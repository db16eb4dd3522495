package pacemaker

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// Import reads a CIB as of now. The error is a manifest.Faults with file and line.
func Import(src manifest.Source) (manifest.Import, error) { return ImportAt(src, time.Now()) }

// ImportAt reads a CIB as of a time, for the rules in it that hold until a date.
func ImportAt(src manifest.Source, now time.Time) (manifest.Import, error) {
	report := manifest.Import{Manifest: manifest.New()}
	text, odd, err := textOf(src)
	if err != nil {
		return report, err
	}
	root, err := parse(src, text)
	if err != nil {
		return report, err
	}
	config := configurationOf(root)
	if config == nil {
		return report, manifest.Refuse(src.Name, root.line, 1, fsm.CodeMalformed, "<%s> is no CIB; give what `cibadmin -Q` prints", root.name)
	}
	r := newReader(src.Name, &report, now)
	if odd > 0 {
		report.Add(manifest.Changed, src.Name, odd, "encoding", "%s", manifest.OddBytes("this import"))
	}
	r.index(config)
	r.oldSchema(config)
	r.properties(config.child("crm_config"))
	r.readNodes(config.child("nodes"))
	r.untilReboot(root)
	r.rest(config)
	if resources := config.child("resources"); resources != nil {
		r.readPings(resources)
		r.resources(resources, map[string]string{}, nil)
	}
	r.tags(config.child("tags"))
	r.constraints(config.child("constraints"))
	r.finish()
	report.Finish()
	return report, manifest.CheckImport(report, src.Name, "the CIB has no address that can be taken")
}

// configurationOf finds the configuration in what cibadmin prints, also with --output-as=xml.
func configurationOf(root *element) *element {
	for range 3 {
		switch {
		case root == nil || root.name == "configuration":
			return root
		case root.name == "cib":
			return root.child("configuration")
		case root.name == "pacemaker-result":
			for _, kid := range root.kids {
				if kid.name == "cib" || kid.name == "cib-query" || kid.child("cib") != nil {
					root = kid
					break
				}
			}
		default:
			root = root.child("cib")
		}
	}
	return nil
}

// oldSchema says that a CIB is of Heartbeat 2, whose nvpairs are inside <attributes>.
func (r *reader) oldSchema(config *element) {
	if e := config.find("attributes"); e != nil {
		r.add(manifest.Wrong, e, "schema 0.6", "this CIB has the form of Heartbeat 2 (nvpairs inside <attributes>), which Pacemaker 2 no longer reads: `cibadmin --upgrade --force` on a Pacemaker 1.x makes a new one of it. Read here as far as it goes")
	}
}

func (r *reader) properties(section *element) {
	if section == nil {
		return
	}
	values, places := r.pairs(section, "cluster_property_set")
	for _, nv := range places {
		name := strings.ReplaceAll(nv.attr("name"), "_", "-")
		value := nv.attr("value")
		if values[name] != value {
			r.add(manifest.LeftOut, nv, name+"="+value, "another set with a higher score says %s", values[name])
			continue
		}
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
		case "is-managed-default":
			r.defaults["is-managed"] = value
		case "no-quorum-policy":
			if value == "ignore" {
				r.add(manifest.Wrong, nv, name+"="+value, "with a cut between the nodes both sides served the address")
			}
		case "stonith-enabled", "fencing-enabled":
			if !truth(value) {
				r.add(manifest.Wrong, nv, name+"="+value, "without fencing a node that hangs and comes back serves the address a second time")
			}
		}
		r.add(p.kind, nv, name+"="+value, "%s", text)
	}
}

// readNodes reads members and their states.
func (r *reader) readNodes(section *element) {
	seen := map[string]bool{}
	for _, e := range section.all("node") {
		uname := cmp.Or(e.attr("uname"), e.attr("id"))
		if kind := e.attr("type"); kind == "remote" || kind == "ping" {
			r.add(manifest.LeftOut, e, "node "+uname, "a node of type %s is no member; add it with `node add --role agent` if it shall own addresses", kind)
			continue
		}
		n := manifest.Node{Name: manifest.NodeName(uname), Health: string(fsm.HealthGreen)}
		if seen[n.Name] {
			r.add(manifest.Wrong, e, "node "+uname, "node %s is here twice; taken once", n.Name)
			continue
		}
		seen[n.Name] = true
		if n.Name != uname {
			r.add(manifest.Changed, e, "node "+uname, "called %s: names are lower-case letters, digits, '-' and '.'", n.Name)
		}
		attrs := r.values(e, "instance_attributes")
		r.attributes[n.Name] = attrs
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
				r.add(manifest.LeftOut, e, name+" of "+uname, "an attribute that only rules read; they are decided by it as it is here")
			}
		}
		if used := r.values(e, "utilization"); len(used) > 0 {
			r.add(manifest.LeftOut, e, "utilization of "+uname, "capacity is one number here, the sum of the HAVIPs' weights; set it by hand")
		}
		r.nodes = append(r.nodes, n)
	}
}

// untilReboot reads of the status what an operator said of a node for as long as it runs.
func (r *reader) untilReboot(root *element) {
	status := root.find("status")
	for _, state := range status.all("node_state") {
		attrs := state.child("transient_attributes")
		if attrs == nil || !truth(r.values(attrs, "instance_attributes")["standby"]) {
			continue
		}
		for i := range r.nodes {
			if n := &r.nodes[i]; n.Name == manifest.NodeName(state.attr("uname")) {
				n.Standby = true
				r.add(manifest.Changed, attrs, "standby of "+n.Name, "until its next start there (crm_standby --lifetime reboot); here until `node activate`")
			}
		}
	}
}

// rest reports the sections that hold nothing for a HAVIP.
func (r *reader) rest(config *element) {
	for _, e := range config.kids {
		switch e.name {
		case "crm_config", "nodes", "resources", "constraints", "tags":
		case "rsc_defaults":
			values := r.values(e, "meta_attributes")
			r.defaultsIn = e
			for _, name := range slices.Sorted(maps.Keys(values)) {
				m, known := metaRules[name]
				if !known {
					m = rule{manifest.LeftOut, noDaemon}
				}
				text := m.text
				if text == "" {
					text = "default of every resource: " + values[name]
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
