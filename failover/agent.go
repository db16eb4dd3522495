package failover

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
	"havip-cluster/internal/mutant"
)

const (
	wordsPending = 1024                  // datagrams that wait for the Agent; more are dropped, senders repeat
	wordRepeat   = 10 * time.Millisecond // until a Ready or Released has its effect in the log
	saidMax      = 4096                  // words whose time is remembered; beyond, old ones are forgotten
	keepEvery    = time.Second           // refresh of the addresses' lifetime
	lifetimeMore = 2 * time.Second       // lifetime above the lease
	idlePause    = time.Second
)

// Agent is the only writer to this node's interfaces. It makes what the node answers for
// equal to what Handoff allows, and takes everything down when the lease is over.
type Agent struct {
	cfg    Config
	mail   *mail
	keeper *Keeper
	// reporter is told when the interfaces changed.
	reporter *reporter
	journal  *journal
	defended atomic.Int64 // when a foreign claim was last answered, on the Clock

	wake    chan struct{}
	words   chan message
	again   chan string
	cleanup chan chan struct{}
	view    atomic.Pointer[[]Holding] // what it answers for, for status

	// Below: only the goroutine of Run.
	handoff  *Handoff
	holdings map[string]*holding // by HAVIP id
	pace     pace
	failed   map[string]string // why a HAVIP was given up, by id
	said     map[wordKey]lease.Instant
	isClean  bool
	retry    bool // something could not be taken down in this turn

	lastStrays, nextStrays lease.Instant
}

// holding is one HAVIP that this node answers for.
type holding struct {
	Holding
	nextAnnounce lease.Instant
	second       bool // the next announcement is the second of a burst
	announced    bool // once at least, since it is here
	acquired     bool // Changed was told so
	nextKeep     lease.Instant
	givenUp      bool // it could not be served, and may answer until it is down
}

// wordKey is one thing said to others, so that it is repeated at a bounded rate.
type wordKey struct {
	kind  StepKind
	havip string
	epoch fsm.Epoch
}

func newAgent(cfg Config, m *mail, k *Keeper) *Agent {
	a := &Agent{
		cfg: cfg, mail: m, keeper: k,
		wake:     make(chan struct{}, 1),
		words:    make(chan message, wordsPending),
		again:    make(chan string, 1),
		cleanup:  make(chan chan struct{}),
		holdings: map[string]*holding{},
		pace:     pace{},
	}
	a.begin(0)
	a.view.Store(&[]Holding{})
	return a
}

// begin forgets the session before.
func (a *Agent) begin(session uint64) {
	// Twice a lease: if the successor is dead, its session is closed before that, and this
	// node may get the HAVIP back without ever having let go of it.
	a.handoff = NewHandoff(session, 2*a.cfg.Log.State().Cluster.LeaseMax)
	a.failed = map[string]string{}
	a.said = map[wordKey]lease.Instant{}
}

// poke makes the Agent look again.
func (a *Agent) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// hear takes another node's word. It does not block.
func (a *Agent) hear(m message) {
	select {
	case a.words <- m:
	default:
	}
}

// AnnounceAgain makes the Agent announce everything it holds once more: after a change of
// leader, a healed partition, a link that came up. The owner that did not change must
// speak too, or clients stay with whoever they heard last (metallb#584).
func (a *Agent) AnnounceAgain(why string) {
	select {
	case a.again <- why:
	default:
	}
}

// clean returns when nothing of ours answers on this node. Only for use while there is no
// lease.
func (a *Agent) clean(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case a.cleanup <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Holdings returns what this node answers for, sorted by HAVIP name.
func (a *Agent) Holdings() []Holding { return *a.view.Load() }

// Run works until ctx ends, and then takes everything down.
func (a *Agent) Run(ctx context.Context) {
	watch, stop := a.cfg.Log.Watch()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var waiting []chan struct{}
	leader := ""
	for {
		select {
		case <-ctx.Done():
			a.dropAll("the agent stops")
			return
		case <-watch:
			if l := a.cfg.Log.LeaderID(); l != leader && l != "" {
				leader = l
				a.announceAll()
			}
		case <-a.wake:
		case <-timer.C:
		case <-a.again:
			a.announceAll()
		case <-a.cfg.Edge.Changes():
			a.keepAll()
			a.straysSoon()
			a.reporter.poke()
		case m := <-a.words:
			a.note(m)
			a.noteRest()
		case done := <-a.cleanup:
			waiting = append(waiting, done)
		}
		pause := min(a.turn(), a.strays(a.cfg.Clock()))
		if a.isClean || mutant.Active("agent-unclean") {
			for _, done := range waiting {
				close(done)
			}
			waiting = nil
		}
		timer.Reset(pause)
	}
}

// noteRest takes what else waits, so that one turn handles it all.
func (a *Agent) noteRest() {
	for range wordsPending {
		select {
		case m := <-a.words:
			a.note(m)
		default:
			return
		}
	}
}

// note remembers what another node said about a HAVIP that exists.
func (a *Agent) note(m message) {
	w := m.Released
	if w == nil {
		w = m.Ready
	}
	if _, exists := a.cfg.Log.State().HAVIPs[w.HAVIP]; !exists {
		return
	}
	if m.Released != nil {
		a.handoff.HeardReleased(w.HAVIP, w.Epoch, w.Session)
	} else {
		a.handoff.HeardReady(w.HAVIP, w.Epoch)
	}
}

// turn does all that is due now and says when to come back at the latest.
func (a *Agent) turn() time.Duration {
	session, deadline := a.keeper.Lease()
	if session == 0 || session != a.handoff.session {
		if !mutant.Active("agent-unclean") {
			a.dropAll("the lease is over")
		}
		switch {
		case !a.isClean && !mutant.Active("agent-unclean"):
			return wordRepeat // try again
		case session == 0:
			return idlePause
		}
		a.begin(session)
	}
	a.retry = false
	now, s := a.cfg.Clock(), a.cfg.Log.State()
	a.forget(now, s)
	a.giveUpAgain()
	for _, step := range a.handoff.Decide(now, s) {
		a.do(s, step, deadline)
	}
	a.refresh(now, deadline)
	a.publish()
	return a.nextTurn(deadline)
}

// forget bounds what is remembered in a session that lasts for months.
func (a *Agent) forget(now lease.Instant, s *fsm.State) {
	a.handoff.Forget(s)
	maps.DeleteFunc(a.failed, func(id string, _ string) bool {
		_, exists := s.HAVIPs[id]
		return !exists
	})
	if len(a.said) > saidMax {
		maps.DeleteFunc(a.said, func(_ wordKey, at lease.Instant) bool { return now.Sub(at) >= wordRepeat })
	}
}

// giveUpAgain takes down what was given up and would not go.
func (a *Agent) giveUpAgain() {
	for _, id := range a.held() {
		if h := a.holdings[id]; h.givenUp {
			a.giveUp(h)
		}
	}
}

// do carries out one step, decided on s.
func (a *Agent) do(s *fsm.State, step Step, deadline lease.Instant) {
	switch step.Kind {
	case StepActivate:
		a.activate(s, step, deadline)
	case StepRelabel:
		h := a.holdings[step.HAVIP]
		if h == nil {
			return // it was given up since; the next turn activates
		}
		h.Claim = step.Claim
		a.handoff.Activated(step.HAVIP, step.Claim)
		a.tellActivated(step, 0)
	case StepDeactivate:
		if mutant.Active("agent-release-early") {
			a.say(step, "")
		}
		if a.deactivate(step.HAVIP, whyReleased(s, step.HAVIP)) {
			a.handoff.Deactivated(step.HAVIP, step.Claim)
			a.say(step, a.failed[step.HAVIP])
		}
	case StepReleased:
		a.handoff.Deactivated(step.HAVIP, step.Claim)
		a.say(step, a.failed[step.HAVIP])
	case StepReady:
		a.say(step, "")
	}
}

// activate puts the address up, if there is still time, and gives the HAVIP up if that
// does not work: holding a claim without serving is worse than having none.
func (a *Agent) activate(s *fsm.State, step Step, deadline lease.Instant) {
	start := a.cfg.Clock()
	if !start.Before(deadline) {
		return
	}
	if a.holdings[step.HAVIP] != nil && !mutant.Active("agent-activate-over") {
		return // it may still answer on another ENI: off before on
	}
	h := &holding{Holding: Holding{
		HAVIP: s.HAVIPs[step.HAVIP], Claim: step.Claim, ENI: s.ENIs[step.Claim.ENI],
		Lifetime: s.Cluster.LeaseMax + lifetimeMore,
	}}
	a.isClean = false
	a.holdings[step.HAVIP] = h
	if err := a.cfg.Edge.Up(h.Holding); err != nil {
		a.cfg.Logger.Error("cannot serve a HAVIP, giving it up", "havip", h.HAVIP.Name, "ip", h.HAVIP.IP, "eni", h.ENI.ID, "err", err)
		a.failed[step.HAVIP] = err.Error()
		a.changed(Faulted, h, err.Error())
		a.handoff.Activated(step.HAVIP, step.Claim) // it may answer
		a.giveUp(h)
		return
	}
	delete(a.failed, step.HAVIP)
	a.handoff.Activated(step.HAVIP, step.Claim)
	a.announceDue(start, deadline)
	took := a.cfg.Clock().Sub(start)
	a.cfg.Logger.Info("HAVIP is here", "havip", h.HAVIP.Name, "ip", h.HAVIP.IP, "eni", h.ENI.ID, "epoch", step.Claim.Epoch, "took", took)
	a.tellActivated(step, took)
	h.acquired = true
	a.changed(Acquired, h, h.HAVIP.Reason)
}

func (a *Agent) tellActivated(step Step, took time.Duration) {
	a.mail.sendLeader(message{Activated: &activatedWord{
		HAVIP: step.HAVIP, Epoch: step.Claim.Epoch, Session: step.Claim.Session, Took: took,
	}})
}

// giveUp takes down what cannot be served, and says so. What will not go is tried again
// each turn; until then nothing is released and nothing is announced.
func (a *Agent) giveUp(h *holding) {
	h.givenUp = true
	id, claim := h.HAVIP.ID, h.Claim
	if !a.deactivate(id, a.failed[id]) {
		return
	}
	a.handoff.Deactivated(id, claim)
	a.say(Step{Kind: StepReleased, HAVIP: id, Claim: claim}, a.failed[id])
}

// deactivate takes one HAVIP down. False means that it may still answer.
func (a *Agent) deactivate(havip, why string) bool {
	h := a.holdings[havip]
	if h == nil {
		return true
	}
	if err := a.cfg.Edge.Down(h.Holding); err != nil {
		a.cfg.Logger.Error("cannot take a HAVIP down, trying again", "havip", h.HAVIP.Name, "ip", h.HAVIP.IP, "eni", h.ENI.ID, "err", err)
		a.retry = true
		return false
	}
	delete(a.holdings, havip)
	a.cfg.Logger.Info("HAVIP has left", "havip", h.HAVIP.Name, "ip", h.HAVIP.IP, "eni", h.ENI.ID, "epoch", h.Claim.Epoch)
	a.hasLeft(h, why)
	return true
}

// say tells others about a claim, and again every wordRepeat until the log shows it.
func (a *Agent) say(step Step, failure string) {
	key := wordKey{step.Kind, step.HAVIP, step.Claim.Epoch}
	now := a.cfg.Clock()
	if last, before := a.said[key]; before && now.Sub(last) < wordRepeat {
		return
	}
	a.said[key] = now
	w := &claimWord{HAVIP: step.HAVIP, Epoch: step.Claim.Epoch, Session: step.Claim.Session, Failure: failure}
	m := message{Released: w}
	if step.Kind == StepReady {
		m = message{Ready: w}
	}
	for _, node := range step.To {
		a.mail.send(node, m)
	}
	if step.Kind != StepReady {
		a.mail.sendLeader(m)
	}
}

// dropAll takes everything down; isClean says whether that worked.
func (a *Agent) dropAll(why string) {
	if a.isClean {
		return
	}
	for _, id := range a.held() {
		a.cfg.Logger.Warn("dropping a HAVIP", "havip", a.holdings[id].HAVIP.Name, "reason", why)
		a.deactivate(id, why)
	}
	if err := a.cfg.Edge.Clean(); err != nil {
		a.cfg.Logger.Error("cannot clean this node's interfaces, trying again", "err", err)
		return
	}
	for _, id := range a.held() { // gone with Clean only
		a.hasLeft(a.holdings[id], why)
	}
	clear(a.holdings)
	a.isClean = true
	a.begin(0)
	a.publish()
}

// held lists the ids of the HAVIPs that are here, in order.
func (a *Agent) held() []string { return slices.Sorted(maps.Keys(a.holdings)) }

func (a *Agent) keepAll() {
	for _, h := range a.holdings {
		h.nextKeep = 1
	}
}

// keep extends an address's lifetime and repairs it. What cannot be repaired is given up.
func (a *Agent) keep(h *holding) {
	h.nextKeep = a.cfg.Clock().Add(keepEvery)
	if eni, known := a.cfg.Log.State().ENIs[h.ENI.ID]; known {
		if h.ENI.MAC != eni.MAC {
			h.nextAnnounce, h.second = 0, false
		}
		h.ENI = eni
	}
	repairs, err := a.cfg.Edge.Keep(h.Holding)
	for _, r := range repairs {
		a.cfg.Logger.Warn("repaired", "havip", h.HAVIP.Name, "eni", h.ENI.ID, "what", r)
		a.journal.note("repaired", h.HAVIP.Name, h.ENI.ID+": "+r)
		h.nextAnnounce, h.second = 0, false
	}
	if err == nil {
		return
	}
	a.cfg.Logger.Error("cannot keep a HAVIP, giving it up", "havip", h.HAVIP.Name, "eni", h.ENI.ID, "err", err)
	a.failed[h.HAVIP.ID] = err.Error()
	a.changed(Faulted, h, err.Error())
	a.giveUp(h)
}

// publish shows others what this node answers for.
func (a *Agent) publish() {
	out := make([]Holding, 0, len(a.holdings))
	for _, id := range a.held() {
		out = append(out, a.holdings[id].Holding)
	}
	a.view.Store(&out)
}

// nextTurn is when something is due without a new event.
func (a *Agent) nextTurn(deadline lease.Instant) time.Duration {
	next := min(deadline, a.cfg.Clock().Add(idlePause))
	if a.retry {
		next = min(next, a.cfg.Clock().Add(wordRepeat))
	}
	for _, h := range a.holdings {
		if !h.givenUp {
			next = min(next, a.pace.next(h), h.nextKeep)
		}
	}
	s := a.cfg.Log.State()
	for id := range s.HAVIPs {
		v := s.HAVIPs[id]
		if len(v.Draining) > 0 && slices.ContainsFunc(v.Claims(), a.handoff.mine) {
			next = min(next, a.cfg.Clock().Add(wordRepeat)) // something is to be said again
			break
		}
		if v.Owner != nil && a.handoff.mine(*v.Owner) && v.Owner.Epoch <= a.handoff.released[id] {
			next = min(next, a.cfg.Clock().Add(wordRepeat))
			break
		}
	}
	return max(next.Sub(a.cfg.Clock()), 0)
}
