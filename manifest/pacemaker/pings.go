package pacemaker

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"havip-cluster/manifest"
)

// What ocf:pacemaker:ping and pingd measure becomes checks of type ping, one for each target, where a
// rule lets it move an address: a rule that bars a node which reaches too few becomes the effect bar, one
// that takes a score away becomes that score.

// ping is one resource that measures how many targets a node reaches.
type ping struct {
	e          *element
	id         string
	attribute  string // of the node, that it writes
	hosts      []string
	multiplier int
	interval   time.Duration
	timeout    time.Duration
	checks     []string // made of it
	blocked    bool     // a rule uses it, and could not be taken
}

func isPing(kind string) bool { return kind == "ping" || kind == "pingd" }

// readPings looks for them everywhere: they mostly run as clones.
func (r *reader) readPings(e *element) {
	if e == nil {
		return
	}
	for _, k := range e.kids {
		if k.name == "primitive" {
			r.readPing(k)
		}
		r.readPings(k)
	}
}

func (r *reader) readPing(e *element) {
	params, kind := r.values(e, "instance_attributes"), e.attr("type")
	if t := r.byID[e.attr("template")]; t != nil && t.name == "template" {
		kind = t.attr("type")
		for k, v := range r.values(t, "instance_attributes") {
			if _, own := params[k]; !own {
				params[k] = v
			}
		}
	}
	if !isPing(kind) {
		return
	}
	p := &ping{e: e, id: e.attr("id"), attribute: cmp.Or(params["name"], "pingd"), multiplier: 1, interval: 10 * time.Second, timeout: 2 * time.Second}
	for _, host := range strings.FieldsFunc(params["host_list"], func(c rune) bool { return c == ' ' || c == ',' || c == '\t' || c == '\n' }) {
		if !slices.Contains(p.hosts, host) {
			p.hosts = append(p.hosts, host)
		}
	}
	if n, err := strconv.Atoi(cmp.Or(params["multiplier"], "1")); err == nil && n > 0 {
		p.multiplier = min(n, Infinity)
	}
	if d, ok := span(params["timeout"]); ok {
		p.timeout = d
	}
	if d, ok := span(monitorOf(e)); ok {
		p.interval = d
	}
	p.interval = min(max(p.interval, 500*time.Millisecond), 5*time.Minute)
	p.timeout = min(p.timeout, p.interval)
	if len(p.hosts) == 0 {
		r.add(manifest.Wrong, e, "primitive "+p.id, "measures nothing: host_list is empty")
		return
	}
	if r.pings[p.attribute] != nil {
		r.add(manifest.Wrong, e, "primitive "+p.id, "writes the attribute %s, which %s writes too; the first counts", p.attribute, r.pings[p.attribute].id)
		return
	}
	r.pings[p.attribute] = p
	r.pingOrder = append(r.pingOrder, p)
}

// monitorOf is the interval of the operation monitor, "" without one.
func monitorOf(e *element) string {
	ops := e.child("operations")
	if ops == nil {
		return ""
	}
	for _, op := range ops.all("op") {
		if op.attr("name") == "monitor" && !strings.EqualFold(op.attr("enabled"), "false") {
			return op.attr("interval")
		}
	}
	return ""
}

// span reads a time as Pacemaker writes it: seconds without a unit.
func span(text string) (time.Duration, bool) {
	text = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(text)), "min", "m")
	if n, err := strconv.ParseFloat(text, 64); err == nil && n > 0 && n < 1e6 {
		return time.Duration(n * float64(time.Second)), true
	}
	d, err := time.ParseDuration(strings.Replace(text, "sec", "s", 1))
	return d, err == nil && d > 0
}

// holdsPing reports whether a clone is one of what measures.
func (r *reader) holdsPing(e *element) bool {
	return slices.ContainsFunc(r.pingOrder, func(p *ping) bool { return slices.Contains(e.kids, p.e) })
}

// values are what the nodes measure when a target less is reached, of each attribute that is known.
func (r *reader) reached(missing int) map[string]int {
	out := map[string]int{}
	for attribute, p := range r.pings {
		out[attribute] = p.multiplier * max(0, len(p.hosts)-missing)
	}
	return out
}

// watch makes checks of a rule that asks for a measured attribute. Each entry of the map is a node's score
// with all targets reached.
func (r *reader) watch(rule *element, id string, ids []string, clusters map[string]*cluster, attribute string) {
	p := r.pings[attribute]
	byEffect := map[manifest.Effect][]string{}
	var effects []manifest.Effect
	for _, n := range r.nodes {
		effect, why := r.effect(rule, n.Name, p)
		if why != "" {
			p.blocked = true
			r.add(manifest.LeftOut, rule, id, "%s; make it by hand of the targets that decide: `check create %s --type ping --target %s --effect bar`", why, manifest.Label(p.id), p.hosts[0])
			return
		}
		if effect == "" {
			continue
		}
		if byEffect[effect] == nil {
			effects = append(effects, effect)
		}
		byEffect[effect] = append(byEffect[effect], n.Name)
	}
	havips := addressNames(ids, clusters)
	for _, effect := range effects {
		nodes := byEffect[effect]
		if len(nodes) == len(r.nodes) {
			nodes = nil
		}
		r.pingChecks(rule, id, p, effect, nodes, havips)
	}
}

// effect is what the loss of one target does at a node: "" for nothing. why says that no check does that.
func (r *reader) effect(rule *element, node string, p *ping) (effect manifest.Effect, why string) {
	all, one, none := r.scoreAt(rule, node, p, 0), r.scoreAt(rule, node, p, 1), r.scoreAt(rule, node, p, len(p.hosts))
	k := len(p.hosts)
	switch {
	case all == one && one == none, all <= -Infinity && none <= -Infinity:
		return "", ""
	case all <= -Infinity || one > all || none > all:
		return "", "a node that reaches less is wished more, which no check does"
	case one <= -Infinity:
		return manifest.EffectBar, ""
	case none <= -Infinity:
		return "", fmt.Sprintf("it bars a node only when several of the %d targets of %s do not answer, and a check has one target", k, p.id)
	case rule.attr("score-attribute") == p.attribute, k == 1:
		return manifest.Effect(strconv.Itoa(max(one-all, -Infinity))), ""
	}
	return "", fmt.Sprintf("it counts how many of the %d targets of %s answer, and a check has one target", k, p.id)
}

// scoreAt is what a rule gives a node that does not reach so many targets.
func (r *reader) scoreAt(rule *element, node string, p *ping, missing int) int {
	f := facts{reached: r.reached(0)}
	f.reached[p.attribute] = p.multiplier * (len(p.hosts) - missing)
	if r.rule(rule, node, &f) != yes {
		return 0
	}
	if rule.attr("score-attribute") == p.attribute {
		return f.reached[p.attribute]
	}
	n, _ := score(rule.attr("score"))
	return n
}

// addressNames are the HAVIPs that resources stand for.
func addressNames(ids []string, clusters map[string]*cluster) []string {
	var out []string
	for _, id := range ids {
		for _, a := range clusters[id].addresses {
			out = append(out, a.havip.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// pingChecks makes a check of each target, or lets one that is there be about more HAVIPs.
func (r *reader) pingChecks(rule *element, id string, p *ping, effect manifest.Effect, nodes, havips []string) {
	does := "takes " + strings.TrimPrefix(string(effect), "-") + " from the score of"
	if effect == manifest.EffectBar {
		does = "bars"
	}
	for i, host := range p.hosts {
		if at := slices.IndexFunc(r.checks, func(c manifest.Check) bool {
			return slices.Contains(p.checks, c.Name) && c.Target == host && c.Effect == effect && slices.Equal(c.Nodes, nodes)
		}); at >= 0 {
			c := &r.checks[at]
			c.HAVIPs = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(c.HAVIPs), havips...))))
			r.add(manifest.Taken, rule, id, "check %s %s %s, too", c.Name, does, strings.Join(havips, ", "))
			continue
		}
		wanted := manifest.Label(p.id)
		if len(p.hosts) > 1 {
			wanted += "-" + strconv.Itoa(i+1)
		}
		c := manifest.NewCheck("")
		c.Type, c.Target, c.Effect, c.Nodes, c.HAVIPs = "ping", host, effect, nodes, havips
		c.Interval, c.Timeout = p.interval.String(), p.timeout.String()
		c.Name = "x"
		if _, refusal := c.State(); refusal != nil {
			p.blocked = true
			r.add(manifest.LeftOut, rule, id, "the target %q of %s can be no check: %s", host, p.id, refusal.Message)
			continue
		}
		c.Name = r.checkNames.Free(wanted)
		r.checks, p.checks = append(r.checks, c), append(p.checks, c.Name)
		r.add(manifest.Taken, rule, id, "check %s, ping of %s, %s %s where it fails", c.Name, host, does, strings.Join(havips, ", "))
	}
}

// finishPings says what became of each resource that measures, and hands the checks over.
func (r *reader) finishPings() {
	r.report.Manifest.Checks = append(r.report.Manifest.Checks, r.checks...)
	for _, p := range r.pingOrder {
		params := r.values(p.e, "instance_attributes")
		switch {
		case len(p.checks) > 0:
			r.add(manifest.Taken, p.e, "primitive "+p.id, "measures %s every %s: %s of type ping", strings.Join(p.hosts, ", "), p.interval, strings.Join(p.checks, ", "))
			if params["dampen"] != "" || params["attempts"] != "" {
				r.add(manifest.Changed, p.e, "dampen, attempts of "+p.id, "a check has rise and fall instead: here 2 answers, or 3 failures in a row")
			}
		case p.blocked:
			r.add(manifest.LeftOut, p.e, "primitive "+p.id, "what it measures moves nothing here, see the rules that ask for %s", p.attribute)
		default:
			r.add(manifest.LeftOut, p.e, "primitive "+p.id, "no rule lets %s move an address. %s", p.attribute, noChecks)
		}
	}
}

// monitored is a service with an operation monitor.
type monitored struct {
	e                         *element
	id, class, kind, interval string
}

// finishMonitors says of each service that is placed with an address why its monitor is no check.
func (r *reader) finishMonitors(clusters map[string]*cluster) {
	for _, m := range r.monitors {
		c := clusters[m.id]
		if c == nil || len(c.addresses) == 0 {
			continue
		}
		kind, target := "process", m.kind
		if m.class == "systemd" || m.class == "service" || m.class == "lsb" {
			kind, target = "systemd", strings.TrimSuffix(m.kind, ".service")+".service"
		}
		r.add(manifest.LeftOut, m.e, "operations of "+m.id, "its monitor, every %s, is run by nobody here, and as a check it would bar every node on which the service waits to be started. Let it run on all of them, then: `check create %s --type %s --target %s --havips %s`",
			m.interval, manifest.Label(m.id), kind, target, strings.Join(addressNames([]string{m.id}, clusters), ","))
	}
}
