package owner

import (
	"context"
	"slices"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

const (
	stepReportsMax    = fsm.MaxFailovers       // that are told at one time; the log keeps no more
	stepReportTimes   = 6                      // that a stepReport is sent at most, because datagrams and leaders get lost
	stepReportAgain   = 100 * time.Millisecond // between the first two of them; then it doubles
	stepReportSlowest = 800 * time.Millisecond // the leader waits for three times as long
	stepReportWait    = 10 * time.Second       // for a leader to tell
	answeredWait      = time.Second            // for the first frame
	answeredPoll      = 2 * time.Millisecond   // between two looks at the fence's counter
)

// stepReporter tells the leader when this node did what for a change of owner, until the log has the timeline.
// It explains and decides nothing: what is lost is left out of the timeline.
type stepReporter struct {
	cfg     Config
	witness Witness // nil: nothing is counted
	queue   chan stepReport

	// Below: only the goroutine of the Agent.
	index   uint64                   // of the last entry that was looked at
	applied map[string]lease.Instant // when this node read that it owns a HAVIP, by id
}

// stepReport is how one HAVIP came up here.
type stepReport struct {
	message wire.StepsMessage
	// alone: nothing else is served here, so the fence's counter is about this one.
	alone bool

	begun    lease.Instant
	recorded bool   // the log had such a timeline before: of an earlier HAVIP of that name
	before   uint64 // the counter when it stood
	deadline lease.Instant
	next     lease.Instant
	pause    time.Duration // after the next message
	times    int
}

func newStepReporter(cfg Config) *stepReporter {
	w, _ := cfg.Edge.(Witness)
	return &stepReporter{cfg: cfg, witness: w, queue: make(chan stepReport, stepReportsMax), applied: map[string]lease.Instant{}}
}

// read notes when this node learnt from the log what it owns. s is the newest state.
func (t *stepReporter) read(now lease.Instant, s *fsm.State) {
	if s.Index == t.index {
		return
	}
	for i := len(s.Decisions) - 1; i >= 0 && s.Decisions[i].Index > t.index; i-- {
		id := s.Decisions[i].HAVIP
		v := s.HAVIPs[id]
		if v.Owner == nil || v.Owner.Node != t.cfg.Node {
			delete(t.applied, id)
			continue
		}
		if v.Epoch == s.Decisions[i].Epoch && len(t.applied) < stepReportsMax {
			t.applied[id] = now
		}
	}
	t.index = s.Index
}

// stands begins to tell that a HAVIP is served here. It does not block.
func (t *stepReporter) stands(h *activation, how Stood, alone bool) {
	message := wire.StepsMessage{HAVIP: h.HAVIP.ID, Epoch: h.Claim.Epoch, Session: h.Claim.Session}
	applied, known := t.applied[h.HAVIP.ID]
	if !known {
		applied = h.begun
	}
	delete(t.applied, h.HAVIP.ID)
	for _, s := range []wire.StepTime{{Step: wire.StepApplied, At: applied}, {Step: wire.StepAddress, At: how.Address}, {Step: wire.StepFence, At: how.Fence}, {Step: wire.StepAnnounced, At: how.Announced}} {
		if s.At != 0 {
			message.Steps = append(message.Steps, s)
		}
	}
	select {
	case t.queue <- stepReport{message: message, alone: alone}:
	default:
	}
}

// relabelled tells that a HAVIP that is served here goes on under a new claim: nothing else is done.
func (t *stepReporter) relabelled(h *activation) {
	applied, known := t.applied[h.HAVIP.ID]
	if !known {
		applied = t.cfg.Clock()
	}
	delete(t.applied, h.HAVIP.ID)
	message := wire.StepsMessage{HAVIP: h.HAVIP.ID, Epoch: h.Claim.Epoch, Session: h.Claim.Session, Steps: []wire.StepTime{{Step: wire.StepApplied, At: applied}}}
	select {
	case t.queue <- stepReport{message: message}:
	default:
	}
}

// sentHere tells that the cloud sends a HAVIP here since now.
func (t *stepReporter) sentHere(h Activation) {
	message := wire.StepsMessage{HAVIP: h.HAVIP.ID, Epoch: h.Claim.Epoch, Session: h.Claim.Session, Steps: []wire.StepTime{{Step: wire.StepClaimed, At: t.cfg.Clock()}}}
	select {
	case t.queue <- stepReport{message: message}:
	default:
	}
}

// run tells until ctx ends.
func (t *stepReporter) run(ctx context.Context) {
	var open []*stepReport
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-t.queue:
			if len(open) < stepReportsMax {
				open = append(open, t.begin(s))
			}
		case <-timer.C:
		}
		now, next := t.cfg.Clock(), lease.Instant(0)
		open = slices.DeleteFunc(open, func(s *stepReport) bool { return t.tell(now, s) })
		for _, s := range open {
			if next == 0 || s.next.Before(next) {
				next = s.next
			}
		}
		if next == 0 {
			timer.Reset(time.Hour)
			continue
		}
		timer.Reset(max(next.Sub(now), time.Millisecond))
	}
}

func (t *stepReporter) begin(s stepReport) *stepReport {
	now := t.cfg.Clock()
	s.begun, s.next, s.recorded = now, now, t.recorded(&s)
	counted, err := uint64(0), error(nil)
	if t.witness != nil && s.alone {
		counted, err = t.witness.LetIn()
	}
	if t.witness == nil || !s.alone || err != nil {
		s.message.Whole = true
		return &s
	}
	s.before, s.deadline = counted, now.Add(answeredWait)
	return &s
}

// tell sends what is known of one stepReport when it is time. True: there is nothing more to tell.
func (t *stepReporter) tell(now lease.Instant, s *stepReport) (done bool) {
	if !s.message.Whole && t.answered(now, s) {
		s.message.Whole, s.times, s.next = true, 0, now
	}
	if now.Before(s.next) {
		return false
	}
	if s.times > 0 && !s.recorded && t.recorded(s) {
		return true
	}
	if t.cfg.Log.LeaderID() == "" { // an election is no attempt
		s.next = now.Add(stepReportAgain)
		return now.Sub(s.begun) >= stepReportWait
	}
	if s.message.Whole || s.times == 0 {
		message := s.message
		message.Said = t.cfg.Clock()
		t.cfg.Mail.SendLeader(wire.Message{Steps: &message})
		s.times++
	}
	if !s.message.Whole {
		s.next = now.Add(answeredPoll)
		return false
	}
	s.pause = min(max(2*s.pause, stepReportAgain), stepReportSlowest)
	s.next = now.Add(s.pause)
	return s.times >= stepReportTimes
}

// recorded reports whether the log has a timeline of that name and epoch, or the HAVIP is gone.
func (t *stepReporter) recorded(s *stepReport) bool {
	state := t.cfg.Log.State()
	v, exists := state.HAVIPs[s.message.HAVIP]
	return !exists || slices.ContainsFunc(state.Failovers, func(f fsm.Failover) bool { return f.HAVIP == v.Name && f.Epoch == s.message.Epoch })
}

// answered looks whether the fence has let a frame in. True: it has, or that is no longer waited for.
func (t *stepReporter) answered(now lease.Instant, s *stepReport) bool {
	counted, err := t.witness.LetIn()
	if err == nil && counted > s.before {
		s.message.Steps = append(slices.Clip(s.message.Steps), wire.StepTime{Step: wire.StepAnswered, At: now})
		return true
	}
	return err != nil || !now.Before(s.deadline)
}
