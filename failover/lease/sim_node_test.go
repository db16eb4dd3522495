package lease

import "time"

// simNode is one host: a clock, a disk (in simRaft), a kernel, and a process that does
// what the shell around this package does, with all its duties.
type simNode struct {
	sim   *sim
	id    int
	name  string
	rate  clock
	boot  uint64 // counts processes from 1
	up    bool
	first time.Duration // lease length before the log says anything

	stoppedUntil time.Duration // true time

	// kernel is what survives the process: the fence and the address.
	kernel struct {
		session Session
		until   Instant
		active  bool
	}

	simRaft // only term and log survive the process

	state     simState
	onDisk    int    // length of the log at start
	lastTerm  uint64 // and the term of its last entry
	acceptor  *Acceptor
	startedAt time.Duration // true time
	boots     Boots         // of the voters, as far as this process knows
	last      Renewal       // the newest round, without a boot id
	lastSent  time.Duration // and when, in true time
	caughtUp  bool
	holder    *Holder
	counting  *countingHand
	requests  map[uint64]Instant // when each request to open a session was sent
	requestAt Instant

	simPlane

	closer      *Closer // while leading
	askedAt     map[Session]Instant
	wantChanges int
	wantGrow    bool
	settleAt    Instant
	settles     int // index of the change of length that settleAt is for
}

func newSimNode(s *sim, id int, genesis *simEntry) *simNode {
	n := &simNode{sim: s, id: id, name: simNames[id], first: s.profile.length}
	n.rate.offset = time.Duration(s.rng.Int64N(int64(time.Hour)))
	n.rate.ppm = pick(s, -5_000, 5_000, s.rng.Int64N(10_001)-5_000)
	n.setLog([]*simEntry{genesis})
	return n
}

func (n *simNode) clock() Instant { return n.rate.read(n.sim.now) }

// kernelOpen is the fence's own comparison: it needs no process.
func (n *simNode) kernelOpen() bool { return n.clock().Before(n.kernel.until) }

// start is a new process: it cleans its own side first (rule 1) and replays its log as
// far as a leader confirms it.
func (n *simNode) start() {
	n.clean()
	n.up = true
	n.boot++
	n.simRaft = simRaft{term: n.term, log: n.log, voters: n.voters, heardAt: n.sim.now}
	n.patience = n.drawPatience()
	n.state = newSimState(n.first)
	n.onDisk, n.lastTerm, n.caughtUp = len(n.log), n.log[len(n.log)-1].term, false
	n.acceptor = NewAcceptor(n.name, BootID(n.sim.rng.Uint64()|1), n.clock(), n.first)
	n.simPlane = simPlane{hands: map[Session]*secondHand{}}
	n.startedAt, n.boots, n.last = n.sim.now, Boots{}, Renewal{}
	n.requests, n.requestAt = map[uint64]Instant{}, n.clock()
	n.askedAt = map[Session]Instant{}
	n.wantChanges = 0
	n.sim.after(n.id, n.sim.upTo(n.sim.profile.length/20), n.tick)
}

// clean shuts the fence and removes the address; without a lease there is nothing else.
func (n *simNode) clean() {
	n.holder, n.counting = nil, nil
	n.kernel.until, n.kernel.active = 0, false
}

func (n *simNode) drawPatience() time.Duration {
	return n.sim.profile.length + n.sim.upTo(3*n.sim.profile.length)
}

// tick is everything that the process does by itself.
func (n *simNode) tick() {
	n.tickHolder()
	for _, expired := range n.expired() {
		for _, to := range n.sim.nodes {
			n.sim.send(n, to, func(to *simNode) { to.onHint(expired) })
		}
	}
	if n.leading {
		n.tickLeader()
	} else if n.sim.now-n.heardAt > n.patience {
		n.heardAt, n.patience = n.sim.now, n.drawPatience()
		n.elect()
	}
	next := n.sim.profile.length/20 + n.sim.upTo(n.sim.profile.length/10)
	if expiry, ok := n.acceptor.NextExpiry(n.clock()); ok {
		// The same instant on another clock, but for the rate: good enough for a timer.
		next = min(next, expiry.Sub(n.clock())+time.Microsecond)
	}
	n.sim.after(n.id, next, n.tick)
}

func (n *simNode) tickHolder() {
	now := n.clock()
	n.counted()
	if n.holder != nil && !n.holder.Alive(now) {
		n.sim.logf("%s finds %v over", n.name, n.holder.Session())
		n.clean()
		n.requestAt = now.Add(n.sim.upTo(n.sim.profile.rest))
	}
	if n.holder == nil {
		n.requestSession(now)
		return
	}
	n.activate()
	if now.Before(n.holder.NextRenewal()) {
		return
	}
	set := n.voters
	renewal, ok := n.holder.Begin(now, set, n.state.use)
	if !ok {
		return
	}
	n.last, n.lastSent = renewal, n.sim.now
	n.counting.round(renewal, set)
	for _, to := range n.sim.nodes {
		if set.Has(to.name) {
			n.sendRenewal(to)
		}
	}
}

// sendRenewal sends the newest round to a voter. Somebody on the path may keep it.
func (n *simNode) sendRenewal(to *simNode) {
	r := n.last
	r.Boot = n.boots[to.name]
	word := simRenewal{r, n, to, n.sim.now}
	if n.sim.captured = append(n.sim.captured, word); len(n.sim.captured) > simCaptured {
		n.sim.captured = n.sim.captured[1:]
	}
	n.sim.sendFrame(word)
}

// onCorrection sends the newest round again to a voter that has restarted.
func (n *simNode) onCorrection(c Correction) {
	if n.boots.Learn(c.From, c.Boot) && n.holder != nil && c.Session == n.last.Session && c.Round == n.last.Round && n.holder.Alive(n.clock()) {
		n.sim.stats.Corrections++
		for _, to := range n.sim.nodes {
			if to.name == c.From {
				n.sendRenewal(to)
			}
		}
	}
}

// longFirst: each so many requests of a process ask for a first lease that is longer than the others.
const longFirst = 4

// requestSession sends OpenSession; each request is one of its own, with its own time.
func (n *simNode) requestSession(now Instant) {
	if n.id >= simHolders || !n.caughtUp || now.Before(n.requestAt) {
		return
	}
	n.requestAt = now.Add(n.sim.profile.length / 2)
	attempt := n.boot<<16 + uint64(len(n.requests))
	n.requests[attempt] = now
	e := simEntry{kind: entryOpen, session: Session{Node: n.name}, attempt: attempt, last: n.state.last[n.name], length: n.state.use}
	if len(n.requests)%longFirst == 0 {
		e.length *= 3
	}
	for _, to := range n.sim.nodes {
		n.sim.send(n, to, func(to *simNode) {
			if to.acting() {
				request := e
				to.propose(&request)
			}
		})
	}
}

func (n *simNode) onAck(a Ack) {
	n.boots.Learn(a.From, a.Boot)
	if n.holder == nil {
		return
	}
	n.counted()
	if a.From == n.name && n.sim.counting { // told of it by its own voter, not by a frame
		n.kernel.until = n.counting.count(n.clock(), n.kernel.until, a, noFlaw)
	}
	if deadline, moved := n.holder.Ack(n.clock(), a); moved {
		n.sim.stats.Renewals++
		n.kernel.until = max(n.kernel.until, deadline)
		n.sim.logf("%s extends %v by round %d, %v left", n.name, a.Session, a.Round, deadline.Sub(n.clock()))
	}
	n.activate()
}

// activate is rule 6 (activate) without hand-offs.
func (n *simNode) activate() {
	n.counted()
	active := n.holder.Alive(n.clock()) && n.state.owner == n.holder.Session()
	if active && !n.kernel.active {
		n.sim.stats.Takeovers++
		n.sim.logf("%s activates under %v", n.name, n.holder.Session())
	}
	n.kernel.active = active
}

func (n *simNode) release() {
	if !n.up || n.holder == nil || n.stoppedUntil > n.sim.now {
		return
	}
	s := n.holder.Session()
	n.holder.Release()
	n.clean()
	n.requestAt = n.clock().Add(n.sim.profile.length / 4)
	n.sim.logf("%s releases %v", n.name, s)
	for _, to := range n.sim.nodes {
		n.sim.send(n, to, func(to *simNode) { to.close(s, 0) })
	}
}

// learnCommit applies what is new, one entry after the other, some time later.
func (n *simNode) learnCommit(index int) {
	for n.commit < index {
		n.commit++
		n.lastApply = max(n.lastApply, n.sim.now+n.sim.drawApplyLag())
		n.sim.after(n.id, n.lastApply-n.sim.now, n.applyNext)
	}
}

// applyNext is called once for each committed entry. A stop can put these calls in
// another order, but they are all the same.
func (n *simNode) applyNext() {
	e := n.log[n.state.index]
	news := simNews{length: e.length, longest: n.state.longest}
	news.opened, news.closed = n.state.apply(e)
	news.changed, news.longest = news.longest != n.state.longest, n.state.longest
	opened := news.opened
	for _, s := range news.closed {
		if n.holder != nil && n.holder.Session() == s {
			n.clean()
		}
	}
	if opened.Number != 0 {
		if sent, mine := n.requests[e.attempt]; mine && opened.Node == n.name {
			n.begin(opened, sent, e.length)
		}
	}
	// The log on disk may have an end that never gets committed; an entry of a newer term
	// shows that everything before it which was is applied.
	if (n.state.index >= n.onDisk || e.term > n.lastTerm) && !n.caughtUp {
		n.caughtUp, news.caughtUp = true, true
	}
	n.tell(news)
	if n.holder != nil {
		n.activate()
	}
}

func (n *simNode) begin(s Session, sent Instant, length time.Duration) {
	n.holder, n.counting = NewHolder(s, sent, length), &countingHand{session: s}
	n.kernel.session, n.kernel.until = s, n.holder.Deadline()
	if !n.holder.Alive(n.clock()) {
		n.sim.stats.LateLeases++
	}
	n.sim.logf("%s holds %v, %v left", n.name, s, n.holder.Deadline().Sub(n.clock()))
}

// Leader.

func (n *simNode) tickLeader() {
	n.replicate()
	if !n.acting() {
		return
	}
	n.tryVoterChange()
	n.trySettle()
	if !n.state.isOpen(n.state.owner) {
		if heir := n.heir(Session{}); heir.Number != 0 {
			n.propose(&simEntry{kind: entryAssign, session: heir})
		}
	}
}

// trySettle ends a change of length when every node has applied it and the longer promise
// has run out since (duty 8). How a leader learns what others applied is no matter here.
func (n *simNode) trySettle() {
	if n.state.use == n.state.longest {
		n.settleAt = 0
		return
	}
	if n.settleAt == 0 || n.settles != n.state.changed {
		n.settleAt = 0
		for _, m := range n.sim.nodes {
			if !m.up || m.state.changed < n.state.changed || len(m.news) > 0 { // the acceptor's process too
				return
			}
		}
		n.settles = n.state.changed
		n.settleAt = n.clock().Add(Promise(n.state.longest))
	}
	if !n.clock().Before(n.settleAt) {
		n.propose(&simEntry{kind: entrySettle, settles: n.settles})
	}
}

// heir is one of the holders.
func (n *simNode) heir(except Session) Session {
	for i := range simHolders {
		s := Session{simNames[i], n.state.open[simNames[i]]}
		if s.Number != 0 && s != except {
			return s
		}
	}
	return Session{}
}

func (n *simNode) onHint(s Session) {
	now := n.clock()
	if !n.acting() || !n.state.isOpen(s) || n.state.index < int(n.voters.Index) || now.Before(n.askedAt[s]) {
		return
	}
	n.askedAt[s] = now.Add(n.sim.profile.askAgain)
	q := n.closer.Ask(now, s, n.voters, n.state.longest)
	n.sim.logf("%s asks %d about %v", n.name, q.ID.Number, s)
	n.sendQuestion(q, n.voters)
	for range 4 {
		n.sim.after(n.id, n.sim.upTo(2*n.sim.profile.length), func() { n.sendQuestion(q, n.voters) })
	}
}

func (n *simNode) sendQuestion(q Question, voters VoterSet) {
	for _, to := range n.sim.nodes {
		if voters.Has(to.name) {
			n.sim.send(n, to, func(to *simNode) { to.onQuestion(n, q) })
		}
	}
}

// onEndorsement runs in a leader, or in one that does not know yet that it is none.
func (n *simNode) onEndorsement(e Endorsement) {
	if n.closer == nil || !n.leading {
		return
	}
	n.closer.UseVoterSet(n.voters)
	if dead, _ := n.closer.Count(n.clock(), e); dead {
		n.sim.stats.Verdicts++
		n.sim.logf("%s finds %v dead", n.name, e.Session)
		n.sim.after(n.id, n.sim.upTo(n.sim.profile.delay), func() { n.close(e.Session, e.Question.Term) })
	}
}

func (n *simNode) close(s Session, asked uint64) {
	if n.acting() {
		n.propose(&simEntry{kind: entryClose, session: s, asked: asked, heir: n.heir(s)})
	}
}
