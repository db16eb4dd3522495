package edge

import (
	"maps"
	"net/netip"
	"slices"

	"havip-cluster/netdev"
)

// Probe is what a load balancer asks of the owner of a HAVIP, at the node's own addresses on
// the device of the HAVIP. The zero value is no probe.
type Probe struct {
	Port uint16
	Path string // of HTTP; "": TCP
}

// Port is a port of this host that speaks for a HAVIP, by the word of the fence or because this
// process listens there.
type Port struct {
	HAVIP netip.Addr
	// Tied: the fence lets frames leave from it only while it is open for the HAVIP.
	Tied bool
	// Listening: this process answers there, on the device Index, as Probe says.
	Listening bool
	Index     int
	Probe     Probe
}

// answersFor reports whether a port is as it should be for an address.
func (p Port) answersFor(ip netip.Addr, w Want, noFence bool) bool {
	return p.HAVIP == ip && p.Listening && (p.Tied || noFence) && p.Index == w.Index && p.Probe == w.Probe
}

// probed reports whether the probe of an address answers as it should, as far as this process goes.
func (r *Reading) probed(ip netip.Addr, w Want) bool {
	return w.Probe.Port == 0 || r.Ports[w.Probe.Port].answersFor(ip, w, r.NoFence)
}

// speaking are the addresses that a port of this host speaks for.
func (r *Reading) speaking() map[netip.Addr]bool {
	out := make(map[netip.Addr]bool, len(r.Ports))
	for _, p := range r.Ports {
		out[p.HAVIP] = true
	}
	return out
}

// ports closes what speaks for a HAVIP that is not to be here, or otherwise than it should. The
// fence is shut in the same round before: a port is untied when nothing of it is left.
func (p *plan) ports() {
	for _, number := range slices.Sorted(maps.Keys(p.seen.Ports)) {
		at := p.seen.Ports[number]
		w := p.want.HAVIPs[at.HAVIP]
		r := p.mem.of(at.HAVIP)
		wanted := w.Index != 0 && w.Probe.Port == number && (!at.Listening || at.Index == w.Index && at.Probe == w.Probe)
		if !wanted && !r.waits(p.now) {
			p.add(OpUnlisten, Item{IP: at.HAVIP, Index: at.Index, Probe: Probe{Port: number}})
		}
	}
}

// listen has the probe of an address answered: from the moment in which the fence opens.
func (p *plan) listen(ip netip.Addr, w Want) {
	if !p.seen.probed(ip, w) && p.now < p.want.Deadline {
		p.add(OpListen, Item{IP: ip, Index: w.Index, Probe: w.Probe})
	}
}

// readPorts joins what the fence has tied with what this process listens on.
func readPorts(tied map[uint16]netip.Addr, list []netdev.Responder) map[uint16]Port {
	ports := make(map[uint16]Port, len(tied))
	for number, ip := range tied {
		ports[number] = Port{HAVIP: ip, Tied: true, Probe: Probe{Port: number}}
	}
	for _, r := range list {
		ip, ok := tied[r.Port]
		ports[r.Port] = Port{
			HAVIP: r.HAVIP, Tied: ok && ip == r.HAVIP, Listening: true, Index: r.Index, Probe: Probe{Port: r.Port, Path: r.Path},
		}
	}
	return ports
}

// listenFor answers the probe of a HAVIP. The fence has the port before the kernel answers on it.
func (k *Linux) listenFor(it Item) error {
	r := netdev.Responder{Port: it.Probe.Port, Path: it.Probe.Path, Index: it.Index, HAVIP: it.IP}
	return k.responders.Listen(r, func() error {
		if k.fence == nil {
			return nil
		}
		return k.fence.Tie(it.Probe.Port, it.IP)
	})
}

// endProbe closes a port, and then lets the fence forget it.
func (k *Linux) endProbe(it Item) error {
	k.responders.Close(it.Probe.Port)
	if k.fence == nil {
		return nil
	}
	return k.fence.Untie(it.Probe.Port)
}
