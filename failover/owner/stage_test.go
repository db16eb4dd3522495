package owner

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// A stage is a few nodes around one log, as the hand-off sees them: the log is the real
// state machine, each node has a real Handoff and applies the log when it is told to, and
// words between them lie in a heap until somebody delivers or drops them. There is no
// lease here: a session is closed only after its node has truly stopped, which is what the
// lease guarantees.
type stage struct {
	states []*fsm.State // after each entry; states[0] is before the first
	nodes  []*actor
	heap   []word
	now    lease.Instant

	// violation is the first instant at which two answered.
	violation string
	trace     func(format string, args ...any)
	stats     stageStats
}

// stageStats counts what happened, so that a search can show that it searched.
type stageStats struct {
	Entries, Activations, Relabels, Deactivations int
	ByWord                                        int // activations that the log alone did not permit yet
	Replaced, GiveUps, DownFailures               int
	Crashes, Reopened, Closed, Deleted, Disabled  int
	Lost, Repeated, Late, Ghosts, Recalled        int
	TwoENIs, NeverUsed                            int
}

// word is one datagram under way.
type word struct {
	from, to string // node ids; to "" is the leader
	ready    bool
	havip    string
	epoch    fsm.Epoch
	session  uint64
	failure  string
}

// answer is one HAVIP for which a node answers, whatever it thinks of it.
type answer struct{ havip, eni string }

// actor is one node: its Handoff, and a shell of the same shape as the Agent.
type actor struct {
	stage              *stage
	id                 string
	applied            int // entries of the log
	session            uint64
	handoff            *Handoff // nil: crashed, or without a session
	steps              []Step   // decided and not done yet
	answers            map[answer]bool
	upFails, downFails func(havip string) bool // nil: never
}

const (
	stagePatience = 500 * time.Millisecond
	stageHurry    = 50 // the clock of the log runs faster, so that pauses after a failure end
)

// newStage has nodes A, B, ... with eth0 and eth1, all in one subnet, with open sessions,
// and the HAVIPs web and db; everything is applied everywhere.
func newStage(nodes int) *stage {
	w := &stage{states: []*fsm.State{fsm.New()}, trace: func(string, ...any) {}}
	for i := range nodes {
		id := string(rune('A' + i))
		n := fsm.Node{
			ID: id, Name: fmt.Sprintf("node-%c", 'a'+i), Address: fmt.Sprintf("192.0.2.%d", i+1),
			APIPort: 1, RaftPort: 2, GossipPort: 3, Role: fsm.RoleVoter, KeyHash: id,
		}
		if i == 0 {
			w.must(fsm.InitCluster{ID: "c-1", Profile: "lan", Lease: stagePatience, Node: n})
		} else {
			w.must(fsm.CreateToken{Token: fsm.Token{ID: "t" + id, SecretHash: "s", Node: n.Name, Role: n.Role, Expires: 1 << 62}})
			w.must(fsm.AddNode{Token: "t" + id, SecretHash: "s", Node: n})
		}
		w.must(fsm.ReportENIs{Node: id, ENIs: []fsm.ENI{stageENI("eth0", 10+i), stageENI("eth1", 20+i)}})
		w.nodes = append(w.nodes, &actor{stage: w, id: id, answers: map[answer]bool{}})
	}
	for _, n := range w.nodes {
		n.open()
	}
	w.must(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.0.0.100")})
	w.must(fsm.CreateHAVIP{Name: "db", IP: netip.MustParseAddr("10.0.0.101")})
	for _, n := range w.nodes {
		n.see(len(w.states) - 1)
	}
	return w
}

func stageENI(device string, host int) fsm.ENI {
	return fsm.ENI{
		Device: device, MAC: "02:00:00:00:00:01", Up: true, Primary: device == "eth0",
		Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(host)}), 24)},
	}
}

// head is the newest state.
func (w *stage) head() *fsm.State { return w.states[len(w.states)-1] }

// try appends a command to the log.
func (w *stage) try(body fsm.Body) fsm.Result {
	c, err := fsm.NewCommand(stageHurry*int64(w.now), "leader", "", body)
	if err != nil {
		panic(err)
	}
	next, res, err := fsm.Apply(w.head(), uint64(len(w.states)), c)
	if err != nil {
		panic(err)
	}
	w.states = append(w.states, next)
	w.stats.Entries++
	w.trace("log %d: %s %s: %v", next.Index, c.Kind, c.Body, res.Refusal)
	return res
}

func (w *stage) must(body fsm.Body) {
	if res := w.try(body); res.Refusal != nil {
		panic(fmt.Sprintf("%T was refused: %v", body, res.Refusal))
	}
}

func (w *stage) node(id string) *actor {
	for _, n := range w.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

// place is the command that gives a HAVIP to an ENI, or to nobody.
func (w *stage) place(havip, eni string) fsm.Place {
	s := w.head()
	a := fsm.Assignment{HAVIP: havip, FromEpoch: s.HAVIPs[havip].Epoch, Reason: "test"}
	if eni != "" {
		a.Node = s.ENIs[eni].Node
		a.Session, a.ENI = s.Nodes[a.Node].LastSession, eni
	}
	return fsm.Place{Assignments: []fsm.Assignment{a}}
}

// deliver gives a word to whom it is for; the leader commits it.
func (w *stage) deliver(m word) {
	w.trace("word %+v", m)
	if m.to == "" {
		if !m.ready {
			w.try(fsm.Release{Claims: []fsm.ReleasedClaim{{HAVIP: m.havip, Epoch: m.epoch, Session: m.session, Failure: m.failure}}})
		}
		return
	}
	n := w.node(m.to)
	switch {
	case n.handoff == nil:
	case m.ready:
		n.handoff.HeardReady(w.now, m.from, m.havip, m.epoch)
	default:
		n.handoff.HeardReleased(m.from, m.havip, m.epoch, m.session)
	}
}

// check notes when more than one ENI answers for a HAVIP.
func (w *stage) check() {
	who := map[string]string{}
	for _, n := range w.nodes {
		for a := range n.answers {
			if other := who[a.havip]; other != "" && w.violation == "" {
				w.violation = fmt.Sprintf("%s is answered by %s and %s", a.havip, min(other, a.eni), max(other, a.eni))
				w.trace("VIOLATION: %s", w.violation)
			}
			who[a.havip] = a.eni
		}
	}
}

// state is the log as far as the node has applied it.
func (n *actor) state() *fsm.State { return n.stage.states[n.applied] }

// see applies the log up to an entry. A node whose process lives learns of its session so.
func (n *actor) see(upTo int) {
	n.applied = max(n.applied, min(upTo, len(n.stage.states)-1))
	if sess, open := n.state().SessionOf(n.id); open && n.handoff == nil && n.session == sess.Number {
		n.handoff = NewHandoff(n.session, stagePatience)
	}
}

// open has the log open a new session, after the node's own side is clean (rule 1).
func (n *actor) open() {
	if len(n.answers) > 0 || n.handoff != nil {
		panic("a session is opened over a living one")
	}
	s := n.stage.head()
	last := s.Nodes[n.id].LastSession
	n.stage.must(fsm.OpenSession{Node: n.id, Last: last, Attempt: fmt.Sprint(last + 1)})
	n.session = n.stage.head().Nodes[n.id].LastSession
}

// crash ends all that the node does, at once. The log hears of it later, if ever.
func (n *actor) crash() {
	n.stage.trace("%s stops", n.id)
	n.handoff, n.steps, n.session = nil, nil, 0
	clear(n.answers)
}

// decide asks the Handoff, as one turn of the Agent begins.
func (n *actor) decide() []Step {
	if n.handoff == nil {
		return nil
	}
	n.handoff.Forget(n.state())
	n.steps = n.handoff.Decide(n.stage.now, n.state())
	return n.steps
}

// step carries out the next decided step.
func (n *actor) step() {
	if len(n.steps) == 0 {
		return
	}
	s := n.steps[0]
	n.steps = n.steps[1:]
	n.stage.trace("%s: %+v", n.id, s)
	switch s.Kind {
	case StepActivate:
		n.activate(s)
	case StepRelabel:
		if !n.answers[answer{s.HAVIP, s.Claim.ENI}] {
			return // it was given up since it was decided
		}
		n.stage.stats.Relabels++
		n.handoff.Activated(s.HAVIP, s.Claim)
	case StepDeactivate:
		if n.down(s.HAVIP) {
			n.stage.stats.Deactivations++
			n.handoff.Deactivated(s.HAVIP, s.Claim)
			n.say(s, "")
		}
	case StepReleased:
		n.stage.stats.NeverUsed++
		n.handoff.Deactivated(s.HAVIP, s.Claim)
		n.say(s, "")
	case StepReady:
		n.say(s, "")
	}
}

func (n *actor) activate(s Step) {
	for a := range n.answers {
		if a.havip == s.HAVIP {
			return // off before on
		}
	}
	if s.Claim.Epoch > 1 && slices.ContainsFunc(n.state().HAVIPs[s.HAVIP].Draining, func(c fsm.Claim) bool {
		return c.Session == n.session && c.ENI != s.Claim.ENI
	}) {
		n.stage.stats.TwoENIs++
	}
	if v := n.state().HAVIPs[s.HAVIP]; len(v.Draining) > 0 && slices.ContainsFunc(v.Draining, func(c fsm.Claim) bool { return c.Node != n.id }) {
		n.stage.stats.ByWord++
	}
	n.stage.stats.Activations++
	n.answers[answer{s.HAVIP, s.Claim.ENI}] = true
	n.stage.check()
	n.handoff.Activated(s.HAVIP, s.Claim)
	if n.upFails != nil && n.upFails(s.HAVIP) {
		n.giveUp(s.HAVIP)
	}
}

// giveUp is what the Agent does when it cannot serve.
func (n *actor) giveUp(havip string) {
	if n.handoff == nil {
		return
	}
	if c, active := n.handoff.Active(havip); active && n.down(havip) {
		n.stage.stats.GiveUps++
		n.stage.trace("%s gives %s up: %+v", n.id, havip, c)
		n.handoff.Deactivated(havip, c)
		n.say(Step{Kind: StepReleased, HAVIP: havip, Claim: c}, "it does not work here")
	}
}

// down takes a HAVIP off every ENI of the node.
func (n *actor) down(havip string) bool {
	if n.downFails != nil && n.downFails(havip) {
		n.stage.stats.DownFailures++
		return false
	}
	for a := range n.answers {
		if a.havip == havip {
			delete(n.answers, a)
		}
	}
	return true
}

func (n *actor) say(s Step, failure string) {
	m := word{from: n.id, ready: s.Kind == StepReady, havip: s.HAVIP, epoch: s.Claim.Epoch, session: s.Claim.Session, failure: failure}
	to := slices.Clone(s.To)
	if !m.ready {
		to = append(to, "")
	}
	for _, m.to = range to {
		n.stage.heap = append(n.stage.heap, m)
	}
}
