package edge

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"havip-cluster/netdev"
)

// model is a kernel in memory. It checks at each operation what must be true of a kernel that
// is used by the rules, whoever else changes it.
type model struct {
	own       map[netip.Addr]bool // addresses that the log calls the node's own
	now       Instant
	addresses map[netip.Addr][]At
	fence     map[netip.Addr]State
	attached  map[int]error
	ports     map[uint16]Port
	changed   Parts
	loose     map[string][]netdev.Change // what is wrong with the settings, by device
	routing   netdev.Routing

	readFails bool
	fails     map[string]bool // kind, or kind and address
	shown     *Reading        // the last one given out
	did       map[OpKind]int  // calls
	items     map[OpKind]int
	reads     int
	tries     map[string]int // failing attempts, by kind and address
	wrong     []string
	announced map[netip.Addr]int // device of the last announcement
	// between is called before each operation: another program's turn.
	between func()
}

func newModel() *model {
	return &model{
		now: Instant(time.Hour), addresses: map[netip.Addr][]At{}, fence: map[netip.Addr]State{}, attached: map[int]error{}, ports: map[uint16]Port{},
		loose: map[string][]netdev.Change{}, fails: map[string]bool{}, did: map[OpKind]int{}, items: map[OpKind]int{}, tries: map[string]int{}, announced: map[netip.Addr]int{},
	}
}

var errModel = errors.New("it fails here")

func (m *model) clock() Instant { return m.now }

func (m *model) Changed() Parts {
	c := m.changed
	m.changed = 0
	return c
}

func (m *model) Read(want *Desired, parts Parts, before *Reading) (*Reading, error) {
	m.reads++
	m.expire()
	if m.readFails {
		return nil, errModel
	}
	r := &Reading{At: m.now}
	if before != nil {
		*r = *before
		r.At = m.now
	}
	if parts&Addresses != 0 {
		r.Addresses = map[netip.Addr][]At{}
		for ip, list := range m.addresses {
			r.Addresses[ip] = slices.Clone(list)
			for i, a := range list {
				if a.Until != 0 { // the kernel tells whole seconds, rounded up
					r.Addresses[ip][i].Until = m.now.Add((a.Until.Sub(m.now) + time.Second - 1).Truncate(time.Second))
				}
			}
		}
	}
	if parts&Fence != 0 {
		r.Fence, r.Attached = maps.Clone(m.fence), maps.Clone(m.attached)
		r.Ports = maps.Clone(m.ports)
	}
	if parts&Settings != 0 {
		r.Settings = map[string]Setting{}
		for device := range want.Settled {
			r.Settings[device] = Setting{Changes: slices.Clone(m.loose[device])}
		}
	}
	if parts&Routing != 0 {
		r.Routing = m.routing
	}
	m.shown = r
	return r, nil
}

// expireEarly is what the kernel takes off a lifetime (ADDRCONF_TIMER_FUZZ_MINUS, at most).
const expireEarly = 20 * time.Millisecond

// expire takes away what has outlived its lifetime.
func (m *model) expire() {
	for ip, list := range m.addresses {
		m.set(ip, slices.DeleteFunc(list, func(a At) bool { return a.Until != 0 && a.Until <= m.now.Add(expireEarly) }))
	}
}

func (m *model) set(ip netip.Addr, list []At) {
	if len(list) == 0 {
		delete(m.addresses, ip)
		return
	}
	m.addresses[ip] = list
}

func (m *model) has(ip netip.Addr, index int) bool {
	return slices.ContainsFunc(m.addresses[ip], func(a At) bool { return a.Index == index && a.Managed })
}

func (m *model) managed(ip netip.Addr) bool {
	return slices.ContainsFunc(m.addresses[ip], func(a At) bool { return a.Managed })
}

func (m *model) fault(format string, args ...any) {
	m.wrong = append(m.wrong, fmt.Sprintf(format, args...))
}

func (m *model) Do(op Op) []error {
	if m.between != nil {
		m.between()
	}
	m.did[op.Kind]++
	errs := make([]error, op.Len())
	for i, it := range op.Items {
		m.items[op.Kind]++
		key := fmt.Sprintf("%s %v", op.Kind, it.IP)
		if m.fails[string(op.Kind)] || m.fails[key] {
			m.tries[key]++
			errs[i] = errModel
			continue
		}
		errs[i] = m.one(op.Kind, it)
	}
	for _, c := range op.Settle {
		m.loose[c.Device] = slices.DeleteFunc(m.loose[c.Device], func(o netdev.Change) bool { return o == c })
	}
	return errs
}

func (m *model) one(kind OpKind, it Item) error {
	ip := it.IP
	switch kind {
	case OpAttach:
		m.attached[it.Index] = nil
	case OpGuard:
		m.fence[ip] = Shut
	case OpShut:
		if m.fence[ip] == Unknown {
			return errors.New("not guarded")
		}
		m.fence[ip] = Shut
	case OpOpen:
		switch {
		case m.fence[ip] == Unknown:
			return errors.New("not guarded")
		case len(m.shown.managed(ip)) == 0:
			m.fault("%v is opened, and no reading has shown it here", ip)
		case len(m.shown.managed(ip)) > 1:
			m.fault("%v is opened, and it is on %d devices", ip, len(m.shown.managed(ip)))
		case len(m.loose[m.shown.managed(ip)[0].Device]) > 0:
			m.fault("%v is opened, and the settings of its device are wrong", ip)
		}
		m.fence[ip] = Open
	case OpListen:
		switch here := m.shown.managed(ip); {
		case m.shown.Fence[ip] == Unknown:
			m.fault("the probe of %v is answered, and the fence does not know it", ip)
		case len(here) != 1 || here[0].Index != it.Index:
			m.fault("the probe of %v is answered on device %d, and the reading shows it on %+v", ip, it.Index, here)
		}
		m.ports[it.Probe.Port] = Port{HAVIP: ip, Tied: true, Listening: true, Index: it.Index, Probe: it.Probe}
	case OpUnlisten:
		delete(m.ports, it.Probe.Port)
	case OpForget:
		if len(m.shown.managed(ip)) > 0 || len(m.shown.Addresses[ip]) > 0 && !m.own[ip] {
			m.fault("%v is forgotten, and the reading shows it on %+v", ip, m.shown.Addresses[ip])
		}
		delete(m.fence, ip)
	case OpAdd, OpExtend:
		if kind == OpAdd && m.shown.Fence[ip] == Unknown {
			m.fault("%v is added, and the fence does not know it", ip)
		}
		if err, stands := m.shown.Attached[it.Index]; kind == OpAdd && (!stands || err != nil) {
			m.fault("%v is added to device %d, and the fence does not stand there", ip, it.Index)
		}
		until := Instant(0)
		if it.Lifetime <= 0 {
			m.fault("%v has no lifetime", ip)
		} else {
			until = m.now.Add((it.Lifetime + time.Second - 1).Truncate(time.Second)) // the kernel takes whole seconds
		}
		m.set(ip, append(m.without(ip, it.Index), At{it.Index, fmt.Sprint("eth", it.Index), ip.BitLen(), true, until}))
	case OpRemove:
		if m.fence[ip] == Open {
			m.fault("%v is removed, and the fence is open", ip)
		}
		m.set(ip, m.without(ip, it.Index))
	case OpAnnounce:
		if m.fence[ip] != Open || !m.has(ip, it.Index) {
			return ErrFenced
		}
		for device, wrong := range m.loose {
			if len(wrong) > 0 {
				m.fault("%v is announced, and the settings of %s are %v", ip, device, wrong)
			}
		}
		m.announced[ip] = it.Index
	}
	return nil
}

func (m *model) without(ip netip.Addr, index int) []At {
	return slices.DeleteFunc(slices.Clone(m.addresses[ip]), func(a At) bool { return a.Index == index && a.Bits == ip.BitLen() })
}
