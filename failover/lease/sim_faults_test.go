package lease

import "time"

const simFaults = 13

// fault plays one fault, by the weights of the history, and schedules the next. Each ends
// by itself, or by heal.
func (s *sim) fault() {
	if s.healed {
		return
	}
	n := s.nodes[s.rng.IntN(simNodes)]
	l := s.profile.length
	switch s.drawFault() {
	case 0:
		s.partition()
	case 1:
		s.cutLinks()
	case 2:
		s.cutHolder(s.nodes[s.rng.IntN(simHolders)])
	case 3:
		s.cutLog(s.nodes[s.rng.IntN(simHolders)])
	case 4:
		s.stop(n, s.upTo(3*l))
	case 5:
		s.restart(n, s.upTo(pick(s, l/50, l/50, l, 3*l)))
	case 6:
		n.elect()
	case 7:
		n.lastApply = max(n.lastApply, s.now+s.upTo(4*l))
		s.logf("fault: %s applies nothing for %v", n.name, n.lastApply-s.now)
	case 8:
		s.changeVoters(1 + s.rng.IntN(4))
	case 9:
		s.changeLength()
	case 10:
		n.release()
	case 11:
		s.replay(n)
	case 12:
		s.freeze(n, s.upTo(3*l))
	}
	s.after(-1, s.upTo(s.profile.pause), s.fault)
}

func (s *sim) drawFault() int {
	ticket := s.rng.IntN(s.profile.weightSum)
	for kind, weight := range s.profile.weights {
		if ticket < weight {
			return kind
		}
		ticket -= weight
	}
	panic("weights do not add up")
}

// replay is somebody on the path, without a key, who sends once more what he has seen on its way
// to a voter: all of it, in its order.
func (s *sim) replay(to *simNode) {
	delay := time.Duration(0)
	for _, word := range s.captured {
		if word.to == to {
			s.stats.Replays++
			delay += s.upTo(s.profile.length / 10)
			s.after(-1, delay, func() { to.onFrame(word) })
		}
	}
	s.logf("fault: what %s was sent comes again", to.name)
}

func (s *sim) isCut(from, to *simNode) bool { return s.now < s.cutUntil[from.id][to.id] }

// partition puts each node on one of two sides; sometimes only one direction is cut.
func (s *sim) partition() {
	s.stats.Cuts++
	var side [simNodes]bool
	for i := range side {
		side[i] = s.chance(0.5)
	}
	oneWay, until := s.chance(0.3), s.now+s.upTo(4*s.profile.length)
	for i := range side {
		for j := range side {
			if side[i] && !side[j] || !oneWay && !side[i] && side[j] {
				s.cutUntil[i][j] = until
			}
		}
	}
	s.logf("fault: partition %v until %v, one way %v", side, until, oneWay)
}

// cutLinks cuts some links one way, each for a time of its own.
func (s *sim) cutLinks() {
	s.stats.Cuts++
	for i := range simNodes {
		for j := range simNodes {
			if s.chance(0.3) {
				s.cutUntil[i][j] = s.now + s.upTo(3*s.profile.length)
			}
		}
	}
	s.logf("fault: some links cut")
}

// cutHolder keeps a holder from each of the voters for about as long as a promise, but from
// each at another time: the lease lives on while promises run out one after the other.
func (s *sim) cutHolder(n *simNode) {
	s.stats.Cuts++
	l := s.profile.length
	for j := range simNodes {
		s.after(-1, s.upTo(2*l), func() {
			if !s.healed {
				s.cutUntil[n.id][j] = s.now + l/2 + s.upTo(l)
			}
		})
	}
	s.logf("fault: %s is cut from each voter in turn", n.name)
}

// cutLog keeps the log from a holder while the voters change: its renewals go by an old
// voter set.
func (s *sim) cutLog(n *simNode) {
	s.stats.Cuts++
	for _, from := range s.nodes {
		if from.leading {
			s.cutUntil[from.id][n.id] = s.now + s.upTo(6*s.profile.length)
		}
	}
	s.logf("fault: %s gets no log", n.name)
	s.changeVoters(2)
}

// stop is SIGSTOP and SIGCONT: the kernel goes on, the process does not.
func (s *sim) stop(n *simNode, d time.Duration) {
	if !n.up {
		return
	}
	s.stats.Stalls++
	n.stoppedUntil = max(n.stoppedUntil, s.now+d)
	s.logf("fault: stop %s for %v", n.name, d)
}

// freeze stops the process of the acceptor alone: the log goes on.
func (s *sim) freeze(n *simNode, d time.Duration) {
	if !n.up {
		return
	}
	s.stats.Freezes++
	n.frozenUntil = max(n.frozenUntil, s.now+d)
	s.after(n.id, n.frozenUntil-s.now, n.thaw)
	s.logf("fault: freeze the acceptor of %s for %v", n.name, d)
}

// restart is SIGKILL: what the kernel was told stays, until the next process cleans up.
func (s *sim) restart(n *simNode, down time.Duration) {
	if !n.up {
		return
	}
	s.stats.Restarts++
	s.logf("fault: kill %s for %v", n.name, down)
	n.up = false
	n.boot++
	s.after(-1, down, n.start)
}

// changeVoters has every node that thinks it leads make so many changes of one voter, as
// fast as Raft permits, all in one direction as far as the limits of 3 and 5 go.
func (s *sim) changeVoters(count int) {
	grow := s.chance(0.5)
	for _, n := range s.nodes {
		n.wantChanges, n.wantGrow = count, grow
	}
}

// changeLength has the leader propose another lease length (rule 8).
func (s *sim) changeLength() {
	length := pick(s, 50*ms, 100*ms, 200*ms)
	for _, n := range s.nodes {
		if n.acting() && n.state.use == n.state.longest && length != n.state.use {
			n.propose(&simEntry{kind: entryLength, length: length})
		}
	}
}

// heal ends every fault: what is left is a good network and processes that run.
func (s *sim) heal() {
	s.healed = true
	s.cutUntil = [simNodes][simNodes]time.Duration{}
	s.profile.delay = min(s.profile.delay, ms)
	s.profile.loss, s.profile.slow = 0, 0
	for _, n := range s.nodes {
		n.stoppedUntil = min(n.stoppedUntil, s.now)
		if n.frozenUntil = min(n.frozenUntil, s.now); n.up {
			n.thaw()
		}
	}
}
