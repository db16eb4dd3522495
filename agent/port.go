package agent

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"havip-cluster/edge"
	"havip-cluster/failover/lease"
	"havip-cluster/failover/owner"
	"havip-cluster/fsm"
	"havip-cluster/netdev"
)

// EdgePort is the node's edge as the failover package sees it: it says in addresses and
// devices what is wanted in HAVIPs and ENIs, and tells the facts in HAVIPs again.
type EdgePort struct {
	cfg  EdgeConfig
	loop *edge.Loop

	// Below: only the goroutine of the Agent.
	base    *fsm.State // that desired was made from
	desired edge.Desired
	used    []netip.Prefix        // subnets that have HAVIPs
	given   map[string]netip.Addr // HAVIPs that were wanted here and are not gone yet

	mu      sync.Mutex
	devices []netdev.ENI // of the last Inventory
	listed  bool         // there was one
	hearing []string     // the devices that hear ARP

	byIP     atomic.Pointer[map[netip.Addr]string] // HAVIP ids, for who only reads
	warnings atomic.Pointer[[]string]
}

// retryUnread is how soon a turn that has learnt nothing is tried again.
const retryUnread = 10 * time.Millisecond

// EdgeConfig is what an EdgePort joins.
type EdgeConfig struct {
	Node   string // id
	Log    *slog.Logger
	Kernel edge.Kernel
	Clock  func() lease.Instant
	// Deadline takes the lease's deadline to the fence, without waiting.
	Deadline func(edge.Instant)
	Changes  <-chan struct{}
	// Inventory is netdev.Inventory.
	Inventory func(managed func(netip.Addr) bool, keep func(device string) bool) ([]netdev.ENI, netdev.Leftout, error)
	// Fault is why the node does not trust a device; nil: it trusts all.
	Fault func(device string) string
	// Asker asks the neighbours for an address before it is taken the first time; nil: nobody does.
	Asker *edge.Asker
	// Tight: addresses live no longer after the agent's death than the kernel's whole seconds
	// demand, because nothing else silences them when another program flushes the fence.
	Tight bool
	// Hearing lists the devices that hear ARP, for their settings; nil: the ENIs.
	Hearing func() []string
	// Cloud is what a cloud calls the interface with a MAC; not ok: it has not said. nil: there is none.
	Cloud func(mac string) (fsm.CloudENI, bool)
}

// NewEdgePort makes a port. It does nothing before the first call.
func NewEdgePort(cfg EdgeConfig) *EdgePort {
	p := &EdgePort{cfg: cfg, given: map[string]netip.Addr{}}
	p.loop = edge.NewLoop(cfg.Log, cfg.Kernel, func() edge.Instant { return edge.Instant(cfg.Clock()) })
	p.byIP.Store(&map[netip.Addr]string{})
	p.warnings.Store(&[]string{})
	return p
}

// SetDeadline implements failover.Edge.
func (p *EdgePort) SetDeadline(t lease.Instant) { p.cfg.Deadline(edge.Instant(t)) }

// Changes implements failover.Edge.
func (p *EdgePort) Changes() <-chan struct{} { return p.cfg.Changes }

// AnnounceAgain implements failover.Edge.
func (p *EdgePort) AnnounceAgain() { p.loop.AnnounceAgain() }

// Warnings says what is wrong with this host now.
func (p *EdgePort) Warnings() []string { return *p.warnings.Load() }

// HAVIP returns the id of the HAVIP that has an address. Anybody may call it.
func (p *EdgePort) HAVIP(ip netip.Addr) (id string, ok bool) {
	id, ok = (*p.byIP.Load())[ip]
	return id, ok
}

// Devices returns the ENIs of the last Inventory. Anybody may call it.
func (p *EdgePort) Devices() []netdev.ENI {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.devices
}

// Inventory implements failover.Edge.
func (p *EdgePort) Inventory(s *fsm.State) (enis []fsm.ENI, leftOut string, err error) {
	keep := func(device string) bool {
		e, known := s.ENIOf(p.cfg.Node, device)
		return known && e.SetSubnet != ""
	}
	first := map[netip.Addr]bool{} // the HAVIPs of the log, before the first Turn has indexed them
	if len(*p.byIP.Load()) == 0 {
		for _, v := range s.HAVIPs {
			first[v.IP] = true
		}
	}
	managed := func(ip netip.Addr) bool {
		_, havip := p.HAVIP(ip)
		return (havip || first[ip]) && !p.own(s, ip)
	}
	list, left, err := p.cfg.Inventory(managed, keep)
	if err != nil {
		return nil, "", err
	}
	var hearing []string
	if p.cfg.Hearing != nil {
		hearing = p.cfg.Hearing()
	}
	p.mu.Lock()
	p.devices, p.listed, p.hearing = list, true, hearing
	p.mu.Unlock()
	for _, d := range list {
		e := fsm.ENI{Device: d.Device, MAC: d.MAC.String(), Prefixes: d.Prefixes, Gateway: d.Gateway, Primary: d.Primary, Up: d.Up}
		if p.cfg.Fault != nil {
			e.Fault = p.cfg.Fault(d.Device)
		}
		e.Cloud = p.cloudName(s, e)
		enis = append(enis, e)
	}
	return enis, strings.Join(left, "; "), nil
}

// cloudName is what the cloud calls an ENI. While it does not say, what it said before stands: a cloud that is down
// takes no names away.
func (p *EdgePort) cloudName(s *fsm.State, e fsm.ENI) fsm.CloudENI {
	if s.Level() < 4 {
		return fsm.CloudENI{}
	}
	if p.cfg.Cloud != nil {
		if name, said := p.cfg.Cloud(e.MAC); said {
			return name
		}
	}
	if known, ok := s.ENIOf(p.cfg.Node, e.Device); ok && strings.EqualFold(known.MAC, e.MAC) {
		return known.Cloud
	}
	return fsm.CloudENI{}
}

// state is the newest that a Turn has seen.
func (p *EdgePort) state() *fsm.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base == nil {
		return fsm.New()
	}
	return p.base
}

// own reports whether an address is one that this node needs for itself.
func (p *EdgePort) own(s *fsm.State, ip netip.Addr) bool {
	name, own := s.OwnAddress(ip)
	return own && name == s.NodeName(p.cfg.Node)
}

// Turn implements failover.Edge.
func (p *EdgePort) Turn(want owner.Wanted) owner.Report {
	if !p.isListed() {
		if _, _, err := p.Inventory(want.State); err != nil {
			return p.unread(fmt.Sprintf("cannot list this node's interfaces: %v", err))
		}
	}
	p.follow(want)
	report := owner.Report{}
	wanted := p.overlay(want, &report)
	facts := p.loop.Turn(&p.desired)
	if facts.Err != nil {
		r := p.unread(facts.Err.Error())
		r.Faults = report.Faults
		return r
	}
	p.warnings.Store(&facts.Warnings)
	for id, ip := range p.given {
		if !wanted[id] && p.loop.Phase(ip) == edge.Absent {
			report.Gone = append(report.Gone, id)
			delete(p.given, id)
			if p.cfg.Asker != nil {
				p.cfg.Asker.Forget(ip)
			}
		}
	}
	slices.Sort(report.Gone)
	ids := *p.byIP.Load()
	for _, ip := range facts.Serving {
		report.Serving = append(report.Serving, ids[ip])
		t := p.loop.Stood(ip)
		report.Stood = append(report.Stood, owner.Stood{Address: lease.Instant(t.Address), Fence: lease.Instant(t.Fence), Announced: lease.Instant(t.Announced)})
	}
	for _, f := range facts.Faults {
		report.Faults = append(report.Faults, owner.Trouble{HAVIP: ids[f.IP], Text: f.Reason})
	}
	for _, r := range facts.Repairs {
		report.Repairs = append(report.Repairs, owner.Trouble{HAVIP: ids[r.IP], Text: r.What})
	}
	for _, s := range facts.Foreign {
		report.Foreign = append(report.Foreign, owner.ForeignAddress{
			HAVIP: ids[s.IP], Prefix: netip.PrefixFrom(s.IP, s.At.Bits), Device: s.At.Device, Removed: s.Removed,
		})
	}
	for _, n := range facts.Notes {
		report.Notes = append(report.Notes, owner.Note{HAVIP: ids[n.IP], Repaired: n.Repaired, Text: n.Text})
	}
	report.Guarded, report.Unguarded = facts.Guarded, facts.Unguarded
	report.Clean = facts.Clean && len(p.given) == 0
	report.Next = lease.Instant(facts.Next)
	return report
}

func (p *EdgePort) isListed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listed
}

// unread is the report of a turn in which nothing was learnt.
func (p *EdgePort) unread(why string) owner.Report {
	return owner.Report{Unguarded: why, Next: p.cfg.Clock().Add(retryUnread)}
}

// follow makes anew what depends on the log and on the devices.
func (p *EdgePort) follow(want owner.Wanted) {
	if want.State != p.base {
		p.followLog(want)
	}
	p.desired.Deadline, p.desired.Awaited = edge.Instant(want.Deadline), want.Awaited
	p.desired.Devices = p.fenced(want)
	p.desired.Settled = p.settled(want)
}

func (p *EdgePort) followLog(want owner.Wanted) {
	s := want.State
	p.mu.Lock()
	p.base = s
	p.mu.Unlock()
	d := edge.Desired{
		HAVIPs: make(map[netip.Addr]edge.Want, len(s.HAVIPs)), Index: s.Index, Complete: want.CaughtUp && s.Index > 0,
		Own: map[netip.Addr]bool{}, AnnounceEvery: s.Cluster.Provider.Rules().AnnounceInterval,
	}
	ids := make(map[netip.Addr]string, len(s.HAVIPs))
	subnets := map[string]bool{}
	for id, v := range s.HAVIPs {
		if other, twice := ids[v.IP]; twice && other < id {
			continue // of two VPCs: the address is guarded all the same
		}
		ids[v.IP] = id
		d.HAVIPs[v.IP] = edge.Want{Leave: v.Disabled || v.Unmanaged || v.Maintenance || v.Deleting || s.Cluster.Maintenance}
		subnets[v.Subnet] = true
		if p.own(s, v.IP) {
			d.Own[v.IP] = true
		}
	}
	for id, ip := range p.given { // what was deleted meanwhile is still told by its id
		if _, known := ids[ip]; !known {
			ids[ip] = id
		}
	}
	p.used = nil
	for _, name := range slices.Sorted(maps.Keys(subnets)) {
		p.used = append(p.used, s.Subnets[name].CIDR)
	}
	p.byIP.Store(&ids)
	p.desired = d
}

// overlay puts what may answer here over what is merely guarded. What cannot be put up is a
// fault at once.
func (p *EdgePort) overlay(want owner.Wanted, report *owner.Report) (wanted map[string]bool) {
	for _, ip := range p.given {
		if w, known := p.desired.HAVIPs[ip]; known && w.Index != 0 {
			p.desired.HAVIPs[ip] = edge.Want{Leave: w.Leave}
		}
	}
	wanted = make(map[string]bool, len(want.Activations))
	taken := make(map[netip.Addr]string, len(want.Activations))
	find := p.finder()
	for _, h := range want.Activations {
		id, ip := h.HAVIP.ID, h.HAVIP.IP
		w, err := p.want(want.State, h, find)
		if other, twice := taken[ip]; twice && err == nil {
			err = fmt.Errorf("this node answers for %v already, as HAVIP %s of another VPC", ip, want.State.HAVIPs[other].Name)
		}
		if err != nil {
			report.Faults = append(report.Faults, owner.Trouble{HAVIP: id, Text: err.Error()})
			continue
		}
		taken[ip] = id
		wanted[id] = true
		p.given[id] = ip
		w.Leave = p.desired.HAVIPs[ip].Leave
		p.desired.HAVIPs[ip] = w
	}
	return wanted
}

// want says where an activation belongs.
func (p *EdgePort) want(s *fsm.State, h owner.Activation, find func(fsm.ENI) (netdev.ENI, error)) (edge.Want, error) {
	d, err := find(h.ENI)
	if err != nil {
		return edge.Want{}, err
	}
	probe := h.HAVIP.Probing()
	w := edge.Want{Index: d.Index, Lifetime: h.Lifetime, Probe: edge.Probe{Port: probe.Port, Path: probe.Path}}
	if tight := tightLifetime(s.Cluster.LeaseMax); p.cfg.Tight {
		w.Lifetime = min(w.Lifetime, tight)
	}
	if !d.Primary || len(d.Prefixes) == 0 {
		sub := s.Subnets[h.HAVIP.Subnet]
		if !d.Gateway.IsValid() {
			d.Gateway = sub.Gateway
		}
		w.Steer = &netdev.Steered{IP: h.HAVIP.IP, ENI: d, Subnet: sub.CIDR}
	}
	if p.cfg.Asker != nil && s.Level() >= 3 && !h.HAVIP.Free {
		if w.Asking, w.Barred = p.cfg.Asker.Answer(d.Index, h.HAVIP.IP); w.Barred != "" {
			w.Barred += fmt.Sprintf("; `havip update %s --force` takes it all the same", h.HAVIP.ID)
		}
	}
	return w, nil
}

// tightLifetime is the shortest lifetime in whole seconds that outlives the lease although it
// is renewed only when half of it has passed.
func tightLifetime(lease time.Duration) time.Duration {
	return max(time.Second, (2*lease + time.Second - 1).Truncate(time.Second))
}

// finder is device for many activations of a few ENIs, at one time.
func (p *EdgePort) finder() func(fsm.ENI) (netdev.ENI, error) {
	type found struct {
		device netdev.ENI
		err    error
	}
	known := map[string]found{}
	return func(eni fsm.ENI) (netdev.ENI, error) {
		f, ok := known[eni.ID]
		if !ok {
			f.device, f.err = p.device(eni)
			known[eni.ID] = f
		}
		return f.device, f.err
	}
}

// device finds the ENI's device on this host: by its MAC first, because a device may be
// renamed, and then by its name, because its MAC may have been changed.
func (p *EdgePort) device(eni fsm.ENI) (netdev.ENI, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var named, other *netdev.ENI
	for i, d := range p.devices {
		mac := strings.EqualFold(d.MAC.String(), eni.MAC)
		switch {
		case d.Device == eni.Device && mac:
			return d, nil
		case d.Device == eni.Device:
			named = &p.devices[i]
		case mac && other == nil:
			other = &p.devices[i]
		}
	}
	switch {
	case other != nil:
		return *other, nil
	case named != nil:
		return *named, nil
	}
	return netdev.ENI{}, fmt.Errorf("this host has neither a device %s nor one with the MAC %s of ENI %s", eni.Device, eni.MAC, eni.ID)
}

// fenced are the devices on which the fence shall stand: those in a network that has HAVIPs,
// those of which nobody knows the network, and those that are wanted for a HAVIP. On others,
// such as a bridge of containers, it would keep this host's guests from a HAVIP elsewhere.
func (p *EdgePort) fenced(want owner.Wanted) map[int]bool {
	out := map[int]bool{}
	if len(want.State.HAVIPs) == 0 && len(p.given) == 0 {
		return out
	}
	for _, d := range p.Devices() {
		if len(d.Prefixes) == 0 || slices.ContainsFunc(d.Prefixes, p.inUse) {
			out[d.Index] = true
		}
	}
	find := p.finder()
	for _, h := range want.Activations {
		if d, err := find(h.ENI); err == nil {
			out[d.Index] = true
		}
	}
	return out
}

func (p *EdgePort) inUse(prefix netip.Prefix) bool {
	return slices.ContainsFunc(p.used, prefix.Overlaps)
}

// settled are the devices whose ARP settings must keep them from answering for the addresses
// of others: all that hear ARP, as soon as there is a HAVIP to answer for.
func (p *EdgePort) settled(want owner.Wanted) map[string]bool {
	out := map[string]bool{}
	if len(want.Activations) == 0 {
		return out
	}
	p.mu.Lock()
	devices, hearing := p.devices, p.hearing
	p.mu.Unlock()
	for _, device := range hearing {
		out[device] = false
	}
	for _, d := range devices {
		shared := slices.ContainsFunc(devices, func(e netdev.ENI) bool { return e.Index != d.Index && overlap(d, e) })
		out[d.Device] = !d.Primary || shared
	}
	return out
}

func overlap(a, b netdev.ENI) bool {
	return slices.ContainsFunc(a.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() && slices.ContainsFunc(b.Prefixes, p.Overlaps) })
}
