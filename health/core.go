package health

import (
	"fmt"
	"time"

	"havip-cluster/fsm"
)

// Damping of a check that comes and goes. Failing is told at once, as it may cost traffic not
// to; passing again has to be waited for the longer, the more often it failed lately. So what a
// check writes to the log is bounded, however its service flaps.
const (
	// forgetAfter is how long it takes until one failure is forgotten.
	forgetAfter = 10 * time.Minute
	// holdFirst is how long a second failure within that time has to have passed; it doubles
	// with each further one, up to holdMost.
	holdFirst = 10 * time.Second
	holdMost  = 5 * time.Minute
	// maxFailures bounds what is counted.
	maxFailures = 16
)

// Instant is a reading of a clock that nobody sets, since its start.
type Instant = time.Duration

// Outcome is what one run of a check came to.
type Outcome struct {
	Good bool
	// Skipped: it was not run, so it says nothing.
	Skipped bool
	// Output is one line for people.
	Output string
}

// Machine makes a state of the runs of one check. It is pure: every method takes now.
type Machine struct {
	check   fsm.Check
	started Instant

	state     fsm.CheckState
	output    string // of the run that made the state, or of the last one that agrees with it
	good, bad int    // runs in a row
	goodSince Instant

	failures   int // not yet forgotten
	lastFailed Instant
}

// NewMachine begins with unknown.
func NewMachine(check fsm.Check, now Instant) *Machine {
	return &Machine{check: check, started: now, state: fsm.CheckUnknown}
}

// Observe takes the outcome of a run that has just ended, and returns whether the state changed.
func (m *Machine) Observe(now Instant, o Outcome) (changed bool) {
	if o.Skipped {
		return false
	}
	if o.Good {
		if m.good == 0 {
			m.goodSince = now
		}
		m.good, m.bad = min(m.good+1, fsm.CheckCountMax), 0
	} else {
		m.good, m.bad = 0, min(m.bad+1, fsm.CheckCountMax)
	}
	was := m.state
	switch {
	case o.Good && m.state != fsm.CheckPassing && m.good >= m.check.Rise && now-m.goodSince >= m.hold(now):
		m.state = fsm.CheckPassing
	case !o.Good && m.state != fsm.CheckFailing && m.bad >= m.check.Fall && now-m.started >= m.check.Grace:
		m.state = fsm.CheckFailing
		m.failures, m.lastFailed = min(m.remembered(now)+1, maxFailures), now
	}
	if o.Good == (m.state == fsm.CheckPassing) || m.state == fsm.CheckUnknown {
		m.output = o.Output
	}
	return m.state != was
}

// remembered is how many failures are not forgotten yet.
func (m *Machine) remembered(now Instant) int {
	return max(0, m.failures-int((now-m.lastFailed)/forgetAfter))
}

// hold is for how long runs must have been good until it passes again.
func (m *Machine) hold(now Instant) time.Duration {
	n := m.remembered(now)
	if n < 2 {
		return 0
	}
	return min(holdMost, holdFirst<<min(n-2, 10))
}

// State is what the check comes to now, with a line that says why.
func (m *Machine) State(now Instant) (fsm.CheckState, string) {
	if m.state == fsm.CheckFailing && m.good >= m.check.Rise {
		left := m.hold(now) - (now - m.goodSince)
		return m.state, fmt.Sprintf("good again, held for %s more: it failed %d times lately", max(0, left).Round(time.Second), m.remembered(now))
	}
	return m.state, m.output
}

// Next is how long to wait from the begin of one run to the begin of the next. draw is at random
// from 0 to below 1: up to a tenth of the interval is taken off, so that checks do not run in step,
// and none comes later than its interval says.
func (m *Machine) Next(draw float64) time.Duration {
	return m.check.Interval - time.Duration(float64(m.check.Interval/10)*draw)
}

// Due is when the next run begins, after one that began at an instant. Runs begin at common instants,
// those of a check of one interval a stepShare of it apart, so that a process with many checks wakes once for
// some of them. So it may be sooner by another stepShare than Next says, never later.
func (m *Machine) Due(began Instant, draw float64) Instant {
	next := began + m.Next(draw)
	if step := min(m.check.Interval/stepShare, stepMost); step > 0 {
		next -= next % step
	}
	return next
}

const (
	stepShare = 50
	stepMost  = 100 * time.Millisecond
)

// First is how long to wait before the first run.
func (m *Machine) First(draw float64) time.Duration {
	return time.Duration(float64(min(m.check.Interval, firstRun)) * draw)
}

// firstRun bounds the wait before the first run.
const firstRun = 2 * time.Second
