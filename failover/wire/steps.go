package wire

import (
	"fmt"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// The messages for the timeline of a change of owner. They explain and decide nothing; one that is lost
// leaves a step out. From version 2 on.

// The steps of an owner, by their numbers in a StepsMessage.
const (
	StepApplied   = 1 + iota // it read in the log that it owns the HAVIP
	StepAddress              // the address is on the interface
	StepFence                // the fence is open for it
	StepAnnounced            // the neighbours were told
	StepAnswered             // the fence let the first frame for it in
	StepClaimed              // the cloud sends the address there, where a call moves it
	stepEnd
)

// StepsMax is how many steps one message has.
const StepsMax = stepEnd - 1

// StepsMessage tells the leader when an owner did what. All instants are on the sender's clock.
type StepsMessage struct {
	HAVIP   string
	Epoch   fsm.Epoch
	Session uint64
	Said    lease.Instant // when it was sent
	Whole   bool          // nothing will be added to it
	Steps   []StepTime    // at most StepsMax
	// Heard is when it came, on the clock of whoever got it. It is not sent.
	Heard lease.Instant
}

// StepTime is one step.
type StepTime struct {
	Step int
	At   lease.Instant
}

// ClockMessage compares two clocks as NTP does (RFC 5905 section 8). A question has the asker's instant;
// the answer repeats it and adds the other's.
type ClockMessage struct {
	Asked    lease.Instant
	Answered lease.Instant // 0: it is a question
	// Heard is when it came, on the clock of whoever got it. It is not sent.
	Heard lease.Instant
}

// Offset is how far the answering clock is ahead, and how wrong that may be at most: the answer was
// given somewhen between the question and its arrival.
func (w ClockMessage) Offset() (offset, bound time.Duration) {
	trip := w.Heard.Sub(w.Asked)
	return w.Answered.Sub(w.Asked.Add(trip / 2)), (trip + 1) / 2
}

// timeline encodes the messages of version 2 that serve the timeline.
func (e *encoder) timeline(m Message) Kind {
	switch {
	case m.Steps != nil:
		w := m.Steps
		e.str(w.HAVIP)
		e.u64(uint64(w.Epoch))
		e.u64(w.Session)
		e.u64(uint64(w.Said))
		whole := uint64(0)
		if w.Whole {
			whole = 1
		}
		e.u64(whole)
		n := min(len(w.Steps), StepsMax)
		e.u64(uint64(n))
		for _, s := range w.Steps[:n] {
			e.u64(uint64(s.Step))
			e.u64(uint64(s.At))
		}
		return KindSteps
	case m.Clock != nil:
		e.u64(uint64(m.Clock.Asked))
		e.u64(uint64(m.Clock.Answered))
		return KindClock
	}
	return 0
}

// timeline reads what the encoder's timeline wrote.
func (d *decoder) timeline(k Kind, m *Message) error {
	if d.version == VersionGossip || k != KindSteps && k != KindClock {
		return fmt.Errorf("%w: kind %d in version %d", errDatagram, k, d.version)
	}
	if k == KindClock {
		m.Clock = &ClockMessage{Asked: lease.Instant(d.u64()), Answered: lease.Instant(d.u64())}
		return nil
	}
	w := &StepsMessage{HAVIP: d.str(), Epoch: fsm.Epoch(d.u64()), Session: d.u64(), Said: lease.Instant(d.u64())}
	whole, n := d.u64(), d.u64()
	if whole > 1 || n > StepsMax {
		return fmt.Errorf("%w: %d steps of an owner", errDatagram, n)
	}
	w.Whole = whole == 1
	for range n {
		s := StepTime{Step: int(min(d.u64(), stepEnd)), At: lease.Instant(d.u64())}
		if s.Step == 0 || s.Step == stepEnd {
			return fmt.Errorf("%w: an unknown step of an owner", errDatagram)
		}
		w.Steps = append(w.Steps, s)
	}
	m.Steps = w
	return nil
}
