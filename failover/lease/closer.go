package lease

import "time"

// Closer is a leader's count of endorsements (rule 5). It serves one leader for one term.
//
// Danger: the verdict holds for the term of the question. A leader that was deposed
// without knowing it counts by a voter set that its successor may have changed twice;
// see duty 7 of the package documentation.
type Closer struct {
	leader string
	term   uint64

	voters VoterSet              // the leader's, the latest in its log
	asked  uint64                // questions asked so far
	open   map[Session]*question // at most NodesMax; Invariant: all asked by voters
}

// question is the latest question about a session, and who has endorsed it.
type question struct {
	Question
	askedAt  Instant
	endorsed ballot
}

// NewCloser returns the closer of the given leader in the given term.
func NewCloser(leader string, term uint64) *Closer {
	return &Closer{leader: leader, term: term, open: make(map[Session]*question)}
}

// UseVoterSet tells the latest voter set in the leader's log: call it before each Count.
// Rule 5 counts by the leader's current set, so a change drops every open question.
func (c *Closer) UseVoterSet(set VoterSet) {
	if !set.sameEntry(c.voters) {
		clear(c.open)
	}
	c.voters = set
}

// Ask returns a new question about the session, for every voter of the set at once. It
// takes the place of an earlier one, whose endorsements no longer count. The length is
// the longest in force (rule 8).
func (c *Closer) Ask(now Instant, s Session, set VoterSet, length time.Duration) Question {
	c.UseVoterSet(set)
	if c.open[s] == nil && len(c.open) >= NodesMax {
		c.dropOldest()
	}
	c.asked++
	q := Question{
		ID:      QuestionID{Leader: c.leader, Term: c.term, Number: c.asked},
		Session: s,
		Config:  set.ID,
		Length:  length,
	}
	c.open[s] = &question{Question: q, askedAt: now, endorsed: newBallot(set)}
	return q
}

// Count takes an endorsement. It returns dead = true, once per question, when a majority
// of the leader's voter set has endorsed: the session's lease is over on its holder's
// clock and can never run again, and the leader may commit the close.
//
// Rule 5: the question must be no older than half a length. A voter that endorsed and
// then restarted is silent for P; within L/2 of the question it cannot have acknowledged
// a renewal again, however often it restarted.
func (c *Closer) Count(now Instant, e Endorsement) (dead bool, why Refusal) {
	q := c.open[e.Session]
	if q == nil || q.ID != e.Question {
		return false, RefusedQuestion
	}
	if now.Sub(q.askedAt) > q.Length/2 {
		delete(c.open, e.Session)
		return false, RefusedOld
	}
	// The voter has checked this; the leader checks it again where it counts.
	if e.Config != q.Config {
		return false, RefusedVoterSet
	}
	if !q.endorsed.set.Has(e.From) {
		return false, RefusedNotVoter
	}
	if !q.endorsed.add(e.From) {
		return false, RefusedRepeated
	}
	if !q.endorsed.won() {
		return false, ""
	}
	delete(c.open, e.Session)
	return true, ""
}

// Forget drops the question about a session, for instance when the log has closed it.
func (c *Closer) Forget(s Session) { delete(c.open, s) }

// dropOldest makes room for a question: whoever asked longest ago must ask again.
func (c *Closer) dropOldest() {
	var oldest *question
	for _, q := range c.open {
		if oldest == nil || q.ID.Number < oldest.ID.Number {
			oldest = q
		}
	}
	if oldest != nil {
		delete(c.open, oldest.Session)
	}
}
