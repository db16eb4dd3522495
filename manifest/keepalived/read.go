package keepalived

import (
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"havip-cluster/fsm"
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
	master      bool // state MASTER
	iface       string
	vrid        int
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
	strict      bool
	vips        []vip
}

// syncGroup is one vrrp_sync_group on one node.
type syncGroup struct {
	place
	name      string
	instances []string
}

// config is one node's configuration.
type config struct {
	source    string
	node      string
	routerID  string
	strict    bool
	version   int
	instances []*instance
	groups    []syncGroup
	scripts   map[string]*statement
	report    *manifest.Import
}

func (c *config) add(kind manifest.FindingKind, p place, option, format string, args ...any) {
	c.report.Add(kind, p.file, p.line, option, format, args...)
}

// read interprets the tree of one node.
func read(tree []*statement, c *config) error {
	c.version = 2
	for _, s := range tree { // these hold for instances before them as well
		switch s.key() {
		case "global_defs":
			c.globals(s)
		case "vrrp_script", "track_file", "vrrp_track_file", "vrrp_track_process", "track_process":
			c.scripts[s.arg(0)] = s
		}
	}
	for _, s := range tree {
		var err error
		switch key := s.key(); key {
		case "global_defs":
		case "vrrp_instance":
			err = c.instance(s)
		case "vrrp_sync_group":
			err = c.group(s)
		default:
			c.other(s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// other reports what is at the top and is not read.
func (c *config) other(s *statement) {
	r, known := topRules[s.key()]
	if !known {
		r = rule{manifest.LeftOut, "not known; check what it was meant for"}
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
		r := globalRule(o.key())
		switch o.key() {
		case "router_id":
			c.routerID = o.arg(0)
			c.add(manifest.Taken, o.place, head(o), "may name the node")
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

func (c *config) group(s *statement) error {
	g := syncGroup{place: s.place, name: s.arg(0)}
	if g.name == "" {
		return s.refuse(fsm.CodeMissing, "a vrrp_sync_group needs a name")
	}
	for _, o := range s.block {
		r, known := groupOptions[o.key()]
		switch {
		case !known:
			c.add(manifest.LeftOut, o.place, head(o), "not known in a vrrp_sync_group; check what it was meant for")
		case o.key() == "group":
			for _, member := range o.block {
				for _, w := range member.words {
					g.instances = append(g.instances, w.text)
				}
			}
			c.add(manifest.Taken, o.place, "group", "%s: a hard group `together`", strings.Join(g.instances, ", "))
		case o.key() == "track_interface":
			c.trackInterface(o)
		default:
			c.add(r.kind, o.place, head(o), "%s", r.text)
		}
	}
	c.groups = append(c.groups, g)
	return nil
}

func (c *config) instance(s *statement) error {
	i := &instance{place: s.place, name: s.arg(0), node: c.node, priority: 100, advert: 1, version: c.version, strict: c.strict}
	if i.name == "" {
		return s.refuse(fsm.CodeMissing, "a vrrp_instance needs a name")
	}
	for _, o := range s.block {
		r, known := instanceOptions[o.key()]
		if !known {
			c.add(manifest.LeftOut, o.place, head(o), "not known in a vrrp_instance; check what it was meant for")
			continue
		}
		if err := c.option(i, o); err != nil {
			return err
		}
		if r.text != "" {
			c.add(r.kind, o.place, head(o), "%s", r.text)
		}
	}
	if i.vrid == 0 {
		return s.refuse(fsm.CodeMissing, "vrrp_instance %s has no virtual_router_id", i.name)
	}
	if i.version == 0 {
		i.version = 2
	}
	c.instances = append(c.instances, i)
	c.examine(i)
	return nil
}

// option reads the options that mean something here.
func (c *config) option(i *instance, o *statement) error {
	var err error
	switch o.key() {
	case "state":
		return c.state(i, o)
	case "interface":
		i.iface = o.arg(0)
	case "virtual_router_id":
		i.vrid, err = number(o, 1, 255)
	case "priority":
		i.priority, err = number(o, 1, 255)
		i.prioritySet = true
	case "advert_int":
		i.advert, err = seconds(o, 0.01, 255)
	case "version":
		i.version, err = number(o, 2, 3)
	case "nopreempt":
		i.nopreempt = o
	case "preempt":
		i.nopreempt = nil
		c.add(manifest.Taken, o.place, "preempt", "is the default")
	case "preempt_delay":
		i.delay = o
		i.delayTime, err = seconds(o, 0, 1000)
	case "strict_mode":
		i.strict = isOn(o)
	case "unicast_src_ip", "mcast_src_ip":
		i.source, _, err = address(o, o.arg(0))
	case "unicast_peer":
		return c.peers(i, o)
	case "virtual_ipaddress", "virtual_ipaddress_excluded":
		return c.addresses(i, o)
	case "track_interface":
		c.trackInterface(o)
	case "track_script", "track_file", "track_process":
		c.tracked(o)
	case "authentication":
		c.authentication(i, o)
	}
	return err
}

func (c *config) state(i *instance, o *statement) error {
	switch strings.ToUpper(o.arg(0)) {
	case "MASTER":
		i.master = true
	case "BACKUP":
	default:
		return o.refuse(fsm.CodeParameter, "state %q: MASTER or BACKUP", o.arg(0))
	}
	return nil
}

func number(o *statement, low, high int) (int, error) {
	n, err := strconv.Atoi(o.arg(0))
	if err != nil {
		return 0, o.refuse(fsm.CodeMalformed, "%s %q is not a whole number", o.key(), o.arg(0))
	}
	if n < low || n > high {
		return 0, o.refuse(fsm.CodeRange, "%s %d is not from %d to %d", o.key(), n, low, high)
	}
	return n, nil
}

func seconds(o *statement, low, high float64) (float64, error) {
	n, err := strconv.ParseFloat(o.arg(0), 64)
	if err != nil || n != n {
		return 0, o.refuse(fsm.CodeMalformed, "%s %q is not a number of seconds", o.key(), o.arg(0))
	}
	if n < low || n > high {
		return 0, o.refuse(fsm.CodeRange, "%s %s is not from %v to %v seconds", o.key(), o.arg(0), low, high)
	}
	return n, nil
}

// address reads an address with or without a prefix length; bits is -1 without one.
func address(o *statement, text string) (a netip.Addr, bits int, err error) {
	host, mask, slash := strings.Cut(text, "/")
	a, err = netip.ParseAddr(host)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return a, 0, o.refuse(fsm.CodeMalformed, "%q is not an IP address", text)
	}
	bits = -1
	if slash {
		bits, err = strconv.Atoi(mask)
		if err != nil || bits < 0 || bits > a.BitLen() {
			return a, 0, o.refuse(fsm.CodeMalformed, "%q has no prefix length from 0 to %d", text, a.BitLen())
		}
	}
	return a, bits, nil
}

func (c *config) peers(i *instance, o *statement) error {
	i.unicast = o
	for _, p := range o.block {
		for n, w := range p.words {
			if w.text == "min_ttl" || w.text == "max_ttl" {
				c.add(manifest.LeftOut, p.place, p.String(), "%s", noAdverts)
				break
			}
			a, _, err := address(p, strings.TrimSuffix(w.text, ","))
			if err != nil {
				return err
			}
			if n > 0 || strings.HasSuffix(w.text, ",") {
				c.add(manifest.Wrong, p.place, "unicast_peer", "each peer belongs on a line of its own, without commas; keepalived reads one a line")
			}
			i.peers = append(i.peers, a)
		}
	}
	return nil
}

// addresses reads virtual_ipaddress and virtual_ipaddress_excluded, in a block or on the line.
func (c *config) addresses(i *instance, o *statement) error {
	for _, s := range o.block {
		a, bits, err := address(s, s.key())
		if err != nil {
			return err
		}
		v := vip{place: s.place, addr: a, bits: bits}
		for n := 1; n < len(s.words); n++ {
			text := s.words[n].text
			w, known := addressWords[text]
			if !known {
				c.add(manifest.LeftOut, s.place, s.String(), "the word %q after the address is not known", text)
				continue
			}
			if text == "dev" && n+1 < len(s.words) {
				v.dev = s.words[n+1].text
			}
			c.add(w.kind, s.place, text+" of "+s.key(), "%s", w.text)
			n += w.values
		}
		i.vips = append(i.vips, v)
	}
	if len(o.words) > 1 {
		c.add(manifest.Wrong, o.place, o.key(), "addresses belong in braces; %q is not read", o.arg(0))
	}
	return nil
}

func (c *config) trackInterface(o *statement) {
	for _, s := range o.block {
		if len(s.words) > 1 {
			c.add(manifest.Changed, s.place, "track_interface "+s.String(), "no weights: an ENI whose link is down does not own; other interfaces do not count")
			continue
		}
		c.add(manifest.Taken, s.place, "track_interface "+s.key(), "an ENI whose link is down does not own; an interface that carries no HAVIP does not count")
	}
}

// tracked looks whether what is tracked is defined.
func (c *config) tracked(o *statement) {
	for _, s := range o.block {
		if _, defined := c.scripts[s.key()]; !defined {
			c.add(manifest.Wrong, s.place, o.key()+" "+s.key(), "nothing of this name is defined; keepalived ignores it")
		}
	}
}

// nodeOf finds the name of the node a file is of: what the user said, else the router_id,
// else the file's name, or that of its folder if it is just keepalived.conf.
func nodeOf(given, routerID, file string) string {
	if given != "" {
		return given
	}
	if routerID != "" {
		return manifest.NodeName(routerID)
	}
	base := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	if base == "keepalived" {
		if dir := filepath.Base(filepath.Dir(file)); dir != "." && dir != "/" && dir != "keepalived" {
			base = dir
		}
	}
	return manifest.NodeName(strings.TrimSuffix(base, ".keepalived"))
}
