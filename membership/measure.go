package membership

import (
	"time"

	"havip-cluster/fsm"
)

// Measure hears what is measured. Each may be nil. They are called in Raft's goroutines and must
// not block.
type Measure struct {
	Wrote         func(took time.Duration)                      // each write to the log
	Applied       func(before, after *fsm.State, c fsm.Command) // each command that was done since the node caught up
	LeaderChanged func()                                        // each time that a leader was found
}

// followApplied has the machine tell of what is applied from the point on at which the node has
// caught up: what it reads again from its log was told in an earlier life.
func (n *Node) followApplied() {
	if n.cfg.Applied == nil {
		return
	}
	n.Machine.applied = func(before, after *fsm.State, c fsm.Command) {
		if n.CaughtUp() {
			n.cfg.Applied(before, after, c)
		}
	}
}
