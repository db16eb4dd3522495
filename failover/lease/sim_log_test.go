package lease

import (
	"slices"
	"time"
)

// A model of Raft with what matters to leases: terms, lagging logs, entries that are
// overwritten, leaders that do not know that they were deposed, one voter change at a
// time, in use from when it is appended. An append carries the whole log, and a vote is
// taken in one instant.

type entryKind int

const (
	entryNoop entryKind = iota
	entryVoters
	entryOpen
	entryClose
	entryAssign
	entryLength // rule 8: from now on holders use the shorter of old and new
	entrySettle // rule 8: the new length is the only one
)

type simEntry struct {
	term    uint64
	kind    entryKind
	voters  []string      // entryVoters
	length  time.Duration // entryOpen, entryLength
	settles int           // entrySettle: index of what it ends
	session Session       // entryOpen: only the node; entryClose, entryAssign
	last    uint64        // entryOpen: the node's last session that the request knows
	attempt uint64        // entryOpen: the process and its request
	asked   uint64        // entryClose: the term of the question; 0 is a release
	heir    Session       // entryClose: who gets the resource
}

// simState is the replicated state machine: who is open, and who owns the one resource.
type simState struct {
	index        int
	last         map[string]uint64 // newest session of each node
	open         map[string]uint64
	owner        Session
	use, longest time.Duration // lease lengths in force
	next         time.Duration // the length after settling
	changed      int           // index of the entry that settling ends
}

func newSimState(length time.Duration) simState {
	return simState{last: map[string]uint64{}, open: map[string]uint64{}, use: length, longest: length, next: length}
}

func (st *simState) isOpen(s Session) bool { return s.Number != 0 && st.open[s.Node] == s.Number }

// apply takes the next entry. It returns the session that was opened and those closed.
func (st *simState) apply(e *simEntry) (opened Session, closed []Session) {
	st.index++
	switch e.kind {
	case entryOpen:
		node := e.session.Node
		if st.last[node] != e.last {
			return // the request of a process that is dead (rule 1)
		}
		if e.length > st.use { // as a change to this length, and back (rule 8)
			st.longest, st.changed = max(st.longest, e.length), st.index
		}
		if older := (Session{node, st.open[node]}); st.isOpen(older) {
			closed = append(closed, older)
		}
		opened = Session{node, uint64(st.index)}
		st.last[node], st.open[node] = opened.Number, opened.Number
	case entryClose:
		// The verdict is good for the term of its question only (duty 7).
		if !st.isOpen(e.session) || e.asked != 0 && e.asked != e.term {
			return
		}
		delete(st.open, e.session.Node)
		closed = append(closed, e.session)
	case entryAssign:
		if !st.isOpen(st.owner) && st.isOpen(e.session) {
			st.owner = e.session
		}
	case entryLength:
		st.next = e.length
		st.use, st.longest, st.changed = min(st.use, e.length), max(st.longest, e.length), st.index
	case entrySettle:
		if e.settles == st.changed {
			st.use, st.longest = st.next, st.next
		}
	}
	if slices.Contains(closed, st.owner) {
		st.owner = Session{}
		if st.isOpen(e.heir) {
			st.owner = e.heir
		}
	}
	return opened, closed
}

// simRaft is a node's part in the log. Term and log are on disk.
type simRaft struct {
	term uint64
	log  []*simEntry

	voters VoterSet // the latest in the log, committed or not
	commit int

	leading   bool
	noop      int // index of the first entry of the own term
	match     [simNodes]int
	heardAt   time.Duration // true time of the last word from a leader
	patience  time.Duration
	lastApply time.Duration
}

func (n *simNode) setLog(log []*simEntry) {
	n.log = log
	for i := len(log) - 1; i >= 0; i-- {
		if log[i].kind == entryVoters {
			if n.voters.Index != uint64(i+1) || !slices.Equal(n.voters.Voters, log[i].voters) {
				n.suspended++
				n.voters = NewVoterSet(log[i].voters)
				n.voters.Index = uint64(i + 1)
			}
			return
		}
	}
}

// acting reports whether the node leads and has applied its own first entry: a leader
// acts after a barrier.
func (n *simNode) acting() bool {
	return n.up && n.stoppedUntil <= n.sim.now && n.leading && n.state.index >= n.noop
}

func (n *simNode) propose(e *simEntry) {
	e.term = n.term
	n.setLog(append(n.log[:len(n.log):len(n.log)], e))
	n.match[n.id] = len(n.log)
	n.advanceCommit()
	n.replicate()
}

func (n *simNode) replicate() {
	term, log, commit := n.term, n.log, n.commit
	for _, to := range n.sim.nodes {
		if to != n {
			n.sim.send(n, to, func(to *simNode) { to.onAppend(n, term, log, commit) })
		}
	}
}

func (n *simNode) onAppend(from *simNode, term uint64, log []*simEntry, commit int) {
	if term < n.term {
		newer := n.term
		n.sim.send(n, from, func(to *simNode) { to.onNewerTerm(newer) })
		return
	}
	n.onNewerTerm(term)
	n.heardAt = n.sim.now
	// A log that is a prefix of ours is an old message; any other takes the place of ours.
	if len(log) > len(n.log) || n.log[len(log)-1] != log[len(log)-1] {
		n.setLog(log)
	}
	n.learnCommit(min(commit, len(log)))
	n.sim.send(n, from, func(to *simNode) { to.onAppended(n.id, term, len(log)) })
}

func (n *simNode) onNewerTerm(term uint64) {
	if term > n.term {
		n.stepDown(term)
	}
}

func (n *simNode) onAppended(from int, term uint64, match int) {
	if !n.leading || n.term != term {
		return
	}
	n.match[from] = max(n.match[from], match)
	n.advanceCommit()
}

func (n *simNode) advanceCommit() {
	for index := len(n.log); index > n.commit && n.log[index-1].term == n.term; index-- {
		votes := newBallot(n.voters)
		for i, m := range n.match {
			if m >= index {
				votes.add(simNames[i])
			}
		}
		if 2*votes.count > len(n.voters.Voters) { // not Majority: Raft itself has no planted bugs
			n.sim.learnCommitted(n.log[:index])
			n.learnCommit(index)
			n.replicate()
			return
		}
	}
}

// learnCommitted keeps the one true history.
func (s *sim) learnCommitted(log []*simEntry) {
	for i, e := range log {
		if i < len(s.committed) {
			if s.committed[i] != e {
				panic("the model of Raft is broken: two entries committed at one index")
			}
			continue
		}
		s.committed = append(s.committed, e)
		opened, closed := s.truth.apply(e)
		s.count(e, opened, closed)
		for _, c := range closed {
			s.closed[c] = true
			s.logf("commit %d: %v is closed, owner is %v", i+1, c, s.truth.owner)
		}
	}
}

func (s *sim) count(e *simEntry, opened Session, closed []Session) {
	switch {
	case e.kind == entryVoters:
		s.stats.VoterChanges++
		s.logf("commit: voters %v", e.voters)
	case e.kind == entryLength:
		s.stats.LengthChanges++
	case opened.Number != 0:
		s.stats.Openings++
		s.stats.Superseded += len(closed)
	case e.kind == entryClose && len(closed) == 0:
		s.stats.RefusedCloses++
	case e.kind == entryClose && e.asked == 0:
		s.stats.Releases++
	case e.kind == entryClose:
		s.stats.Closes++
	}
}

func (n *simNode) stepDown(term uint64) {
	n.term, n.leading = term, false
}

// elect is a whole election in one instant, among the nodes that run and can be reached
// both ways.
func (n *simNode) elect() {
	s := n.sim
	if !n.up || n.stoppedUntil > s.now || !n.voters.Has(n.name) {
		return
	}
	term := n.term + 1
	votes := newBallot(n.voters)
	for _, v := range s.nodes {
		reachable := v == n || !s.isCut(n, v) && !s.isCut(v, n) && v.stoppedUntil <= s.now
		if !v.up || !reachable || v.term >= term {
			continue
		}
		v.stepDown(term) // whether it votes or not
		if !n.logBehind(v) {
			v.heardAt = s.now
			votes.add(v.name)
		}
	}
	if 2*votes.count <= len(n.voters.Voters) {
		s.logf("%s is not elected in term %d by %v", n.name, term, n.voters.Voters)
		return
	}
	s.stats.Elections++
	s.logf("%s leads in term %d by %v", n.name, term, n.voters.Voters)
	n.leading, n.match = true, [simNodes]int{}
	n.closer = NewCloser(n.name, term)
	n.noop = len(n.log) + 1
	n.propose(&simEntry{kind: entryNoop})
}

func (n *simNode) logBehind(v *simNode) bool {
	mine, theirs := n.log[len(n.log)-1].term, v.log[len(v.log)-1].term
	return mine < theirs || mine == theirs && len(n.log) < len(v.log)
}

// tryVoterChange makes one wanted change when Raft permits it: the one before is
// committed, and so is an entry of the leader's own term.
func (n *simNode) tryVoterChange() {
	if n.wantChanges == 0 || n.commit < n.noop || n.commit < int(n.voters.Index) {
		return
	}
	n.wantChanges--
	voters := slices.Clone(n.voters.Voters)
	least, most := n.sim.sizes()
	if grow := n.wantGrow; grow && len(voters) < most || len(voters) <= least {
		for _, i := range n.sim.rng.Perm(simNodes) {
			if !n.voters.Has(simNames[i]) {
				voters = append(voters, simNames[i])
				slices.Sort(voters)
				break
			}
		}
	} else {
		i := n.sim.rng.IntN(len(voters))
		if n.sim.few && voters[i] == n.name {
			return // of two, the log of the one that is left could lack that it is alone, and nobody could lead
		}
		voters = slices.Delete(voters, i, i+1)
	}
	n.sim.logf("%s appends voters %v", n.name, voters)
	n.propose(&simEntry{kind: entryVoters, voters: voters})
}
