package owner

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// Serving is one HAVIP that this node answers for, or is about to.
type Serving struct {
	Activation
	Since   lease.Instant // when it was first wanted here
	Stands  bool          // address, fence and announcement were read back
	Leaving bool
}

// activation is one HAVIP that may answer on this node.
type activation struct {
	Activation
	begun    lease.Instant
	took     time.Duration // until it was served
	serving  bool
	told     fsm.Epoch // the leader was told that it is served under this epoch
	acquired bool      // Changed was told so
	leaving  bool      // it is to go; it may answer until it is gone
	givenUp  bool
	why      string // it leaves
	// release is what is to be said when it is gone; nil: nothing, the lease is over.
	release *Step
}

// activations are all HAVIPs that may answer on this node, and the lists of them that the Edge and people
// are given. An activation is large, there may be thousands, and most turns change none: so the lists are
// made anew only after a change. Whoever changes an activation, or which there are, calls changed.
type activations struct {
	by        map[string]*activation    // by HAVIP id
	version   uint64                    // grows with every change
	current   bool                      // the lists were made from the activations as they are
	wanted    []Activation              // that are to answer, in the order of HAVIP ids; nobody writes to it
	view      atomic.Pointer[[]Serving] // all of them, for whoever asks from outside
	refreshed *fsm.State                // that the activations have followed
}

func newActivations() *activations {
	h := &activations{by: map[string]*activation{}}
	h.view.Store(&[]Serving{})
	return h
}

func (l *activations) changed() { l.current, l.version = false, l.version+1 }

// ids lists those that are here, in order.
func (l *activations) ids() []string { return slices.Sorted(maps.Keys(l.by)) }

// leaving counts what is on its way down.
func (l *activations) leaving() (n int) {
	for _, h := range l.by {
		if h.leaving {
			n++
		}
	}
	return n
}

// refresh follows what the log says of the ENIs and the lease.
func (l *activations) refresh(s *fsm.State) {
	if s == l.refreshed {
		return
	}
	l.refreshed = s
	lifetime := lifetimeOf(s, len(l.by))
	for _, h := range l.by {
		if eni, known := s.ENIs[h.ENI.ID]; known && !sameENI(eni, h.ENI) {
			h.ENI = eni
			l.changed()
		}
		if h.Lifetime != lifetime {
			h.Lifetime = lifetime
			l.changed()
		}
	}
}

// lifetimeOf is that of each of n addresses: the backstop for a process that is gone together with its fence. A renewal
// makes the kernel look through all addresses of the device, twice (find_matching_ifa and check_lifetime of
// net/ipv4/devinet.c): 50 µs of a core, and 70 with 5,000. So many addresses live longer, and a node renews fewer than
// 3,000 of them a second.
func lifetimeOf(s *fsm.State, n int) time.Duration {
	return s.Cluster.LeaseMax + lifetimeMore + time.Duration(n/lifetimeEach)*time.Second
}

// publish makes the lists, if they are not current, and shows others what this node answers for.
func (l *activations) publish() {
	if l.current {
		return
	}
	wanted, view := make([]Activation, 0, len(l.by)), make([]Serving, 0, len(l.by))
	for _, id := range l.ids() {
		h := l.by[id]
		if !h.leaving {
			wanted = append(wanted, h.Activation)
		}
		view = append(view, Serving{Activation: h.Activation, Since: h.begun, Stands: h.serving, Leaving: h.leaving})
	}
	l.current, l.wanted = true, wanted
	l.view.Store(&view)
}

// sameENI reports whether nothing about an ENI has changed. TestSameENI holds it to every field.
func sameENI(a, b fsm.ENI) bool {
	primary := a.SetPrimary == b.SetPrimary || a.SetPrimary != nil && b.SetPrimary != nil && *a.SetPrimary == *b.SetPrimary
	return primary && a.ID == b.ID && a.Node == b.Node && a.Device == b.Device && a.MAC == b.MAC && a.Subnet == b.Subnet && a.Gateway == b.Gateway &&
		a.Primary == b.Primary && a.Up == b.Up && a.Detached == b.Detached && a.Fault == b.Fault && a.SetSubnet == b.SetSubnet && a.Cloud == b.Cloud && slices.Equal(a.Prefixes, b.Prefixes)
}
