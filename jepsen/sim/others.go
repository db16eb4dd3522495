package sim

import (
	"fmt"
	"net/netip"
	"time"

	"havip-cluster/edge"
	"havip-cluster/fsm"
)

// damage is what another program has taken away from the fence and the agent has not put
// back yet. It cannot before its next reading.
type damage struct {
	addresses map[netip.Addr]bool // the fence does not know them any more
	devices   map[int]bool        // it does not stand there any more
}

// stray is another program that puts a HAVIP's address on a host: on its first ENI, or on lo.
func (w *World) stray(name, havip, where string) {
	ip := havipAddress(havip)
	w.onHost(name, func(h *host) {
		index := 1
		if where == "lo" {
			index = loIndex
		}
		if _, up := h.kernel.addrs[ip]; !up && h.powered {
			h.kernel.strays[ip] = index
			h.kernel.changed |= edge.Addresses
			w.stats.Foreign++
		}
		w.observe()
	})
	w.interfacesChanged(w.named(name))
}

// havipAddress is the one that the operator gives to a HAVIP called vN, in the only subnet.
func havipAddress(name string) netip.Addr {
	n := 0
	_, _ = fmt.Sscanf(name, "v%d", &n)
	return addrFrom([4]byte{10, 0, 0, byte(100 + n%100)})
}

const keepEvery = 30 * time.Millisecond

// keepStray is another program that puts an address on a host again and again.
func (w *World) keepStray(a []string) {
	ended := make(chan struct{})
	w.fault(a[3], func() {
		w.wg.Go(func() {
			for t := time.NewTicker(keepEvery); ; {
				w.stray(a[0], a[1], a[2])
				select {
				case <-t.C:
				case <-ended:
					t.Stop()
					return
				case <-w.broken:
					t.Stop()
					return
				}
			}
		})
	}, func() { close(ended) })
}

// repairBound is how long an agent that runs may take to put the fence back: it reads
// everything once a second, because the kernel does not tell of this.
const repairBound = 1500 * time.Millisecond

// unfence is another program that takes the fence away: off the devices (detach), or with
// all that it knows (nft, as `nft flush ruleset` does).
func (w *World) unfence(name, how string) {
	h := w.named(name)
	w.mu.Lock()
	k, p := h.kernel, h.proc
	for index := range k.attached {
		k.damage.devices[index] = true
	}
	clear(k.attached)
	if how == "nft" {
		for ip := range k.fence {
			k.damage.addresses[ip] = true
		}
		clear(k.fence)
	}
	w.stats.Unfenced++
	h.hindered = w.now()
	if p != nil && !p.gate.frozen.Load() && p.member != nil && h.role != fsm.RoleWitness { // a witness owns nothing, and has no edge
		seen := h.hindered
		time.AfterFunc(repairBound, func() { w.repaired(h, p, k, seen) })
	}
	w.mu.Unlock()
}

// repaired demands that a process which nothing has hindered since has put the fence back.
func (w *World) repaired(h *host, p *process, k *kernel, since time.Duration) {
	s := p.stateOf()
	w.mu.Lock()
	defer w.mu.Unlock()
	if h.proc != p || h.kernel != k || h.hindered != since || p.gate.frozen.Load() || w.over {
		return
	}
	for _, v := range s.HAVIPList() {
		if k.damage.addresses[v.IP] && k.fence[v.IP] == edge.Unknown {
			w.violateLocked("repair", "the fence of %s does not know %v, %v after it was flushed", h.name, v.IP, repairBound)
		}
	}
	if len(s.HAVIPs) > 0 && len(k.damage.devices) > 0 {
		w.violateLocked("repair", "the fence of %s does not stand on its devices, %v after it was taken off", h.name, repairBound)
	}
}
