package failover

import (
	"errors"
	"net/netip"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/netdev"
)

const (
	// straysApart is how long after one look for strays comes the next, when the kernel
	// tells of changes: a thousand HAVIPs that are kept make a thousand of them a second.
	straysApart = 50 * time.Millisecond
	// straysEvery is how long after one look comes the next in any case.
	straysEvery = 5 * time.Second
)

// Stray is a HAVIP's address that another program put on this node.
type Stray struct {
	HAVIP, Device string // names
	IP            netip.Addr
}

// RemoveStrays implements Edge. The fence keeps such an address silent on the wire, but
// programs on this host would find the HAVIP here and not at its owner. An address on a device
// that is no ENI is left: a server behind a director has it on lo. So is that of a HAVIP that is
// frozen or disabled: another program may serve it by intention.
func (e *NetEdge) RemoveStrays() ([]Stray, error) {
	s := e.state()
	names := map[netip.Addr]string{}
	for _, v := range s.HAVIPs {
		if v.Enabled && !v.Unmanaged && !v.Maintenance && !v.Deleting && !s.Cluster.Maintenance {
			names[v.IP] = v.Name
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	list, err := e.addrs.Strangers()
	if err != nil {
		return nil, err
	}
	var removed []Stray
	var errs []error
	for _, h := range list {
		name, ours := names[h.IP]
		if !ours || !e.isENI(h) {
			continue
		}
		if err := e.addrs.Remove(h.Index, h.IP); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, Stray{name, h.Device, h.IP})
	}
	return removed, errors.Join(errs...)
}

func (e *NetEdge) isENI(h netdev.Held) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range e.devices {
		if d.Index == h.Index {
			return true
		}
	}
	return false
}

// strays has those removed that are due, and says when to come back. The Agent does it, with
// a lease or without, because it is the only one that changes addresses: what it is adding
// itself at that moment may be taken over from a stray.
func (a *Agent) strays(now lease.Instant) time.Duration {
	if now < a.nextStrays {
		return a.nextStrays.Sub(now)
	}
	a.nextStrays = now.Add(straysEvery)
	removed, err := a.cfg.Edge.RemoveStrays()
	if err != nil {
		a.cfg.Logger.Warn("cannot remove what another program added", "err", err)
	}
	for _, s := range removed {
		a.cfg.Logger.Warn("removed a HAVIP that another program added", "havip", s.HAVIP, "ip", s.IP, "device", s.Device)
		a.journal.note("repaired", s.HAVIP, s.IP.String()+" on "+s.Device+" of this node was added by another program")
	}
	a.lastStrays = now
	return straysEvery
}

// straysSoon has the next look come as early as may be.
func (a *Agent) straysSoon() {
	a.nextStrays = min(a.nextStrays, a.lastStrays.Add(straysApart))
}
