// Package heartbeat imports the addresses of a Heartbeat cluster of version 1: haresources
// with its IPaddr, IPaddr2 and IPv6addr resources, and ha.cf for the nodes and
// auto_failback, and checks of its ping nodes where ipfail uses them. Everything else is reported as left out with the reason.
package heartbeat

import (
	"math/bits"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// MaxLines bounds a file.
const MaxLines = 100000

// PreferScore is what the preferred node of a line gets.
const PreferScore = 100

// line is one logical line with its fields.
type line struct {
	number int
	fields []string
}

// entry is one address of haresources.
type entry struct {
	manifest.HAVIP
	file string
	line int
	node string
}

type importer struct {
	report   *manifest.Import
	names    manifest.Names
	groups   manifest.Names
	nodes    []string // of ha.cf, else those of haresources, in their order
	listed   bool     // ha.cf named nodes
	failback string   // on, off, legacy; "" without a word
	entries  []*entry
	byIP     map[string]*entry

	pings      []ping
	ipfail     bool // what is reached moves addresses
	deadping   line
	deadpingIn string // its file
	checkNames manifest.Names
}

func newImporter() *importer {
	return &importer{report: &manifest.Import{Manifest: manifest.New()}, names: manifest.Names{}, groups: manifest.Names{}, checkNames: manifest.Names{}, byIP: map[string]*entry{}}
}

// Import reads haresources and, if given, ha.cf. A file is told by its name, else by what
// is in it. The error is a manifest.Faults with file and line.
func Import(sources []manifest.Source) (manifest.Import, error) {
	i := newImporter()
	if len(sources) == 0 {
		return *i.report, manifest.Refuse("", 0, 0, fsm.CodeMissing, "give haresources, and ha.cf with it")
	}
	var resources []manifest.Source
	parsed := map[string][]line{}
	for _, s := range sources {
		if _, twice := parsed[s.Name]; twice {
			return *i.report, manifest.Refuse(s.Name, 0, 0, fsm.CodeDuplicate, "the file is given twice")
		}
		lines, err := i.split(s)
		if err != nil {
			return *i.report, err
		}
		parsed[s.Name] = lines
		if isSettings(s.Name, lines) {
			i.settings(s.Name, lines)
			continue
		}
		resources = append(resources, s)
	}
	if len(resources) == 0 {
		return *i.report, manifest.Refuse(sources[0].Name, 1, 1, fsm.CodeMissing, "no haresources was given: there are no addresses in ha.cf")
	}
	for _, s := range resources {
		for _, l := range parsed[s.Name] {
			i.resources(s.Name, l)
		}
	}
	i.finish(resources[0].Name)
	i.report.Finish()
	return *i.report, manifest.CheckImport(*i.report, resources[0].Name, "haresources holds no address that can be taken")
}

// split makes logical lines: a backslash at the end joins the next one, # begins a comment.
func (i *importer) split(s manifest.Source) ([]line, error) {
	all, odd, err := manifest.ForeignText(s)
	if err != nil {
		return nil, err
	}
	if err := manifest.WrongForm(s.Name, all, manifest.FormHaresources, manifest.FormHaCf); err != nil {
		return nil, err
	}
	if odd > 0 {
		i.report.Add(manifest.Changed, s.Name, odd, "encoding", "%s", manifest.OddBytes("Heartbeat"))
	}
	raw := strings.Split(strings.ReplaceAll(all, "\r\n", "\n"), "\n")
	if len(raw) > MaxLines {
		return nil, manifest.Refuse(s.Name, MaxLines, 1, fsm.CodeLimit, "more than %d lines", MaxLines)
	}
	var out []line
	var joined line
	for n, text := range raw {
		if at := strings.IndexByte(text, '#'); at >= 0 {
			text = text[:at]
		}
		text, more := strings.CutSuffix(strings.TrimSpace(text), `\`)
		if len(joined.fields) == 0 {
			joined.number = n + 1
		}
		joined.fields = append(joined.fields, strings.Fields(text)...)
		if more && n < len(raw)-1 {
			continue
		}
		if more {
			i.report.Add(manifest.Wrong, s.Name, n+1, `\`, "the file ends after a backslash")
		}
		if len(joined.fields) > 0 {
			out = append(out, joined)
		}
		joined = line{}
	}
	return out, nil
}

// isSettings tells ha.cf from haresources.
func isSettings(name string, lines []line) bool {
	base := filepath.Base(name)
	switch {
	case strings.Contains(base, "haresources"):
		return false
	case strings.Contains(base, "ha.cf"):
		return true
	}
	for _, l := range lines {
		if _, known := directives[l.fields[0]]; known && !strings.Contains(strings.Join(l.fields, " "), "::") {
			return true
		}
	}
	return false
}

// settings reads ha.cf.
func (i *importer) settings(file string, lines []line) {
	for _, l := range lines {
		if i.pinged(file, l) {
			continue
		}
		option := strings.Join(l.fields, " ")
		switch key := l.fields[0]; key {
		case "node":
			if len(l.fields) < 2 {
				i.report.Add(manifest.Wrong, file, l.number, option, "names no node")
				continue
			}
			i.listed = true
			for _, name := range l.fields[1:] {
				i.node(file, l.number, name)
			}
			i.report.Add(manifest.Taken, file, l.number, option, "a member of every range")
		case "auto_failback", "nice_failback":
			i.failbackOf(file, l)
		case "crm", "pacemaker":
			value := strings.ToLower(strings.Join(l.fields[1:], " "))
			if on, known := truth(value); value != "" && (on || !known) {
				i.report.Add(manifest.Wrong, file, l.number, option, "with the CRM on Heartbeat ignores haresources; import its CIB with `import pacemaker`")
			} else {
				i.report.Add(manifest.Taken, file, l.number, option, "haresources counts")
			}
		default:
			d, known := directives[key]
			if !known {
				d = rule{manifest.Wrong, "is not a word that Heartbeat knows; check what it was meant for"}
			}
			i.report.Add(d.kind, file, l.number, option, "%s", d.text)
		}
	}
}

// truth reads Heartbeat's booleans, whose case does not count.
func truth(text string) (on, known bool) {
	switch strings.ToLower(text) {
	case "true", "on", "yes", "y", "1":
		return true, true
	case "false", "off", "no", "n", "0":
		return false, true
	}
	return false, false
}

// failbackOf reads auto_failback, and nice_failback, the old word for the opposite.
func (i *importer) failbackOf(file string, l line) {
	key, option := l.fields[0], strings.Join(l.fields, " ")
	value := ""
	if len(l.fields) > 1 {
		value = l.fields[1]
	}
	on, known := truth(value)
	switch {
	case strings.EqualFold(value, "legacy"):
		i.failback = manifest.FailbackImmediate
		i.report.Add(manifest.Changed, file, l.number, option, "failback: immediate; the waiting of old versions for the other node has no counterpart")
	case !known:
		i.report.Add(manifest.Wrong, file, l.number, option, "%q is not on, off or legacy; Heartbeat does not start so, and it is not taken", value)
	case on == (key == "auto_failback"):
		i.failback = manifest.FailbackImmediate
		i.report.Add(manifest.Taken, file, l.number, option, "failback: immediate")
	default:
		i.failback = manifest.FailbackNever
		i.report.Add(manifest.Taken, file, l.number, option, "failback: never")
	}
}

// node enters a node once and returns its name here.
func (i *importer) node(file string, number int, name string) string {
	own := manifest.NodeName(name)
	if own != name {
		i.report.Add(manifest.Changed, file, number, "node "+name, "called %s: names are lower-case letters, digits, '-' and '.'", own)
	}
	if !slices.Contains(i.nodes, own) {
		i.nodes = append(i.nodes, own)
	}
	return own
}

// resources reads one line of haresources: the preferred node and what it serves.
func (i *importer) resources(file string, l line) {
	if strings.Contains(l.fields[0], "::") || isIP(l.fields[0]) {
		i.report.Lose(file, l.number, l.fields[0], "stands where the node's name belongs and is none, so Heartbeat starts nothing of this line; left out: %s", strings.Join(l.fields[1:], " "))
		return
	}
	preferred := manifest.NodeName(l.fields[0])
	if i.listed && !slices.Contains(i.nodes, preferred) {
		i.report.Add(manifest.Wrong, file, l.number, l.fields[0], "is no node of ha.cf; Heartbeat would not start its resources. Taken as a member")
	}
	preferred = i.node(file, l.number, l.fields[0])
	var together []string
	for _, resource := range l.fields[1:] {
		kind, args, named := strings.Cut(resource, "::")
		if !named && isIP(resource) {
			kind, args = "IPaddr", resource
		}
		switch kind {
		case "IPaddr", "IPaddr2", "IPv6addr":
		default:
			i.report.Add(manifest.LeftOut, file, l.number, resource, "%s", resourceRule(kind))
			continue
		}
		e := i.address(file, l.number, resource, args)
		if e == nil {
			continue
		}
		e.node = preferred
		together = append(together, e.Name)
	}
	if len(l.fields) == 1 {
		i.report.Add(manifest.Wrong, file, l.number, l.fields[0], "a node without resources")
	}
	if len(together) > 1 {
		g := manifest.Group{Name: i.groups.Free(manifest.Label("line-" + strconv.Itoa(l.number))), Kind: string(fsm.Together), Hard: true, HAVIPs: together}
		i.report.Manifest.Groups = append(i.report.Manifest.Groups, g)
		i.report.Add(manifest.Taken, file, l.number, l.fields[0], "the addresses of one line move as one: hard group %s", g.Name)
	}
}

func isIP(text string) bool {
	host, _, _ := strings.Cut(text, "/")
	_, err := netip.ParseAddr(host)
	return err == nil
}

// address reads ADDRESS[/PREFIX[/DEVICE[/BROADCAST]]]; nil for what is none or was there before.
func (i *importer) address(file string, number int, resource, args string) *entry {
	extra := ""
	if !isIP(args) { // an IPv6 address may hold :: itself
		args, extra, _ = strings.Cut(args, "::")
	}
	parts := strings.Split(args, "/")
	ip, err := netip.ParseAddr(parts[0])
	if err != nil || ip.Zone() != "" || ip.Is4In6() {
		i.report.Lose(file, number, resource, "%q is not an IP address; left out", parts[0])
		return nil
	}
	if len(parts) > 1 && !isMask(parts[1], ip) {
		// an interface may stand where the netmask is left out
		if parts[1] != "" && strings.Trim(parts[1], "0123456789.") == "" {
			i.report.Add(manifest.Wrong, file, number, resource, "%q is no netmask of %s; IPaddr does not start so. Taken without it", parts[1], ip)
			parts[1] = ""
		}
		parts = append([]string{parts[0], ""}, parts[1:]...)
	}
	if why := manifest.NoHAVIP(ip, maskBits(parts, ip)); why != "" {
		i.report.Lose(file, number, resource, "%s can be no HAVIP; left out: %s", ip, why)
		return nil
	}
	if first := i.byIP[ip.String()]; first != nil {
		text := "is here twice; first on line " + strconv.Itoa(first.line) + ". Taken once"
		if first.file != file {
			text = "is in " + first.file + " as well; haresources must be the same on every node. Taken once"
		}
		i.report.Add(manifest.Wrong, file, number, resource, "%s", text)
		return nil
	}
	e := &entry{HAVIP: manifest.NewHAVIP(i.names.Free(manifest.Label("ip-" + strings.ReplaceAll(ip.String(), ":", "-")))), file: file, line: number}
	e.IP = ip.String()
	i.byIP[e.IP] = e
	i.entries = append(i.entries, e)
	i.report.Add(manifest.Taken, file, number, resource, "HAVIP %s", e.Name)
	if len(parts) > 1 && parts[1] != "" {
		i.report.Add(manifest.Changed, file, number, resource, "netmask %s: put on the device as /%d", parts[1], ip.BitLen())
	}
	if len(parts) > 2 && parts[2] != "" {
		i.report.Add(manifest.Changed, file, number, resource, "device %s: the ENI is the one of the node in the HAVIP's subnet", parts[2])
	}
	if len(parts) > 3 && parts[3] != "" || extra != "" {
		i.report.Add(manifest.LeftOut, file, number, resource, "the HAVIP is a /%d without a broadcast address or label", ip.BitLen())
	}
	return e
}

// maskBits is the prefix length that stands beside an address, -1 without one.
func maskBits(parts []string, ip netip.Addr) int {
	if len(parts) < 2 {
		return -1
	}
	if n, err := strconv.Atoi(parts[1]); err == nil {
		return n
	}
	mask, err := netip.ParseAddr(parts[1])
	if err != nil || !mask.Is4() || !isMask(parts[1], ip) {
		return -1
	}
	n := 0
	for _, b := range mask.As4() {
		n += bits.OnesCount8(b)
	}
	return n
}

// isMask reads a prefix length or a dotted netmask.
func isMask(text string, ip netip.Addr) bool {
	if n, err := strconv.Atoi(text); err == nil {
		return n >= 0 && n <= ip.BitLen()
	}
	mask, err := netip.ParseAddr(text)
	if err != nil || !mask.Is4() || !ip.Is4() {
		return false
	}
	b := mask.As4()
	ones := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	return ^ones&(^ones+1) == 0 // ones, then zeros
}

// finish gives every address its range, preference and failback.
func (i *importer) finish(file string) {
	failback := i.failback
	if failback == "" {
		failback = manifest.FailbackImmediate
		i.report.Add(manifest.Changed, file, 1, "auto_failback", "not said; Heartbeat's default was legacy. failback: immediate")
	}
	if !i.listed {
		i.report.Add(manifest.Changed, file, 1, "node", "no ha.cf was given; the nodes are those that haresources names")
	}
	if len(i.nodes) == 1 && len(i.entries) > 0 {
		i.report.Add(manifest.Wrong, file, i.entries[0].line, "node "+i.nodes[0], "nobody can take over: Heartbeat always had a second node, which ha.cf names; give ha.cf as well")
	}
	i.finishPings()
	for _, e := range i.entries {
		e.Failback = failback
		e.Prefer = map[string]int{e.node: PreferScore}
		e.Range.Type, e.Range.Members = string(fsm.RangeCVM), i.nodes
		if len(i.nodes) > fsm.MaxRangeMembers {
			e.Range = manifest.Range{Members: []string{}}
			i.report.Add(manifest.Changed, e.file, e.line, e.Name, "%d nodes; a range holds %d, so the limit is off", len(i.nodes), fsm.MaxRangeMembers)
		}
		i.report.Manifest.HAVIPs = append(i.report.Manifest.HAVIPs, e.HAVIP)
	}
}
