package keepalived

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"havip-cluster/manifest"
)

// failback derives the policy from what keepalived made of the options: a node takes the
// address back if its priority is above another's and nothing held it from preempting.
func (m *merger) failback(v *virtual) string {
	lowest := v.first().priority
	for _, i := range v.members {
		lowest = min(lowest, i.priority)
	}
	var preempting, waiting []*instance
	delay := 0.0
	for _, i := range v.members {
		if i.priority == lowest && len(v.members) > 1 {
			continue // nobody is below it
		}
		nopreempt, d := i.effective()
		if nopreempt {
			waiting = append(waiting, i)
			continue
		}
		preempting = append(preempting, i)
		delay = max(delay, d)
	}
	p := v.first().place
	if len(preempting) == 0 {
		switch {
		case len(waiting) > 0:
			m.add(manifest.Taken, waiting[0].nopreempt.place, "nopreempt", "failback: never")
		case len(v.members) > 1:
			m.add(manifest.Taken, p, "preemption", "equal priorities never take over from each other; failback: never")
		}
		return manifest.FailbackNever
	}
	if len(waiting) > 0 {
		m.add(manifest.Wrong, p, "nopreempt", "holds on %s and not on %s; imported as if it held nowhere", nodesOf(waiting), nodesOf(preempting))
	}
	if delay == 0 {
		m.add(manifest.Taken, p, "preemption", "%s takes the address back%s; failback: immediate", nodesOf(preempting), aloneText(v))
		return manifest.FailbackImmediate
	}
	for _, i := range preempting {
		if _, d := i.effective(); d != delay {
			m.add(manifest.Changed, i.place, "preempt_delay", "nodes wait differently; the longest, %v s, counts for all", delay)
		}
	}
	wait := time.Duration(delay * float64(time.Second)).Round(time.Millisecond)
	text := wait.String()
	text = strings.TrimSuffix(text, "0s")
	if text == "" || !strings.HasSuffix(text, "m") {
		text = wait.String()
	}
	m.add(manifest.Taken, p, "preempt_delay", "failback: %s, counted from the moment the node is back; it takes the address back%s", text, aloneText(v))
	return text
}

// aloneText says on what a policy rests when only one node's file is known.
func aloneText(v *virtual) string {
	if len(v.members) > 1 {
		return " from those with a lower priority"
	}
	return " from any other node, as no file of one is here"
}

func nodesOf(instances []*instance) string {
	var names []string
	for _, i := range instances {
		names = append(names, i.node)
	}
	return strings.Join(names, ", ")
}

// strangers reports peers whose file was not given, and files that do not list each other.
func (m *merger) strangers(v *virtual) {
	for _, i := range v.members {
		for _, peer := range i.strange {
			if !slices.ContainsFunc(v.members, func(o *instance) bool { return o.source == peer || o.strangeSrc == peer }) {
				m.add(manifest.Wrong, i.strangeAt, "unicast_peer "+peer.String(), "the file of the node with this address is missing here; give it as well, and that node is in the range")
			}
		}
		for _, peer := range i.peers {
			known := slices.ContainsFunc(v.members, func(o *instance) bool { return o.source == peer })
			unsaid := slices.ContainsFunc(v.members, func(o *instance) bool { return o != i && !o.source.IsValid() })
			if !known && !unsaid && peer != i.source {
				m.add(manifest.Wrong, i.unicast.place, "unicast_peer "+peer.String(), "no given file has this source address; that node is not in the range")
			}
		}
		for _, o := range v.members {
			if o != i && i.unicast != nil && o.source.IsValid() && !slices.Contains(i.peers, o.source) {
				m.add(manifest.Wrong, i.unicast.place, "unicast_peer", "%s (%s) is missing on %s: it would not hear this node and become master as well", o.source, o.node, i.node)
			}
			if o != i && i.unicast != nil && o.unicast == nil {
				m.add(manifest.Wrong, o.place, "vrrp_instance "+o.name, "%s sends to peers, %s by multicast: they do not hear each other", i.node, o.node)
			}
		}
		if f := v.first(); i.advert != f.advert {
			m.add(manifest.Wrong, i.place, "advert_int", "%v s here and %v s on %s: VRRP version 2 drops such adverts", i.advert, f.advert, f.node)
		}
	}
}

// groups joins what moved as one: the members of a sync group, and the addresses of one
// instance that is in none.
func (m *merger) groups() {
	grouped := map[*virtual]bool{}
	bySync := map[string][]*virtual{}
	places := map[string]place{}
	var order []string
	for _, c := range m.configs {
		for _, g := range c.groups {
			if _, seen := places[g.name]; !seen {
				places[g.name] = g.place
				order = append(order, g.name)
			}
			for _, name := range g.instances {
				v := m.find(c, name)
				if v == nil {
					m.add(manifest.Wrong, g.place, "vrrp_sync_group "+g.name, "there is no vrrp_instance %s", name)
					continue
				}
				if !slices.Contains(bySync[g.name], v) {
					bySync[g.name] = append(bySync[g.name], v)
				}
				grouped[v] = true
			}
		}
	}
	for _, name := range order {
		m.group(places[name], name, bySync[name], "vrrp_sync_group "+name)
	}
	for _, v := range m.virtuals {
		if !grouped[v] && len(m.havips[v]) > 1 {
			m.group(v.first().place, v.first().name, []*virtual{v}, "vrrp_instance "+v.first().name)
		}
	}
}

func (m *merger) find(c *config, name string) *virtual {
	for _, v := range m.virtuals {
		for _, i := range v.members {
			if i.name == name && i.node == c.node {
				return v
			}
		}
	}
	return nil
}

// policy is the failback of a virtual router that has HAVIPs.
func (m *merger) policy(v *virtual) string {
	for _, h := range m.report.Manifest.HAVIPs {
		if h.Name == m.havips[v][0] {
			return h.Failback
		}
	}
	return ""
}

// group makes a hard group of those HAVIPs that the same nodes can own. One that fewer nodes
// have would draw the others away from where their priorities put them, and is left alone.
func (m *merger) group(p place, name string, virtuals []*virtual, option string) {
	nodes := map[string][]string{} // by HAVIP
	for _, h := range m.report.Manifest.HAVIPs {
		nodes[h.Name] = slices.Sorted(slices.Values(h.Range.Members))
	}
	var most []string
	for _, v := range virtuals {
		for _, h := range m.havips[v] {
			if len(nodes[h]) > len(most) {
				most = nodes[h]
			}
		}
	}
	g := manifest.Group{Name: name, Kind: "together", Hard: true}
	for _, v := range virtuals {
		if len(m.havips[v]) > 0 && len(m.havips[virtuals[0]]) > 0 && m.policy(v) != m.policy(virtuals[0]) {
			m.add(manifest.Wrong, p, option, "%s comes back %s and %s %s: one pulls the other along",
				v.first().name, m.policy(v), virtuals[0].first().name, m.policy(virtuals[0]))
		}
		for _, h := range m.havips[v] {
			if !slices.Equal(nodes[h], most) {
				m.add(manifest.Wrong, p, option, "%s is on %s alone, the others on %s: it is in no group with them, which would draw all of them to where it is",
					h, strings.Join(nodes[h], ", "), strings.Join(most, ", "))
				continue
			}
			g.HAVIPs = append(g.HAVIPs, h)
		}
	}
	if len(g.HAVIPs) < 2 {
		return
	}
	g.Name = m.groupNames.Free(manifest.Label(name))
	m.add(manifest.Taken, p, option, "%s stay on one node: hard group %s", fmt.Sprintf("%d HAVIPs", len(g.HAVIPs)), g.Name)
	m.report.Manifest.Groups = append(m.report.Manifest.Groups, g)
}
