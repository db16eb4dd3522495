package pacemaker

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// Infinity is Pacemaker's INFINITY: scores are clamped to it.
const Infinity = 1000000

// reader walks one CIB.
type reader struct {
	file       string
	now        time.Time
	report     *manifest.Import
	byID       map[string]*element
	nodes      []manifest.Node
	attributes map[string]map[string]string // permanent ones, by node
	names      manifest.Names
	groups     manifest.Names
	found      map[string]*resource // primitives outside clones, by id
	byIP       map[netip.Addr]string
	order      []string            // their ids in the order of the file
	members    map[string][]string // of a group, a template or a tag: resource ids
	sticks     []bond              // what must be on one node
	needs      map[string][]need   // what must run for another to run
	downs      map[string]string   // why what does not run, as far as it was asked
	tied       map[string]bool     // groups whose members are on one node
	held       []held              // services that follow what is not placed here
	drafts     []draft             // groups of the result in the making
	opt        struct{ optIn, stopped bool }
	defaults   map[string]string // by properties of the cluster
	defaultsIn *element          // rsc_defaults, nil without
	agent      *agent            // of the primitive that is being read

	pings      map[string]*ping // by the attribute that they write
	pingOrder  []*ping          // in the order of the file
	checks     []manifest.Check
	checkNames manifest.Names
	monitors   []monitored
}

// agent is what a rule of rsc_defaults can ask of a resource.
type agent struct{ class, provider, kind string }

func newReader(file string, report *manifest.Import, now time.Time) *reader {
	return &reader{file: file, now: now, report: report, byID: map[string]*element{}, attributes: map[string]map[string]string{}, byIP: map[netip.Addr]string{},
		names: manifest.Names{}, groups: manifest.Names{}, found: map[string]*resource{}, members: map[string][]string{}, defaults: map[string]string{},
		needs: map[string][]need{}, downs: map[string]string{}, tied: map[string]bool{}, pings: map[string]*ping{}, checkNames: manifest.Names{}}
}

// resource is one primitive outside clones; the services count for where their address goes.
type resource struct {
	id      string
	line    int
	havip   *manifest.HAVIP   // nil for what is no address
	scores  map[string]int    // by node; clamped sums
	named   map[string]bool   // nodes with a score of their own, for opt-in clusters
	bans    map[string]string // left by a move or ban, by node: until when, "" for ever
	sticky  int
	stopped bool // target-role
}

// group is a group that is being walked.
type group struct {
	id       string
	together bool // its members are on one node, and each needs the one before
	last     string
}

func (r *reader) add(kind manifest.FindingKind, e *element, option, format string, args ...any) {
	r.report.Add(kind, r.file, e.line, option, format, args...)
}

func (r *reader) lose(e *element, option, format string, args ...any) {
	r.report.Lose(r.file, e.line, option, format, args...)
}

// index finds elements by id, for id-ref. Of two with one id the first counts.
func (r *reader) index(e *element) {
	if id := e.attr("id"); id != "" && !strings.HasSuffix(e.name, "_ref") && e.name != "role" {
		first, twice := r.byID[id]
		if twice && first.name == e.name {
			r.add(manifest.Wrong, e, e.name+" "+id, "this id is there already, on line %d; Pacemaker takes no such CIB, and here the first counts", first.line)
		}
		if !twice {
			r.byID[id] = e
		}
	}
	for _, k := range e.kids {
		r.index(k)
	}
}

// pairs reads the nvpairs of attribute sets: of several sets with one name in them the one
// with the higher score counts. Sets under a rule hold only at times or on some nodes and are
// left out.
func (r *reader) pairs(owner *element, kind string) (values map[string]string, places []*element) {
	sets := owner.all(kind)
	slices.SortStableFunc(sets, func(a, b *element) int {
		x, _ := score(cmp.Or(a.attr("score"), "0"))
		y, _ := score(cmp.Or(b.attr("score"), "0"))
		return y - x
	})
	values = map[string]string{}
	for _, set := range sets {
		if ref := set.attr("id-ref"); ref != "" {
			if set = r.byID[ref]; set == nil {
				r.add(manifest.Wrong, owner, kind, "refers to %q, which does not exist", ref)
				continue
			}
		}
		if rule := set.child("rule"); rule != nil && !r.setHolds(set, rule, kind+" of "+owner.attr("id")) {
			continue
		}
		list := set.all("nvpair")
		if old := set.child("attributes"); old != nil { // the schema of Heartbeat 2
			list = append(list, old.all("nvpair")...)
		}
		for _, nv := range list {
			if ref := nv.attr("id-ref"); ref != "" && r.byID[ref] != nil {
				nv = r.byID[ref]
			}
			places = append(places, nv)
			name := nv.attr("name")
			if kind != "instance_attributes" && kind != "utilization" {
				name = strings.ReplaceAll(name, "_", "-")
			}
			if _, set := values[name]; !set {
				values[name] = nv.attr("value")
			}
		}
	}
	return values, places
}

// setHolds decides the rule of an attribute set for the agent at hand. What depends on the
// node or on the hour is left out.
func (r *reader) setHolds(set, rule *element, option string) bool {
	var f facts
	switch r.rule(rule, "", &f) {
	case yes:
		if !f.until.IsZero() {
			r.add(manifest.Wrong, set, option, "holds until %s only, and is taken for ever", f.until.Format(time.RFC3339))
		}
		return true
	case no:
		if !f.past.IsZero() || !f.later.IsZero() {
			r.add(manifest.LeftOut, set, option, "%s", f.reason())
		}
		return false
	}
	if f.ofAgent && r.agent == nil {
		r.add(manifest.Taken, set, option, "its rule is decided for each resource")
		return false
	}
	r.add(manifest.LeftOut, set, option, "holds only under a rule: %s", f.reason())
	return false
}

func (r *reader) values(owner *element, kind string) map[string]string {
	values, _ := r.pairs(owner, kind)
	return values
}

// metaOf reads meta attributes; in the schema of Heartbeat 2 some are attributes of the
// element or stand among the parameters.
func (r *reader) metaOf(e *element) map[string]string {
	meta := r.values(e, "meta_attributes")
	for name, value := range e.attrs {
		name = strings.ReplaceAll(name, "_", "-")
		if _, known := metaRules[name]; known && meta[name] == "" {
			meta[name] = value
		}
	}
	for _, name := range []string{"target_role", "is_managed", "resource_stickiness"} {
		if value := r.values(e, "instance_attributes")[name]; value != "" && meta[strings.ReplaceAll(name, "_", "-")] == "" {
			meta[strings.ReplaceAll(name, "_", "-")] = value
		}
	}
	return meta
}

// resources walks primitives, groups, clones and the rest. meta is what is inherited.
func (r *reader) resources(parent *element, meta map[string]string, in *group) {
	for _, e := range parent.kids {
		id := e.attr("id")
		switch e.name {
		case "primitive":
			r.primitive(e, meta, in)
		case "group":
			inherited := maps.Clone(meta)
			own := r.metaOf(e)
			maps.Copy(inherited, own)
			g := &group{id: id, together: true}
			if v := cmp.Or(own["collocated"], e.attr("collocated")); v != "" && !truth(v) {
				g.together = false
				r.add(manifest.Taken, e, "collocated of "+id, "%s: its addresses need not be on one node", v)
			}
			if v := cmp.Or(own["ordered"], e.attr("ordered")); v != "" && !truth(v) {
				r.add(manifest.LeftOut, e, "ordered of "+id, "%s: addresses have no order of start", v)
			}
			r.resources(e, inherited, g)
			r.groupOf(e, g)
		case "clone", "master", "bundle":
			if e.name == "clone" && r.holdsPing(e) { // told with the checks that it becomes
				continue
			}
			r.add(manifest.LeftOut, e, e.name+" "+id, "runs on several nodes at once; a HAVIP has one owner%s", addressesIn(e))
		case "template":
			r.members[id] = append(r.members[id], []string{}...)
		case "meta_attributes", "instance_attributes", "operations", "utilization":
		default:
			r.add(manifest.LeftOut, e, e.name+" "+id, "not known among resources")
		}
	}
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

// groupOf makes a hard group of the addresses that a Pacemaker group held together.
func (r *reader) groupOf(e *element, g *group) {
	var addresses []string
	for _, id := range r.members[g.id] {
		if r.found[id].havip != nil {
			addresses = append(addresses, id)
		}
	}
	r.tied[g.id] = g.together
	if g.together && len(addresses) > 1 {
		r.draft(e, g.id, fsm.Together, true, addresses)
	}
}

func (r *reader) primitive(e *element, inherited map[string]string, in *group) {
	id, kind := e.attr("id"), e.attr("type")
	if r.found[id] != nil {
		return // index has said that it is there twice
	}
	params, meta, class, provider := r.values(e, "instance_attributes"), map[string]string{}, e.attr("class"), e.attr("provider")
	if name := e.attr("template"); name != "" {
		t := r.byID[name]
		if t == nil || t.name != "template" {
			r.add(manifest.Wrong, e, "primitive "+id, "refers to the template %q, which does not exist", name)
			return
		}
		kind, class, provider = t.attr("type"), t.attr("class"), t.attr("provider")
		for k, v := range r.values(t, "instance_attributes") {
			if _, own := params[k]; !own {
				params[k] = v
			}
		}
		maps.Copy(meta, r.metaOf(t))
		r.members[name] = append(r.members[name], id)
	}
	own := r.metaOf(e)
	maps.Copy(meta, own)
	meta = r.inherit(inherited, meta, agent{class, provider, kind})
	p := &resource{id: id, line: e.line, scores: map[string]int{}, named: map[string]bool{}, bans: map[string]string{}}
	p.sticky = r.number(e, id, "resource-stickiness", meta)
	p.stopped = strings.EqualFold(meta["target-role"], "Stopped")
	r.enter(p, in)
	if slices.ContainsFunc(r.pingOrder, func(p *ping) bool { return p.e == e }) {
		return // told with the checks that it becomes
	}
	if !isAddress(kind) {
		if every := monitorOf(e); every != "" {
			r.monitors = append(r.monitors, monitored{e, id, class, kind, every})
		}
		kept, why := r.noAddress(class, kind, params)
		r.add(kept, e, "primitive "+id+" ("+kind+")", "%s", why)
		return
	}
	if class == "heartbeat" && params["ip"] == "" {
		params["ip"] = params["1"] // its parameters have numbers
	}
	if p.havip = r.address(e, id, params); p.havip == nil {
		return
	}
	r.meta(e, p, meta)
	r.parameters(e, id, params, own)
}

// inherit puts below the meta attributes of a primitive those of its group, and below these
// the defaults.
func (r *reader) inherit(group, own map[string]string, a agent) map[string]string {
	meta := maps.Clone(r.defaults)
	if r.defaultsIn != nil {
		r.agent = &a
		maps.Copy(meta, r.values(r.defaultsIn, "meta_attributes"))
		r.agent = nil
	}
	maps.Copy(meta, group)
	maps.Copy(meta, own)
	return meta
}

// enter books a primitive, and what its group makes of it.
func (r *reader) enter(p *resource, in *group) {
	r.found[p.id] = p
	r.order = append(r.order, p.id)
	if in == nil {
		return
	}
	r.members[in.id] = append(r.members[in.id], p.id)
	if in.last != "" {
		if in.together {
			r.sticks = append(r.sticks, bond{in.last, p.id})
		}
		if in.together {
			r.needs[p.id] = append(r.needs[p.id], need{in.last, "before it in group " + in.id})
		}
	}
	in.last = p.id
}

// address makes the HAVIP of a primitive; nil if it has none.
func (r *reader) address(e *element, id string, params map[string]string) *manifest.HAVIP {
	text := cmp.Or(params["ip"], params["ipv6addr"])
	host, mask, _ := strings.Cut(text, "/")
	ip, err := netip.ParseAddr(host)
	switch {
	case text == "":
		r.lose(e, "primitive "+id, "has no parameter ip; nothing is imported from it")
		return nil
	case err != nil || ip.Zone() != "" || ip.Is4In6():
		r.lose(e, "primitive "+id, "%q is not an IP address; left out", text)
		return nil
	}
	bits, err := strconv.Atoi(cmp.Or(params["cidr_netmask"], params["netmask"], mask))
	if err != nil {
		bits = -1
	}
	if why := manifest.NoHAVIP(ip, bits); why != "" {
		r.lose(e, "primitive "+id, "%s can be no HAVIP; left out: %s", ip, why)
		return nil
	}
	if other, twice := r.byIP[ip]; twice {
		r.add(manifest.Wrong, e, "primitive "+id, "%s is also the address of %s; taken once", ip, other)
		return nil
	}
	if len(r.byIP) >= fsm.MaxHAVIPs {
		r.lose(e, "primitive "+id, "more than %d addresses; left out", fsm.MaxHAVIPs)
		return nil
	}
	r.byIP[ip] = id
	h := manifest.NewHAVIP(r.names.Free(manifest.Label(id)))
	h.IP = ip.String()
	r.add(manifest.Taken, e, "primitive "+id, "HAVIP %s, address %s", h.Name, ip)
	return &h
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

// number reads a score among meta attributes; Pacemaker takes what is none for 0.
func (r *reader) number(e *element, id, name string, meta map[string]string) int {
	text, there := meta[name]
	n, ok := score(text)
	if there && !ok {
		r.add(manifest.Wrong, e, name+" of "+id, "%q is not a score; Pacemaker takes it for %d", text, n)
	}
	return n
}

// meta reads the meta attributes of an address, inherited ones included.
func (r *reader) meta(e *element, p *resource, meta map[string]string) {
	h := p.havip
	managed := meta["is-managed"] == "" || truth(meta["is-managed"])
	for _, name := range slices.Sorted(maps.Keys(meta)) {
		value := meta[name]
		switch name {
		case "priority":
			h.Priority = r.number(e, p.id, name, meta)
		case "resource-stickiness":
		case "migration-threshold":
			h.FailLimit = max(0, r.number(e, p.id, name, meta))
			if h.FailLimit >= Infinity {
				h.FailLimit = 0
			}
		case "target-role":
			h.Enabled = !p.stopped || !managed
			if p.stopped && !managed {
				r.add(manifest.Changed, e, name+" of "+p.id, "%s, and it is not managed, so Pacemaker does not stop it either: enabled, and left where it is", value)
				continue
			}
		case "is-managed":
			h.Managed = truth(value)
		case "maintenance":
			h.Maintenance = truth(value)
		default:
			continue
		}
		r.add(manifest.Taken, e, name+" of "+p.id, "%s", value)
	}
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
	switch strings.ToLower(strings.TrimPrefix(s, "+")) {
	case "infinity":
		return Infinity, true
	case "-infinity", "red":
		return -Infinity, true
	case "yellow", "green":
		return 0, true
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(s, "+"), 10, 64)
	return int(max(-Infinity, min(Infinity, n))), err == nil
}

// plus adds two scores as Pacemaker does: -INFINITY wins over everything, INFINITY over the
// rest.
func plus(a, b int) int {
	switch {
	case a <= -Infinity || b <= -Infinity:
		return -Infinity
	case a >= Infinity || b >= Infinity:
		return Infinity
	}
	return max(-Infinity, min(Infinity, a+b))
}
