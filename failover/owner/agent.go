package owner

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

const (
	wordsPending = 1024                  // datagrams that wait for the Agent; more are dropped, senders repeat
	repeatFirst  = 10 * time.Millisecond // until a Ready or Released has its effect in the log; twice as long each time
	lifetimeMore = time.Second           // lifetime of an address above the lease
	lifetimeEach = 1000                  // so many addresses of one node live a second longer
	idlePause    = time.Second
	// leavingMax is how many HAVIPs leave in one turn when nothing hurries: those of a turn
	// share its gap, and the next ones serve on meanwhile. Of very many it is a part, leavingPart:
	// what a turn costs grows with what is held.
	leavingMax  = 64
	leavingPart = 16
	// endTurns bounds the turns of the end, of a millisecond and more each.
	endTurns = 1000
)

// Agent says what this node's interfaces shall look like: equal to what Handoff allows, and
// nothing when the lease is over.
type Agent struct {
	cfg   Config
	lease Lease // set when Run begins; only its goroutine
	// reporter is told when the interfaces changed.
	reporter     *reporter
	guardian     *guardian
	journal      *journal
	stepReporter *stepReporter
	said         recent       // what others do again and again
	defended     atomic.Int64 // when a foreign claim was last answered, on the Clock

	wake    chan struct{}
	words   chan wire.Message
	again   chan string
	cleanup chan cleaning

	// Below: only the goroutine of Run.
	handoff     *Handoff
	activations *activations      // others read the view of them
	failed      map[string]string // why a HAVIP was given up, by id
	outbox      *outbox
	pace        pace
	leaving     int    // of the activations, in this turn's steps
	looked      look   // what the Edge knows; empty: it has to look
	untold      []told // of this turn
	isClean     bool
	unsafe      lease.Instant // since when the fence does not know every HAVIP; 0: it does
}

// New returns an Agent. Nothing runs before Run.
func New(cfg Config) *Agent {
	a := &Agent{
		cfg:          cfg,
		guardian:     newGuardian(cfg),
		journal:      newJournal(cfg),
		stepReporter: newStepReporter(cfg),
		wake:         make(chan struct{}, 1),
		words:        make(chan wire.Message, wordsPending),
		again:        make(chan string, 1),
		cleanup:      make(chan cleaning),
		activations:  newActivations(),
	}
	a.reporter = newReporter(cfg, a)
	a.begin(0)
	return a
}

// begin forgets the session before.
func (a *Agent) begin(session uint64) {
	// Twice a lease: if the successor is dead, its session is closed before that, and this
	// node may get the HAVIP back without ever having let go of it.
	a.handoff = NewHandoff(session, max(patienceLeast, 2*a.cfg.Log.State().Cluster.LeaseMax))
	a.failed, a.looked = map[string]string{}, look{}
	a.outbox = newOutbox(a.cfg.Mail)
}

// Wake makes the Agent look again: the lease has begun or ended, or an answer has come from
// outside. It does not block.
func (a *Agent) Wake() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Hear takes another node's word. It does not block.
func (a *Agent) Hear(m wire.Message) {
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

// cleaning is somebody who waits until nothing of ours answers on this node; with guarded,
// also until its fence knows every HAVIP that the log has.
type cleaning struct {
	done    chan struct{}
	guarded bool
}

// Clean returns when nothing of ours answers on this node; with guarded, also its fence must know
// every HAVIP that the log has. Only for use while there is no lease. The error is that of ctx.
func (a *Agent) Clean(ctx context.Context, guarded bool) error {
	c := cleaning{make(chan struct{}), guarded}
	select {
	case a.cleanup <- c:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer lets those go on for whom this node is clean enough, and returns the others.
func (a *Agent) answer(waiting []cleaning) []cleaning {
	return slices.DeleteFunc(waiting, func(c cleaning) bool {
		enough := a.isClean && (a.unsafe == 0 || !c.guarded)
		if enough {
			close(c.done)
		}
		return enough
	})
}

// Activations returns what this node answers for, sorted by HAVIP id.
func (a *Agent) Activations() []Serving { return *a.activations.view.Load() }

// Run works until ctx ends, and then takes everything down. l is the lease under which this node
// answers for anything.
func (a *Agent) Run(ctx context.Context, l Lease) {
	a.lease = l
	var beside sync.WaitGroup
	for _, part := range []func(context.Context){a.reporter.run, a.guardian.run, a.journal.run, a.stepReporter.run} {
		beside.Go(func() { part(ctx) })
	}
	a.work(ctx)
	beside.Wait()
}

// work is the loop of Run.
func (a *Agent) work(ctx context.Context) {
	watch, stop := a.cfg.Log.Watch()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var waiting []cleaning
	leader := ""
	for {
		select {
		case <-ctx.Done():
			a.end()
			return
		case <-watch:
			if l := a.cfg.Log.LeaderID(); l != leader && l != "" {
				leader = l
				a.announceAgain()
			}
		case <-a.wake:
			a.looked = look{}
		case <-timer.C:
		case <-a.again:
			a.announceAgain()
		case <-a.cfg.Edge.Changes():
			a.looked = look{}
			a.reporter.wakeUp()
		case m := <-a.words:
			a.note(m)
		case c := <-a.cleanup:
			waiting = append(waiting, c)
		}
		a.noteRest()
		pause := a.turn()
		waiting = a.answer(waiting)
		timer.Reset(pause)
	}
}

func (a *Agent) announceAgain() {
	a.cfg.Edge.AnnounceAgain()
	a.looked = look{}
}

// end takes everything down, as far as the kernel lets it.
func (a *Agent) end() {
	for range endTurns {
		if a.dropAll("the agent stops"); a.isClean {
			return
		}
		time.Sleep(time.Millisecond)
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

// note remembers what another node said about HAVIPs that exist.
func (a *Agent) note(m wire.Message) {
	now, s := a.cfg.Clock(), a.cfg.Log.State()
	for _, w := range m.Released {
		if _, exists := s.HAVIPs[w.HAVIP]; exists {
			a.handoff.HeardReleased(m.From, w.HAVIP, w.Epoch, w.Session)
		}
	}
	a.recalled(s, m.From, m.Recall)
	for _, w := range m.Ready {
		if _, exists := s.HAVIPs[w.HAVIP]; exists {
			a.handoff.HeardReady(now, m.From, w.HAVIP, w.Epoch)
		}
	}
}

// turn does all that is due now and says when to come back at the latest.
func (a *Agent) turn() time.Duration {
	session, deadline := a.lease.Lease()
	if session == 0 || session != a.handoff.session {
		next := a.dropAll("the lease is over")
		if session == 0 || !a.isClean {
			return a.until(next)
		}
		a.begin(session)
	}
	now, s := a.cfg.Clock(), a.cfg.Log.State()
	a.stepReporter.read(now, s)
	if s != a.activations.refreshed { // else nothing has gone since
		a.handoff.Forget(s)
		maps.DeleteFunc(a.failed, func(id string, _ string) bool {
			_, exists := s.HAVIPs[id]
			return !exists
		})
	}
	a.leaving = a.activations.leaving()
	steps := a.handoff.Decide(now, s)
	a.pace = newPace(len(s.HAVIPs), a.activations.by, steps, a.outbox.saidReady)
	for _, step := range steps {
		a.do(s, step, deadline)
	}
	a.activations.refresh(s)
	// Before the turn of the edge, which takes its time: earlier owners work meanwhile.
	asked := a.outbox.flush(now, s)
	again, next := a.edgeTurn(now, s, deadline)
	unconfirmed := a.confirm(s, now)
	a.activations.publish()
	next = min(next, deadline)
	for _, again := range []lease.Instant{asked, a.outbox.flush(now, s)} {
		if again != 0 {
			next = min(next, again)
		}
	}
	a.tellAll()
	if unconfirmed {
		next = min(next, now.Add(confirmRepeat))
	}
	if again {
		return 0
	}
	return a.until(next)
}

// until is the time until an instant, at most idlePause.
func (a *Agent) until(t lease.Instant) time.Duration {
	return min(max(t.Sub(a.cfg.Clock()), 0), idlePause)
}

// do carries out one step, decided on s.
func (a *Agent) do(s *fsm.State, step Step, deadline lease.Instant) {
	switch step.Kind {
	case StepActivate:
		a.activate(s, step, deadline)
	case StepRelabel:
		h := a.activations.by[step.HAVIP]
		if h == nil || h.leaving {
			return // it was given up since; the next turn activates
		}
		h.Claim = step.Claim
		a.activations.changed()
		a.stepReporter.relabelled(h)
		a.handoff.Activated(step.HAVIP, step.Claim)
	case StepDeactivate:
		a.deactivate(s, step)
	case StepReleased:
		a.handoff.Deactivated(step.HAVIP, step.Claim)
		a.outbox.say(step, a.failed[step.HAVIP])
	case StepReady:
		if a.pace.mayAsk(step) {
			a.outbox.say(step, "")
		}
	}
}

// activate wants the address up, if there is still time. From here on it may answer.
func (a *Agent) activate(s *fsm.State, step Step, deadline lease.Instant) {
	now := a.cfg.Clock()
	if !now.Before(deadline) {
		return
	}
	if a.activations.by[step.HAVIP] != nil {
		return // it may still answer on another ENI: off before on
	}
	a.isClean = false
	a.activations.changed()
	a.activations.by[step.HAVIP] = &activation{begun: now, Activation: Activation{
		HAVIP: s.HAVIPs[step.HAVIP], Claim: step.Claim, ENI: s.ENIs[step.Claim.ENI],
		Lifetime: lifetimeOf(s, len(a.activations.by)),
	}}
	a.handoff.Activated(step.HAVIP, step.Claim)
}

// deactivate wants one HAVIP to go; when it has gone, that is said.
func (a *Agent) deactivate(s *fsm.State, step Step) {
	h := a.activations.by[step.HAVIP]
	if h == nil { // it was never here
		a.handoff.Deactivated(step.HAVIP, step.Claim)
		a.outbox.say(step, a.failed[step.HAVIP])
		return
	}
	h.release = &step
	if h.leaving {
		return
	}
	_, exists := s.HAVIPs[step.HAVIP]
	if exists && len(step.To) > 0 && a.leaving >= max(leavingMax, len(a.activations.by)/leavingPart) {
		return // it serves on until its turn comes: its successor waits
	}
	a.leaving++
	a.activations.changed()
	h.leaving, h.why = true, whyReleased(s, step.HAVIP)
}

// wanted is what may answer here now.
func (a *Agent) wanted(s *fsm.State, deadline lease.Instant) Wanted {
	a.activations.publish()
	return Wanted{State: s, CaughtUp: a.cfg.Log.CaughtUp(), Deadline: deadline, Activations: a.activations.wanted, Awaited: a.awaited}
}

// awaited: other nodes have said something.
func (a *Agent) awaited() bool { return len(a.words) > 0 }

// take notes what a turn of the edge has brought about. True: something new is to be done.
func (a *Agent) take(s *fsm.State, r Report) (again bool) {
	a.noteGuard(r)
	a.tellRepairs(r.Repairs)
	for _, st := range r.Foreign {
		a.tellForeign(s, st)
	}
	for _, n := range r.Notes {
		a.tellNote(s, n)
	}
	for i, id := range r.Serving {
		how := Stood{}
		if i < len(r.Stood) {
			how = r.Stood[i]
		}
		a.stands(id, how)
		again = again || a.pace.withheld
	}
	for _, t := range r.Faults {
		if h := a.activations.by[t.HAVIP]; h != nil && !h.leaving {
			a.giveUp(h, t.Text)
			again = true
		}
	}
	gone := r.Gone
	if r.Clean { // nothing at all is here
		gone = a.activations.ids()
	}
	for _, id := range gone {
		if h := a.activations.by[id]; h != nil && h.leaving {
			a.gone(h)
			again = true
		}
	}
	a.isClean = r.Clean && len(a.activations.by) == 0
	return again
}

// stands notes that a HAVIP is served: address, fence and announcement were read back.
func (a *Agent) stands(id string, how Stood) {
	h := a.activations.by[id]
	if h == nil || h.leaving || h.serving {
		return
	}
	a.activations.changed()
	h.serving, h.took = true, a.cfg.Clock().Sub(h.begun)
	delete(a.failed, id)
	a.stepReporter.stands(h, how, len(a.activations.by) == 1)
	a.tell(Acquired, h, h.HAVIP.Reason)
}

// giveUp lets go of what cannot be served: holding a claim without serving is worse than
// having none. What will not go is tried again; until then nothing is released.
func (a *Agent) giveUp(h *activation, why string) {
	a.failed[h.HAVIP.ID] = why
	a.tell(Faulted, h, why)
	a.activations.changed()
	h.leaving, h.givenUp, h.why = true, true, why
	if h.release == nil {
		h.release = &Step{Kind: StepReleased, HAVIP: h.HAVIP.ID, Claim: h.Claim}
	}
}

// gone notes that nothing answers for a HAVIP here any more, and says so.
func (a *Agent) gone(h *activation) {
	id := h.HAVIP.ID
	delete(a.activations.by, id)
	a.activations.changed()
	a.tell(Released, h, h.why)
	if h.release == nil {
		return // the lease is over: its end says it
	}
	a.handoff.Deactivated(id, h.Claim)
	step := *h.release
	step.Claim = h.Claim
	a.outbox.say(step, a.failed[id])
}

// confirm tells the leader what stands: once, and again until the log says so.
func (a *Agent) confirm(s *fsm.State, now lease.Instant) (unconfirmed bool) {
	for id, h := range a.activations.by {
		v, exists := s.HAVIPs[id]
		if exists && h.serving && !h.leaving && a.sent(h) && (!confirmed(s, v, h.Claim) || h.told != h.Claim.Epoch) {
			h.told = h.Claim.Epoch
			a.outbox.activated(h, now)
			unconfirmed = true
		}
	}
	return unconfirmed
}

// confirmed: the log shows that a claim is served. Below level 3 it has no place for that.
func confirmed(s *fsm.State, v fsm.HAVIP, c fsm.Claim) bool {
	return s.Level() < 3 || v.Owner == nil || *v.Owner != c || v.Served == c.Epoch
}

// dropAll takes everything down; isClean says whether that worked, and the instant when to
// come back.
func (a *Agent) dropAll(why string) lease.Instant {
	s := a.cfg.Log.State()
	a.allLeave(why)
	report := a.cfg.Edge.Turn(Wanted{State: s, CaughtUp: a.cfg.Log.CaughtUp()})
	a.take(s, report)
	a.looked = look{}
	a.tellAll()
	if a.isClean {
		a.begin(0)
	}
	a.activations.publish()
	return report.Next
}

// allLeave marks everything as on its way down, with nothing to be said of it.
func (a *Agent) allLeave(why string) {
	for _, id := range a.activations.ids() {
		h := a.activations.by[id]
		if !h.leaving {
			a.cfg.Logger.Warn("dropping a HAVIP", "havip", h.HAVIP.Name, "reason", why)
			h.leaving, h.why = true, why
			a.activations.changed()
		}
		h.release = nil
	}
}

// Report has the interfaces listed and reported again.
func (a *Agent) Report() { a.reporter.wakeUp() }
