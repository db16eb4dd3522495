package shell

import (
	"errors"
	"testing"
	"time"

	"havip-cluster/failover/lease"
)

// Extend and Expire make storing a SharedFence, as the real one is (netdev/fence).
func (e *storing) Extend(t lease.Instant) {
	if was := e.deadline.Load(); was != 0 && was < int64(t) {
		e.deadline.Store(int64(t))
	}
}

func (e *storing) Expire(now lease.Instant) lease.Instant {
	if e.deadline.Load() <= int64(now) {
		e.deadline.Store(0)
	}
	return lease.Instant(e.deadline.Load())
}

// beside is a Counter that counts nothing by itself: the test does.
type beside struct {
	counting bool
	session  lease.Session
	set      lease.VoterSet
	round    lease.Renewal
	own      uint64
	err      error
}

func (c *beside) CountBy(s lease.Session, set lease.VoterSet, _ lease.Instant) {
	c.counting, c.session, c.set = true, s, set
}
func (c *beside) Round(r lease.Renewal) { c.round, c.own = r, 0 }
func (c *beside) OwnVote(round uint64)  { c.own = round }
func (c *beside) StopCounting() (err error) {
	c.counting = c.err != nil
	return c.err
}

// newCounted is a Renewer beside which somebody counts; of the voters only n-1's own answers it.
func newCounted(t *testing.T) (*renewing, *beside) {
	t.Helper()
	r, c := newRenewing(t, 1), &beside{}
	r.renewer.counter, r.renewer.shared = c, r.fence
	r.renewer.owner = &looking{}
	r.silent = map[string]bool{"n-2": true, "n-3": true}
	return r, c
}

const countedLength = 500 * time.Millisecond

// Where the process has not read an answer yet, the lease runs by what was counted elsewhere.
func TestTheLeaseRunsByWhatWasCountedElsewhere(t *testing.T) {
	r, c := newCounted(t)
	r.renew()
	if !c.counting || c.session.Number != 7 || c.set.ID != r.log.set.ID || c.round != r.renewer.newest || c.own != c.round.Round {
		t.Fatalf("told of %+v, own vote %d", c, c.own)
	}
	reached := c.round.Sent.Add(countedLength)
	r.fence.Extend(reached)
	r.now = reached - 1
	if session, deadline := r.renewer.Lease(); session != 7 || deadline != reached {
		t.Errorf("session %d until %d, want 7 until %d", session, deadline, reached)
	}
	if _, alive := r.renewer.round(r.renewer.holder, &r.out, 0); !alive {
		t.Error("not renewed any more")
	}
}

// What this process has found over is over where it is counted, too.
func TestOverIsOverElsewhere(t *testing.T) {
	for name, look := range map[string]func(r *renewing){
		"by who asks":   func(r *renewing) { r.renewer.Lease() },
		"by who renews": func(r *renewing) { r.renewer.round(r.renewer.holder, &r.out, 0) },
		"by an acknowledgement": func(r *renewing) {
			r.renewer.Ack(lease.Ack{Session: lease.Session{Node: "n-1", Number: 7}, From: "n-2"})
		},
		"by a correction":      func(r *renewing) { r.renewer.Corrected(lease.Correction{From: "n-2", Boot: 9}) },
		"by a word of the end": func(r *renewing) { r.renewer.Ended(lease.Ended{Session: lease.Session{Node: "n-1", Number: 7}}) },
		"by its own will":      func(r *renewing) { r.renewer.Release() },
		"by a log without it": func(r *renewing) {
			s := *r.log.state
			s.Sessions = nil
			r.log.state = &s
			r.renewer.round(r.renewer.holder, &r.out, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, c := newCounted(t)
			r.renew()
			r.now = r.now.Add(2 * countedLength)
			look(r)
			if r.fence.Extend(c.round.Sent.Add(countedLength)); r.fence.deadline.Load() != 0 {
				t.Error("a late count moves the deadline")
			}
			if session, _ := r.renewer.Lease(); session != 0 {
				t.Error("it goes on")
			}
		})
	}
}

// A deadline that somebody else has made 0 is the end of the lease: nothing would extend it, and its HAVIPs would stay dark.
func TestADeadlineMadeZeroEndsTheLease(t *testing.T) {
	r, _ := newCounted(t)
	r.silent = nil
	r.renew()
	r.fence.SetDeadline(0)
	if r.renew(); r.fence.deadline.Load() != 0 {
		t.Error("extended from 0")
	}
	if session, _ := r.renewer.Lease(); session != 0 {
		t.Error("the lease goes on")
	}
}

// A lease that was ended, given up or left to somebody else is counted for no longer, and none begins before that is sure.
func TestCountingStops(t *testing.T) {
	for name, end := range map[string]func(r *renewing){
		"by its own will":      func(r *renewing) { r.renewer.Release() },
		"by a word of the end": func(r *renewing) { r.renewer.Ended(lease.Ended{Session: lease.Session{Node: "n-1", Number: 7}}) },
		"by the next one": func(r *renewing) {
			r.renewer.Begin(lease.Session{Node: "n-1", Number: 8}, r.now, countedLength)
		},
		"by a guard whose agent is dead": func(r *renewing) { r.renewer.Abandon() },
	} {
		t.Run(name, func(t *testing.T) {
			r, c := newCounted(t)
			if r.renew(); !c.counting {
				t.Fatal("not counted")
			}
			if end(r); c.counting {
				t.Error("counted on")
			}
		})
	}
	r, c := newCounted(t)
	r.renew()
	c.err = errors.New("no memory")
	if r.renewer.Begin(lease.Session{Node: "n-1", Number: 8}, r.now, countedLength) {
		t.Error("a session has begun while another one may still be counted for")
	}
}

// The own vote is told of when this node's voter has acknowledged the newest round, and not otherwise.
func TestTheOwnVoteIsItsOwn(t *testing.T) {
	r, c := newCounted(t)
	r.silent["n-1"] = true
	r.renew()
	ack := lease.Ack{Session: c.round.Session, Round: c.round.Round, Sent: c.round.Sent, Length: c.round.Length, Config: c.round.Config, From: "n-2"}
	if r.renewer.Ack(ack); c.own != 0 {
		t.Error("another voter's word counts as the own vote")
	}
	ack.From, ack.Config = "n-1", ack.Config+1
	if r.renewer.Ack(ack); c.own != 0 {
		t.Error("a vote by another set counts")
	}
	ack.Config--
	if r.renewer.Ack(ack); c.own != c.round.Round {
		t.Error("the own vote does not count")
	}
}

// A round that does not begin, because no lease may have that length, is told to nobody.
func TestNoRoundIsTold(t *testing.T) {
	r, c := newCounted(t)
	r.renew()
	was, newest := c.round, r.renewer.newest
	s := *r.log.state
	s.Cluster.Lease = 0
	r.log.state = &s
	if r.renew(); c.round != was || c.session != was.Session || r.renewer.newest != newest {
		t.Errorf("told of %+v", c)
	}
}

// What is measured is the round that gave the deadline, whichever answer the process reads when it learns of that, and
// no more of the lease than was left.
func TestTheMeasureIsOfTheRoundThatCounted(t *testing.T) {
	r, c := newCounted(t)
	var left []time.Duration
	r.renewer.cfg.Extended = func(d time.Duration) { left = append(left, d) }
	r.renew()
	first := c.round
	r.fence.Extend(first.Sent.Add(countedLength))
	r.now = first.Sent.Add(countedLength - 101*time.Millisecond)
	r.renew() // 1 ms before that deadline; the first lease has long passed
	if c.round == first || len(left) != 0 {
		t.Fatalf("left %v", left)
	}
	r.renewer.Release()
	r.now = r.now.Add(2 * time.Second)
	all := r.renewer.Course(0)
	if n := len(all); n == 0 || all[n-1].Trip != countedLength-time.Millisecond || all[n-1].Least != 0 {
		t.Errorf("%+v", all)
	}
}

// Beside a counter the process still knows how renewing goes.
func TestTheCourseOfWhatIsCountedElsewhere(t *testing.T) {
	r, c := newCounted(t)
	r.silent = nil
	var left []time.Duration
	r.renewer.cfg.Extended = func(d time.Duration) { left = append(left, d) }
	before := r.fence.deadline.Load()
	r.before = func() { r.fence.Extend(c.round.Sent.Add(countedLength)) } // the kernel is first
	r.renew()
	if len(left) != 1 || left[0] != lease.Instant(before).Sub(r.now) {
		t.Errorf("left of the lease %v, want once %v", left, lease.Instant(before).Sub(r.now))
	}
}
