package lease

import (
	"maps"
	"time"
)

const (
	askAgain   = 10 * time.Millisecond // while a question is not settled; twice as long each time
	askSlowest = 8                     // up to this part of a lease: a longer round trip renews no lease either
	hintFresh  = 2                     // a hint counts for this part of a lease; voters repeat it every tenth
)

// Inquiry says when a leader asks the voters about one session: once a majority of them has
// hinted lately that their promises have run out, and again with ever longer pauses until a
// majority has endorsed. It begins with the first hint.
//
// A question costs: a voter that endorses refuses that session for the rest of its life (rule
// 4). So nobody is asked because one voter was cut off from the holder, or has just started.
// That loses no time, because fewer than a majority cannot close a session anyway. A hint proves
// nothing: the Closer alone counts.
type Inquiry struct {
	hinted Instant            // first hint
	hints  map[string]Instant // the last one, by voter
	asked  Instant            // the last question; 0: none yet
	pause  time.Duration      // from then until it is asked again
	dead   bool
}

// NewInquiry returns the inquiry about a session of which the first hint comes now.
func NewInquiry(now Instant) *Inquiry {
	return &Inquiry{hinted: now, hints: map[string]Instant{}}
}

// Hint notes a hint. One of a node that is no voter of the leader's set does not count.
func (q *Inquiry) Hint(now Instant, voter string, set VoterSet) {
	if set.Has(voter) {
		q.hints[voter] = now
	}
}

// Due reports whether the voters are to be asked now. If not, wait is for how long the answers
// to the last question are waited for; 0: nothing is waited for, only a hint can change that.
// longest is the longest lease length in force.
func (q *Inquiry) Due(now Instant, set VoterSet, longest time.Duration) (ask bool, wait time.Duration) {
	if q.dead || !q.majorityHints(now, set, longest/hintFresh) {
		return false, 0
	}
	if left := q.pause - now.Sub(q.asked); q.asked != 0 && left > 0 {
		return false, left
	}
	return true, 0
}

// majorityHints reports whether most voters have hinted lately.
func (q *Inquiry) majorityHints(now Instant, set VoterSet, fresh time.Duration) bool {
	n := 0
	for _, voter := range set.Voters {
		if at, hinted := q.hints[voter]; hinted && now.Sub(at) <= fresh {
			n++
		}
	}
	return n >= set.Majority()
}

// Asked notes that every voter is asked now, and returns after how long again. A new question
// takes the place of the one before, so there must be time for the answers to come back: on a
// slow link more than at first.
func (q *Inquiry) Asked(now Instant, longest time.Duration) time.Duration {
	q.asked, q.pause = now, min(max(2*q.pause, askAgain), max(longest/askSlowest, askAgain))
	return q.pause
}

// Over reports whether no voter has hinted lately: the holder is back, and the inquiry ends.
func (q *Inquiry) Over(now Instant, longest time.Duration) bool {
	maps.DeleteFunc(q.hints, func(_ string, at Instant) bool { return now.Sub(at) > longest/hintFresh })
	return len(q.hints) == 0
}

// Endorsed notes the Closer's verdict: a majority has endorsed, and nothing is asked any more.
func (q *Inquiry) Endorsed() { q.dead = true }

// Dead reports whether a majority has endorsed.
func (q *Inquiry) Dead() bool { return q.dead }

// Times returns when the first hint came, and when the voters were asked last, 0 for not yet.
// For the timeline only.
func (q *Inquiry) Times() (hinted, asked Instant) { return q.hinted, q.asked }
