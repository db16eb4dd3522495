package keepalived

import (
	"fmt"
	"maps"
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
	// Files follows includes; nil reports them as left out.
	Files Files
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
		c := &config{source: v.source.Name, report: &report, scripts: map[string]*statement{}}
		tree, err := newParser(opt.Files, v.id, &report).parse(v.source)
		if err != nil {
			return report, err
		}
		if err := read(tree, c); err != nil {
			return report, err
		}
		configs = append(configs, c)
		c.node = nodeOf(v.node, c.routerID, v.source.Name)
	}
	if err := nameNodes(configs, views); err != nil {
		return report, err
	}
	m := &merger{report: &report, names: manifest.Names{}, groupNames: manifest.Names{}, configs: configs, havips: map[*virtual][]string{}}
	if err := m.merge(); err != nil {
		return report, err
	}
	report.Finish()
	return report, manifest.CheckImport(report, sources[0].Name)
}

// view is one node's reading of one file.
type view struct {
	source manifest.Source
	id     string // config-id
	node   string // as said by the user or by a condition
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
		names := opt.Nodes
		if len(names) == 0 {
			conditions, err := conditionsOf(sources[0], opt.Files)
			if err != nil {
				return nil, err
			}
			names = conditions
		}
		if len(names) > 0 {
			var views []view
			for _, name := range names {
				views = append(views, view{sources[0], name, manifest.NodeName(name)})
			}
			return views, nil
		}
	}
	views := make([]view, len(sources))
	for i, s := range sources {
		views[i] = view{source: s}
		if i < len(opt.Nodes) {
			views[i].id, views[i].node = opt.Nodes[i], manifest.NodeName(opt.Nodes[i])
		}
	}
	return views, nil
}

// conditionsOf lists the words that the conditions of a file name, sorted.
func conditionsOf(src manifest.Source, files Files) ([]string, error) {
	var ignored manifest.Import
	p := newParser(files, "", &ignored)
	if _, err := p.parse(src); err != nil && len(p.conditions) == 0 {
		return nil, err
	}
	if len(p.conditions) > MaxSources {
		return nil, manifest.Refuse(src.Name, 0, 0, fsm.CodeLimit, "%d different @conditions, at most %d", len(p.conditions), MaxSources)
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(p.conditions)), func(s string) bool { return s == "" }), nil
}

// nameNodes gives files that would name the same node the names of the files instead.
func nameNodes(configs []*config, views []view) error {
	count := map[string]int{}
	for _, c := range configs {
		count[c.node]++
	}
	seen := map[string]string{}
	for n, c := range configs {
		if count[c.node] > 1 && views[n].node == "" {
			if c.routerID != "" {
				c.add(manifest.Wrong, place{c.source, 1}, "router_id "+c.routerID, "several files have this router_id; the file's name names the node")
			}
			c.node = nodeOf("", "", c.source)
		}
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
		if err := m.place(v); err != nil {
			return err
		}
		m.strangers(v)
	}
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
		if f.iface == i.iface {
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
			return a.refuse(fsm.CodeLimit, "%s is on %d nodes; a range holds %d", key, len(h.Range.Members), fsm.MaxRangeMembers)
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
