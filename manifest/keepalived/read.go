package keepalived

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"havip-cluster/manifest"
)

// vip is one address of an instance.
type vip struct {
	place
	addr netip.Addr
	bits int // -1 where none is written
	dev  string
}

// instance is one vrrp_instance on one node.
type instance struct {
	place
	name, node  string
	state       *statement
	master      bool // state MASTER
	iface       string
	noInterface bool // not even one whose name is not known here
	vrid        int  // 0 where none is known
	priority    int
	prioritySet bool
	advert      float64
	version     int
	nopreempt   *statement
	delay       *statement
	delayTime   float64 // seconds
	unicast     *statement
	peers       []netip.Addr
	source      netip.Addr
	sourceAt    *statement
	strict, ah  bool
	notifies    bool // has a notify script
	family      int  // bits of the addresses of its adverts; 0 where nothing says so yet
	vips        []vip
	links       []*statement // devices of track_interface
	strange     []netip.Addr // peers in a spelling that keepalived ignores
	strangeSrc  netip.Addr
	strangeAt   place
	uses        []use // what it tracks
}

// syncGroup is one vrrp_sync_group on one node.
type syncGroup struct {
	place
	name      string
	instances []string
	links     []*statement
	uses      []use
}

// config is one node's configuration.
type config struct {
	source    string
	node      string
	routerID  string
	routerAt  place
	strict    bool
	version   int
	instances []*instance
	groups    []syncGroup
	scripts   map[string]bool // what can be tracked and is defined so far
	later     map[string]bool // and what is anywhere
	trackers  map[string]*tracker
	report    *manifest.Import
}

func (c *config) add(kind manifest.FindingKind, p place, option, format string, args ...any) {
	c.report.Add(kind, p.file, p.line, option, format, args...)
}

func (c *config) wrong(s *statement, format string, args ...any) {
	c.add(manifest.Wrong, s.place, head(s), format, args...)
}

func (c *config) lose(p place, option, format string, args ...any) {
	c.report.Lose(p.file, p.line, option, format, args...)
}

// trackable are the blocks whose name an instance can track.
var trackable = []string{"vrrp_script", "track_file", "vrrp_track_file", "vrrp_track_process", "track_process"}

// read interprets the tree of one node. What cannot be read is a finding, never an error.
func read(tree []*statement, c *config) {
	c.version = 2
	for _, s := range tree { // these hold for instances before them as well
		if s.key() == "global_defs" {
			c.globals(s)
		}
		if slices.Contains(trackable, s.key()) {
			c.later[s.arg(0)] = true
		}
	}
	for _, s := range tree {
		if slices.Contains(trackable, s.key()) {
			c.scripts[s.arg(0)] = true
		}
		if slices.Contains(trackers, s.key()) && s.arg(0) != "" {
			c.readTracker(s)
			continue
		}
		switch s.key() {
		case "global_defs":
		case "vrrp_instance":
			c.instance(s)
		case "vrrp_sync_group":
			c.group(s)
		default:
			c.other(s)
		}
	}
	c.trackInterfaces()
}

// other reports what is at the top and is not read.
func (c *config) other(s *statement) {
	r, known := topRules[s.key()]
	if !known {
		words := append(slices.Collect(maps.Keys(topRules)), slices.Collect(maps.Keys(topBlocks))...)
		c.wrong(s, "%s", unknownWord(s, words))
		return
	}
	text := r.text
	if n := s.lines(); n > 0 {
		text += " (the whole block, " + strconv.Itoa(n) + " options)"
	}
	c.add(r.kind, s.place, head(s), "%s", text)
}

// head is the option as findings name it.
func head(s *statement) string {
	text := s.key()
	if a := s.arg(0); a != "" && !strings.Contains(text, "auth") {
		text += " " + a
	}
	return text
}

func (c *config) globals(s *statement) {
	for _, o := range s.block {
		if !slices.Contains(globalWords, o.key()) {
			c.wrong(o, "%s", unknownWord(o, globalWords))
			continue
		}
		r := globalRule(o.key())
		switch o.key() {
		case "router_id":
			c.routerID, c.routerAt = o.arg(0), o.place
			continue
		case "vrrp_strict":
			c.strict = isOn(o)
		case "vrrp_version":
			c.version, _ = strconv.Atoi(o.arg(0))
		}
		c.add(r.kind, o.place, head(o), "%s", r.text)
	}
}

// isOn reads an optional on, true or yes.
func isOn(s *statement) bool {
	switch strings.ToLower(s.arg(0)) {
	case "off", "false", "no":
		return false
	}
	return true
}

func (c *config) group(s *statement) {
	g := syncGroup{place: s.place, name: s.arg(0)}
	if g.name == "" {
		c.wrong(s, "has no name; keepalived skips it")
		return
	}
	for _, o := range s.block {
		r, known := groupOptions[o.key()]
		switch {
		case !known:
			c.wrong(o, "%s", unknownWord(o, slices.Collect(maps.Keys(groupOptions))))
		case o.key() == "group":
			for _, member := range o.block {
				for _, w := range member.words {
					g.instances = append(g.instances, w.text)
				}
			}
			c.add(manifest.Taken, o.place, "group", "%s: a hard group `together`", strings.Join(g.instances, ", "))
		case o.key() == "track_interface":
			g.links = append(g.links, o.block...)
		case o.key() == "track_script" || o.key() == "track_process":
			g.uses = append(g.uses, c.usesOf(o)...)
			c.add(r.kind, o.place, head(o), "%s", r.text)
		default:
			c.add(r.kind, o.place, head(o), "%s", r.text)
		}
	}
	c.groups = append(c.groups, g)
}

func (c *config) instance(s *statement) {
	i := &instance{place: s.place, name: s.arg(0), node: c.node, priority: 100, advert: 1, version: c.version, strict: c.strict}
	if i.name == "" {
		c.wrong(s, "has no name; keepalived skips the whole block")
		return
	}
	if slices.ContainsFunc(c.instances, func(o *instance) bool { return o.name == i.name }) {
		c.wrong(s, "is defined above already; keepalived skips the whole block")
		return
	}
	for _, o := range s.block {
		r, known := instanceOptions[o.key()]
		if !known {
			c.unknownOption(i, o)
			continue
		}
		if valued[o.key()] && o.arg(0) == "" && !o.isBlock {
			c.wrong(o, "has no value; keepalived 2.2 refuses the file for it")
			continue
		}
		if c.option(i, o) && r.text != "" {
			c.add(r.kind, o.place, head(o), "%s", r.text)
		}
	}
	i.noInterface = i.iface == "" && !slices.Contains(s.lacks, "interface")
	if i.vrid == 0 && !slices.Contains(s.lacks, "virtual_router_id") {
		c.wrong(s, "has no virtual_router_id that counts; keepalived does not start so")
	}
	if i.version == 0 {
		i.version = 2
	}
	c.instances = append(c.instances, i)
	c.examine(i)
}

// unknownOption reports an option of no version, and keeps the address of a peer in it.
func (c *config) unknownOption(i *instance, o *statement) {
	c.wrong(o, "%s", unknownWord(o, slices.Collect(maps.Keys(instanceOptions))))
	switch o.key() {
	case "vrrp_unicast_bind":
		i.strangeSrc, _ = netip.ParseAddr(o.arg(0))
		return
	case "vrrp_unicast_peer":
	default:
		return
	}
	words := slices.Clone(o.words[1:])
	for _, p := range o.block {
		words = append(words, p.words...)
	}
	for _, w := range words {
		if a, err := netip.ParseAddr(w.text); err == nil {
			i.strange, i.strangeAt = append(i.strange, a), o.place
		}
	}
}

// option reads the options that mean something here. It says whether the option's general
// finding holds; otherwise it made one of its own.
func (c *config) option(i *instance, o *statement) bool {
	switch o.key() {
	case "state":
		return c.state(i, o)
	case "interface":
		i.iface = o.arg(0)
		return c.device(o, i.iface)
	case "virtual_router_id":
		return c.number(o, 1, 255, &i.vrid, "keepalived does not start so")
	case "priority":
		i.prioritySet = c.number(o, 1, 255, &i.priority, "keepalived takes 100")
		return i.prioritySet
	case "advert_int":
		return c.seconds(o, 0.01, 255, &i.advert)
	case "version":
		return c.number(o, 2, 3, &i.version, "keepalived ignores it")
	case "nopreempt":
		i.nopreempt = o
	case "preempt":
		i.nopreempt = nil
		c.add(manifest.Taken, o.place, "preempt", "is the default")
	case "preempt_delay":
		if c.seconds(o, 0, 1000, &i.delayTime) {
			i.delay = o
		}
	case "strict_mode":
		i.strict = isOn(o)
	case "unicast_src_ip", "mcast_src_ip":
		return c.sourceOf(i, o)
	case "unicast_peer":
		c.peers(i, o)
	case "virtual_ipaddress", "virtual_ipaddress_excluded":
		c.addresses(i, o)
	case "track_interface":
		i.links = append(i.links, o.block...)
	case "track_script", "track_file", "track_process":
		c.tracked(o)
		i.uses = append(i.uses, c.usesOf(o)...)
	case "authentication":
		c.authentication(i, o)
	case "notify", "notify_master", "notify_backup":
		i.notifies = true
	}
	return true
}

// state reads MASTER and BACKUP, whose case counts.
func (c *config) state(i *instance, o *statement) bool {
	i.state, i.master = o, o.arg(0) == "MASTER"
	if !i.master && o.arg(0) != "BACKUP" {
		c.wrong(o, "keepalived says \"unknown state '%s', defaulting to BACKUP\", and so it is imported; MASTER and BACKUP are written in capitals", o.arg(0))
		return false
	}
	return true
}

// device reports what can be no device.
func (c *config) device(o *statement, name string) bool {
	_, err := netip.ParseAddr(name)
	switch {
	case err == nil:
		c.wrong(o, "%s is an address, not an interface; keepalived on Linux does not start so", name)
	case len(name) > 15:
		c.wrong(o, "the name has %d characters; no interface of Linux has more than 15", len(name))
	default:
		return true
	}
	return false
}

// number reads a whole number into n; keepalived's way with another is otherwise.
func (c *config) number(o *statement, low, high int, n *int, otherwise string) bool {
	v, err := strconv.Atoi(o.arg(0))
	if err != nil || v < low || v > high {
		c.wrong(o, "%q is not a whole number from %d to %d; %s", o.arg(0), low, high, otherwise)
		return false
	}
	*n = v
	return true
}

func (c *config) seconds(o *statement, low, high float64, n *float64) bool {
	v, err := strconv.ParseFloat(o.arg(0), 64)
	if err != nil || !(v >= low && v <= high) {
		c.wrong(o, "%q is not a number of seconds from %v to %v; keepalived ignores it", o.arg(0), low, high)
		return false
	}
	*n = v
	return true
}

// trackInterfaces says of every tracked device whether that is built in: it is for the
// device that carries the address.
func (c *config) trackInterfaces() {
	tracked := func(links []*statement, own []string) (uses []use) {
		for _, s := range links {
			option := "track_interface " + s.String()
			switch {
			case !slices.Contains(own, s.key()):
				uses = append(uses, linkUse(s))
				c.add(manifest.Changed, s.place, option, "%s carries no address of this here: a check of type file looks at its state", s.key())
			case len(s.words) > 1:
				c.add(manifest.Changed, s.place, option, "no weights: an ENI whose link is down does not own")
			default:
				c.add(manifest.Taken, s.place, option, "an ENI whose link is down does not own")
			}
		}
		return uses
	}
	devices := map[string][]string{}
	for _, i := range c.instances {
		own := []string{i.iface}
		for _, v := range i.vips {
			own = append(own, v.dev)
		}
		devices[i.name] = own
		i.uses = append(i.uses, tracked(i.links, own)...)
	}
	for n := range c.groups {
		g := &c.groups[n]
		var own []string
		for _, name := range g.instances {
			own = append(own, devices[name]...)
		}
		g.uses = append(g.uses, tracked(g.links, own)...)
	}
}

// tracked looks whether what is tracked is defined above.
func (c *config) tracked(o *statement) {
	for _, s := range o.block {
		switch name := s.key(); {
		case c.scripts[name]:
		case c.later[name]:
			c.add(manifest.Wrong, s.place, o.key()+" "+name, "is defined below its use, so keepalived 2.2 ignores it (%q): it never ran", "track script "+name+" not found")
		default:
			c.add(manifest.Wrong, s.place, o.key()+" "+name, "nothing of this name is defined; keepalived ignores it")
		}
	}
}
