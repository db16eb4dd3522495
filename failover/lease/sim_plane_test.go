package lease

import "time"

// simPlane is what a node's acceptor is in besides: a process of its own (failover/plane), which may stand still while
// the log goes on, and a second hand in the kernel, which needs no process to go on but ends with it.
type simPlane struct {
	frozenUntil time.Duration // true time
	waiting     []func()      // what came for it meanwhile
	news        []simNews     // of the log, not heard of yet
	followed    VoterSet      // the set that it knows
	suspended   int           // the page: how often the voters of the log changed; written by the log
	hands       map[Session]*secondHand
}

// simNews is what one entry means to the acceptor.
type simNews struct {
	closed   []Session
	opened   Session
	length   time.Duration // of opened
	changed  bool          // the longest length
	longest  time.Duration
	caughtUp bool
}

func (n *simNode) frozen() bool { return n.frozenUntil > n.sim.now }

// awake does something in the acceptor's process, when that runs.
func (n *simNode) awake(do func()) {
	if n.frozen() {
		n.waiting = append(n.waiting, do)
		return
	}
	do()
}

// thaw is SIGCONT: what has waited comes in any order.
func (n *simNode) thaw() {
	if n.frozen() {
		return
	}
	n.prepare()
	waiting := n.waiting
	n.waiting = nil
	n.sim.rng.Shuffle(len(waiting), func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })
	for _, do := range waiting {
		do()
	}
}

// tell has the acceptor hear of an entry that was applied.
func (n *simNode) tell(news simNews) {
	n.news = append(n.news, news)
	if !n.frozen() {
		n.prepare()
	}
}

// prepare is shell.Voter's: what was promised is taken back before anything changes.
func (n *simNode) prepare() Instant {
	now := n.clock()
	if changed := !n.voters.sameEntry(n.followed) || len(n.news) > 0; changed && n.sim.flaw != flawSurvives {
		n.recallAll()
	}
	n.followed = n.voters
	n.acceptor.UseVoterSet(now, n.voters)
	for _, e := range n.news {
		for _, s := range e.closed {
			n.acceptor.Closed(now, s)
		}
		if e.changed {
			n.acceptor.SetLongest(now, e.longest)
		}
		if e.opened.Number != 0 {
			n.acceptor.Opened(now, e.opened, e.length)
		}
		if e.caughtUp {
			n.acceptor.CaughtUp(now)
		}
	}
	n.news = nil
	return now
}

func (n *simNode) recallAll() {
	for i := range simHolders {
		for s := range n.hands {
			if s.Node == simNames[i] {
				n.recall(s)
			}
		}
	}
}

func (n *simNode) recall(s Session) {
	h := n.hands[s]
	if h == nil {
		return
	}
	if n.sim.flaw != flawGoesOn {
		delete(n.hands, s)
	}
	n.sim.stats.Recalled++
	n.acceptor.Progressed(s, h.Progress)
}

// onFrame is a renewal that comes in at the host: the second hand acknowledges it, or the process hears of it.
func (n *simNode) onFrame(word simRenewal) {
	if !n.up {
		return
	}
	if h := n.hands[word.Session]; h != nil {
		if n.sim.flaw == flawSurvives {
			h.mark = n.suspended
		}
		if h.renew(n.clock(), n.suspended, word.Renewal) {
			n.sim.inHand(n, word)
			return
		}
		if h.mark != n.suspended {
			n.sim.stats.InHandSuspended++
		}
	}
	if n.stoppedUntil > n.sim.now {
		n.sim.post(n, 0, func(n *simNode) { n.onRenewal(word) })
		return
	}
	n.onRenewal(word)
}

func (s *sim) inHand(n *simNode, word simRenewal) {
	s.stats.InHand++
	if n.stoppedUntil > s.now {
		s.stats.InHandStopped++
	}
	if n.frozen() {
		s.stats.InHandFrozen++
	}
	s.acknowledged(n, word, ackOf(n.acceptor, word.Renewal), "in the second hand")
}

func (s *sim) acknowledged(n *simNode, word simRenewal, ack Ack, where string) {
	s.counted(n, word)
	s.logf("%s acknowledges %v round %d %s", n.name, ack.Session, ack.Round, where)
	to := word.from
	if n == to { // no device, no second hand
		s.send(n, to, func(to *simNode) { to.onAck(ack) })
		return
	}
	s.carry(n, to, func(delay time.Duration) { s.after(-1, delay, func() { to.onAckFrame(ack) }) })
}

func (n *simNode) onRenewal(word simRenewal) { n.awake(func() { n.renewal(word) }) }

func (n *simNode) renewal(word simRenewal) {
	mark, now, r := n.suspended, n.prepare(), word.Renewal
	n.recall(r.Session)
	ack, refusal := n.acceptor.Renew(now, r)
	if refusal != "" {
		n.sim.logf("%s refuses %v round %d: %s", n.name, r.Session, r.Round, refusal)
		if refusal == RefusedBoot {
			c := n.acceptor.Correct(r)
			n.sim.send(n, word.from, func(to *simNode) { to.onCorrection(c) })
		}
		if refusal != RefusedStale {
			return
		}
	} else {
		n.sim.acknowledged(n, word, ack, "")
	}
	if d, may := n.acceptor.Delegate(now, r.Session, r.Length); may && n.sim.chance(n.sim.profile.delegate) {
		n.sim.stats.Delegated++
		n.hands[r.Session] = &secondHand{d, mark}
	}
}

// expired are the hints of an acceptor whose process runs.
func (n *simNode) expired() []Session {
	if n.frozen() {
		return nil
	}
	now := n.prepare()
	for s, h := range n.hands {
		n.acceptor.Progressed(s, h.Progress)
	}
	return n.acceptor.Expired(now)
}

func (n *simNode) onQuestion(from *simNode, q Question) { n.awake(func() { n.question(from, q) }) }

func (n *simNode) question(from *simNode, q Question) {
	now := n.prepare()
	if n.sim.flaw != flawEndorses {
		n.recall(q.Session)
	}
	e, refusal := n.acceptor.Endorse(now, q)
	if refusal != "" {
		n.sim.logf("%s does not endorse %v: %s", n.name, q.Session, refusal)
		return
	}
	n.sim.logf("%s endorses %d about %v", n.name, q.ID.Number, q.Session)
	n.sim.send(n, from, func(to *simNode) { to.onEndorsement(e) })
}
