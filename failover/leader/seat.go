package leader

import (
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// A leader that owns HAVIPs costs an election when its host dies, before its session can be closed. So
// in quiet times leadership goes to a voter that owns nothing, if there is one.
const (
	seatQuiet = 30 * time.Second // nothing was written into the log for so long, and this leader led
	seatAgain = 10 * time.Minute // between two attempts of one node
	seatPoll  = 10 * time.Second // between two looks at who owns what
)

// seat is what a Controller remembers of giving leadership away, over all its terms.
type seat struct {
	index  uint64        // of the state that was seen last
	since  lease.Instant // since when
	tried  lease.Instant // 0: never
	looked lease.Instant
}

// quiet reports whether nothing has happened for long enough, by the state and by what is open here.
func (c *Controller) quiet(now lease.Instant, s *fsm.State) bool {
	if c.seat.index != s.Index || c.seat.since == 0 {
		c.seat.index, c.seat.since = s.Index, now
	}
	return now.Sub(c.seat.since) >= seatQuiet && now.Sub(c.leadership.began) >= seatQuiet &&
		(c.seat.tried == 0 || now.Sub(c.seat.tried) >= seatAgain) && len(c.leadership.asking) == 0
}

// yield gives leadership to a voter that owns nothing. It is the last thing of a turn.
func (c *Controller) yield() {
	if c.cfg.Yield == nil {
		return
	}
	now, s := c.cfg.Clock(), c.cfg.Log.State()
	if !c.quiet(now, s) || c.seat.looked != 0 && now.Sub(c.seat.looked) < seatPoll {
		return
	}
	c.seat.looked = now
	to := betterSeat(s, c.cfg.Log.VoterSet(), c.cfg.Node, func(node string) bool {
		index, fresh := c.Applied(node)
		return fresh && index >= s.Index
	})
	if to == "" {
		return
	}
	c.seat.tried = now
	c.cfg.Logger.Info("leadership goes to a voter that owns nothing, so that leader and owner are not lost together", "to", s.NodeName(to))
	if err := c.cfg.Yield(to); err != nil {
		c.cfg.Logger.Info("leadership stays here", "err", err)
	}
}

// betterSeat is the voter that should lead in place of self, "" if nobody should: self owns something,
// nothing is under way, every voter follows the log, and the other one is there to stay. Pure.
func betterSeat(s *fsm.State, set lease.VoterSet, self string, follows func(node string) bool) string {
	if owned(s, self) == 0 || underWay(s) {
		return ""
	}
	best := ""
	for _, voter := range set.Voters { // sorted
		n, member := s.Nodes[voter]
		if !member || voter != self && !follows(voter) {
			return ""
		}
		_, open := s.SessionOf(voter)
		stays := open || n.Role == fsm.RoleWitness
		if best == "" && voter != self && stays && owned(s, voter) == 0 {
			best = voter
		}
	}
	return best
}

// underWay reports whether something is being changed in which leadership should stay where it is.
func underWay(s *fsm.State) bool {
	if s.Cluster.Maintenance || s.Cluster.LeaseMax != s.Cluster.Lease || s.Cluster.Keys.CA.Runs() || s.Cluster.Keys.GossipTurn.Runs() {
		return true
	}
	for _, n := range s.Nodes {
		if n.Removing || n.Draining || n.Standby || n.Maintenance {
			return true
		}
	}
	for _, v := range s.HAVIPs {
		if len(v.Draining) > 0 || v.Deleting || v.Owner != nil && v.Served != v.Owner.Epoch {
			return true
		}
	}
	return false
}

// owned is how many HAVIPs a node has.
func owned(s *fsm.State, node string) int {
	sess, open := s.SessionOf(node)
	if !open {
		return 0
	}
	return len(s.Claimed(sess.Number))
}
