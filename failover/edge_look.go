package failover

import (
	"net/netip"
	"time"

	"havip-cluster/failover/lease"
)

const (
	// lookAgain is how old a look may be when something has changed since: the dump of a
	// thousand addresses takes longer than to refresh one, and each refresh is a change.
	lookAgain = 10 * time.Millisecond
	// lookLong is how old a look may be when nothing has changed since, as far as the
	// kernel tells: it does not tell when somebody takes the fence away.
	lookLong = keepEvery / 2
)

// place is an address on a device.
type place struct {
	index int
	ip    netip.Addr
}

// look is what the kernel showed at one time, for all HAVIPs together: to ask for each of
// them alone would take a second for a thousand.
type look struct {
	at      lease.Instant
	changes uint64 // seen before it was taken
	held    map[place]bool
	sick    map[int]error // by device index: why the fence is not intact; nil: it is
}

// view returns a look that is new enough for Keep. One that may be older than the latest
// change is followed by another token in Changes, so that no change goes unseen.
func (e *NetEdge) view() (*look, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := Boot()
	if v := e.seen; v != nil {
		age, same := now.Sub(v.at), v.changes == e.changesSeen
		if same && age < lookLong {
			return v, nil
		}
		if age < lookAgain {
			if !e.lookDue {
				e.lookDue = true
				time.AfterFunc(lookAgain, e.lookSoon)
			}
			return v, nil
		}
	}
	v := &look{at: now, changes: e.changesSeen, held: map[place]bool{}, sick: map[int]error{}}
	list, err := e.addrs.Holding()
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		v.held[place{a.Index, a.IP}] = true
	}
	e.seen = v
	return v, nil
}

// lookSoon has the Agent look again.
func (e *NetEdge) lookSoon() {
	e.mu.Lock()
	e.lookDue, e.seen = false, nil
	e.mu.Unlock()
	e.changed()
}

// forgetLook drops the look: what this process itself has changed is not in it.
func (e *NetEdge) forgetLook() {
	e.mu.Lock()
	e.seen = nil
	e.mu.Unlock()
}

// fenceSick is fence.Healthy, once in a look.
func (e *NetEdge) fenceSick(v *look, index int) error {
	e.mu.Lock()
	sick, known := v.sick[index]
	e.mu.Unlock()
	if known {
		return sick
	}
	sick = e.fence.Healthy(index)
	e.mu.Lock()
	v.sick[index] = sick
	e.mu.Unlock()
	return sick
}
