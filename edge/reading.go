package edge

import (
	"net/netip"

	"havip-cluster/netdev"
)

// Kernel is what the edge needs of the host. Only Loop calls it, from one goroutine.
type Kernel interface {
	// Read takes a reading of some parts, for what is wanted; the other parts are those of the
	// reading before, which may be nil only when all parts are asked for. What cannot be read
	// is an error, never absence.
	Read(want *Desired, parts Parts, before *Reading) (*Reading, error)
	// Do carries out one operation. It returns one error for each of op.Len(), in their order;
	// nil means that the kernel has acknowledged it.
	Do(op Op) []error
	// Changed returns, and forgets, the parts of which the kernel has told a change that this
	// process did not make.
	Changed() Parts
}

// Parts names parts of a reading.
type Parts uint8

// The parts of a reading. Each is one pass over the kernel, whatever the number of HAVIPs.
const (
	Addresses Parts = 1 << iota
	Fence           // what it knows, and where it stands
	Settings
	Routing
	Everything = Addresses | Fence | Settings | Routing
)

// State is what the fence knows of an address.
type State uint8

// The states of an address at the fence.
const (
	Unknown State = iota // its frames pass
	Shut
	Open // its frames pass before the deadline
)

// At is an address on a device.
type At struct {
	Index   int
	Device  string
	Bits    int     // prefix length
	Managed bool    // it carries this project's mark
	Until   Instant // when the kernel removes it at the latest, up to 1 s early; 0: never
}

// Reading is what the kernel showed at one time.
type Reading struct {
	At    Instant // before the newest part was read
	Whole Instant // when everything was read together the last time
	// Addresses has every address of the host, by address. Sorted by device.
	Addresses map[netip.Addr][]At
	// Fence has what the fence knows. NoFence: there is none, by the operator's word.
	Fence   map[netip.Addr]State
	NoFence bool
	// Ports has the ports of this host that speak for a HAVIP, with the fence's part.
	Ports map[uint16]Port
	// Attached has the devices on which the fence stands; nil: intact.
	Attached map[int]error
	// Settings has what is wrong with the ARP settings, by device.
	Settings map[string]Setting
	Routing  netdev.Routing
}

// Setting is what is wrong with the ARP settings of a device.
type Setting struct {
	Changes []netdev.Change // that would make it right
}

// managed lists the devices on which the address is a HAVIP of ours.
func (r *Reading) managed(ip netip.Addr) []At {
	var out []At
	for _, a := range r.Addresses[ip] {
		if a.Managed {
			out = append(out, a)
		}
	}
	return out
}

// on finds the managed address on one device.
func (r *Reading) on(ip netip.Addr, index int) (At, bool) {
	for _, a := range r.Addresses[ip] {
		if a.Managed && a.Index == index {
			return a, true
		}
	}
	return At{}, false
}

// stands reports whether the fence is intact on a device.
func (r *Reading) stands(index int) bool {
	err, attached := r.Attached[index]
	return r.NoFence || attached && err == nil
}

// state is what the fence knows of an address. Without a fence an address that is there is open.
func (r *Reading) state(ip netip.Addr) State {
	if !r.NoFence {
		return r.Fence[ip]
	}
	if len(r.managed(ip)) > 0 {
		return Open
	}
	return Shut
}
