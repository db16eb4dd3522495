package shell

import (
	"slices"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// When the leader dies together with what it owns, an election comes before the close of its session.
// Its voters hold its promise and know before Raft's timers that it is over. So the hint about the
// leader's own session goes to all voters, and when a majority has hinted, the first of them in an
// order that all know stands for election at once; the others follow one after another, should that
// not have helped. Nothing is concluded from it but who stands: Raft alone elects.

// standShare is the part of a lease between two voters that stand, standLeast its least.
const (
	standShare = 10
	standLeast = 10 * time.Millisecond
)

// succession is what a voter has heard about the end of the leader's session.
type succession struct {
	leader  string
	session lease.Session
	hints   *lease.Inquiry
	due     lease.Instant // when this node stands; 0: it does not
	stood   bool          // once for each session
}

// Hinted takes another voter's hint, or this one's own. It does not block.
func (v *Voter) Hinted(from string, sessions []lease.Session) {
	if v.cfg.Stand == nil {
		return
	}
	leader := v.cfg.Log.LeaderID()
	s := v.cfg.Log.State()
	sess, open := s.SessionOf(leader)
	if leader == "" || leader == v.cfg.Node || !open {
		return
	}
	session := lease.Session{Node: leader, Number: sess.Number}
	if !slices.Contains(sessions, session) {
		return
	}
	set := v.cfg.Log.VoterSet()
	v.mu.Lock()
	now := v.cfg.Clock()
	c := &v.succession
	if c.session != session || c.leader != leader {
		*c = succession{leader: leader, session: session, hints: lease.NewInquiry(now)}
	}
	c.hints.Hint(now, from, set)
	stands := false
	if ask, _ := c.hints.Due(now, set, s.Cluster.LeaseMax); ask && !c.stood && c.due == 0 {
		if rank, votes := standRank(s, set, leader, v.cfg.Node); votes {
			c.due, stands = now.Add(time.Duration(rank)*max(s.Cluster.LeaseMax/standShare, standLeast)), true
		}
	}
	v.mu.Unlock()
	if stands {
		select {
		case v.wake <- struct{}{}:
		default:
		}
	}
}

// standRank is this node's place among those that may stand for the leader: first who owns nothing,
// so that leader and owner are not lost together again.
func standRank(s *fsm.State, set lease.VoterSet, leader, self string) (rank int, votes bool) {
	owns := func(node string) bool {
		sess, open := s.SessionOf(node)
		return open && len(s.Claimed(sess.Number)) > 0
	}
	mine := owns(self)
	for _, voter := range set.Voters { // sorted
		if voter == self || voter == leader {
			continue
		}
		theirs := owns(voter)
		if theirs == mine && voter < self || mine && !theirs {
			rank++
		}
	}
	return rank, set.Has(self)
}

// standDue stands if it is time to and the leader is still the same, and says how long to wait, 0
// for nothing to wait for.
func (v *Voter) standDue(now lease.Instant) time.Duration {
	v.mu.Lock()
	c := &v.succession
	wait := time.Duration(0)
	if c.due != 0 {
		wait = c.due.Sub(now)
	}
	stand := c.due != 0 && wait <= 0
	if stand {
		c.due, c.stood, wait = 0, true, 0
	}
	leader := c.leader
	v.mu.Unlock()
	if stand && v.cfg.Log.LeaderID() == leader && v.cfg.Stand(leader) {
		v.cfg.Logger.Info("the leader's lease has ended at a majority of the voters: standing for election", "leader", v.cfg.Log.State().NodeName(leader))
	}
	return wait
}

// tellVoters gives a hint about the leader's own session to all voters, this one included.
func (v *Voter) tellVoters(expired []lease.Session) {
	leader := v.cfg.Log.LeaderID()
	if v.cfg.Stand == nil || leader == "" || leader == v.cfg.Node {
		return
	}
	for _, s := range expired {
		if s.Node != leader {
			continue
		}
		hint := []lease.Session{s}
		for _, voter := range v.cfg.Log.VoterSet().Voters {
			if voter != leader { // it was told as the leader
				v.cfg.Mail.Send(voter, wire.Message{Hint: hint})
			}
		}
	}
}
