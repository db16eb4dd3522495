package leader

import (
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// clocks are those of other nodes against this one's, by node id.
type clocks map[string]clock

// clockDrift is how fast two clocks may part: 200 ppm, as the lease's margin has it for each of two.
const clockDrift = 200 // millionths

// clock is one comparison: the node's clock is ahead by offset, give or take bound, at an instant.
type clock struct {
	offset, bound time.Duration
	at            lease.Instant
}

// aged is the comparison as it holds now.
func (c clock) aged(now lease.Instant) clock {
	c.bound += now.Sub(c.at) * clockDrift / 1_000_000
	return c
}

// compared takes the answer of a node to a question about its clock. The tighter one counts.
func (k clocks) compared(from string, w wire.ClockMessage) {
	offset, bound := w.Offset()
	if bound < 0 {
		return // an answer to nothing that was asked in this life
	}
	k.keep(from, clock{offset, bound, w.Heard})
}

// oneWay takes a word that says when it was sent: it was under way for no less than nothing, so the
// node's clock is ahead by no less than that. Used where no answer has come.
func (k clocks) oneWay(from string, w wire.StepsMessage) {
	if _, known := k[from]; !known {
		k.keep(from, clock{w.Said.Sub(w.Heard), oneWayBound, w.Heard})
	}
}

// oneWayBound is what one trip takes at most, as far as anything is known of it.
const oneWayBound = 100 * time.Millisecond

// measured reports whether the node has answered a question about its clock.
func (k clocks) measured(node string) bool {
	c, known := k[node]
	return known && c.bound < oneWayBound
}

func (k clocks) keep(from string, c clock) {
	if old, known := k[from]; known && old.aged(c.at).bound <= c.bound && !c.at.Before(old.at) {
		return
	}
	if len(k) >= fsm.MaxNodes {
		clear(k)
	}
	k[from] = c
}

// of is what is known of a node's clock now.
func (k clocks) of(now lease.Instant, node string) (clock, bool) {
	c, known := k[node]
	return c.aged(now), known
}

// here is an instant of a node's clock on this one's.
func (k clocks) here(now lease.Instant, node string, at lease.Instant) lease.Instant {
	c, _ := k.of(now, node)
	return at.Add(-c.offset)
}
