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

// Infinity is Pacemaker's INFINITY: scores are clamped to it.
const Infinity = 1000000

// reader walks one CIB.
type reader struct {
	file    string
	report  *manifest.Import
	byID    map[string]*element
	nodes   []manifest.Node
	names   manifest.Names
	groups  manifest.Names
	havips  map[string]*address // by resource id
	byIP    map[netip.Addr]string
	order   []string            // resource ids in the order of the file
	members map[string][]string // of a group or a tag: resource ids
	opt     struct {
		optIn, stopped bool
		stickiness     string
	}
	defaults map[string]string // rsc_defaults
}

// address is one HAVIP in the making.
type address struct {
	manifest.HAVIP
	line   int
	scores map[string]int // by node; clamped sums
	banned map[string]bool
	named  map[string]bool // nodes with a score of their own, for opt-in clusters
	sticky int
}

func (r *reader) add(kind manifest.FindingKind, e *element, option, format string, args ...any) {
	r.report.Add(kind, r.file, e.line, option, format, args...)
}

// index finds elements by id, for id-ref, and refuses two of one id.
func (r *reader) index(e *element) error {
	if id := e.attr("id"); id != "" && !strings.HasSuffix(e.name, "_ref") && e.name != "role" {
		if first, twice := r.byID[id]; twice && first.name == e.name {
			return manifest.Refuse(r.file, e.line, 1, fsm.CodeDuplicate, "<%s id=%q> is here twice; first on line %d", e.name, id, first.line)
		}
		r.byID[id] = e
	}
	for _, k := range e.kids {
		if err := r.index(k); err != nil {
			return err
		}
	}
	return nil
}

// values reads the nvpairs of attribute sets. Sets under a rule hold only at times or on
// some nodes and are left out.
func (r *reader) values(owner *element, kind string) map[string]string {
	out := map[string]string{}
	for _, set := range owner.all(kind) {
		if ref := set.attr("id-ref"); ref != "" {
			if set = r.byID[ref]; set == nil {
				r.add(manifest.Wrong, owner, kind, "refers to %q, which does not exist", ref)
				continue
			}
		}
		if set.child("rule") != nil {
			r.add(manifest.LeftOut, set, kind+" of "+owner.attr("id"), "holds only under a rule")
			continue
		}
		for _, nv := range set.all("nvpair") {
			if ref := nv.attr("id-ref"); ref != "" && r.byID[ref] != nil {
				nv = r.byID[ref]
			}
			name := strings.ReplaceAll(nv.attr("name"), "_", "-")
			if kind == "instance_attributes" || kind == "utilization" {
				name = nv.attr("name")
			}
			if _, set := out[name]; !set {
				out[name] = nv.attr("value")
			}
		}
	}
	return out
}

// resources walks primitives, groups, clones and the rest. meta is what is inherited.
func (r *reader) resources(parent *element, meta map[string]string, group string) error {
	for _, e := range parent.kids {
		id := e.attr("id")
		switch e.name {
		case "primitive":
			if err := r.primitive(e, meta, group); err != nil {
				return err
			}
		case "group":
			inherited := maps.Clone(meta)
			maps.Copy(inherited, r.values(e, "meta_attributes"))
			if err := r.resources(e, inherited, id); err != nil {
				return err
			}
			r.groupOf(e)
		case "clone", "master", "bundle":
			r.add(manifest.LeftOut, e, e.name+" "+id, "runs on several nodes at once; a HAVIP has one owner%s", addressesIn(e))
		case "template", "meta_attributes", "instance_attributes", "operations", "utilization":
		default:
			r.add(manifest.LeftOut, e, e.name+" "+id, "not known among resources")
		}
	}
	return nil
}

func addressesIn(e *element) string {
	var found []string
	var walk func(e *element)
	walk = func(e *element) {
		if e.name == "primitive" && isAddress(e.attr("type")) {
			found = append(found, e.attr("id"))
		}
		for _, k := range e.kids {
			walk(k)
		}
	}
	walk(e)
	if len(found) == 0 {
		return ""
	}
	return " (the address resources " + strings.Join(found, ", ") + " in it as well)"
}

func isAddress(kind string) bool { return kind == "IPaddr2" || kind == "IPaddr" || kind == "IPv6addr" }

// groupOf makes a hard group of the addresses that a Pacemaker group held together.
func (r *reader) groupOf(e *element) {
	id := e.attr("id")
	var names []string
	for _, resource := range r.members[id] {
		names = append(names, r.havips[resource].Name)
	}
	if len(names) > 1 {
		r.group(e, id, "together", true, names)
	}
}

func (r *reader) group(e *element, id, kind string, hard bool, havips []string) {
	g := manifest.Group{Name: r.groups.Free(manifest.Label(id)), Kind: kind, Hard: hard, HAVIPs: havips}
	r.report.Manifest.Groups = append(r.report.Manifest.Groups, g)
	word := "soft"
	if hard {
		word = "hard"
	}
	r.add(manifest.Taken, e, e.name+" "+id, "%s group %s, %s: %s", word, g.Name, kind, strings.Join(havips, ", "))
}

func (r *reader) primitive(e *element, inherited map[string]string, group string) error {
	id := e.attr("id")
	kind := e.attr("type")
	params, meta := r.values(e, "instance_attributes"), maps.Clone(inherited)
	if name := e.attr("template"); name != "" {
		t := r.byID[name]
		if t == nil || t.name != "template" {
			r.add(manifest.Wrong, e, "primitive "+id, "refers to the template %q, which does not exist", name)
			return nil
		}
		kind = t.attr("type")
		for k, v := range r.values(t, "instance_attributes") {
			if _, own := params[k]; !own {
				params[k] = v
			}
		}
		maps.Copy(meta, r.values(t, "meta_attributes"))
	}
	if !isAddress(kind) {
		r.add(manifest.LeftOut, e, "primitive "+id+" ("+kind+")", "%s", notAnAddress)
		return nil
	}
	own := r.values(e, "meta_attributes")
	maps.Copy(meta, own)
	a, err := r.address(e, id, params)
	if err != nil || a == nil {
		return err
	}
	if err := r.meta(e, a, meta); err != nil {
		return err
	}
	r.parameters(e, id, params, own)
	r.havips[id] = a
	r.order = append(r.order, id)
	if group != "" {
		r.members[group] = append(r.members[group], id)
	}
	return nil
}

// address makes the HAVIP of a primitive; nil if it has none.
func (r *reader) address(e *element, id string, params map[string]string) (*address, error) {
	text := params["ip"]
	if text == "" {
		text = params["ipv6addr"]
	}
	host, _, _ := strings.Cut(text, "/")
	ip, err := netip.ParseAddr(host)
	switch {
	case text == "":
		r.add(manifest.Wrong, e, "primitive "+id, "has no parameter ip; nothing is imported from it")
		return nil, nil
	case err != nil || ip.Zone() != "" || ip.Is4In6():
		return nil, manifest.Refuse(r.file, e.line, 1, fsm.CodeMalformed, "primitive %s: %q is not an IP address", id, text)
	}
	if other, twice := r.byIP[ip]; twice {
		r.add(manifest.Wrong, e, "primitive "+id, "%s is also the address of %s; taken once", ip, other)
		return nil, nil
	}
	if r.byIP[ip] = id; len(r.byIP) > fsm.MaxHAVIPs {
		return nil, manifest.Refuse(r.file, e.line, 1, fsm.CodeLimit, "more than %d addresses", fsm.MaxHAVIPs)
	}
	a := &address{HAVIP: manifest.NewHAVIP(r.names.Free(manifest.Label(id))), line: e.line,
		scores: map[string]int{}, banned: map[string]bool{}, named: map[string]bool{}}
	a.IP = ip.String()
	r.add(manifest.Taken, e, "primitive "+id, "HAVIP %s, address %s", a.Name, ip)
	return a, nil
}

func (r *reader) parameters(e *element, id string, params, own map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(params)) {
		p, known := parameters[name]
		if !known {
			p = rule{manifest.LeftOut, "not known for this agent; check what it was meant for"}
		}
		if p.text != "" {
			r.add(p.kind, e, name+" of "+id, "%s", p.text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		m, known := metaRules[name]
		if !known {
			m = rule{manifest.LeftOut, noDaemon}
		}
		if m.text != "" {
			r.add(m.kind, e, name+" of "+id, "%s", m.text)
		}
	}
	if ops := e.child("operations"); ops != nil && len(ops.kids) > 0 {
		r.add(manifest.LeftOut, ops, "operations of "+id, "%s", sections["op_defaults"])
	}
}

// meta reads the meta attributes, inherited ones included.
func (r *reader) meta(e *element, a *address, meta map[string]string) error {
	id := e.attr("id")
	bad := func(name string) error {
		return manifest.Refuse(r.file, e.line, 1, fsm.CodeMalformed, "%s of %s: %q is not a score", name, id, meta[name])
	}
	for _, name := range slices.Sorted(maps.Keys(meta)) {
		value := meta[name]
		var n int
		var ok bool
		switch name {
		case "priority", "resource-stickiness", "migration-threshold":
			if n, ok = score(value); !ok {
				return bad(name)
			}
		}
		switch name {
		case "priority":
			a.Priority = n
		case "resource-stickiness":
			a.sticky = n
		case "migration-threshold":
			if n >= Infinity || n <= 0 {
				a.FailLimit = 0
			} else {
				a.FailLimit = n
			}
		case "target-role":
			a.Enabled = !strings.EqualFold(value, "Stopped")
		case "is-managed":
			a.Managed = truth(value)
		case "maintenance":
			a.Maintenance = truth(value)
		default:
			continue
		}
		r.add(manifest.Taken, e, name+" of "+id, "%s", value)
	}
	return nil
}

// truth reads Pacemaker's booleans.
func truth(s string) bool {
	switch strings.ToLower(s) {
	case "true", "on", "yes", "y", "1":
		return true
	}
	return false
}

// score reads a score; it is clamped to ±Infinity.
func score(s string) (int, bool) {
	switch strings.TrimPrefix(s, "+") {
	case "INFINITY", "infinity":
		return Infinity, true
	case "-INFINITY", "-infinity":
		return -Infinity, true
	case "red":
		return -Infinity, true
	case "yellow", "green":
		return 0, true
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(s, "+"), 10, 64)
	return int(max(-Infinity, min(Infinity, n))), err == nil
}
