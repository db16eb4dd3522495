package lease

import (
	"slices"
	"time"
)

// Holder keeps the lease of one session at its own node (rules 1, 2 and 3). All instants
// are readings of that node's clock.
type Holder struct {
	session  Session
	deadline Instant // Invariant: never moves back.
	dead     bool    // Invariant: once true, true for ever.

	lastRound uint64
	sent      Instant       // the newest round, at first the request
	newest    time.Duration // length of the newest round
	held      time.Duration // length of the round that gave the deadline
	rounds    []round       // Invariant: ascending by number, at most RoundsMax.
}

// round is one renewal that is still worth an answer.
type round struct {
	renewal Renewal
	acks    ballot
}

// NewHolder starts the lease of a session that the log has opened. The request is the
// first renewal: the deadline is the instant at which it was sent plus its length (rule
// 1), so the lease may be over before its holder hears of it. A length that CheckLength
// refuses gives a lease that is over.
func NewHolder(s Session, requested Instant, length time.Duration) *Holder {
	h := &Holder{session: s, deadline: requested.Add(length), sent: requested, newest: length, held: length}
	if CheckLength(length) != nil {
		h.deadline, h.dead = requested, true
	}
	return h
}

// Session returns whose lease this is.
func (h *Holder) Session() Session { return h.session }

// Deadline returns the instant before which the session may keep its HAVIPs active, if
// the holder is alive: the value for the fence.
func (h *Holder) Deadline() Instant { return h.deadline }

// Alive reports whether the lease runs at now. The answer false is final.
//
// Rule 3 (continuity): a deadline that was found passed stays passed. A voter that
// endorsed the expiry and restarted has forgotten so and acknowledges again; only the
// holder's own memory of the missed deadline keeps that from reviving a closed session.
func (h *Holder) Alive(now Instant) bool {
	if !now.Before(h.deadline) {
		h.dead = true
	}
	return !h.dead
}

// Release ends the lease by the holder's own will. The caller has shut the fence before;
// from here on every acknowledgement is useless.
func (h *Holder) Release() { h.dead, h.rounds = true, nil }

// Length returns the length that the newest round asked for, at first that of the request.
func (h *Holder) Length() time.Duration { return h.newest }

// Renewed returns when the round that gave the deadline was sent, at first the request.
func (h *Holder) Renewed() Instant { return h.deadline.Add(-h.held) }

// NextRenewal returns when the next round is due: a fifth of the length after the round
// before (rule 2), and the first at once.
//
// Rule 8 (change of length): while the deadline still comes from a shorter lease, a fifth of
// that one counts. Voters that have not applied the change yet refuse the longer length, and a
// fifth of it may be more than what is left.
func (h *Holder) NextRenewal() Instant {
	if h.lastRound == 0 {
		return h.sent
	}
	return h.sent.Add(h.Pace())
}

// Pace is the time between two renewals.
func (h *Holder) Pace() time.Duration {
	return min(h.held, h.newest) / renewalsPerLease
}

// Begin starts a round: the renewal goes to every voter of the set, the own node
// included if it is one, and names each voter's boot id in Boot, which is 0 here. The set is the one by which the answers are counted, whatever
// set the node uses later. It returns false if the lease is over, or if CheckLength
// refuses the length.
func (h *Holder) Begin(now Instant, set VoterSet, length time.Duration) (Renewal, bool) {
	if !h.Alive(now) || CheckLength(length) != nil {
		return Renewal{}, false
	}
	if len(h.rounds) == RoundsMax {
		h.rounds = slices.Delete(h.rounds, 0, 1) // the oldest is worth the least
	}
	h.lastRound++
	r := Renewal{Session: h.session, Round: h.lastRound, Sent: now, Length: length, Config: set.ID}
	h.rounds = append(h.rounds, round{renewal: r, acks: newBallot(set)})
	h.sent, h.newest = now, length
	return r, true
}

// Ack counts an acknowledgement and returns the deadline and whether it moved.
//
// Rule 2 (renew): when a majority of the round's own voter set has answered, the deadline
// is the instant at which the round was *sent* plus its length. Each of these voters has
// promised P from receipt, which is later; counting from the receipt of the answers would
// add the time of the way back, in which the promises already run.
func (h *Holder) Ack(now Instant, a Ack) (deadline Instant, moved bool) {
	if !h.Alive(now) { // rule 3 (continuity), where the deadline moves
		return h.deadline, false
	}
	i := slices.IndexFunc(h.rounds, func(r round) bool { return a.Answers(r.renewal) })
	if i < 0 {
		return h.deadline, false
	}
	r := &h.rounds[i]
	if !r.acks.add(a.From) || !r.acks.won() {
		return h.deadline, false
	}
	reached := r.end()
	if !reached.After(h.deadline) {
		return h.deadline, false
	}
	h.moveTo(reached, r.renewal.Length)
	return h.deadline, true
}

// moveTo is a deadline that a round of some length gives.
func (h *Holder) moveTo(reached Instant, length time.Duration) {
	h.deadline, h.held = reached, length
	h.rounds = slices.DeleteFunc(h.rounds, func(r round) bool { return !r.end().After(h.deadline) })
}

// Counted takes over a deadline that another hand has reached by the answers to this holder's own rounds. Before
// Alive, Begin or Ack is called, the caller asks that hand, which from then on moves no deadline that has
// passed (rule 3). It is no news to a lease that is over.
func (h *Holder) Counted(reached Instant) {
	if h.dead || !reached.After(h.deadline) {
		return
	}
	length := h.held
	for _, r := range h.rounds {
		if r.end() == reached {
			length = r.renewal.Length
		}
	}
	h.moveTo(reached, length)
}

// end is the deadline that the round gives once it is won.
func (r *round) end() Instant { return r.renewal.Sent.Add(r.renewal.Length) }
