package keepalived

import (
	"math"

	"havip-cluster/manifest"
)

// begunAsMaster says whether state MASTER holds: keepalived clears it under AH, unless the
// priority is 255.
func (i *instance) begunAsMaster() bool { return i.master && (!i.ah || i.priority == 255) }

// effective is what keepalived makes of the options about preemption (its vrrp.c): state
// MASTER throws both away, priority 255 nopreempt, strict mode and nopreempt the delay.
func (i *instance) effective() (nopreempt bool, delay float64) {
	nopreempt, delay = i.nopreempt != nil, i.delayTime
	if i.priority == 255 {
		nopreempt = false
	}
	if i.begunAsMaster() {
		return false, 0
	}
	if i.strict || nopreempt {
		delay = 0
	}
	return nopreempt, delay
}

// examine reports the faults of one instance that keepalived itself does not stop at.
func (c *config) examine(i *instance) {
	wrong := func(p place, option, format string, args ...any) { c.add(manifest.Wrong, p, option, format, args...) }
	if i.master && !i.begunAsMaster() {
		wrong(i.state.place, "state MASTER", "keepalived drops it (\"incompatible with AH authentication\"): it began as BACKUP, so nopreempt and preempt_delay hold")
	}
	if s := i.nopreempt; s != nil {
		switch {
		case i.begunAsMaster():
			wrong(s.place, "nopreempt", "`state MASTER` makes keepalived drop nopreempt with a warning; it needs `state BACKUP` on every node. Imported as what it did: it preempted")
		case i.priority == 255:
			wrong(s.place, "nopreempt", "priority 255 makes keepalived drop nopreempt. Imported as what it did: it preempted")
		default:
			c.add(manifest.Taken, s.place, "nopreempt", "the owner keeps the address when this node comes back")
		}
	}
	if s := i.delay; s != nil {
		switch {
		case i.begunAsMaster():
			wrong(s.place, head(s), "`state MASTER` makes keepalived drop preempt_delay with a warning. Imported as what it did: it preempted at once")
		case i.nopreempt != nil && i.priority != 255:
			wrong(s.place, head(s), "nopreempt cancels preempt_delay. Imported as what it did: it never preempted")
		case i.strict:
			wrong(s.place, head(s), "strict mode cancels preempt_delay. Imported as what it did: it preempted at once")
		default:
			c.add(manifest.Taken, s.place, head(s), "failback after that time; the unit is seconds, not minutes")
		}
	}
	if i.priority == 255 {
		wrong(i.place, "priority 255", "255 claims the address as the router's own: scripts cannot lower it, nopreempt does not hold")
	}
	c.examineWire(i)
	switch {
	case len(i.vips) == 0 && i.notifies:
		wrong(i.place, "vrrp_instance "+i.name, "has no virtual_ipaddress that can be taken, so nothing is imported from it; its notify script may be what moves the address")
	case len(i.vips) == 0:
		wrong(i.place, "vrrp_instance "+i.name, "has no virtual_ipaddress that can be taken; nothing is imported from it")
	}
}

// examineWire reports faults about adverts and peers.
func (c *config) examineWire(i *instance) {
	wrong := func(p place, option, format string, args ...any) { c.add(manifest.Wrong, p, option, format, args...) }
	switch {
	case i.unicast != nil && len(i.peers) == 0:
		wrong(i.unicast.place, "unicast_peer", "the list of peers is empty: before 2.2.4 keepalived fell back to multicast, which clouds drop, so both nodes were masters")
	case i.unicast == nil && i.source.IsValid():
		wrong(i.place, "vrrp_instance "+i.name, "has a source address but no unicast_peer: adverts go out by multicast, which clouds drop, and every node becomes master")
	}
	for _, peer := range i.peers {
		if peer == i.source {
			wrong(i.unicast.place, "unicast_peer", "%s is the node's own address", peer)
		}
	}
	if i.unicast != nil && i.strict {
		wrong(i.unicast.place, "unicast_peer", "strict mode forbids unicast peers; keepalived drops strict mode or refuses")
	}
	if i.version == 2 && i.advert != math.Trunc(i.advert) {
		wrong(i.place, "advert_int", "VRRP version 2 carries whole seconds only; %v needs version 3", i.advert)
	}
	if i.version == 3 && i.advert > 40.95 {
		wrong(i.place, "advert_int", "VRRP version 3 carries at most 40.95 seconds, not %v", i.advert)
	}
	if i.noInterface && i.unicast == nil {
		wrong(i.place, "vrrp_instance "+i.name, "has no interface, which multicast needs; keepalived does not start it")
	}
}

// authentication reports passwords that are not what they look like.
func (c *config) authentication(i *instance, o *statement) {
	for _, s := range o.block {
		switch s.key() {
		case "auth_type":
			i.ah = s.arg(0) == "AH"
			if t := s.arg(0); t != "PASS" && t != "AH" {
				c.add(manifest.Wrong, s.place, "auth_type "+s.arg(0), "keepalived knows PASS and AH")
			}
		case "auth_pass":
			if n := len(s.arg(0)); n > 8 {
				c.add(manifest.Wrong, s.place, "auth_pass", "has %d characters; keepalived uses the first 8 and cuts the rest", n)
			}
			c.add(manifest.LeftOut, s.place, "auth_pass", "was sent in clear text; not taken over")
		default:
			c.add(manifest.LeftOut, s.place, s.key(), "not known in authentication")
		}
	}
	if i.strict {
		c.add(manifest.Wrong, o.place, "authentication", "strict mode forbids authentication; keepalived ignores it")
	}
}
