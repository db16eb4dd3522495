package lease

// countingHand counts the answers to a holder's rounds where they come in, also while its process stands still:
// the program in the kernel (shell.Counter). Every second history has one. It has what the process has told it of its rounds.
type countingHand struct {
	session Session
	set     VoterSet
	rounds  [RoundsMax]countedRound
}

type countedRound struct {
	renewal Renewal
	acks    ballot
	answers int // repeated ones, too
}

// round is told of before it is sent. Those under way by another set are forgotten.
func (h *countingHand) round(r Renewal, set VoterSet) {
	if set.ID != h.set.ID || set.Index != h.set.Index {
		h.set, h.rounds = set, [RoundsMax]countedRound{}
	}
	h.rounds[r.Round%RoundsMax] = countedRound{renewal: r, acks: newBallot(set)}
}

// count returns the deadline that an answer leaves, which was until.
func (h *countingHand) count(now, until Instant, a Ack, f flaw) Instant {
	r := &h.rounds[a.Round%RoundsMax]
	if !a.Answers(r.renewal) {
		return until
	}
	won := r.acks.add(a.From) && r.acks.won()
	if r.answers++; f == flawCountsTwice {
		won = r.answers >= h.set.Majority()
	}
	reached := r.renewal.Sent.Add(r.renewal.Length)
	if !won || !reached.After(until) || !now.Before(until) {
		return until
	}
	return reached
}

// onAckFrame is an answer that comes in at the host: the hand counts it, and the process hears of it.
func (n *simNode) onAckFrame(a Ack) {
	if n.up && n.counting != nil && n.sim.counting {
		if until := n.counting.count(n.clock(), n.kernel.until, a, n.sim.flaw); until != n.kernel.until {
			n.sim.stats.Counted++
			if n.stoppedUntil > n.sim.now {
				n.sim.stats.CountedStopped++
			}
			n.kernel.until = until
			n.sim.logf("%s extends %v by round %d in the second hand", n.name, a.Session, a.Round)
		}
	}
	n.sim.post(n, 0, func(n *simNode) { n.onAck(a) })
}

// counted is shell.Renewer's: what has passed here is 0, and moved by nobody.
func (n *simNode) counted() {
	if n.holder == nil {
		return
	}
	if !n.clock().Before(n.kernel.until) {
		n.kernel.until = 0
	}
	n.holder.Counted(n.kernel.until)
}
