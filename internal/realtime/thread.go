// Package realtime gives a few threads of this process what a short lease needs of a busy host: a
// real-time priority, and memory that stays. What the host refuses is said with the way out, and the
// caller goes on without.
package realtime

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// Priority is that of SCHED_RR (sched(7)), 1 to 99: before every ordinary thread, after the kernel's
	// threaded interrupts (50), which bring the packets that are waited for.
	Priority = 10

	// A thread that uses more than meterShare of meterSpan of a core is not answering renewals, it is
	// flooded: it goes on as an ordinary thread for meterRest, so that the rest of the host can work.
	meterSpan  = 100 * time.Millisecond
	meterShare = 2 // a half
	meterRest  = time.Second
	meterEvery = 32 // pieces of work between two looks at the clocks
)

// Thread is an OS thread with one goroutine. All methods are that goroutine's.
type Thread struct {
	plane *Plane
	name  string
	meter meter
}

// Enter locks the calling goroutine to its OS thread, with real-time priority if the host permits it.
// The name is for Report: two at a time must not share one. A nil Plane gives an ordinary goroutine.
func (p *Plane) Enter(name string) *Thread {
	if p == nil {
		return nil
	}
	runtime.LockOSThread()
	t := &Thread{plane: p, name: name}
	granted := p.raise(name)
	t.meter = meter{granted: granted, raised: granted}
	return t
}

// Worked is called after each piece of work. A thread that does nothing else becomes an ordinary one
// for a while.
func (t *Thread) Worked() {
	if t == nil || !t.meter.granted {
		return
	}
	if t.meter.count++; t.meter.count < meterEvery && t.meter.raised {
		return
	}
	t.meter.count = 0
	switch t.meter.sample(clock(unix.CLOCK_MONOTONIC), clock(unix.CLOCK_THREAD_CPUTIME_ID)) {
	case lower:
		if setPolicy(schedOther, 0) == nil {
			t.plane.throttled.Add(1)
		}
	case raise:
		_ = setPolicy(unix.SCHED_RR, Priority) // it was permitted before
	}
}

// Leave ends the thread's part. The priority goes back, and the goroutine stays locked, so the thread
// ends with it; only the program's first thread does not end, and waits for ever as an ordinary one.
func (t *Thread) Leave() {
	if t == nil {
		return
	}
	if t.meter.granted {
		_ = setPolicy(schedOther, 0) // nobody may be refused less
	}
	t.plane.leave(t.name)
}

func clock(id uintptr) time.Duration {
	var ts unix.Timespec
	// Neither blocks: Go's scheduler need not know (see internal/boottime).
	_, _, _ = unix.RawSyscall(unix.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0)
	return time.Duration(ts.Nano())
}

// meter decides by how much of a core a thread uses. Pure.
type meter struct {
	granted, raised bool
	count           int
	since, used     time.Duration // the two clocks at the begin of the span
	until           time.Duration // end of the rest
}

type verdict int

const (
	stay verdict = iota
	lower
	raise
)

// sample takes the time and the thread's processor time.
func (m *meter) sample(now, used time.Duration) verdict {
	if !m.raised {
		if now < m.until {
			return stay
		}
		m.raised, m.since, m.used = true, now, used
		return raise
	}
	span := now - m.since
	if span < meterSpan {
		return stay
	}
	much := used-m.used > span/meterShare && m.since != 0
	m.since, m.used = now, used
	if !much {
		return stay
	}
	m.raised, m.until = false, now+meterRest
	return lower
}

// setPolicy sets the calling thread's policy. Threads that it makes are ordinary ones
// (SCHED_FLAG_RESET_ON_FORK).
func setPolicy(policy, priority uint32) error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Flags: unix.SCHED_FLAG_RESET_ON_FORK, Priority: priority}
	if policy == schedOther {
		attr.Nice = niceness
	}
	return unix.SchedSetAttr(0, &attr, 0)
}

// schedOther is SCHED_OTHER (sched(7)), the ordinary policy.
const schedOther = 0

// niceness is that of the agent's other threads (agent/guard).
const niceness = -15

// SleepUntil waits until CLOCK_BOOTTIME shows at, in nanoseconds, in the kernel: no timer of Go's
// runtime, and so no other thread, lies between the instant and the caller.
func SleepUntil(at int64) {
	ts := unix.NsecToTimespec(at)
	for {
		_, errno := Block(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_BOOTTIME, unix.TIMER_ABSTIME, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
		if errno != unix.EINTR {
			return
		}
	}
}
