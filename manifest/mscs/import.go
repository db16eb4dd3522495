// Package mscs imports the addresses of a Windows failover cluster (MSCS, WSFC) from what its PowerShell
// cmdlets print as JSON: resources of the types IP Address and IPv6 Address with their parameters and possible
// owners, and of their groups the preferred owners, the failback and the thresholds. Everything else is
// reported as left out with the reason.
//
// Sources: Microsoft's references of the cmdlets of the module FailoverClusters and of the classes
// MSCluster_Resource and MSCluster_ResourceGroup.
package mscs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/havip"
	"havip-cluster/manifest"
)

// Scores of preferred owners, by their order.
const (
	preferFirst = 100
	preferStep  = 10
)

// Types of resources that have an address.
const (
	typeIPv4 = "IP Address"
	typeIPv6 = "IPv6 Address"
)

type importer struct {
	report *manifest.Import
	names  manifest.Names
	labels manifest.Names // of groups

	nodes      []string // in their order
	groups     []object
	resources  []object
	parameters map[string]map[string]object // by resource and name
	owners     map[string]object            // by group or resource
	seen       map[string]string            // addresses, with the resource that has it
	firsts     map[string]string            // the first HAVIP of a group
	ports      map[string]string            // of probes, with the HAVIP that has it
}

// Import reads the output of Get-ClusterGroup, Get-ClusterResource, Get-ClusterParameter,
// Get-ClusterOwnerNode, Get-ClusterNode, Get-ClusterQuorum and Get-Cluster, in any files and order. The
// error is a manifest.Faults with file and line.
func Import(sources []manifest.Source) (manifest.Import, error) {
	i := &importer{
		report: &manifest.Import{Manifest: manifest.New()}, names: manifest.Names{}, labels: manifest.Names{},
		parameters: map[string]map[string]object{}, owners: map[string]object{}, seen: map[string]string{}, firsts: map[string]string{}, ports: map[string]string{},
	}
	if len(sources) == 0 {
		return *i.report, manifest.Refuse("", 0, 0, fsm.CodeMissing, "give what the cluster's cmdlets print, see docs/from-mscs.md")
	}
	given := map[string]bool{}
	for _, s := range sources {
		if given[s.Name] {
			return *i.report, manifest.Refuse(s.Name, 0, 0, fsm.CodeDuplicate, "the file is given twice")
		}
		given[s.Name] = true
		all, err := text(s)
		if err == nil {
			err = wrongForm(s.Name, all)
		}
		var objects []object
		if err == nil {
			objects, err = parse(s.Name, all)
		}
		if err != nil {
			return *i.report, err
		}
		for _, o := range objects {
			i.sort(o)
		}
	}
	if err := i.complete(sources[0].Name); err != nil {
		return *i.report, err
	}
	for _, g := range i.groups {
		i.group(g)
	}
	i.withoutGroup()
	i.apart()
	i.report.Finish()
	return *i.report, manifest.CheckImport(*i.report, sources[0].Name, "no resource of the types IP Address and IPv6 Address was given that can be taken")
}

// wrongForm names what is another program's, and what PowerShell prints for people.
func wrongForm(file, all string) error {
	if err := manifest.WrongForm(file, all, manifest.FormMSCS); err != nil {
		return err
	}
	first, _, _ := strings.Cut(strings.TrimSpace(all), "\n")
	if strings.HasPrefix(first, "Name ") && strings.Contains(all, "----") || strings.Contains(first, "OwnerGroup") && !strings.ContainsAny(first, "{[\"") {
		return manifest.Refuse(file, 1, 1, fsm.CodeMalformed, "this is the table that PowerShell prints for people; add `| ConvertTo-Json -Depth 3`")
	}
	if strings.HasPrefix(first, "<Objs") || strings.HasPrefix(first, "#TYPE") {
		return manifest.Refuse(file, 1, 1, fsm.CodeMalformed, "this is Export-Clixml or Export-Csv; use `| ConvertTo-Json -Depth 3`")
	}
	return nil
}

// sort puts an object where it belongs, by the properties that its class has.
func (i *importer) sort(o object) {
	switch {
	case o.has("OwnerNodes"):
		i.owners[o.str("ClusterObject")] = o
	case o.has("ClusterObject", "Name"):
		of := o.str("ClusterObject")
		if i.parameters[of] == nil {
			i.parameters[of] = map[string]object{}
		}
		i.parameters[of][o.str("Name")] = o
	case o.has("ResourceType"):
		i.resources = append(i.resources, o)
	case isNode(o):
		i.node(o)
	case o.has("FailoverThreshold") || o.has("AutoFailbackType") || o.has("GroupType") || o.has("PersistentState"):
		i.groups = append(i.groups, o)
	case o.has("QuorumType") || o.has("QuorumResource"):
		i.report.Add(manifest.LeftOut, o.file, o.line, "quorum "+o.str("QuorumType"), "here the majority of the voters decides, without a disk or a share; a third host for two nodes: `node add NAME --role witness`")
	case o.has("SameSubnetThreshold") || o.has("SameSubnetDelay"):
		i.report.Add(manifest.LeftOut, o.file, o.at("SameSubnetThreshold"), fmt.Sprintf("cluster %s: SameSubnetDelay %s, SameSubnetThreshold %s", o.str("Name"), o.str("SameSubnetDelay"), o.str("SameSubnetThreshold")),
			"how soon a lost node is noticed is the lease here: `bootstrap --profile`, `cluster set lease=...`")
	default:
		i.report.Add(manifest.Wrong, o.file, o.line, "object", "is of no class that is known here (its properties: %s); see docs/from-mscs.md for the cmdlets", shorten(o.order))
	}
}

// isNode tells a node, also one of which only name and state were selected.
func isNode(o object) bool {
	states := []string{"Up", "Down", "Paused", "Joining", "Unknown"}
	return o.has("NodeWeight") || o.has("NodeName") || o.has("Name") && slices.Contains(states, o.str("State"))
}

// shorten lists the first of some names.
func shorten(names []string) string {
	const most = 5
	text := strings.Join(names[:min(len(names), most)], ", ")
	if len(names) > most {
		text += ", ..."
	}
	return text
}

func (i *importer) node(o object) {
	name := manifest.NodeName(firstOf(o.str("Name"), o.str("NodeName")))
	if slices.Contains(i.nodes, name) {
		i.report.Add(manifest.Wrong, o.file, o.line, "node "+name, "is given twice")
		return
	}
	i.nodes = append(i.nodes, name)
	i.report.Add(manifest.Taken, o.file, o.line, "node "+name, "a member, where no possible owners are said")
	if weight, ok := o.number("NodeWeight"); ok && weight == 0 {
		i.report.Add(manifest.LeftOut, o.file, o.at("NodeWeight"), "NodeWeight 0", "has no vote there; here `join` or `node add` says who votes: --role agent")
	}
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// complete names what was not given and is needed.
func (i *importer) complete(file string) error {
	if len(i.resources) == 0 {
		return manifest.Refuse(file, 0, 0, fsm.CodeMissing, "no resources were given: `Get-ClusterResource | ConvertTo-Json -Depth 3`")
	}
	if len(i.parameters) == 0 {
		return manifest.Refuse(file, 0, 0, fsm.CodeMissing, "the addresses are in the parameters, which were not given: `Get-ClusterResource | Get-ClusterParameter | ConvertTo-Json -Depth 3`")
	}
	if len(i.nodes) > 0 {
		return nil
	}
	for _, o := range i.owners {
		for _, name := range o.list("OwnerNodes") {
			if n := manifest.NodeName(name); !slices.Contains(i.nodes, n) {
				i.nodes = append(i.nodes, n)
			}
		}
	}
	slices.Sort(i.nodes)
	if len(i.nodes) == 0 {
		return manifest.Refuse(file, 0, 0, fsm.CodeMissing, "no node is named: `Get-ClusterNode | ConvertTo-Json -Depth 3`")
	}
	i.report.Add(manifest.Changed, file, 1, "nodes", "Get-ClusterNode was not given; the nodes are those that are somewhere an owner: %s", strings.Join(i.nodes, ", "))
	return nil
}

// inGroup are the resources of a group.
func (i *importer) inGroup(name string) (out []object) {
	for _, r := range i.resources {
		if r.str("OwnerGroup") == name {
			out = append(out, r)
		}
	}
	return out
}

// withoutGroup finds resources whose group was not given.
func (i *importer) withoutGroup() {
	for _, r := range i.resources {
		name := r.str("OwnerGroup")
		if !slices.ContainsFunc(i.groups, func(g object) bool { return g.str("Name") == name }) {
			if v := i.resource(r); v != nil {
				i.report.Add(manifest.Changed, r.file, r.at("OwnerGroup"), "group "+name, "was not given (Get-ClusterGroup): no preferred owners, failback never")
				i.report.Manifest.HAVIPs = append(i.report.Manifest.HAVIPs, *v)
			}
		}
	}
}

// address reads the address of a resource; nil where there is none that can be taken.
func (i *importer) address(r object) *netip.Addr {
	name, of := r.str("Name"), i.parameters[r.str("Name")]
	p, given := of["Address"]
	if dhcp, ok := of["EnableDhcp"]; ok && dhcp.str("Value") == "1" {
		i.report.Lose(dhcp.file, dhcp.line, name+": EnableDhcp", "its address comes by DHCP and may change; give the HAVIP a fixed one by hand")
		return nil
	}
	if !given {
		i.report.Lose(r.file, r.line, name, "its parameter Address was not given (Get-ClusterParameter); left out")
		return nil
	}
	ip, err := netip.ParseAddr(p.str("Value"))
	if err != nil || ip.Zone() != "" || ip.Is4In6() {
		i.report.Lose(p.file, p.line, name+": Address", "%q is not an IP address; left out", p.str("Value"))
		return nil
	}
	if why := manifest.NoHAVIP(ip, -1); why != "" {
		i.report.Lose(p.file, p.line, name+": Address", "%s can be no HAVIP; left out: %s", ip, why)
		return nil
	}
	if other, twice := i.seen[ip.String()]; twice {
		i.report.Add(manifest.Wrong, p.file, p.line, name+": Address", "%s is that of %s too. Taken once", ip, other)
		return nil
	}
	i.seen[ip.String()] = name
	for _, parameter := range sorted(of) {
		if x := of[parameter]; parameter != "Address" && parameter != "ProbePort" && x.str("Value") != "" {
			rule, known := parameterRules[parameter]
			if !known {
				rule = leave("no parameter of an address that is known here")
			}
			i.report.Add(rule.kind, x.file, x.line, name+": "+parameter+" "+x.str("Value"), "%s", rule.text)
		}
	}
	return &ip
}

// resource makes a HAVIP of an address; nil for everything else.
func (i *importer) resource(r object) *manifest.HAVIP {
	kind, name := r.str("ResourceType"), r.str("Name")
	if kind != typeIPv4 && kind != typeIPv6 {
		i.report.Add(manifest.LeftOut, r.file, r.line, name+" ("+kind+")", "%s", typeRule(kind))
		return nil
	}
	ip := i.address(r)
	if ip == nil {
		return nil
	}
	v := manifest.NewHAVIP(i.names.Free(manifest.Label(name)))
	v.IP = ip.String()
	i.report.Add(manifest.Taken, r.file, r.line, name, "HAVIP %s", v.Name)
	i.possible(r, &v)
	i.probe(r, &v)
	for _, key := range r.order {
		if rule, known := resourceRules[key]; known {
			i.report.Add(rule.kind, r.file, r.at(key), name+": "+key+" "+r.str(key), "%s", rule.text)
		}
	}
	return &v
}

// probe takes the port at which a load balancer asks.
func (i *importer) probe(r object, v *manifest.HAVIP) {
	p, given := i.parameters[r.str("Name")]["ProbePort"]
	port, ok := p.number("Value")
	if !given || ok && port <= 0 {
		return
	}
	text := fmt.Sprintf("tcp:%d", port)
	option := r.str("Name") + ": ProbePort " + p.str("Value")
	if _, err := havip.ParseProbe(text); err != nil || !ok {
		i.report.Add(manifest.Wrong, p.file, p.line, option, "is no port; taken without a probe")
		return
	}
	if other, twice := i.ports[text]; twice {
		i.report.Add(manifest.Changed, p.file, p.line, option, "HAVIP %s has this port; HAVIPs that are together need one probe, others each their own", other)
		return
	}
	i.ports[text] = v.Name
	v.Probe = text
	i.report.Add(manifest.Taken, p.file, p.line, option, "probe: %s, answered by the owner alone", text)
}

// possible makes the range of the possible owners.
func (i *importer) possible(r object, v *manifest.HAVIP) {
	members := i.nodes
	if o, given := i.owners[r.str("Name")]; given {
		members = nil
		for _, name := range o.list("OwnerNodes") {
			members = append(members, manifest.NodeName(name))
		}
		i.report.Add(manifest.Taken, o.file, o.line, r.str("Name")+": possible owners", "the range: %s", strings.Join(members, ", "))
		if len(members) == 0 {
			i.report.Lose(o.file, o.line, r.str("Name")+": possible owners", "there are none, so it was nowhere online; the range is empty, and nobody may own it")
		}
	}
	v.Range.Type, v.Range.Members = string(fsm.RangeCVM), slices.Clone(members)
	if len(members) > fsm.MaxRangeMembers {
		v.Range = manifest.Range{Members: []string{}}
		i.report.Add(manifest.Changed, r.file, r.line, r.str("Name"), "%d possible owners; a range holds %d, so the limit is off", len(members), fsm.MaxRangeMembers)
	}
}
