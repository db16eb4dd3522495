package lease

import (
	"fmt"
	"time"
)

const ms = time.Millisecond

// clock is one host's CLOCK_BOOTTIME as a function of true time. A pure core needs no
// more to be tried with drifting clocks.
type clock struct {
	offset time.Duration
	ppm    int64 // rate error in parts per million
}

func (c clock) read(trueTime time.Duration) Instant {
	return Instant(c.offset + trueTime + trueTime*time.Duration(c.ppm)/1_000_000)
}

// bench is some acceptors, the holder of one session and a leader's closer, moved by hand
// through one schedule. Times in schedules are true time since the session was asked for.
type bench struct {
	now       time.Duration
	clocks    map[string]clock
	acceptors map[string]*Acceptor
	sets      map[string]VoterSet
	longest   map[string]time.Duration // longest length in force that a node has applied

	delegating bool // what is acknowledged is delegated to the second hand
	hands      map[string]*secondHand
	marks      map[string]int // how often a node's voters were suspended
	flaw       flaw

	boots BootID               // of the processes so far
	seen  map[string][]Renewal // what somebody on the path has seen, by voter

	session Session
	opening time.Duration // length in the entry that opened the session
	holder  *Holder
	closer  *Closer

	closed    bool   // a verdict has closed the session
	violation string // the first instant at which a closed session was alive
}

const holderNode, leaderNode = "A", "leader"

var (
	abc   = NewVoterSet([]string{"A", "B", "C"})
	abcd  = NewVoterSet([]string{"A", "B", "C", "D"})
	abcde = NewVoterSet([]string{"A", "B", "C", "D", "E"})
)

// newBench opens the session of node A with a request sent at 0, applied by all five
// nodes at once. The nodes are up for a minute and have used the set for as long.
func newBench(set VoterSet, opening, longest time.Duration, clocks map[string]clock) *bench {
	b := &bench{
		now:       -time.Minute,
		clocks:    clocks,
		acceptors: map[string]*Acceptor{},
		sets:      map[string]VoterSet{},
		longest:   map[string]time.Duration{},
		seen:      map[string][]Renewal{},
		hands:     map[string]*secondHand{},
		marks:     map[string]int{},
		session:   Session{Node: holderNode, Number: 7},
		opening:   opening,
		closer:    NewCloser(leaderNode, 1),
	}
	for _, node := range abcde.Voters {
		b.longest[node] = longest
		b.sets[node] = set
		b.start(node)
		b.acceptors[node].CaughtUp(b.read(node))
	}
	b.now = 0
	for _, node := range abcde.Voters {
		b.open(node)
	}
	b.holder = NewHolder(b.session, b.read(holderNode), opening)
	return b
}

func (b *bench) read(node string) Instant { return b.clocks[node].read(b.now) }

// at lets true time pass.
func (b *bench) at(now time.Duration) {
	if now < b.now {
		panic(fmt.Sprintf("schedule goes back from %v to %v", b.now, now))
	}
	b.now = now
	b.check()
}

func (b *bench) start(node string) {
	b.boots++
	a := NewAcceptor(node, b.boots, b.read(node), b.longest[node])
	a.UseVoterSet(b.read(node), b.sets[node])
	b.acceptors[node] = a
	delete(b.hands, node) // the program goes with the process
}

func (b *bench) open(node string) {
	b.acceptors[node].Opened(b.read(node), b.session, b.opening)
}

// restart makes the node forget, and replay its log at once.
func (b *bench) restart(node string) {
	b.start(node)
	b.open(node)
	b.acceptors[node].CaughtUp(b.read(node))
}

// atIndex is the set as the log entry with this index has it.
func atIndex(set VoterSet, index uint64) VoterSet {
	set.Index = index
	return set
}

// use is what a node's log says about the voters when the next message arrives there.
func (b *bench) use(set VoterSet, nodes ...string) {
	for _, node := range nodes {
		b.sets[node] = set
		if b.flaw != flawSurvives {
			b.marks[node]++
			b.recall(node)
		}
		b.acceptors[node].UseVoterSet(b.read(node), set)
	}
}

// apply is the log telling the nodes of another longest length in force.
func (b *bench) apply(longest time.Duration, nodes ...string) {
	for _, node := range nodes {
		b.longest[node] = longest
		b.recall(node)
		b.acceptors[node].SetLongest(b.read(node), longest)
	}
}

// send begins a round and returns the acknowledgements of the nodes it reaches.
func (b *bench) send(set VoterSet, length time.Duration, reached ...string) []Ack {
	r, ok := b.holder.Begin(b.read(holderNode), set, length)
	if !ok {
		return nil
	}
	var acks []Ack
	for _, node := range reached {
		r.Boot = b.acceptors[node].Boot()
		b.seen[node] = append(b.seen[node], r)
		if ack, ok := b.renewAt(node, r); ok {
			acks = append(acks, ack)
		}
	}
	return acks
}

func (b *bench) deliver(acks []Ack) {
	for _, ack := range acks {
		b.holder.Ack(b.read(holderNode), ack)
	}
	b.check()
}

// renew is a round whose answers take no time.
func (b *bench) renew(set VoterSet, length time.Duration, reached ...string) {
	b.deliver(b.send(set, length, reached...))
}

func (b *bench) ask(set VoterSet, length time.Duration) Question {
	return b.closer.Ask(b.read(leaderNode), b.session, set, length)
}

// endorse brings the question to the nodes and their endorsements to the leader.
func (b *bench) endorse(q Question, nodes ...string) {
	for _, node := range nodes {
		if b.flaw != flawEndorses {
			b.recall(node)
		}
		e, refusal := b.acceptors[node].Endorse(b.read(node), q)
		if refusal != "" {
			continue
		}
		if dead, _ := b.closer.Count(b.read(leaderNode), e); dead {
			b.closed = true
		}
	}
	b.check()
}

// replay brings the i-th renewal that a node was sent there once more.
func (b *bench) replay(i int, nodes ...string) {
	for _, node := range nodes {
		if i < len(b.seen[node]) {
			b.renewAt(node, b.seen[node][i])
		}
	}
}

// mustClose demands that a session whose holder is long dead can be closed by now.
func (b *bench) mustClose() {
	if !b.closed && b.violation == "" {
		b.violation = fmt.Sprintf("at %v the holder is silent for long, and its session is still promised", b.now)
	}
}

// alive reads the holder as the fence does, without letting it notice anything.
func (b *bench) alive() bool {
	return !b.holder.dead && b.read(holderNode).Before(b.holder.deadline)
}

func (b *bench) check() {
	if b.closed && b.alive() && b.violation == "" {
		b.violation = fmt.Sprintf("at %v the session is closed, and alive for another %v",
			b.now, b.holder.deadline.Sub(b.read(holderNode)))
	}
}
