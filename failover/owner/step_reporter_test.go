package owner

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
	"havip-cluster/testbed/labtest"
)

// led is a Log that node A leads, in a state that a test changes.
type led struct {
	ports.Log
	state       atomic.Pointer[fsm.State]
	leaderSince time.Time
}

func (l *led) State() *fsm.State { return l.state.Load() }

func (l *led) LeaderID() string {
	if time.Now().Before(l.leaderSince) {
		return ""
	}
	return "A"
}

// What the new owner did is told until the log has the timeline: the leader may be cut off for a second,
// or be another one by then. It is never told for longer than a leader waits.
func TestStepsAreToldUntilTheLogHasThem(t *testing.T) {
	for name, row := range map[string]struct {
		recordedAfter time.Duration // 0: never
		before        bool          // an earlier HAVIP of that name had such a timeline
		leaderless    time.Duration // from the start
		want          []time.Duration
	}{
		"at once":           {recordedAfter: 50 * time.Millisecond, want: []time.Duration{0}},
		"in a second":       {recordedAfter: time.Second, want: []time.Duration{0, 100, 300, 700}},
		"never":             {want: []time.Duration{0, 100, 300, 700, 1500, 2300}},
		"of an earlier one": {before: true, want: []time.Duration{0, 100, 300, 700, 1500, 2300}},
		"no leader":         {leaderless: 3 * time.Second, recordedAfter: 3150 * time.Millisecond, want: []time.Duration{3000, 3100}},
		"never a leader":    {leaderless: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			labtest.Bubble(t, func(t *testing.T) {
				var got []time.Duration // in ms; only of the stepReporter's goroutine until it has ended
				log, start := new(led), time.Now()
				log.leaderSince = start.Add(row.leaderless)
				log.state.Store(newStage(3).head())
				v := log.State().HAVIPList()[0]
				told := func() {
					s := *log.State()
					s.Failovers = append(slices.Clone(s.Failovers), fsm.Failover{HAVIP: v.Name, Epoch: v.Epoch})
					log.state.Store(&s)
				}
				if row.before {
					told()
				}
				mail := wire.NewMail(wire.Config{Node: "A", Log: log}, func(m wire.Message) {
					if m.Steps != nil {
						got = append(got, time.Since(start)/time.Millisecond)
					}
				})
				n := newStepReporter(Config{Node: "A", Log: log, Mail: mail, Clock: func() lease.Instant { return lease.Instant(time.Now().UnixNano()) }})
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); n.run(ctx) }()
				n.queue <- stepReport{message: wire.StepsMessage{HAVIP: v.ID, Epoch: v.Epoch}}
				if row.recordedAfter > 0 {
					time.Sleep(row.recordedAfter)
					told()
				}
				time.Sleep(20 * time.Second)
				stop()
				<-done
				if !slices.Equal(got, row.want) {
					t.Errorf("told after %d ms, want %d", got, row.want)
				}
			})
		})
	}
}
