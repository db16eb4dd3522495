package shell

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// slowLog takes its time for each opening, which then is in the state at once.
type slowLog struct {
	still
	now   lease.Instant
	takes time.Duration
	asked []fsm.OpenSession
	old   bool // what was on disk at the start is not applied yet
}

func (l *slowLog) CaughtUp() bool { return !l.old }

func (l *slowLog) submit(_ context.Context, body fsm.Body) (fsm.Result, error) {
	b := body.(fsm.OpenSession)
	l.asked = append(l.asked, b)
	l.now = l.now.Add(l.takes)
	s := *l.state
	s.Index++
	n := s.Nodes[b.Node]
	n.LastSession = s.Index
	s.Nodes = map[string]fsm.Node{b.Node: n}
	s.Sessions = map[uint64]fsm.Session{s.Index: {Number: s.Index, Node: b.Node, Attempt: b.Attempt, Lease: max(s.Cluster.Lease, b.Lease)}}
	l.state = &s
	return fsm.Result{}, nil
}

// keeper begins what is not over.
type keeper struct {
	Leaseholder
	log *slowLog
}

func (k keeper) Begin(_ lease.Session, sent lease.Instant, length time.Duration) bool {
	return k.log.now.Before(sent.Add(length))
}

type clean struct{ Owner }

func (clean) Guarded() uint64 { return 0 }
func (clean) Wake()           {}

// TestALogSlowerThanALease: a session is asked for with a first lease as long as the log needs, and with that of
// the cluster as soon as the log is quick again. A session that came too late is this process's own.
func TestALogSlowerThanALease(t *testing.T) {
	const length = 20 * time.Millisecond
	for _, level := range []int{3, 4} {
		l := &slowLog{now: lease.Instant(time.Hour)}
		l.state = fsm.New()
		l.state.Cluster.Lease, l.state.Cluster.LeaseMax, l.state.Cluster.Level = length, length, level
		l.state.Nodes = map[string]fsm.Node{"n-1": {ID: "n-1"}}
		c := NewSessionClient(Config{
			Node: "n-1", Log: l, Clock: func() lease.Instant { return l.now }, Logger: slog.New(slog.DiscardHandler), Lease: length, Submit: l.submit,
		}, clean{}, keeper{log: l})
		for i, step := range []struct {
			takes, asks time.Duration
			opens       bool // from level 4 on
		}{
			{10 * time.Millisecond, 0, true},
			{30 * time.Millisecond, 0, false},
			{50 * time.Millisecond, 60 * time.Millisecond, true},
			{50*time.Millisecond + 1, 100 * time.Millisecond, true},
			{200 * time.Millisecond, 101 * time.Millisecond, false},
			{2 * time.Second, 400 * time.Millisecond, false},
			{499 * time.Millisecond, 500 * time.Millisecond, true}, // limits.OpeningLongest
			{time.Millisecond, 500 * time.Millisecond, true},
			{time.Millisecond, 0, true},
		} {
			l.takes = step.takes
			opened, err := c.open(t.Context())
			if level < 4 {
				step.asks, step.opens = 0, step.takes < length
			}
			last := l.asked[len(l.asked)-1]
			if err != nil || opened != step.opens || last.Lease != step.asks {
				t.Errorf("level %d, step %d: asks for %v, opened %t, %v; want %v, %t", level, i, last.Lease, opened, err, step.asks, step.opens)
			}
			if i > 0 && last.Held != l.asked[len(l.asked)-2].Attempt {
				t.Errorf("level %d, step %d: the session before is somebody else's", level, i)
			}
		}
	}
}

// TestAWaitIsToldOnce: a node for which no leader has a word says so after a while, once; before, it said nothing at all.
func TestAWaitIsToldOnce(t *testing.T) {
	for _, known := range []bool{false, true} {
		var logs bytes.Buffer
		l := &slowLog{now: lease.Instant(time.Hour)}
		l.state = fsm.New()
		l.state.Cluster.Lease = time.Second
		if known {
			l.state.Nodes = map[string]fsm.Node{"n-1": {ID: "n-1"}}
		}
		nobody := errors.New("nobody leads")
		answer := func(context.Context, fsm.Body) (fsm.Result, error) { return fsm.Result{}, nobody }
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // nothing is waited for in the log
		c := NewSessionClient(Config{
			Node: "n-1", Log: l, Clock: func() lease.Instant { return l.now }, Logger: slog.New(slog.NewTextHandler(&logs, nil)), Lease: time.Second, Submit: answer,
		}, clean{}, keeper{log: l})
		for after, lines := range []int{0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1} {
			if opened, err := c.open(ctx); opened || err != nil {
				t.Fatal(opened, err)
			}
			if n := strings.Count(logs.String(), "no session yet"); n != lines {
				t.Errorf("known %t: %d lines after %d s:\n%s", known, n, after, &logs)
			}
			l.now = l.now.Add(time.Second)
		}
	}
}

// TestNoSessionByAnOldState: while a node reads its log again it asks for nothing. It asked again and again, each time by
// the last session that it had come to, and logged each refusal.
func TestNoSessionByAnOldState(t *testing.T) {
	l := &slowLog{now: lease.Instant(time.Hour), old: true}
	l.state = fsm.New()
	l.state.Cluster.Lease = time.Second
	l.state.Nodes = map[string]fsm.Node{"n-1": {ID: "n-1"}}
	c := NewSessionClient(Config{
		Node: "n-1", Log: l, Clock: func() lease.Instant { return l.now }, Logger: slog.New(slog.DiscardHandler), Lease: time.Second, Submit: l.submit,
	}, clean{}, keeper{log: l})
	for _, old := range []bool{true, false} {
		l.old = old
		if opened, err := c.open(t.Context()); err != nil || opened == old || len(l.asked) > 0 == old {
			t.Errorf("old %t: opened %t, %v, asked %d times", old, opened, err, len(l.asked))
		}
	}
}
