package shell

import (
	"context"
	"slices"
	"sync"
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

// Succession has this node stand for election when the lease of the leader has ended at a majority of
// the voters.
type Succession struct {
	cfg  Config
	mu   sync.Mutex
	told told
	wake chan struct{} // Run has something new to wait for
}

// NewSuccession returns a Succession. Nothing runs before Run.
func NewSuccession(cfg Config) *Succession {
	return &Succession{cfg: cfg, wake: make(chan struct{}, 1)}
}

// Run stands when it is time to, until ctx ends. It also tells the leader how far this node has applied
// the log.
func (c *Succession) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var lastStatus lease.Instant
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.wake:
		}
		now := c.cfg.Clock()
		pause := wire.StatusEvery
		if stand := c.standDue(now); stand > 0 {
			pause = min(pause, stand)
		}
		if since := now.Sub(lastStatus); since >= wire.StatusEvery {
			lastStatus = now
			c.cfg.Mail.TellLeader(wire.Message{Status: &wire.StatusMessage{Applied: c.applied()}})
		} else {
			pause = min(pause, wire.StatusEvery-since)
		}
		timer.Reset(pause)
	}
}

// applied is how far this node has applied the log, its acceptor and holder too (duty 10).
func (c *Succession) applied() uint64 {
	applied := c.cfg.Log.Applied()
	if c.cfg.Viewed == nil {
		return applied
	}
	// The state stands still while entries come that change none.
	if viewed := c.cfg.Viewed(); viewed < c.cfg.Log.State().Index {
		return min(applied, viewed)
	}
	return applied
}

// told is what was heard about the end of the leader's session.
type told struct {
	leader  string
	session lease.Session
	hints   *lease.Inquiry
	due     lease.Instant // when this node stands; 0: it does not
	later   time.Duration // after who stands first
	stood   bool          // once for each session; a try that came to nothing is none
}

// Hinted takes another voter's hint, or this one's own. It does not block.
func (c *Succession) Hinted(from string, sessions []lease.Session) {
	if c.cfg.Stand == nil {
		return
	}
	leader := c.cfg.Log.LeaderID()
	s := c.cfg.Log.State()
	sess, open := s.SessionOf(leader)
	if leader == "" || leader == c.cfg.Node || !open {
		return
	}
	session := lease.Session{Node: leader, Number: sess.Number}
	if !slices.Contains(sessions, session) {
		return
	}
	set := c.cfg.Log.VoterSet()
	c.mu.Lock()
	now := c.cfg.Clock()
	t := &c.told
	if t.session != session || t.leader != leader {
		*t = told{leader: leader, session: session, hints: lease.NewInquiry(now)}
	}
	t.hints.Hint(now, from, set)
	stands := false
	if ask, _ := t.hints.Due(now, set, s.Cluster.LeaseMax); ask && !t.stood && t.due == 0 {
		if rank, votes := standRank(s, set, leader, c.cfg.Node); votes {
			t.later = time.Duration(rank) * max(s.Cluster.LeaseMax/standShare, standLeast)
			t.due, stands = now.Add(t.later), true
		}
	}
	c.mu.Unlock()
	if stands {
		select {
		case c.wake <- struct{}{}:
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
func (c *Succession) standDue(now lease.Instant) time.Duration {
	c.mu.Lock()
	t := &c.told
	wait := time.Duration(0)
	if t.due != 0 {
		wait = t.due.Sub(now)
	}
	stand := t.due != 0 && wait <= 0
	if stand {
		t.due, t.stood, wait = 0, true, 0
	}
	leader, session, later := t.leader, t.session, t.later
	c.mu.Unlock()
	switch {
	case !stand || c.cfg.Log.LeaderID() != leader:
	case c.cfg.Stand(leader, later):
		c.cfg.Logger.Info("the leader's lease has ended at a majority of the voters: standing for election", "leader", c.cfg.Log.State().NodeName(leader))
	default: // it was heard too lately, most likely: the voters' next hints have it tried again
		c.mu.Lock()
		t.stood = t.stood && t.session != session
		c.mu.Unlock()
	}
	return wait
}
