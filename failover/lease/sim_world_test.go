package lease

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// The simulated world of the search: five hosts with clocks of their own, a network, and
// the faults. Everything is drawn from one seed and happens in one goroutine, so a seed
// is a history.

const (
	simNodes   = 5
	simHolders = 2 // the first two nodes contend for one resource
)

var simNames = [simNodes]string{"n0", "n1", "n2", "n3", "n4"}

// simProfile is what one history is like. Drawing it afresh for each history makes rare
// combinations likely in some of them, where one fixed mixture would make them rare in all.
type simProfile struct {
	length    time.Duration // at the beginning
	delay     time.Duration // of an ordinary message, at most
	slow      float64       // share of messages that take up to 1.5 lengths
	loss, dup float64
	applyLag  time.Duration // from knowing a commit to applying it, now and then, at most
	pause     time.Duration // between two faults, at most
	delegate  float64       // share of acknowledged renewals after which the next are delegated
	rest      time.Duration // from the end of a lease to the next request, at most
	askAgain  time.Duration // a leader repeats a question after this
	duration  time.Duration // of the faults
	weights   [simFaults]int
	weightSum int
}

// simStats proves that a history did something.
type simStats struct {
	Events, Lost, Repeated                       int
	Renewals, Openings, Superseded, LateLeases   int
	Verdicts, Closes, Releases, RefusedCloses    int // refused: closed before, or another term
	Takeovers, VoterChanges, LengthChanges       int
	Elections, Restarts, Stalls, Cuts, Histories int
	Replays, Corrections                         int
	Freezes, Delegated, Recalled, InHand         int // renewals in the second hand: all,
	InHandStopped, InHandFrozen                  int // those that a process slept through,
	InHandSuspended                              int // and those refused because the voters changed
	Counted, CountedStopped                      int // deadlines that the holder's second hand has moved: all, while its process was stopped
}

// simRenewal is a renewal on its way to one voter.
type simRenewal struct {
	Renewal
	from, to *simNode
	at       time.Duration // true time of the sending
}

type simCounted struct {
	boot    BootID
	session Session
}

// simCaptured is how many renewals somebody on the path remembers.
const simCaptured = 200

// counted is the invariant of rule 2 against replays: a voter's process acknowledges a renewal
// once, none after a newer one, and none that was sent before it began.
func (s *sim) counted(voter *simNode, word simRenewal) {
	k := simCounted{voter.acceptor.Boot(), word.Session}
	if last := s.acked[k]; word.Round <= last {
		s.violation = fmt.Sprintf("%s acknowledges round %d of %v after round %d", voter.name, word.Round, word.Session, last)
	}
	s.acked[k] = word.Round
	if word.at < voter.startedAt {
		s.violation = fmt.Sprintf("%s, which began at %v, acknowledges round %d of %v of %v", voter.name, voter.startedAt, word.Round, word.Session, word.at)
	}
}

type simEvent struct {
	at   time.Duration
	seq  uint64
	node int    // -1: the world
	boot uint64 // 0: whatever process runs there by then
	do   func()
}

func (e simEvent) before(f simEvent) bool {
	return e.at < f.at || e.at == f.at && e.seq < f.seq
}

type sim struct {
	rng     *rand.Rand
	profile simProfile
	now     time.Duration // true time
	seq     uint64
	queue   []simEvent // binary heap
	nodes   [simNodes]*simNode
	healed  bool

	cutUntil [simNodes][simNodes]time.Duration // from, to: messages sent before are lost

	committed []*simEntry // what Raft has committed, by the first leader that knew
	truth     simState    // and the state it leads to
	closed    map[Session]bool
	captured  []simRenewal
	few       bool                  // one to three vote
	counting  bool                  // holders have a second hand
	flaw      flaw                  // of every second hand
	acked     map[simCounted]uint64 // the newest round

	stats     simStats
	served    time.Duration // the last time that somebody was entitled
	violation string
	tracing   bool
	trace     []string
}

func newSim(seed uint64, tracing bool) *sim { return newSimOf(seed, tracing, false) }

func newSimOf(seed uint64, tracing, few bool) *sim {
	s := &sim{
		few: few, counting: seed%2 == 0,
		rng:     rand.New(rand.NewPCG(seed, 0x1ea5e)),
		closed:  map[Session]bool{},
		acked:   map[simCounted]uint64{},
		tracing: tracing,
	}
	s.profile = s.drawProfile()
	genesis := &simEntry{kind: entryVoters, voters: s.firstVoters()}
	s.committed = []*simEntry{genesis}
	s.truth = newSimState(s.profile.length)
	s.truth.index = 1
	for i := range s.nodes {
		s.nodes[i] = newSimNode(s, i, genesis)
		s.nodes[i].start()
	}
	s.after(-1, s.upTo(s.profile.pause), s.fault)
	return s
}

func (s *sim) drawProfile() simProfile {
	l := pick(s, 50*ms, 100*ms, 200*ms)
	p := simProfile{
		length:   l,
		delay:    pick(s, l/2000, l/200, l/20, l/5),
		slow:     pick(s, 0, 0.05, 0.3),
		loss:     pick(s, 0, 0.02, 0.1, 0.3),
		dup:      pick(s, 0, 0.1, 0.5),
		applyLag: pick(s, l/100, l/10, l, 3*l),
		pause:    pick(s, l/5, l, 3*l),
		delegate: pick(s, 0, 0.3, 1),
		rest:     pick(s, 0, l, 6*l),
		askAgain: pick(s, 0, l/10, l/2, 4*l),
		duration: 30 * l,
	}
	for i := range p.weights {
		p.weights[i] = pick(s, 0, 1, 1, 4)
		p.weightSum += p.weights[i]
	}
	p.weights[0]++ // so that the sum is not zero
	p.weightSum++
	return p
}

func (s *sim) firstVoters() []string {
	voters := slices.Clone(simNames[:])
	s.rng.Shuffle(simNodes, func(i, j int) { voters[i], voters[j] = voters[j], voters[i] })
	if s.few {
		return voters[:pick(s, 1, 2, 2, 2)]
	}
	return voters[:pick(s, 3, 3, 4, 5)]
}

// sizes are how many vote, at least and at most.
func (s *sim) sizes() (least, most int) {
	if s.few {
		return 1, 3
	}
	return 3, simNodes
}

func pick[T any](s *sim, choices ...T) T { return choices[s.rng.IntN(len(choices))] }

func (s *sim) chance(p float64) bool { return s.rng.Float64() < p }

// upTo draws a time from 1 ns to limit.
func (s *sim) upTo(limit time.Duration) time.Duration {
	return 1 + time.Duration(s.rng.Int64N(int64(max(limit, 1))))
}

func (s *sim) logf(format string, args ...any) {
	if s.tracing {
		s.trace = append(s.trace, fmt.Sprintf("%12v ", s.now)+fmt.Sprintf(format, args...))
	}
}

// run plays the faults, then heals everything and demands service.
func (s *sim) run() {
	s.play(s.profile.duration)
	if s.violation != "" {
		return
	}
	s.heal()
	healing := 20 * max(s.truth.longest, s.profile.length)
	s.play(s.now + healing)
	if s.violation == "" && s.served < s.now-healing/4 {
		s.violation = fmt.Sprintf("nobody is entitled since %v, %v after the last fault", s.served, healing)
	}
}

func (s *sim) play(until time.Duration) {
	for len(s.queue) > 0 && s.queue[0].at <= until && s.violation == "" {
		e := s.pop()
		s.now = e.at
		if e.node >= 0 && !s.deliverable(e) {
			continue
		}
		s.stats.Events++
		e.do()
		s.check()
	}
}

// deliverable reports whether the event's process exists and runs. Events of a stopped
// process wait for its end, and then come in any order.
func (s *sim) deliverable(e simEvent) bool {
	n := s.nodes[e.node]
	if !n.up || e.boot != 0 && e.boot != n.boot {
		return false
	}
	if n.stoppedUntil > s.now {
		e.at = n.stoppedUntil + s.upTo(ms)
		s.push(e)
		return false
	}
	return true
}

// check is the invariant: at no instant are two nodes entitled, and no session that the
// log has closed is alive on its holder's clock. Entitlement only begins with an event,
// so two spans that overlap do so at the instant of an event.
func (s *sim) check() {
	var entitled *simNode
	for _, n := range s.nodes {
		if !n.kernelOpen() {
			continue
		}
		if s.closed[n.kernel.session] {
			s.violation = fmt.Sprintf("%v is closed, and alive on %s until %v later",
				n.kernel.session, n.name, n.kernel.until.Sub(n.clock()))
			return
		}
		if !n.kernel.active {
			continue
		}
		if entitled != nil {
			s.violation = fmt.Sprintf("%v and %v are entitled at once", entitled.kernel.session, n.kernel.session)
			return
		}
		entitled, s.served = n, s.now
	}
}

func (s *sim) drawApplyLag() time.Duration {
	if s.chance(0.1) && !s.healed {
		return s.upTo(s.profile.applyLag)
	}
	return s.upTo(ms)
}

// send delivers do to the node, if the network wants to, perhaps twice.
func (s *sim) send(from, to *simNode, do func(*simNode)) {
	if from == to {
		s.post(to, s.upTo(s.profile.delay/10), do)
		return
	}
	s.carry(from, to, func(delay time.Duration) { s.post(to, delay, do) })
}

// carry delivers once, twice or not at all, after a delay.
func (s *sim) carry(from, to *simNode, deliver func(delay time.Duration)) {
	copies := 1
	if s.chance(s.profile.dup) {
		copies = 2
		s.stats.Repeated++
	}
	for range copies {
		if s.isCut(from, to) || s.chance(s.profile.loss) {
			s.stats.Lost++
			continue
		}
		delay := s.upTo(s.profile.delay)
		if s.chance(s.profile.slow) {
			delay = s.upTo(s.profile.length * 3 / 2)
		}
		deliver(delay)
	}
}

// sendFrame sends a renewal: it comes to the second hand first, even where the process is stopped.
func (s *sim) sendFrame(word simRenewal) {
	to := word.to
	if word.from == to { // no device, no second hand
		s.post(to, s.upTo(s.profile.delay/10), func(to *simNode) { to.onRenewal(word) })
		return
	}
	s.carry(word.from, to, func(delay time.Duration) { s.after(-1, delay, func() { to.onFrame(word) }) })
}

func (s *sim) post(to *simNode, delay time.Duration, do func(*simNode)) {
	s.push(simEvent{at: s.now + delay, node: to.id, do: func() { do(to) }})
}

// after calls do in the given process, or in the world, unless it dies before.
func (s *sim) after(node int, delay time.Duration, do func()) {
	e := simEvent{at: s.now + delay, node: node, do: do}
	if node >= 0 {
		e.boot = s.nodes[node].boot
	}
	s.push(e)
}

func (s *sim) push(e simEvent) {
	s.seq++
	e.seq = s.seq
	s.queue = append(s.queue, e)
	for i := len(s.queue) - 1; i > 0; {
		parent := (i - 1) / 2
		if !s.queue[i].before(s.queue[parent]) {
			break
		}
		s.queue[i], s.queue[parent] = s.queue[parent], s.queue[i]
		i = parent
	}
}

func (s *sim) pop() simEvent {
	top := s.queue[0]
	last := len(s.queue) - 1
	s.queue[0] = s.queue[last]
	s.queue[last] = simEvent{}
	s.queue = s.queue[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && s.queue[child+1].before(s.queue[child]) {
			child++
		}
		if !s.queue[child].before(s.queue[i]) {
			break
		}
		s.queue[i], s.queue[child] = s.queue[child], s.queue[i]
		i = child
	}
	return top
}
