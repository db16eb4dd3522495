package leader

import (
	"slices"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// sighting is what a Controller remembers of the state that it looked at last, for the timelines.
type sighting struct {
	state    *fsm.State // nil: none yet
	inputs   uint64
	inputsAt lease.Instant // when what placements depend on changed last
}

// watch looks at what the log has decided since the last look, and begins the timelines of that. Every
// node does, so that the next leader knows what the last one did not record.
func (c *Controller) watch() {
	s, now := c.cfg.Log.State(), c.cfg.Clock()
	before := c.seen
	if before.state == s {
		return
	}
	c.seen.state = s
	if s.PlacementInputs() != before.inputs || before.state == nil {
		c.seen.inputs, c.seen.inputsAt = s.PlacementInputs(), now
	}
	if before.state == nil || s.Index < before.state.Index {
		return // what was decided before this process looked is not told
	}
	first := len(s.Decisions)
	for first > 0 && s.Decisions[first-1].Index > before.state.Index {
		first--
	}
	n := len(c.timeline.open)
	for _, d := range s.Decisions[first:] {
		c.timeline.decided(now, before.inputsAt, before.state, s, d)
	}
	if term, leads := c.cfg.Log.Leading(); c.leadership != nil && leads && term == c.leadership.term {
		c.askClocks(c.timeline.open[n:])
	} else { // between two turns another node may have led
		c.timeline.adopt()
	}
	c.timeline.follow(now, s)
	if c.leadership == nil {
		c.timeline.drop(func(f *openFailover) bool { return now.Sub(f.committed) > 2*timelineWait || recorded(s, f) })
	}
}

// recorded reports whether the log has a timeline.
func recorded(s *fsm.State, f *openFailover) bool {
	return slices.ContainsFunc(s.Failovers, func(r fsm.Failover) bool { return r.HAVIP == f.name && r.Epoch == f.epoch && r.To == f.to })
}

// askClocks compares this node's clock with those of the new owners of some changes.
func (c *Controller) askClocks(changes []*openFailover) {
	asked := map[string]bool{"": true, c.cfg.Node: true}
	for _, f := range changes {
		if !asked[f.node] {
			asked[f.node] = true
			c.cfg.Mail.Send(f.node, wire.Message{Clock: &wire.ClockMessage{Asked: c.cfg.Clock()}})
		}
	}
}
