package owner

import (
	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// look is what the last turn of the Edge was given. While many HAVIPs are handed over, most turns of the
// Agent are about a message of others that changes nothing here; a turn of the Edge would look at all
// HAVIPs then, and find nothing to do.
type look struct {
	state    *fsm.State
	caughtUp bool
	version  uint64        // of the activations
	next     lease.Instant // when the Edge wants its next turn; 0: at once
}

// edgeTurn has the Edge make what is wanted so, if there can be anything to do: another state, another
// activation, a change at the interfaces, word from outside, or an instant that it has waited for.
func (a *Agent) edgeTurn(now lease.Instant, s *fsm.State, deadline lease.Instant) (again bool, next lease.Instant) {
	want := a.wanted(s, deadline)
	given := look{state: s, caughtUp: want.CaughtUp, version: a.activations.version, next: a.looked.next}
	if given == a.looked && now.Before(a.looked.next) {
		return false, a.looked.next
	}
	report := a.cfg.Edge.Turn(want)
	given.next = report.Next
	a.looked = given
	return a.take(s, report), report.Next
}
