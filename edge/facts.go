package edge

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Facts is what a turn has found and brought about. Each list is sorted by address.
type Facts struct {
	Serving []netip.Addr     // they answer now: address, fence and announcement were read back
	Gone    []netip.Addr     // they answer no longer, and nothing of them is left on a device
	Faults  []Fault          // they are wanted here and cannot be
	Repairs []Repair         // another program had damaged them
	Foreign []ForeignAddress // another program has put them on this host
	Notes   []Note           // what else came to pass on this host

	// Guarded is the log index up to which the fence knows every HAVIP, on every device where
	// it should stand; 0: it does not. Unguarded says why.
	Guarded   uint64
	Unguarded string
	// Clean: nothing of ours is on any device, and the fence is open for nothing.
	Clean bool
	// Err is why the kernel could not be read. The other fields say nothing then.
	Err error
	// Warnings are about this host, not about one HAVIP: each is true as long as it is told.
	Warnings []string
	// Next is when to come back at the latest.
	Next Instant
}

// Fault is why an address cannot be served here.
type Fault struct {
	IP     netip.Addr
	Reason string
}

// Repair is what was put right for an address that is served here.
type Repair struct {
	IP   netip.Addr
	What string
}

// Note is something that came to pass on this host, as an event. Each is told once a minute.
type Note struct {
	IP       netip.Addr // of the HAVIP that it is about; invalid: of none
	Repaired bool       // it was put right; false: somebody has to do something
	Text     string
}

// ForeignAddress is a HAVIP's address that another program put on a device of this host.
type ForeignAddress struct {
	IP      netip.Addr
	At      At
	Removed bool
}

// judge compares a reading with what is wanted and what was so before, and notes the
// difference in the memory: it tells what came to pass, each thing once.
func judge(want *Desired, seen *Reading, mem *Memory, facts *Facts) {
	_, waiting := routeChanges(want, seen)
	for ip, w := range want.HAVIPs {
		if w.Index != 0 {
			judgeUp(ip, w, want, seen, mem, facts, waiting[ip])
		}
	}
	speaking := seen.speaking()
	for ip, r := range mem.records {
		w, known := want.HAVIPs[ip]
		if w.Index != 0 {
			continue
		}
		switch {
		case seen.state(ip) == Open || len(seen.managed(ip)) > 0 || speaking[ip]:
			r.phase = Leaving
		case r.phase != Absent:
			facts.Gone = append(facts.Gone, ip)
			*r = record{unflushed: true, gone: seen.At}
			mem.lastGone = seen.At
		case !r.unflushed && r.err == nil, !known && seen.Fence[ip] == Unknown && len(seen.managed(ip)) == 0:
			delete(mem.records, ip)
		}
	}
	mem.forget(want, seen)
}

// judgeUp judges an address that belongs on a device.
func judgeUp(ip netip.Addr, w Want, want *Desired, seen *Reading, mem *Memory, facts *Facts, unrouted bool) {
	r := mem.record(ip)
	if r.phase == Absent {
		r.phase = Rising
	}
	at, here := seen.on(ip, w.Index)
	lacks := ""
	switch {
	case want.Own[ip]:
		facts.Faults = append(facts.Faults, Fault{ip, fmt.Sprintf("%v is an own address of this node", ip)})
		return
	case w.Barred != "":
		facts.Faults = append(facts.Faults, Fault{ip, w.Barred})
		return
	case !here:
		lacks = "the address was gone"
	case seen.state(ip) == Unknown:
		lacks = "the fence did not know it"
	case seen.state(ip) == Shut:
		lacks = "the fence was shut"
	case !seen.stands(w.Index):
		lacks = "the fence did not stand on the device"
		if err := seen.Attached[w.Index]; err != nil {
			lacks = "the fence was damaged: " + err.Error()
		}
	case !seen.probed(ip, w):
		lacks = "nothing answered its probe"
	case unrouted:
		lacks = "its routes were damaged"
	case len(seen.Settings[at.Device].Changes) > 0:
		c := seen.Settings[at.Device].Changes[0]
		lacks = fmt.Sprintf("%s was %d", c.Key, c.Old)
	}
	switch {
	case r.phase != Serving && lacks == "" && r.announced:
		r.phase, r.trouble = Serving, trouble{}
		facts.Serving = append(facts.Serving, ip)
	case r.phase != Serving:
	case lacks != "" && r.broken == "":
		r.broken = lacks
		r.next, r.second = 0, false // the neighbours may have turned to somebody else
		facts.Repairs = append(facts.Repairs, Repair{ip, lacks})
	case lacks == "":
		r.broken = ""
	}
}

// guarded says up to where the fence knows every HAVIP, or what it lacks.
func guarded(want *Desired, seen *Reading, mem *Memory) (index uint64, lacks string) {
	if seen.NoFence {
		return want.Index, ""
	}
	missing := 0
	var first netip.Addr
	for ip := range want.HAVIPs {
		if seen.Fence[ip] == Unknown && !want.Own[ip] {
			if missing++; !first.IsValid() || ip.Less(first) {
				first = ip
			}
		}
	}
	if missing > 0 {
		why := ""
		if r := mem.records[first]; r != nil && r.err != nil {
			why = ": " + r.err.Error()
		}
		return 0, fmt.Sprintf("the fence does not know %d HAVIPs yet, the first is %v%s", missing, first, why)
	}
	for index := range want.Devices {
		if !seen.stands(index) {
			why := ""
			if t := mem.devices[index]; t != nil && t.err != nil {
				why = ": " + t.err.Error()
			}
			return 0, fmt.Sprintf("the fence does not stand on device %d%s", index, why)
		}
	}
	return want.Index, ""
}

// clean reports whether nothing of ours can answer from this host.
func clean(seen *Reading) bool {
	for ip := range seen.Addresses {
		if len(seen.managed(ip)) > 0 {
			return false
		}
	}
	for _, s := range seen.Fence {
		if s == Open {
			return false
		}
	}
	return len(seen.Ports) == 0
}

// foreignAddresses lists the addresses of HAVIPs that another program put on this host.
func foreignAddresses(want *Desired, seen *Reading) []ForeignAddress {
	var out []ForeignAddress
	for ip, list := range seen.Addresses {
		w, known := want.HAVIPs[ip]
		if !known || want.Own[ip] || w.Leave {
			continue
		}
		for _, a := range list {
			if !a.Managed {
				out = append(out, ForeignAddress{IP: ip, At: a})
			}
		}
	}
	slices.SortFunc(out, func(a, b ForeignAddress) int { return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.At.Index, b.At.Index)) })
	return out
}

// sort puts the lists of facts in the order of addresses.
func (f *Facts) sort() {
	slices.SortFunc(f.Serving, netip.Addr.Compare)
	slices.SortFunc(f.Gone, netip.Addr.Compare)
	slices.SortFunc(f.Faults, func(a, b Fault) int { return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.Reason, b.Reason)) })
	slices.SortFunc(f.Repairs, func(a, b Repair) int { return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.What, b.What)) })
	f.Faults = slices.CompactFunc(f.Faults, func(a, b Fault) bool { return a.IP == b.IP })
}
