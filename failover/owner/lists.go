package owner

import (
	"maps"
	"slices"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// lists are what the Edge and people are given of the holdings. A holding is large, there may be
// thousands, and most turns change none: so the lists are made anew only after a change. Whoever
// changes a holding, or which there are, calls changed.
type lists struct {
	current   bool       // both were made from the holdings as they are
	wanted    []Holding  // that are to answer, in the order of HAVIP ids; nobody writes to it
	refreshed *fsm.State // that the holdings have followed
}

func (l *lists) changed() { l.current = false }

// refreshHoldings follows what the log says of the ENIs and the lease.
func (a *Agent) refreshHoldings(s *fsm.State) {
	if s == a.lists.refreshed {
		return
	}
	a.lists.refreshed = s
	lifetime := s.Cluster.LeaseMax + lifetimeMore
	for _, h := range a.holdings {
		if eni, known := s.ENIs[h.ENI.ID]; known && !sameENI(eni, h.ENI) {
			h.ENI = eni
			a.lists.changed()
		}
		if h.Lifetime != lifetime {
			h.Lifetime = lifetime
			a.lists.changed()
		}
	}
}

// sameENI reports whether nothing about an ENI has changed. TestSameENI holds it to every field.
func sameENI(a, b fsm.ENI) bool {
	primary := a.SetPrimary == b.SetPrimary || a.SetPrimary != nil && b.SetPrimary != nil && *a.SetPrimary == *b.SetPrimary
	return primary && a.ID == b.ID && a.Node == b.Node && a.Device == b.Device && a.MAC == b.MAC && a.Subnet == b.Subnet && a.Gateway == b.Gateway &&
		a.Primary == b.Primary && a.Up == b.Up && a.Detached == b.Detached && a.Fault == b.Fault && a.SetSubnet == b.SetSubnet && slices.Equal(a.Prefixes, b.Prefixes)
}

// held lists the ids of the HAVIPs that are here, in order.
func (a *Agent) held() []string { return slices.Sorted(maps.Keys(a.holdings)) }

// wanted is what may answer here now.
func (a *Agent) wanted(s *fsm.State, deadline lease.Instant) Wanted {
	a.publish()
	return Wanted{State: s, CaughtUp: a.cfg.Log.CaughtUp(), Deadline: deadline, Holdings: a.lists.wanted}
}

// publish makes the lists, if they are not current, and shows others what this node answers for.
func (a *Agent) publish() {
	if a.lists.current {
		return
	}
	wanted, view := make([]Holding, 0, len(a.holdings)), make([]Serving, 0, len(a.holdings))
	for _, id := range a.held() {
		h := a.holdings[id]
		if !h.leaving {
			wanted = append(wanted, h.Holding)
		}
		view = append(view, Serving{Holding: h.Holding, Since: h.begun, Stands: h.serving, Leaving: h.leaving})
	}
	a.lists.current, a.lists.wanted = true, wanted
	a.view.Store(&view)
}
