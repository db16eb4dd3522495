package keepalived

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// Options of an import.
type Options struct {
	// Nodes names the node of each file in turn; "" or absent: router_id, else the file's
	// name. With one file and several names the file is read once for each, with the name
	// as config-id of its @conditions.
	Nodes []string
	// Files follows includes; nil reports them as missing.
	Files Files
	// Roots are folders that stand for the / of the nodes, for includes: one for all files, or
	// one for each file in turn; empty: the / of this host.
	Roots []string
}

// rootsOf lists where the includes of the n-th of all files are looked for.
func (o Options) rootsOf(n, all int) []string {
	if len(o.Roots) == all && all > 1 {
		return o.Roots[n : n+1]
	}
	return o.Roots
}

// MaxSources bounds the files that are given, and the nodes of one file with conditions.
const MaxSources = fsm.MaxNodes

// Import reads the files of all nodes. The error is a manifest.Faults with file and line.
func Import(sources []manifest.Source, opt Options) (manifest.Import, error) {
	report := manifest.Import{Manifest: manifest.New()}
	views, err := viewsOf(sources, opt)
	if err != nil {
		return report, err
	}
	var configs []*config
	for _, v := range views {
		c := &config{source: v.source.Name, report: &report, scripts: map[string]bool{}, later: map[string]bool{}, trackers: map[string]*tracker{}}
		p := newParser(opt.Files, v.id, &report)
		p.roots = v.roots
		tree, err := p.parse(v.source)
		if err != nil {
			return report, err
		}
		read(tree, c)
		c.doubleRouters()
		configs = append(configs, c)
	}
	if err := nameNodes(configs, views); err != nil {
		return report, err
	}
	m := &merger{report: &report, names: manifest.Names{}, groupNames: manifest.Names{}, configs: configs, havips: map[*virtual][]string{}}
	if err := m.merge(); err != nil {
		return report, err
	}
	report.Finish()
	return report, manifest.CheckImport(report, sources[0].Name, "no vrrp_instance that keepalived would run has an address that can be taken; the findings say why")
}

// view is one node's reading of one file.
type view struct {
	source manifest.Source
	roots  []string
	id     string // config-id
	node   string // as said by the user or by a condition
	rest   bool   // the node that only negated conditions speak of
}

// viewsOf says how often each file is read, and for whom.
func viewsOf(sources []manifest.Source, opt Options) ([]view, error) {
	if len(sources) == 0 {
		return nil, manifest.Refuse("", 0, 0, fsm.CodeMissing, "give at least one keepalived.conf")
	}
	if len(sources) > MaxSources || len(opt.Nodes) > MaxSources {
		return nil, manifest.Refuse(sources[0].Name, 0, 0, fsm.CodeLimit, "%d files and %d nodes, at most %d", len(sources), len(opt.Nodes), MaxSources)
	}
	if len(sources) == 1 {
		views, err := viewsOfOne(sources[0], opt)
		if err != nil || len(views) > 0 {
			return views, err
		}
	}
	views := make([]view, len(sources))
	for i, s := range sources {
		views[i] = view{source: s, roots: opt.rootsOf(i, len(sources))}
		if i < len(opt.Nodes) {
			views[i].id, views[i].node = opt.Nodes[i], manifest.NodeName(opt.Nodes[i])
		}
	}
	return views, nil
}

// viewsOfOne says for whom one file is read: the nodes that the user named, else those that
// its conditions name, and one more where @^NAME speaks of a node that none of them is.
func viewsOfOne(src manifest.Source, opt Options) ([]view, error) {
	names, rest := opt.Nodes, false
	if len(names) == 0 {
		var ignored manifest.Import
		p := newParser(opt.Files, "", &ignored)
		p.roots = opt.Roots
		if _, err := p.parse(src); err != nil && len(p.conditions) == 0 {
			return nil, err
		}
		if len(p.conditions) > MaxSources {
			return nil, manifest.Refuse(src.Name, 0, 0, fsm.CodeLimit, "%d different @conditions, at most %d", len(p.conditions), MaxSources)
		}
		names = slices.DeleteFunc(slices.Sorted(maps.Keys(p.conditions)), func(s string) bool { return s == "" })
		rest = len(names) == 1 && len(p.negated) > 0
	}
	var views []view
	for _, name := range names {
		views = append(views, view{source: src, roots: opt.Roots, id: name, node: manifest.NodeName(name)})
	}
	if rest {
		views = append(views, view{source: src, roots: opt.Roots, rest: true})
	}
	return views, nil
}

// nameNodes says of which node each file is: what the user or a condition says, else its
// router_id, else the name of the file, and that is never silent.
func nameNodes(configs []*config, views []view) error {
	ids := map[string]int{}
	for n, c := range configs {
		if views[n].node == "" && c.routerID != "" {
			ids[manifest.NodeName(c.routerID)]++
		}
	}
	seen := map[string]string{}
	for n, c := range configs {
		nameNode(c, views[n], ids[manifest.NodeName(c.routerID)] > 1)
		if first, twice := seen[c.node]; twice {
			return manifest.Refuse(c.source, 1, 1, fsm.CodeDuplicate, "%s is of node %s as well; name the nodes with --node", first, c.node)
		}
		if refusal := fsm.CheckNodeName(c.node); refusal != nil {
			return manifest.Refuse(c.source, 1, 1, refusal.Code, "%s; name the node with --node", refusal.Message)
		}
		seen[c.node] = c.source
		for _, i := range c.instances {
			i.node = c.node
		}
	}
	return nil
}

// nameNode names the node of one file; shared says that other files have its router_id.
func nameNode(c *config, v view, shared bool) {
	top := place{c.source, 1}
	switch {
	case v.node != "":
		c.node = v.node
		if c.routerID != "" {
			c.add(manifest.LeftOut, c.routerAt, "router_id "+c.routerID, "the node has its name from elsewhere")
		}
		return
	case c.routerID != "" && !shared:
		c.node = manifest.NodeName(c.routerID)
		c.add(manifest.Taken, c.routerAt, "router_id "+c.routerID, "names the node: %s", c.node)
		if v.rest {
			c.add(manifest.Changed, top, "node "+c.node, "read once more for the nodes that @^NAME speaks of, as one node; name all nodes with --node")
		}
		return
	case v.rest:
		c.node = "other"
		c.add(manifest.Wrong, top, "node other", "read once more for the nodes that @^NAME speaks of, whose names nothing says; name all nodes with --node")
		return
	}
	c.node = nodeOfFile(c.source)
	why := "there is no router_id"
	if c.routerID != "" {
		c.add(manifest.Wrong, c.routerAt, "router_id "+c.routerID, "several files have this router_id, so it names no node")
		why = "the router_id is not its own"
	}
	c.add(manifest.Changed, top, "node "+c.node, "%s, so the node is called %s after the file; give its name with --node", why, c.node)
}

// nodeOfFile is the name of a file, or of its folder if it is just keepalived.conf.
func nodeOfFile(file string) string {
	base := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	if base == "keepalived" {
		if dir := filepath.Base(filepath.Dir(file)); dir != "." && dir != "/" && dir != "keepalived" {
			base = dir
		}
	}
	return manifest.NodeName(strings.TrimSuffix(base, ".keepalived"))
}

// virtual is one virtual router: the instances of all nodes that belong together.
type virtual struct {
	members []*instance // one a node
}

func (v *virtual) first() *instance { return v.members[0] }

func (v *virtual) has(node string) bool {
	return slices.ContainsFunc(v.members, func(i *instance) bool { return i.node == node })
}

// shares reports whether an instance has an address with it in common.
func (v *virtual) shares(i *instance) bool {
	for _, m := range v.members {
		for _, a := range m.vips {
			if slices.ContainsFunc(i.vips, func(b vip) bool { return a.addr == b.addr }) {
				return true
			}
		}
	}
	return false
}

// merger makes one manifest of the nodes' configurations.
type merger struct {
	report     *manifest.Import
	names      manifest.Names
	groupNames manifest.Names
	configs    []*config
	virtuals   []*virtual
	havips     map[*virtual][]string // names
	addresses  map[string]string     // address: HAVIP
}

func (m *merger) add(kind manifest.FindingKind, p place, option, format string, args ...any) {
	m.report.Add(kind, p.file, p.line, option, format, args...)
}

func (m *merger) merge() error {
	m.addresses = map[string]string{}
	for _, c := range m.configs {
		for _, i := range c.instances {
			m.join(i)
		}
	}
	for _, v := range m.virtuals {
		if !slices.ContainsFunc(v.members, func(i *instance) bool { return len(i.vips) > 0 }) {
			continue
		}
		if err := m.place(v); err != nil {
			return err
		}
		m.strangers(v)
	}
	m.checks()
	m.tellTrackers()
	m.groups()
	return nil
}

// join puts an instance to those of the other nodes with the same virtual_router_id.
func (m *merger) join(i *instance) {
	var other *virtual
	for _, v := range m.virtuals {
		f := v.first()
		if f.vrid != i.vrid || v.has(i.node) {
			continue
		}
		if v.shares(i) || f.name == i.name && (len(f.vips) == 0 || len(i.vips) == 0) {
			v.members = append(v.members, i)
			return
		}
		if i.vrid != 0 && f.iface == i.iface && f.family == i.family {
			other = v
		}
	}
	if other != nil {
		m.add(manifest.Wrong, i.place, "virtual_router_id", "%d is also that of %s on %s, which has other addresses: they would take each other's adverts for their own",
			i.vrid, other.first().name, other.first().node)
	}
	m.virtuals = append(m.virtuals, &virtual{members: []*instance{i}})
}

// place makes the HAVIPs of one virtual router.
func (m *merger) place(v *virtual) error {
	owners := map[string][]string{} // address: nodes
	var order []vip
	for _, i := range v.members {
		for _, a := range i.vips {
			key := a.addr.String()
			if len(owners[key]) == 0 {
				order = append(order, a)
			}
			if slices.Contains(owners[key], i.node) {
				m.add(manifest.Wrong, a.place, key, "is listed twice in %s", i.name)
				continue
			}
			if len(owners[key]) > 0 {
				m.add(manifest.Taken, a.place, key, "node %s has it as well: it is in the range", i.node)
			}
			owners[key] = append(owners[key], i.node)
		}
	}
	failback := m.failback(v)
	prefer := m.prefer(v)
	for n, a := range order {
		key := a.addr.String()
		if first, twice := m.addresses[key]; twice {
			m.add(manifest.Wrong, a.place, key, "is also the address of %s; taken once", first)
			continue
		}
		name := manifest.Label(v.first().name)
		if len(order) > 1 {
			name = fmt.Sprintf("%s-%d", name, n+1)
		}
		if len(m.addresses) >= fsm.MaxHAVIPs {
			return a.refuse(fsm.CodeLimit, "more than %d addresses", fsm.MaxHAVIPs)
		}
		h := manifest.NewHAVIP(m.names.Free(name))
		h.IP, h.Failback = key, failback
		h.Range.Type, h.Range.Members = string(fsm.RangeCVM), owners[key]
		if len(h.Range.Members) > fsm.MaxRangeMembers {
			m.add(manifest.Changed, a.place, key, "%d nodes; a range holds %d, so the limit is off and every node of the subnet may own it", len(h.Range.Members), fsm.MaxRangeMembers)
			h.Range = manifest.Range{Members: []string{}}
		}
		for node, score := range prefer {
			if slices.Contains(owners[key], node) {
				if h.Prefer == nil {
					h.Prefer = map[string]int{}
				}
				h.Prefer[node] = score
			}
		}
		m.address(v, a, h, owners[key])
		m.addresses[key] = h.Name
		m.havips[v] = append(m.havips[v], h.Name)
		m.report.Manifest.HAVIPs = append(m.report.Manifest.HAVIPs, h)
	}
	return nil
}

// address reports what becomes of one address.
func (m *merger) address(v *virtual, a vip, h manifest.HAVIP, nodes []string) {
	m.add(manifest.Taken, a.place, h.IP, "HAVIP %s on %s", h.Name, strings.Join(nodes, ", "))
	if a.bits >= 0 && a.bits < a.addr.BitLen() {
		m.add(manifest.Changed, a.place, fmt.Sprintf("%s/%d", h.IP, a.bits), "put on the device as /%d, so that it never becomes the first address of the subnet", a.addr.BitLen())
	}
	for _, i := range v.members {
		if !slices.Contains(nodes, i.node) {
			m.add(manifest.Wrong, i.place, "vrrp_instance "+i.name, "lacks %s, which the others have; node %s is not in its range", h.IP, i.node)
		}
	}
	if len(nodes) == 1 {
		m.add(manifest.Changed, a.place, h.IP, "only node %s has it here: nobody can take over. Give the other nodes' files as well", nodes[0])
	}
}

// prefer turns priorities into scores; equal ones say nothing.
func (m *merger) prefer(v *virtual) map[string]int {
	out := map[string]int{}
	equal := true
	for _, i := range v.members {
		out[i.node] = i.priority
		equal = equal && i.priority == v.first().priority
	}
	if f := v.first(); len(v.members) == 1 && f.prioritySet {
		m.add(manifest.Taken, f.place, "priority", "score of preference: %s; those of the other nodes are not here", scores(out))
		return out
	}
	if !equal {
		m.add(manifest.Taken, v.first().place, "priority", "scores of preference: %s", scores(out))
		return out
	}
	if len(v.members) > 1 {
		m.add(manifest.Changed, v.first().place, "priority", "all nodes have %d: keepalived lets the higher address win, here the emptiest node gets it", v.first().priority)
	}
	return nil
}

func scores(prefer map[string]int) string {
	var parts []string
	for _, node := range slices.Sorted(maps.Keys(prefer)) {
		parts = append(parts, fmt.Sprintf("%s %d", node, prefer[node]))
	}
	return strings.Join(parts, ", ")
}
