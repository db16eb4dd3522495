package leader

import (
	"cmp"
	"context"
	"slices"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// The close of a dead session: rule 5 of the lease protocol. A hint says that a promise
// ran out somewhere; once a majority of the voters has hinted, the leader asks all of
// them at once; a majority of endorsements of that one question makes the session dead
// for good; the close goes into the log together with the new places of what the session
// had. Who is asked when is lease.Inquiry, what counts is lease.Closer.

// hint notes that a voter's promise to a session has run out, and asks.
func (c *Controller) hint(now lease.Instant, s lease.Session, voter string) {
	if sess, open := c.cfg.Log.State().Sessions[s.Number]; !open || sess.Node != s.Node {
		return
	}
	q := c.leadership.asking[s]
	if q == nil {
		if len(c.leadership.asking) >= lease.NodesMax {
			return
		}
		q = lease.NewInquiry(now)
		c.leadership.asking[s] = q
	}
	set := c.cfg.Log.VoterSet()
	q.Hint(now, voter, set)
	if ask, _ := q.Due(now, set, c.longest()); !ask {
		return
	}
	c.ask(s, q)
}

// longest is the longest lease length in force.
func (c *Controller) longest() time.Duration { return c.cfg.Log.State().Cluster.LeaseMax }

// ask sends a new question to every voter, and returns after how long the next one is due. The
// answer of this node itself arrives before the function returns.
func (c *Controller) ask(s lease.Session, q *lease.Inquiry) (again time.Duration) {
	now := c.cfg.Clock()
	again = q.Asked(now, c.longest())
	set := c.cfg.Log.VoterSet()
	if c.cfg.Log.Applied() < set.Index {
		return again // the state must have come as far as the voter set
	}
	question := c.leadership.closer.Ask(now, s, set, c.longest())
	for _, voter := range set.Voters {
		c.cfg.Mail.Send(voter, wire.Message{Question: &question})
	}
	return again
}

// endorsed counts an endorsement.
func (c *Controller) endorsed(now lease.Instant, e lease.Endorsement) {
	c.leadership.closer.UseVoterSet(c.cfg.Log.VoterSet())
	dead, _ := c.leadership.closer.Count(now, e)
	if q := c.leadership.asking[e.Session]; dead && q != nil {
		q.Endorsed()
		hinted, asked := q.Times()
		c.timeline.dead(now, e.Session.Number, hinted, asked)
	}
}

// ended is a session that a majority has endorsed the end of.
type ended struct {
	lease.Session
	// heard is how long ago this node's own voter had acknowledged a renewal, -1 if unknown.
	heard time.Duration
}

// closeDead commits the close of every session that a majority has endorsed by now, in one
// entry with one placement without all of them: sessions end together when a rack does.
func (c *Controller) closeDead(ctx context.Context) error {
	state := c.cfg.Log.State()
	var dead []ended
	for s, q := range c.leadership.asking {
		if _, open := state.Sessions[s.Number]; !open {
			c.leadership.closer.Forget(s)
			delete(c.leadership.asking, s)
			delete(c.timeline.sessions, s.Number)
			continue
		}
		if !q.Dead() {
			continue
		}
		heard, _, known := c.cfg.Voter.Heard(s)
		if !known {
			heard = -1
		}
		dead = append(dead, ended{s, heard})
	}
	slices.SortFunc(dead, func(a, b ended) int { return cmp.Compare(a.Number, b.Number) })
	together := 1 // older members read no more
	if state.Level() >= 3 {
		together = fsm.MaxSessionsPerEntry
	}
	for part := range slices.Chunk(dead, together) {
		if err := c.close(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// close commits the close of some sessions.
func (c *Controller) close(ctx context.Context, dead []ended) error {
	before := c.cfg.Log.State()
	numbers := make([]uint64, len(dead))
	for i, s := range dead {
		numbers[i] = s.Number
	}
	res, err := c.propose(ctx, closing(before, numbers, placedWithout(before, numbers, c.cfg.Wall(), union(c.unheard(before), c.silent(before)))))
	if err != nil || res.Refusal != nil {
		return err
	}
	after := c.cfg.Log.State()
	for _, s := range dead {
		n := len(c.timeline.open)
		c.timeline.closed(c.cfg.Clock(), before, after, s.Number, s.heard)
		c.askClocks(c.timeline.open[n:])
		c.cfg.Logger.Info("session closed", "node", before.NodeName(s.Node), "session", s.Number)
	}
	return nil
}

// closing is the command that closes some sessions, as the members can read it.
func closing(s *fsm.State, sessions []uint64, place []fsm.Assignment) fsm.Body {
	if s.Level() >= 3 {
		return fsm.CloseSessions{Sessions: sessions, Place: place}
	}
	return fsm.CloseSession{Session: sessions[0], Place: place}
}

// placedWithout computes where things go once some sessions are closed: on a copy of the
// state in which they are.
func placedWithout(s *fsm.State, sessions []uint64, at int64, unheard map[string]bool) []fsm.Assignment {
	cmd, err := fsm.NewCommand(at, "", "", closing(s, sessions, nil))
	if err != nil {
		return nil
	}
	without, _, err := fsm.Apply(s, s.Index+1, cmd)
	if err != nil {
		return nil
	}
	return moves(without, at, unheard)
}

// askWhatIsOpen asks again about what is not settled, and says when to come back.
func (c *Controller) askWhatIsOpen() time.Duration {
	pause := controlTick
	set := c.cfg.Log.VoterSet()
	for s, q := range c.leadership.asking {
		now := c.cfg.Clock()
		ask, wait := q.Due(now, set, c.longest())
		switch {
		case ask:
			pause = min(pause, c.ask(s, q))
		case wait > 0:
			pause = min(pause, wait)
		case !q.Dead() && q.Over(now, c.longest()):
			c.leadership.closer.Forget(s)
			delete(c.leadership.asking, s) // the holder is back
		}
	}
	return pause
}
