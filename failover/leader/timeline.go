package leader

import (
	"cmp"
	"slices"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// timeline collects what happens in changes of owner, until the new owner serves and has told how.
// It serves explanation only. Every node has one, so that a new leader goes on where the last one was.
type timeline struct {
	sessions map[uint64]*deadSession
	open     []*openFailover          // oldest first, at most timelineMax
	newest   map[string]*openFailover // of open, by HAVIP
	clocks   clocks
}

const (
	timelineMax  = fsm.MaxFailovers        // the log keeps no more
	timelineWait = 10 * time.Second        // then it is recorded as it is
	stepsWait    = 2500 * time.Millisecond // after the confirmation, for the owner's last word
	clockWait    = 100 * time.Millisecond  // after the confirmation, for its clock
)

// deadSession is what the leader saw of a session's end.
type deadSession struct{ heard, hinted, asked, endorsed lease.Instant }

// moment is one step on the clock of a node; "" is the one that has the timeline.
type moment struct {
	step, what, node string
	at               lease.Instant
}

// openFailover is a change of owner that is not recorded yet.
type openFailover struct {
	havip, name, from, to string
	fromNode, node        string // ids
	kind, reason          string
	epoch                 fsm.Epoch
	steps                 []moment // in no order
	committed             lease.Instant
	reported, confirmed   lease.Instant // 0: not yet
	took                  time.Duration
	whole, overtaken      bool
	adopted               bool // another node led in the meantime: what that one knew is lost
}

func newTimeline() *timeline {
	return &timeline{sessions: map[uint64]*deadSession{}, newest: map[string]*openFailover{}, clocks: clocks{}}
}

// dead notes that a majority endorsed a session's end.
func (t *timeline) dead(now lease.Instant, session uint64, hinted, asked lease.Instant) {
	t.sessions[session] = &deadSession{heard: hinted, hinted: hinted, asked: asked, endorsed: now}
}

// closed notes the commit that closed a session; heard is how long before now this
// leader's own voter had last acknowledged a renewal, negative if unknown.
func (t *timeline) closed(now lease.Instant, before, after *fsm.State, session uint64, heard time.Duration) {
	d := t.sessions[session]
	delete(t.sessions, session)
	if d == nil {
		return
	}
	if heard >= 0 {
		d.heard = now.Add(-heard)
	}
	for _, v := range before.Claimed(session) {
		w, exists := after.HAVIPs[v.ID]
		if !exists || v.Owner == nil || v.Owner.Session != session {
			continue
		}
		f := &openFailover{havip: v.ID, name: v.Name, from: v.Owner.ENI, fromNode: v.Owner.Node, epoch: w.Epoch, kind: fsm.ChangeCrash, reason: w.Reason}
		f.died(d)
		t.begin(now, f, w.Owner)
	}
}

// died adds the end of the session that had the HAVIP.
func (f *openFailover) died(d *deadSession) {
	f.steps = append(f.steps,
		moment{fsm.StepHeard, "last renewal heard by the leader", "", min(d.heard, d.hinted)},
		moment{fsm.StepDeadline, "first voter's promise ran out", "", d.hinted},
		moment{fsm.StepNoticed, "leader asked the voters", "", d.asked},
		moment{fsm.StepEndorsed, "majority endorsed the end", "", d.endorsed})
}

// begin opens the timeline of a change that was committed now.
func (t *timeline) begin(now lease.Instant, f *openFailover, owner *fsm.Claim) {
	if len(t.open) >= timelineMax || t.newest[f.havip] != nil && t.newest[f.havip].epoch >= f.epoch {
		return
	}
	if owner != nil {
		f.to, f.node = owner.ENI, owner.Node
	}
	f.committed = now
	f.steps = append(f.steps, moment{fsm.StepCommitted, "close and new place committed", "", now})
	t.open = append(t.open, f)
	t.newest[f.havip] = f
}

// decided opens the timeline of a decision that was committed now, and whose reason was known at
// noticed. before is the state that was seen last without it.
func (t *timeline) decided(now, noticed lease.Instant, before, after *fsm.State, d fsm.Decision) {
	w, exists := after.HAVIPs[d.HAVIP]
	if !exists {
		return
	}
	v := before.HAVIPs[d.HAVIP]
	f := &openFailover{havip: d.HAVIP, name: d.Name, from: cmp.Or(d.From, v.Last), epoch: d.Epoch, kind: changeKind(before, after, d), reason: d.Reason}
	if v.Owner != nil {
		f.from, f.fromNode = v.Owner.ENI, v.Owner.Node
		if dead := t.sessions[v.Owner.Session]; dead != nil {
			f.kind = fsm.ChangeCrash
			f.died(dead)
		}
	}
	if len(f.steps) == 0 {
		if !plannedLater(f.kind) || now.Sub(noticed) > timelineWait {
			noticed = now
		}
		f.steps = append(f.steps, moment{fsm.StepNoticed, "leader knew: " + f.kind, "", noticed})
	}
	owner := w.Owner
	if w.Epoch != d.Epoch || owner == nil && d.To != "" { // it went on before this node looked
		owner = nil
		f.overtaken, f.to = true, d.To
	}
	t.begin(now, f, owner)
}

// of is the open timeline of an epoch, nil if there is none. The owner's word of it may come after the next change has begun.
func (t *timeline) of(havip string, epoch fsm.Epoch) *openFailover {
	if f := t.newest[havip]; f != nil && f.epoch == epoch {
		return f
	}
	for _, f := range t.open {
		if f.havip == havip && f.epoch == epoch {
			return f
		}
	}
	return nil
}

// activated notes the new owner's word.
func (t *timeline) activated(now lease.Instant, w wire.ActivatedMessage) {
	if f := t.of(w.HAVIP, w.Epoch); f != nil && f.reported == 0 {
		f.reported, f.took = now, w.Took
	}
}

// released notes an earlier owner's word that it does not answer any more.
func (t *timeline) released(now lease.Instant, from string, w wire.ClaimMessage) {
	f := t.newest[w.HAVIP]
	if f == nil || f.fromNode != from || w.Epoch >= f.epoch || f.has(fsm.StepReleased) {
		return
	}
	f.steps = append(f.steps, moment{fsm.StepReleased, "the leader heard that the old owner does not answer any more", "", now})
}

func (f *openFailover) has(step string) bool {
	return slices.ContainsFunc(f.steps, func(m moment) bool { return m.step == step })
}

// ownerSteps are the names and words of the steps in a StepsMessage.
var ownerSteps = [...]struct{ step, what string }{
	wire.StepApplied:   {fsm.StepApplied, "the new owner read it in the log"},
	wire.StepAddress:   {fsm.StepAddress, "the address is on the interface"},
	wire.StepFence:     {fsm.StepFence, "the fence is open for it"},
	wire.StepAnnounced: {fsm.StepAnnounced, "the neighbours were told"},
	wire.StepAnswered:  {fsm.StepAnswered, "the fence let the first frame for it in"},
	wire.StepClaimed:   {fsm.StepClaimed, "the cloud sends the address there"},
}

// told notes what the new owner did when.
func (t *timeline) told(from string, w wire.StepsMessage) {
	f := t.of(w.HAVIP, w.Epoch)
	if f == nil || f.node != from {
		return
	}
	for _, s := range w.Steps {
		if o := ownerSteps[s.Step]; !f.has(o.step) {
			f.steps = append(f.steps, moment{o.step, o.what, from, s.At})
		}
	}
	f.whole = f.whole || w.Whole
	t.clocks.oneWay(from, w)
}

// follow compares the open timelines with the state that is there now.
func (t *timeline) follow(now lease.Instant, s *fsm.State) {
	for _, f := range t.open {
		v, exists := s.HAVIPs[f.havip]
		switch {
		case !exists || v.Epoch != f.epoch || v.Owner == nil:
			f.overtaken = f.overtaken || f.confirmed == 0 && f.to != ""
		case v.Served == f.epoch && f.confirmed == 0:
			f.confirmed = now
			f.steps = append(f.steps, moment{fsm.StepConfirmed, "the log says that it is served", "", now})
		}
	}
}

// ready says that nothing more is to come for a timeline of node self.
func (t *timeline) ready(now lease.Instant, f *openFailover, level int, self string) bool {
	switch {
	case f.to == "" || f.overtaken || now.Sub(f.committed) > timelineWait:
		return true
	case level < 3:
		return f.reported != 0
	}
	timed := f.node == self || t.clocks.measured(f.node) || now.Sub(f.confirmed) >= clockWait
	return f.confirmed != 0 && (f.whole && timed || now.Sub(f.confirmed) >= stepsWait)
}

// due is when the next timeline is ready without news; 0 = none waits.
func (t *timeline) due() (at lease.Instant) {
	for _, f := range t.open {
		end := f.committed.Add(timelineWait)
		if f.confirmed != 0 {
			wait := stepsWait
			if f.whole {
				wait = clockWait
			}
			end = min(end, f.confirmed.Add(wait))
		}
		if at == 0 || end.Before(at) {
			at = end
		}
	}
	return at
}

// complete returns the timelines to which nothing is to be added, oldest first, and their records. They stay until
// recorded is called: what was proposed at the end of a leadership may never be in the log. at is the time of the record in unix
// nanoseconds, self the node that has them.
func (t *timeline) complete(now lease.Instant, at int64, s *fsm.State, self string) (done []*openFailover, records []fsm.Failover) {
	for _, f := range t.open {
		if t.ready(now, f, s.Level(), self) {
			done, records = append(done, f), append(records, t.record(now, f, at, s, self))
		}
	}
	return done, records
}

// recorded forgets timelines that the log has.
func (t *timeline) recorded(done []*openFailover) {
	t.drop(func(f *openFailover) bool { return slices.Contains(done, f) })
}

// adopt notes of the open timelines that another node leads, or may have led.
func (t *timeline) adopt() {
	for _, f := range t.open {
		f.adopted = true
	}
}

// drop forgets the open timelines for which gone is true.
func (t *timeline) drop(gone func(*openFailover) bool) {
	t.open = slices.DeleteFunc(t.open, func(f *openFailover) bool {
		if !gone(f) {
			return false
		}
		if t.newest[f.havip] == f {
			delete(t.newest, f.havip)
		}
		return true
	})
}

// ending is the step that says how a timeline ended, where it is not the usual end.
func (f *openFailover) ending() (m moment, unusual bool) {
	switch {
	case f.to == "":
		return moment{fsm.StepDark, "nobody could own it", "", f.committed}, true
	case f.overtaken:
		return moment{fsm.StepOvertaken, "the next change came before it was served", "", f.committed}, true
	case f.reported == 0 && f.confirmed == 0 && !f.has(fsm.StepAnnounced): // else the cloud takes its time
		return moment{fsm.StepSilent, "the new owner has not reported", "", f.committed}, true
	}
	return moment{}, false
}

// record makes the entry of the log.
func (t *timeline) record(now lease.Instant, f *openFailover, at int64, s *fsm.State, self string) fsm.Failover {
	out := fsm.Failover{HAVIP: f.name, Epoch: f.epoch, From: f.from, To: f.to, At: at}
	steps := slices.Clone(f.steps)
	if end, unusual := f.ending(); unusual {
		steps = append(steps, end)
	} else if f.reported != 0 && (s.Level() < 4 || !f.has(fsm.StepAnnounced)) {
		if s.Level() >= 4 && !f.has(fsm.StepApplied) { // its steps got lost, its word did not
			steps = append(steps, moment{fsm.StepApplied, "the new owner had read it, by what it said later", "", max(f.committed, f.reported.Add(-f.took))})
		}
		steps = append(steps, moment{fsm.StepAnnounced, "new owner put the address up and announced it, in " + f.took.Round(10*time.Microsecond).String(), "", f.reported})
	}
	if f.adopted {
		steps = append(steps, moment{fsm.StepAdopted, "the leader changed: what an earlier one knew is missing", "", f.committed})
	}
	for i, m := range steps {
		if m.node != "" {
			steps[i].at = t.clocks.here(now, m.node, m.at)
		}
	}
	slices.SortStableFunc(steps, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	steps = steps[:min(len(steps), fsm.MaxFailoverSteps)]
	whole := s.Level() >= 4 // older members cannot read more
	for _, m := range steps {
		step := fsm.FailoverStep{What: m.what, After: m.at.Sub(steps[0].at)}
		if whole {
			step.Step, step.Node = m.step, s.NodeName(cmp.Or(m.node, self))
		}
		out.Steps = append(out.Steps, step)
	}
	if whole {
		out.Kind, out.Reason, out.Leader = f.kind, f.reason, s.NodeName(self)
		if c, known := t.clocks.of(now, f.node); known && f.node != self {
			out.Clocks = append(out.Clocks, fsm.ClockOffset{Node: s.NodeName(f.node), Offset: c.offset, Bound: c.bound})
		}
	}
	return out
}
