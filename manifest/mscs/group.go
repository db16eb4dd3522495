package mscs

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/havip"
	"havip-cluster/manifest"
)

// group makes the HAVIPs of one group (a role), which move as one.
func (i *importer) group(g object) {
	name := g.str("Name")
	if core(g) {
		i.report.Add(manifest.LeftOut, g.file, g.line, "group "+name, "is the cluster's own: its name and address are for its management, which is the API of each node here")
		for _, r := range i.inGroup(name) {
			i.report.Add(manifest.LeftOut, r.file, r.line, r.str("Name"), "belongs to the cluster's own group")
		}
		return
	}
	var havips []manifest.HAVIP
	for _, r := range i.inGroup(name) {
		if v := i.resource(r); v != nil {
			havips = append(havips, *v)
		}
	}
	if len(havips) == 0 {
		i.report.Add(manifest.LeftOut, g.file, g.line, "group "+name, "has no address")
		return
	}
	i.report.Add(manifest.Taken, g.file, g.line, "group "+name, "%s", counted(len(havips)))
	with := havip.Defaults()
	i.policy(g, &with)
	for n := range havips {
		probe := havips[n].Probe
		havips[n].View = with
		havips[n].Probe = probe
		i.report.Manifest.HAVIPs = append(i.report.Manifest.HAVIPs, havips[n])
	}
	i.firsts[name] = havips[0].Name
	if len(havips) > 1 {
		together := manifest.Group{Name: i.labels.Free(manifest.Label(name)), Kind: string(fsm.Together), Hard: true}
		for _, v := range havips {
			together.HAVIPs = append(together.HAVIPs, v.Name)
		}
		i.report.Manifest.Groups = append(i.report.Manifest.Groups, together)
		i.report.Add(manifest.Taken, g.file, g.line, "group "+name, "its addresses move as one: hard group %s", together.Name)
	}
}

func counted(n int) string {
	if n == 1 {
		return "one HAVIP"
	}
	return fmt.Sprintf("%d HAVIPs", n)
}

// core: the group of the cluster's own name and address, and that of its storage.
func core(g object) bool {
	if is := g.str("IsCoreGroup"); is != "" {
		return is == "true"
	}
	return g.str("Name") == "Cluster Group" || g.str("Name") == "Available Storage"
}

// policy reads what a group says of where it goes.
func (i *importer) policy(g object, v *manifest.View) {
	name := g.str("Name")
	if o, given := i.owners[name]; given {
		i.preferred(o, name, v)
	}
	for _, key := range g.order {
		read, special := groupFields[key]
		if special {
			kind, text := read(g, v, i)
			if text != "" {
				i.report.Add(kind, g.file, g.at(key), name+": "+key+" "+g.str(key), "%s", text)
			}
			continue
		}
		if rule, known := groupRules[key]; known && rule.text != "" && g.str(key) != "" && g.str(key) != "0" {
			i.report.Add(rule.kind, g.file, g.at(key), name+": "+key+" "+g.str(key), "%s", rule.text)
		} else if !known {
			i.report.Add(manifest.LeftOut, g.file, g.at(key), name+": "+key, "is no property that is known here")
		}
	}
}

// preferred gives scores in the order of the preferred owners.
func (i *importer) preferred(o object, name string, v *manifest.View) {
	owners := o.list("OwnerNodes")
	if len(owners) == 0 {
		return
	}
	v.Prefer = map[string]int{}
	var said []string
	for n, owner := range owners {
		node, score := manifest.NodeName(owner), max(preferFirst-n*preferStep, 1)
		if !slices.Contains(i.nodes, node) {
			i.report.Add(manifest.Wrong, o.file, o.line, name+": preferred owners", "%s is no node of the cluster", owner)
			continue
		}
		if _, twice := v.Prefer[node]; !twice {
			v.Prefer[node] = score
			said = append(said, fmt.Sprintf("%s %d", node, score))
		}
	}
	i.report.Add(manifest.Taken, o.file, o.line, name+": preferred owners", "scores in their order: %s", strings.Join(said, ", "))
}

// groupFields are the properties that become settings.
var groupFields = map[string]func(g object, v *manifest.View, i *importer) (manifest.FindingKind, string){
	"AutoFailbackType":    failback,
	"FailbackWindowStart": nothing, // with AutoFailbackType
	"FailbackWindowEnd":   nothing,
	"FailoverThreshold":   threshold,
	"FailoverPeriod":      period,
	"Priority":            priority,
	"PersistentState": func(g object, v *manifest.View, _ *importer) (manifest.FindingKind, string) {
		if g.str("PersistentState") == "0" {
			v.Enabled = false
			return manifest.Taken, "it was taken offline by hand: enabled: false"
		}
		return "", ""
	},
	"LockedFromMoving": func(g object, v *manifest.View, _ *importer) (manifest.FindingKind, string) {
		if locked := g.str("LockedFromMoving"); locked == "1" || locked == "true" {
			v.Maintenance = true
			return manifest.Taken, "maintenance: true"
		}
		return "", ""
	},
	"AntiAffinityClassNames": nothing, // see apart
}

func nothing(object, *manifest.View, *importer) (manifest.FindingKind, string) { return "", "" }

// failback reads AutoFailbackType with its window, in hours of the cluster's local time.
func failback(g object, v *manifest.View, _ *importer) (manifest.FindingKind, string) {
	switch kind := strings.ToLower(g.str("AutoFailbackType")); kind {
	case "0", "clusterpreventfailback", "prevent":
		v.Failback = manifest.FailbackNever
		return manifest.Taken, "failback: never"
	case "1", "clusterallowfailback", "allow":
	default:
		return manifest.Wrong, "is neither 0 (prevent) nor 1 (allow); failback: never"
	}
	from, hasFrom := g.number("FailbackWindowStart")
	to, hasTo := g.number("FailbackWindowEnd")
	switch {
	case !hasFrom && !hasTo || from == unset || to == unset:
		v.Failback = manifest.FailbackImmediate
		return manifest.Taken, "at any time: failback: immediate"
	case from > 23 || to > 23 || from == to:
		v.Failback = manifest.FailbackNever
		return manifest.Wrong, fmt.Sprintf("the window from %d to %d is none; failback: never", from, to)
	}
	v.Failback = fmt.Sprintf("%02d:00-%02d:00", from, to)
	return manifest.Changed, fmt.Sprintf("failback: %s in UTC; there it was the cluster's local time: shift it by your zone", v.Failback)
}

// threshold reads how many failures a group may have.
func threshold(g object, v *manifest.View, i *importer) (manifest.FindingKind, string) {
	n, ok := g.number("FailoverThreshold")
	switch {
	case !ok:
		return manifest.Wrong, fmt.Sprintf("is no number; fail_limit: %d", v.FailLimit)
	case n == unset:
		return manifest.Changed, fmt.Sprintf("not set: there one less than there are nodes (%d), on all of them together; fail_limit: %d, on each", len(i.nodes)-1, v.FailLimit)
	case n == 0:
		v.FailLimit = 1
		return manifest.Changed, "there it was not moved at all after a failure; fail_limit: 1, which bars the node"
	}
	v.FailLimit = min(n, havip.ScoreLimit)
	return manifest.Changed, fmt.Sprintf("fail_limit: %d, counted on each node; there on all of them together", v.FailLimit)
}

// period reads in how many hours those failures count.
func period(g object, v *manifest.View, _ *importer) (manifest.FindingKind, string) {
	hours, ok := g.number("FailoverPeriod")
	if !ok || hours == unset || hours == 0 {
		return manifest.Changed, "is no number of hours; the default stays, one failure is forgotten every ten minutes"
	}
	v.FailPeriod = min(hours, havip.FailPeriodMax/3600) * 3600
	text := fmt.Sprintf("fail_period: %d (seconds): one failure at a time is forgotten; there all of them, after %d h", v.FailPeriod, hours)
	if hours*3600 > v.FailPeriod {
		text += fmt.Sprintf(", and more than %d h are not possible", havip.FailPeriodMax/3600)
	}
	return manifest.Changed, text
}

// priority reads the order in which groups are started.
func priority(g object, v *manifest.View, _ *importer) (manifest.FindingKind, string) {
	n, ok := g.number("Priority")
	switch {
	case !ok || n == unset:
		return manifest.Wrong, "is no number; priority: 0"
	case n == 0:
		return manifest.LeftOut, "was not started by itself; here a HAVIP that is enabled has an owner as soon as it can: `havip disable` it if it should not"
	}
	v.Priority = (n - 2000) / 10 // 1000 low, 2000 medium, 3000 high
	return manifest.Taken, fmt.Sprintf("priority: %d", v.Priority)
}

// apart makes soft groups of what shares an anti-affinity class.
func (i *importer) apart() {
	classes, at := map[string][]string{}, map[string]object{}
	for _, g := range i.groups {
		first := i.firsts[g.str("Name")]
		for _, class := range g.list("AntiAffinityClassNames") {
			if first != "" && !slices.Contains(classes[class], first) {
				classes[class] = append(classes[class], first)
				at[class] = g
			}
		}
	}
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		g := at[class]
		if len(classes[class]) < 2 {
			i.report.Add(manifest.LeftOut, g.file, g.at("AntiAffinityClassNames"), "AntiAffinityClassNames "+class, "no other group with an address has this class")
			continue
		}
		group := manifest.Group{Name: i.labels.Free(manifest.Label(class)), Kind: string(fsm.Apart), HAVIPs: classes[class]}
		i.report.Manifest.Groups = append(i.report.Manifest.Groups, group)
		i.report.Add(manifest.Taken, g.file, g.at("AntiAffinityClassNames"), "AntiAffinityClassNames "+class, "soft group %s, apart: %s", group.Name, strings.Join(group.HAVIPs, ", "))
	}
}

func sorted[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
