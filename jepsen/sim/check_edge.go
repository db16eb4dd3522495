package sim

import (
	"net/netip"

	"havip-cluster/edge"
	"havip-cluster/failover/owner"
	"havip-cluster/fsm"
)

// wants notes under which claims a process wants HAVIPs up.
func (w *World) wants(p *process, list []owner.Activation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.gate.isDead() {
		return
	}
	p.h.turns++
	for _, h := range list {
		w.wanted[h.HAVIP.ID] = max(w.wanted[h.HAVIP.ID], h.Claim.Epoch)
	}
}

// unguarded names a host with a lease whose fence lets a HAVIP's frames pass; "" is none.
// That nobody but another program damaged it counts here. Call it with the world's lock held.
func (w *World) unguarded(p *process, ip netip.Addr) string {
	for _, other := range w.hosts {
		k := other.kernel
		if other == p.h || other.role == fsm.RoleWitness || !other.powered || other.paused || other.waking() || !other.clockLocked().Before(k.deadline) {
			continue
		}
		if k.fence[ip] == edge.Unknown && !k.damage.addresses[ip] {
			return other.name
		}
		for i := range k.links {
			if index := i + 1; !k.attached[index] && !k.damage.devices[index] {
				return other.name
			}
		}
	}
	return ""
}

// allowed checks the rules of the edge at an operation, against the last reading that the
// process has had. Call it with the world's lock held.
func (p *process) allowed(kind edge.OpKind, it edge.Item) {
	w, ip := p.h.w, it.IP
	if p.seen == nil {
		return // nothing was ever read: what it has of a kernel then is no kernel's
	}
	managed, there := 0, len(p.seen.Addresses[ip])
	for _, at := range p.seen.Addresses[ip] {
		if at.Managed {
			managed++
		}
	}
	switch {
	case kind == edge.OpForget && there > 0:
		w.violateLocked("edge 1", "the fence of %s forgets %v, which its last reading has shown there", p.h.name, ip)
	case kind == edge.OpAdd && p.seen.Fence[ip] == edge.Unknown:
		w.violateLocked("edge 2", "%s adds %v, which its fence did not know at the last reading", p.h.name, ip)
	case kind == edge.OpOpen && managed != 1:
		w.violateLocked("edge 2", "%s opens its fence for %v, which its last reading has shown on %d devices", p.h.name, ip, managed)
	case kind == edge.OpRemove && p.h.kernel.fence[ip] == edge.Open:
		w.violateLocked("edge 2", "%s removes %v, and its fence is open for it", p.h.name, ip)
	}
}

// levelThree checks what the log knows from level 3 on.
func (w *World) levelThree(s *fsm.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range s.HAVIPs {
		if v.Served > w.wanted[v.ID] {
			w.violateLocked("served", "the log says that %s is served under epoch %d, and no node has taken more than epoch %d up", v.Name, v.Served, w.wanted[v.ID])
		}
		// In a cluster that has come to level 3 with its HAVIPs the owners are older than the rule.
		if waits := s.Unguarded(v); v.Owner != nil && len(waits) > 0 && !w.sched.Old {
			w.violateLocked("guard", "%s is owned by %s at index %d, and %s", v.Name, v.Owner.ENI, s.Index, fsm.WaitsForFence(waits))
		}
	}
}
