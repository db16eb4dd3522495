package edge

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"havip-cluster/netdev"
)

const (
	// addsMax is how many addresses one round puts up: those of a round share its readings. Where there
	// are very many HAVIPs it is a part of them, addsPart: a round looks at all of them, and the last
	// address waits for every round. What must be silenced or taken off is not held back.
	addsMax  = 256
	addsPart = 8
)

// Plan says what is to be done now, in the order of a round. It is pure: the same input
// gives the same operations, and what is as it should be gives none. Each address takes at
// most one step a round, and the next one only after a reading has shown that the last one
// had its effect: the fence knows it shut, address added, read back, open, announced; and
// shut, address removed, read back, forgotten.
func Plan(want *Desired, seen *Reading, mem *Memory, now Instant) []Op {
	p := &plan{want: want, seen: seen, mem: mem, now: now, items: map[OpKind][]Item{}}
	p.devices()
	p.settings()
	p.routes()
	p.addresses()
	p.ports()
	return p.ops()
}

type plan struct {
	want *Desired
	seen *Reading
	mem  *Memory
	now  Instant

	items  map[OpKind][]Item
	routed map[netip.Addr]bool // its routes are not as they should be
	route  []netdev.RouteChange
	settle []netdev.Change
	early  []Item // those that may be extended along with others
	along  []Item // those that may be announced along with others
}

func (p *plan) add(kind OpKind, items ...Item) { p.items[kind] = append(p.items[kind], items...) }

// ops gives what was gathered, in the order of a round.
func (p *plan) ops() []Op {
	if len(p.items[OpExtend]) > 0 {
		p.add(OpExtend, p.early...)
	}
	if len(p.items[OpAnnounce]) > 0 {
		p.add(OpAnnounce, p.along...)
	}
	for _, items := range p.items { // which were gathered in no order
		slices.SortFunc(items, func(a, b Item) int { return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.Index, b.Index)) })
	}
	if p.hurries() {
		delete(p.items, OpFlush)
	}
	p.announcements()
	var out []Op
	for _, kind := range order {
		op := Op{Kind: kind, Items: p.items[kind]}
		switch kind {
		case OpRoute:
			op.Routes = p.route
		case OpSettle:
			op.Settle = p.settle
		case OpAdd:
			op.Items = op.Items[:min(len(op.Items), max(addsMax, len(p.want.HAVIPs)/addsPart))]
		}
		if op.Len() > 0 {
			out = append(out, op)
		}
	}
	return out
}

// hurries reports whether somebody waits for this round. Tracked connections are forgotten in one
// that nobody waits for: the kernel is asked for all of them, of which a host may have a million.
func (p *plan) hurries() bool {
	return slices.ContainsFunc([]OpKind{OpGuard, OpShut, OpRemove, OpAdd, OpOpen}, func(k OpKind) bool { return len(p.items[k]) > 0 })
}

// devices has the fence stand where it is wanted.
func (p *plan) devices() {
	if p.seen.NoFence {
		return
	}
	for _, index := range slices.Sorted(maps.Keys(p.want.Devices)) {
		if t := p.mem.devices[index]; !p.seen.stands(index) && (t == nil || !t.waits(p.now)) {
			p.add(OpAttach, Item{Index: index})
		}
	}
}

func (p *plan) settings() {
	for _, device := range slices.Sorted(maps.Keys(p.seen.Settings)) {
		for _, c := range p.seen.Settings[device].Changes {
			if t := p.mem.settings[c.Device+" "+c.Key]; t == nil || !t.waits(p.now) {
				p.settle = append(p.settle, c)
			}
		}
	}
}

// routes compares our tables and rules with what is to be steered. An address that leaves
// keeps its rule until it has left, so that its resets find their way.
func (p *plan) routes() {
	if p.mem.routes.waits(p.now) {
		return
	}
	p.route, p.routed = routeChanges(p.want, p.seen)
}

// routeChanges are the changes to our tables and rules, and the addresses that wait for them.
func routeChanges(want *Desired, seen *Reading) (changes []netdev.RouteChange, waiting map[netip.Addr]bool) {
	var steered []netdev.Steered
	for _, w := range want.HAVIPs {
		if w.Steer != nil && w.Index != 0 {
			steered = append(steered, *w.Steer)
		}
	}
	slices.SortFunc(steered, func(a, b netdev.Steered) int { return a.IP.Compare(b.IP) })
	changes = seen.Routing.Changes(steered)
	if len(changes) == 0 {
		return nil, nil
	}
	waiting = map[netip.Addr]bool{}
	for _, s := range steered {
		waiting[s.IP] = true
	}
	return changes, waiting
}

// addresses looks at all there is to look at, in no order: what is wanted, what the fence
// knows, and what is on a device with our mark.
func (p *plan) addresses() {
	for ip, w := range p.want.HAVIPs {
		p.address(ip, w, true)
	}
	for ip := range p.seen.Fence {
		if _, known := p.want.HAVIPs[ip]; !known {
			p.address(ip, Want{}, false)
		}
	}
	for ip, list := range p.seen.Addresses {
		if _, known := p.want.HAVIPs[ip]; known || p.seen.Fence[ip] != Unknown {
			continue
		}
		if slices.ContainsFunc(list, func(a At) bool { return a.Managed }) {
			p.address(ip, Want{}, false)
		}
	}
}

// address plans the next step of one address.
func (p *plan) address(ip netip.Addr, w Want, known bool) {
	r := p.mem.records[ip]
	if r == nil {
		r = &unremembered
	}
	if r.waits(p.now) {
		return
	}
	switch {
	case p.want.Own[ip]:
		if p.seen.Fence[ip] != Unknown {
			p.add(OpForget, Item{IP: ip}) // it would silence the node itself
		}
	case w.Index != 0:
		p.up(ip, w, r)
	default:
		p.down(ip, w, known, r)
	}
}

// unremembered is the record of an address of which nothing is remembered. Nobody writes to it.
var unremembered record

// up plans the next step of an address that belongs on a device.
func (p *plan) up(ip netip.Addr, w Want, r *record) {
	state := p.seen.state(ip)
	if state == Unknown {
		p.add(OpGuard, Item{IP: ip})
		return
	}
	if elsewhere := p.elsewhere(ip, w.Index); len(elsewhere) > 0 { // off before on
		p.takeOff(ip, elsewhere, state)
		return
	}
	at, here := p.seen.on(ip, w.Index)
	if w.Asking || w.Barred != "" || !here && p.now >= p.want.Deadline {
		return
	}
	switch {
	case state == Open && !r.opened && !p.seen.NoFence:
		p.add(OpShut, Item{IP: ip}) // whatever opened it, it was not this life of it
	case !here && !p.seen.stands(w.Index):
		// The same round attaches it: an address without a fence would outlive this process.
	case !here:
		p.add(OpAdd, Item{IP: ip, Index: w.Index, Lifetime: w.Lifetime})
	case p.routed[ip] || !p.seen.stands(w.Index) || p.unsettled():
		// The same round does what is missing; the next one goes on.
	case state == Shut:
		p.listen(ip, w)
		p.add(OpOpen, Item{IP: ip})
		p.announce(ip, w, r)
	default:
		p.listen(ip, w)
		p.announce(ip, w, r)
	}
	if it := (Item{IP: ip, Index: w.Index, Lifetime: w.Lifetime}); here && extendAt(at, w, r) <= p.now {
		p.add(OpExtend, it)
	} else if here && r.lasting.Add(w.Lifetime/extendEarly) <= p.now {
		p.early = append(p.early, it)
	}
}

// An address gets a new lifetime when half of it has passed. Where one gets it, all get it of
// which a third has passed: in few bursts instead of many.
const (
	extendDue   = 2
	extendEarly = 3
)

// extendAt is when an address is to get a new lifetime. The kernel tells what is left in whole
// seconds, rounded up: that alone would be too late. It shows, though, when another program has
// given the address a shorter one.
func extendAt(at At, w Want, r *record) Instant {
	due := r.lasting.Add(w.Lifetime / extendDue)
	if at.Until != 0 {
		due = min(due, at.Until.Add(-w.Lifetime/extendEarly))
	}
	return due
}

// unsettled reports whether a device's ARP settings are wrong and may yet be put right.
func (p *plan) unsettled() bool { return len(p.settle) > 0 }

// elsewhere lists the devices but one on which an address is.
func (p *plan) elsewhere(ip netip.Addr, index int) []At {
	var out []At
	for _, a := range p.seen.Addresses[ip] {
		if a.Managed && a.Index != index {
			out = append(out, a)
		}
	}
	return out
}

// down plans the next step of an address that belongs nowhere on this host.
func (p *plan) down(ip netip.Addr, w Want, known bool, r *record) {
	state := p.seen.state(ip)
	if here := p.seen.managed(ip); len(here) > 0 {
		p.takeOff(ip, here, state)
		return
	}
	switch {
	case state == Open:
		p.add(OpShut, Item{IP: ip})
	case known && state == Unknown:
		p.add(OpGuard, Item{IP: ip})
	case !known && p.want.Complete && state == Shut && p.nowhere(ip) && !p.seen.NoFence:
		p.add(OpForget, Item{IP: ip})
	}
	if r.unflushed && p.mem.flushAt(r, p.want.Deadline, p.now) <= p.now {
		p.add(OpFlush, Item{IP: ip})
	}
	if known && !w.Leave && state == Shut {
		p.foreignAddresses(ip)
	}
}

// nowhere reports whether the reading shows an address on no device of this host. Only then
// the fence may forget it: an owner that was frozen when its HAVIP was deleted wakes with it.
func (p *plan) nowhere(ip netip.Addr) bool {
	return len(p.seen.Addresses[ip]) == 0
}

// takeOff silences an address and takes it off devices. Sockets end first, while the resets
// to their peers may leave.
func (p *plan) takeOff(ip netip.Addr, from []At, state State) {
	if state == Unknown {
		p.add(OpGuard, Item{IP: ip}) // shut at once, and removed below
	}
	if r := p.mem.of(ip); state == Open && !r.destroyed && p.now < p.want.Deadline {
		p.add(OpDestroy, Item{IP: ip})
	}
	if state == Open {
		p.add(OpShut, Item{IP: ip})
	}
	for _, a := range from {
		p.add(OpRemove, Item{IP: ip, Index: a.Index})
	}
}

// foreignAddresses removes what another program put on an ENI of this node, where that is one bare
// address: programs on this host would find the HAVIP here and not at its owner.
func (p *plan) foreignAddresses(ip netip.Addr) {
	for _, a := range p.seen.Addresses[ip] {
		if !a.Managed && a.Bits == ip.BitLen() && p.want.Devices[a.Index] {
			p.add(OpRemove, Item{IP: ip, Index: a.Index})
		}
	}
}

// announce has an address told to the neighbours when that is due.
func (p *plan) announce(ip netip.Addr, w Want, r *record) {
	it := Item{IP: ip, Index: w.Index}
	switch early := r.announced && !r.second && p.want.AnnounceEvery <= 0; {
	case p.now >= p.want.Deadline:
	case p.now >= r.next:
		p.add(OpAnnounce, it)
	case early && p.now >= r.next.Add(-announceEarly):
		p.along = append(p.along, it)
	}
}

// announcements puts newcomers first, because nobody finds them yet, then what has waited
// longest; and keeps to what each device may say at once.
func (p *plan) announcements() {
	due := p.items[OpAnnounce]
	slices.SortStableFunc(due, func(a, b Item) int {
		x, y := p.mem.of(a.IP), p.mem.of(b.IP)
		if x.announced != y.announced {
			if y.announced {
				return -1
			}
			return 1
		}
		return cmp.Compare(x.next, y.next)
	})
	spoken := map[int]bool{}
	p.items[OpAnnounce] = slices.DeleteFunc(due, func(it Item) bool {
		if p.want.AnnounceEvery <= 0 {
			return false
		}
		if spoken[it.Index] || p.now < p.mem.pace[it.Index] {
			return true
		}
		spoken[it.Index] = true
		return false
	})
}

// Next is when something is due without any event, after a plan of the instant planned that
// gave nothing. A retry that was due then has nothing to try any more.
func Next(want *Desired, seen *Reading, mem *Memory, planned, now Instant) Instant {
	next := seen.Whole.Add(readEvery)
	for index := range want.Devices {
		if t := mem.devices[index]; t != nil && t.waits(planned) && !seen.stands(index) {
			next = min(next, t.retry)
		}
	}
	for ip, w := range want.HAVIPs {
		r := mem.records[ip]
		if r == nil && w.Index == 0 {
			continue
		}
		if r != nil && r.waits(planned) {
			next = min(next, r.retry)
			continue
		}
		if w.Index == 0 {
			if r.unflushed {
				next = min(next, mem.flushAt(r, want.Deadline, now))
			}
			continue
		}
		if r == nil {
			continue
		}
		if at, here := seen.on(ip, w.Index); here {
			next = min(next, extendAt(at, w, r))
		}
		if r.phase == Serving && now < want.Deadline {
			next = min(next, max(r.next, mem.pace[w.Index]))
		}
	}
	return max(next, now.Add(time.Millisecond))
}
