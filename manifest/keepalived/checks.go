package keepalived

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// What keepalived tracks becomes checks: vrrp_script and track_process by name, track_interface
// of a device without an address by its state in /sys. A weight is a score below 0 where it
// fails; without one the check bars.

// tracker is a vrrp_script or a track_process of one node.
type tracker struct {
	*statement
	check   manifest.Check
	weight  int
	reverse bool
	why     string // why it is no check; "" = it is one
	user    string
	args    []string
}

// use is one mention of a tracker, or of a device, by an instance or a group.
type use struct {
	*statement
	option string
	name   string
	weight *int
}

// trackers are the blocks that become checks.
var trackers = []string{"vrrp_script", "track_process", "vrrp_track_process"}

// readTracker reads a block that may be tracked.
func (c *config) readTracker(s *statement) {
	t := &tracker{statement: s, check: manifest.NewCheck(manifest.Label(s.arg(0)))}
	t.check.Rise, t.check.Fall = 1, 1 // keepalived's own
	if s.key() == "vrrp_script" {
		c.readScript(t)
	} else {
		c.readProcess(t)
	}
	c.trackers[s.arg(0)] = t
}

func (c *config) readScript(t *tracker) {
	command := ""
	t.check.Type, t.check.Interval = string(fsm.CheckExec), "1s"
	for _, o := range t.block {
		switch o.key() {
		case "script":
			words := make([]string, 0, len(o.words))
			for _, w := range o.words[1:] {
				words = append(words, w.text)
			}
			command = strings.Join(words, " ")
		case "interval":
			t.seconds(o, &t.check.Interval)
		case "timeout":
			t.seconds(o, &t.check.Timeout)
		case "rise":
			t.count(o, &t.check.Rise)
		case "fall":
			t.count(o, &t.check.Fall)
		case "weight":
			t.weigh(o)
		case "user":
			t.user = o.arg(0)
		}
	}
	if t.check.Timeout == "" {
		t.check.Timeout = t.check.Interval
	}
	if longer(t.check.Timeout, t.check.Interval) {
		t.check.Timeout = t.check.Interval
	}
	words := strings.Fields(command)
	if len(words) == 0 {
		t.why = "it has no script"
		return
	}
	if name := processOf(words); name != "" {
		t.check.Type, t.check.Target, t.user = string(fsm.CheckProcess), name, ""
		return
	}
	t.check.Target, t.args = path.Base(words[0]), words[1:]
}

// processOf is the process that a script only looks for, "" for any other script.
func processOf(words []string) string {
	switch path.Base(words[0]) {
	case "killall":
		if len(words) == 3 && (words[1] == "-0" || words[1] == "-s0") {
			return words[2]
		}
	case "pidof":
		if len(words) == 2 {
			return words[1]
		}
	case "pgrep":
		if len(words) == 3 && words[1] == "-x" {
			return words[2]
		}
	}
	return ""
}

func (c *config) readProcess(t *tracker) {
	t.check.Type = string(fsm.CheckProcess)
	for _, o := range t.block {
		switch o.key() {
		case "process":
			t.check.Target = path.Base(o.arg(0))
			if len(o.words) > 2 {
				c.add(manifest.Changed, o.place, head(o), "arguments are not looked at: a process of that name is enough")
			}
		case "weight":
			t.weigh(o)
		case "quorum", "quorum_max":
			if o.key() == "quorum_max" || o.arg(0) != "1" {
				t.why = "it counts processes (" + o.key() + " " + o.arg(0) + "), and a check says only whether there is one"
			}
		}
	}
	if t.check.Target == "" || t.check.Target == "." {
		t.why = cmp.Or(t.why, "it names no process")
	}
}

func (t *tracker) seconds(o *statement, to *string) {
	n, err := strconv.ParseFloat(o.arg(0), 64)
	if err == nil && n > 0 && n <= 3600 {
		*to = time.Duration(n * float64(time.Second)).String()
	}
}

func (t *tracker) count(o *statement, to *int) {
	if n, err := strconv.Atoi(o.arg(0)); err == nil && n >= 1 {
		*to = min(n, fsm.CheckCountMax)
	}
}

func (t *tracker) weigh(o *statement) {
	if n, err := strconv.Atoi(o.arg(0)); err == nil {
		t.weight = n
	}
	t.reverse = o.arg(1) == "reverse"
}

func longer(a, b string) bool {
	x, errA := time.ParseDuration(a)
	y, errB := time.ParseDuration(b)
	return errA == nil && errB == nil && x > y
}

// usesOf reads what an instance or a group tracks, as far as it is defined above.
func (c *config) usesOf(o *statement) []use {
	var out []use
	for _, s := range o.block {
		if c.trackers[s.key()] == nil {
			continue
		}
		u := use{statement: s, option: o.key(), name: s.key()}
		for i, w := range s.words {
			if w.text != "weight" || i+1 >= len(s.words) {
				continue
			}
			if n, err := strconv.Atoi(s.words[i+1].text); err == nil {
				u.weight = &n
			}
		}
		out = append(out, u)
	}
	return out
}

// linkUse is the use of a device by track_interface.
func linkUse(s *statement) use {
	u := use{statement: s, option: "track_interface", name: s.key()}
	if n, err := strconv.Atoi(s.arg(1)); err == nil && s.arg(0) == "weight" {
		u.weight = &n
	}
	return u
}

// link is the check of a device that carries no address of this.
func link(device string) manifest.Check {
	k := manifest.NewCheck(manifest.Label("link-" + device))
	k.Type, k.Target, k.Content = string(fsm.CheckFile), "/sys/class/net/"+device+"/operstate", "up"
	k.Interval, k.Rise, k.Fall = "1s", 1, 1
	return k
}

// checks makes the checks of all virtual routers: those of one name, definition and weight are one.
func (m *merger) checks() {
	made := map[string]*manifest.Check{}
	var order []string
	for _, v := range m.virtuals {
		havips := m.havips[v]
		if len(havips) == 0 {
			continue
		}
		for _, i := range v.members {
			c := m.configOf(i)
			for _, u := range append(slices.Clone(i.uses), c.usesOfGroups(i.name)...) {
				k, weight := c.checkOf(u)
				if k == nil {
					continue
				}
				m.effect(k, u, weight, havips, i.node)
				key := fmt.Sprintf("%s %s %s %s", k.Name, k.Target, k.Interval, k.Effect)
				if made[key] == nil {
					k.Nodes, k.HAVIPs = nil, nil
					made[key] = k
					order = append(order, key)
				}
				made[key].Nodes = union(made[key].Nodes, i.node)
				for _, h := range havips {
					made[key].HAVIPs = union(made[key].HAVIPs, h)
				}
			}
		}
	}
	names := manifest.Names{}
	for _, key := range order {
		k := *made[key]
		k.Name = names.Free(k.Name)
		if refusal := refused(k); refusal != nil {
			m.add(manifest.Wrong, place{m.configs[0].source, 1}, "check "+k.Name, "cannot be a check: %s", refusal.Message)
			continue
		}
		m.report.Manifest.Checks = append(m.report.Manifest.Checks, k)
	}
}

func refused(k manifest.Check) *fsm.Refusal {
	_, refusal := k.State()
	return refusal
}

func union(list []string, name string) []string {
	if slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}

func (m *merger) configOf(i *instance) *config {
	for _, c := range m.configs {
		if slices.Contains(c.instances, i) {
			return c
		}
	}
	return m.configs[0]
}

// usesOfGroups is what the sync groups of an instance track.
func (c *config) usesOfGroups(instance string) []use {
	var out []use
	for _, g := range c.groups {
		if slices.Contains(g.instances, instance) {
			out = append(out, g.uses...)
		}
	}
	return out
}

// checkOf is the check of one use with its weight, nil for none.
func (c *config) checkOf(u use) (*manifest.Check, int) {
	weight := 0
	if u.option == "track_interface" {
		k := link(u.name)
		if u.weight != nil {
			weight = *u.weight
		}
		return &k, weight
	}
	t := c.trackers[u.name]
	if t == nil || t.why != "" || t.reverse {
		return nil, 0
	}
	if weight = t.weight; u.weight != nil {
		weight = *u.weight
	}
	k := t.check
	return &k, weight
}

// effect turns a weight into the effect of a check. What is added while it is good is the same as
// what is taken while it is not, beside the same amount on each node that tracks it.
func (m *merger) effect(k *manifest.Check, u use, weight int, havips []string, node string) {
	option := u.option + " " + u.name
	if weight == 0 {
		m.add(manifest.Changed, u.place, option, "check %s, effect bar. Where it fails on every node keepalived leaves the address dark; here it stays at the last good place, unless the check says when_all_fail: drop", k.Name)
		return
	}
	k.Effect = manifest.Effect(strconv.Itoa(-max(weight, -weight)))
	if weight < 0 {
		m.add(manifest.Changed, u.place, option, "check %s, effect %s: it moves the address when another node then has more", k.Name, k.Effect)
		return
	}
	for i := range m.report.Manifest.HAVIPs {
		h := &m.report.Manifest.HAVIPs[i]
		if slices.Contains(havips, h.Name) {
			if h.Prefer == nil {
				h.Prefer = map[string]int{}
			}
			h.Prefer[node] += weight
		}
	}
	m.add(manifest.Changed, u.place, option, "check %s: keepalived adds %d while it is good; here node %s has %d more to begin with, and the check takes them while it fails", k.Name, weight, node, weight)
}

// tellTrackers says what became of each block.
func (m *merger) tellTrackers() {
	for _, c := range m.configs {
		for _, name := range slices.Sorted(maps.Keys(c.trackers)) {
			t := c.trackers[name]
			whole := fmt.Sprintf(" (the whole block, %d options)", max(1, t.lines()))
			switch {
			case t.why != "":
				m.add(manifest.LeftOut, t.place, head(t.statement), "no check: %s%s", t.why, whole)
			case t.reverse:
				m.add(manifest.LeftOut, t.place, head(t.statement), "no check: a weight that is reversed favours a node where it fails; turn the script round%s", whole)
			case t.check.Type == string(fsm.CheckProcess):
				m.add(manifest.Changed, t.place, head(t.statement), "a check of type process, %s: the kernel tells when it ends%s", t.check.Target, whole)
			default:
				m.add(manifest.Changed, t.place, head(t.statement), "a check of type exec: on each node put the program (or a link to it) to /etc/havip-cluster/checks.d/%s; %s%s", t.check.Target, t.how(), whole)
			}
		}
	}
}

// how says how a script was run, which is for the node's file to say.
func (t *tracker) how() string {
	text := "it runs as user " + cmp.Or(t.user, "nobody")
	if t.user == "" && len(t.args) == 0 {
		return text
	}
	var file []string
	if len(t.args) > 0 {
		file = append(file, "args: ["+strings.Join(t.args, ", ")+"]")
	}
	if t.user != "" {
		file = append(file, "user: "+t.user)
	}
	return fmt.Sprintf("%s, if the agent's configuration says checks: {programs: {%s: {%s}}}", text, t.check.Target, strings.Join(file, ", "))
}
