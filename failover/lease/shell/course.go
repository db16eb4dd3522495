package shell

import (
	"time"

	"havip-cluster/failover/lease"
)

// courseSeconds is how far back a node knows how it has renewed.
const courseSeconds = 900

// Second is how the renewals of one second went.
type Second struct {
	At       int64 // of CLOCK_BOOTTIME, in seconds
	Rounds   uint32
	Answered uint32 // by a majority
	// TookOver is how many the renewing thread was so late for that the ordinary goroutine sent them.
	TookOver uint32
	// Late is by how much the latest of them left after its time.
	Late time.Duration
	// Trip is how long the slowest answer of a majority took.
	Trip time.Duration
	// Least is the least that was left of the lease before an answer prolonged it.
	Least time.Duration
}

// course is how renewing went, second by second. A ring, because nothing is allocated on the way of a
// renewal.
type course struct {
	ring [courseSeconds]Second
}

func (c *course) at(now lease.Instant) *Second {
	sec := int64(now) / int64(time.Second)
	s := &c.ring[sec%courseSeconds]
	if s.At != sec {
		*s = Second{At: sec}
	}
	return s
}

// begun notes a renewal that left late after its time.
func (c *course) begun(now lease.Instant, late time.Duration, tookOver bool) {
	s := c.at(now)
	s.Rounds++
	s.Late = max(s.Late, late)
	if tookOver {
		s.TookOver++
	}
}

// answered notes that a majority has answered, which is known after trip. before is what was left of the lease then; 0 and less:
// it was extended in time elsewhere, and nobody knows how near its end was.
func (c *course) answered(now lease.Instant, trip, before time.Duration) {
	s := c.at(now)
	s.Answered++
	s.Trip = max(s.Trip, trip)
	if before > 0 && (s.Least == 0 || before < s.Least) {
		s.Least = before
	}
}

// Course returns how the renewals of the seconds from a time on went, oldest first: at most the last
// courseSeconds, without those in which nothing was renewed, and without the present one.
func (r *Renewer) Course(from int64) []Second {
	r.mu.Lock()
	defer r.mu.Unlock()
	present := int64(r.cfg.Clock()) / int64(time.Second)
	var out []Second
	for sec := max(from, present-courseSeconds+1); sec < present; sec++ {
		if s := r.course.ring[((sec%courseSeconds)+courseSeconds)%courseSeconds]; s.At == sec && sec > 0 {
			out = append(out, s)
		}
	}
	return out
}
