package leader

import (
	"context"
	"slices"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// settling waits until a lowered lease length is known everywhere (rule 8).
type settling struct {
	index uint64 // of the change
	known lease.Instant
}

// settleLease ends the time in which the longer of two lease lengths counts: every voter
// and every holder has applied the change, and twice the longer promise has passed since.
func (c *Controller) settleLease(ctx context.Context) error {
	s := c.cfg.Log.State()
	st := &c.leadership.settle
	if s.Cluster.LeaseMax == s.Cluster.Lease {
		return nil
	}
	now := c.cfg.Clock()
	if st.index != s.Cluster.LeaseIndex {
		*st = settling{index: s.Cluster.LeaseIndex}
	}
	if st.known == 0 {
		if !c.allApplied(s, st.index) {
			return nil
		}
		st.known = now
	}
	if now.Sub(st.known) < lease.SettleAfter(s.Cluster.LeaseMax) {
		return nil
	}
	_, err := c.propose(ctx, fsm.SettleLease{Index: st.index})
	return err
}

// allApplied reports whether every voter, and every node that may still renew by an older
// length, has applied the log up to index.
func (c *Controller) allApplied(s *fsm.State, index uint64) bool {
	nodes := slices.Clone(c.cfg.Log.VoterSet().Voters)
	for _, sess := range s.SessionList() {
		nodes = append(nodes, sess.Node)
	}
	for _, node := range nodes {
		if applied, fresh := c.Applied(node); !fresh || applied < index {
			return false
		}
	}
	return true
}
