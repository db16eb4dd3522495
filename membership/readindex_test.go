package membership

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/testbed/labtest"
)

// electorate is a readRounds of a leader of term 7 among servers that answer as a test says.
type electorate struct {
	readRounds
	asked atomic.Int64
}

func newElectorate(answer func(to raft.ServerID) (uint64, error), servers ...raft.Server) *electorate {
	e := &electorate{}
	e.readRounds = readRounds{
		self: "self", limit: 10 * time.Second, lanes: map[raft.ServerID]*readLane{},
		voters: func() []raft.Server { return append(servers, raft.Server{ID: "self"}) },
		holds:  func(term uint64) bool { return term == 7 },
		ask: func(to raft.Server, _ uint64) (uint64, error) {
			e.asked.Add(1)
			return answer(to.ID)
		},
	}
	return e
}

var (
	errDown  = errors.New("connection refused")
	yes, no  = func() (uint64, error) { return 7, nil }, func() (uint64, error) { return 0, errDown }
	hangs    = func() (uint64, error) { time.Sleep(time.Hour); return 0, errDown }
	nextTerm = func() (uint64, error) { return 8, nil }
)

// TestAReadIsConfirmedByAMajorityOfVoters: of the voters, by the latest configuration, in this term.
func TestAReadIsConfirmedByAMajorityOfVoters(t *testing.T) {
	type answer = func() (uint64, error)
	voter := func(id raft.ServerID) raft.Server { return raft.Server{ID: id} }
	replica := func(id raft.ServerID) raft.Server { return raft.Server{ID: id, Suffrage: raft.Nonvoter} }
	for name, row := range map[string]struct {
		servers []raft.Server
		answers map[raft.ServerID]answer
		want    error
	}{
		"alone":                             {nil, nil, nil},
		"one of two":                        {[]raft.Server{voter("b"), voter("c")}, map[raft.ServerID]answer{"b": yes, "c": no}, nil},
		"one hangs":                         {[]raft.Server{voter("b"), voter("c")}, map[raft.ServerID]answer{"b": hangs, "c": yes}, nil},
		"none of two":                       {[]raft.Server{voter("b"), voter("c")}, map[raft.ServerID]answer{"b": no, "c": no}, errNoMajority},
		"the only other one is down":        {[]raft.Server{voter("b")}, map[raft.ServerID]answer{"b": no}, errNoMajority},
		"replicas do not count":             {[]raft.Server{voter("b"), voter("c"), replica("d"), replica("e")}, map[raft.ServerID]answer{"b": no, "c": no, "d": yes, "e": yes}, errNoMajority},
		"a newer term does not count":       {[]raft.Server{voter("b"), voter("c")}, map[raft.ServerID]answer{"b": nextTerm, "c": no}, errNoMajority},
		"nobody answers in time":            {[]raft.Server{voter("b"), voter("c")}, map[raft.ServerID]answer{"b": hangs, "c": hangs}, errNoMajority},
		"one of four is less than majority": {[]raft.Server{voter("b"), voter("c"), voter("d"), voter("e")}, map[raft.ServerID]answer{"b": yes, "c": no, "d": no, "e": no}, errNoMajority},
	} {
		t.Run(name, func(t *testing.T) {
			labtest.Bubble(t, func(t *testing.T) {
				defer time.Sleep(2 * time.Hour) // until the last question has ended
				e := newElectorate(func(to raft.ServerID) (uint64, error) { return row.answers[to]() }, row.servers...)
				if err := e.confirm(t.Context(), 7); !errors.Is(err, row.want) {
					t.Errorf("got %v, want %v", err, row.want)
				}
			})
		})
	}
}

// TestADeposedLeaderConfirmsNothing: it may have voted for the next one itself, so that the answers
// of the others are no majority without that one.
func TestADeposedLeaderConfirmsNothing(t *testing.T) {
	e := newElectorate(func(raft.ServerID) (uint64, error) { return yes() }, raft.Server{ID: "b"}, raft.Server{ID: "c"})
	e.holds = func(uint64) bool { return false }
	if err := e.confirm(t.Context(), 7); err == nil {
		t.Error("a read is confirmed by a node that is in another term")
	}
}

// TestReadsShareRounds: a thousand reads at once are two questions, and one that comes while a
// question is on its way is not answered by it.
func TestReadsShareRounds(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		e := newElectorate(func(raft.ServerID) (uint64, error) { time.Sleep(time.Millisecond); return yes() }, raft.Server{ID: "b"}, raft.Server{ID: "c"})
		start := time.Now()
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				if err := e.confirm(t.Context(), 7); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took != 2*time.Millisecond {
			t.Errorf("took %s", took)
		}
		time.Sleep(time.Second) // the slower voter of the last round
		if n := e.asked.Load(); n != 4 {
			t.Errorf("%d questions to two voters", n)
		}
		begin := time.Now()
		all.Go(func() { _ = e.confirm(t.Context(), 7) })
		time.Sleep(time.Millisecond / 2)
		all.Go(func() {
			if err := e.confirm(t.Context(), 7); err != nil || time.Since(begin) != 2*time.Millisecond {
				t.Errorf("the second reader has %v after %s", err, time.Since(begin))
			}
		})
		all.Wait()
	})
}

// TestAReadEndsWithItsContext: also when nobody ever answers; and a voter that hangs is asked once.
func TestAReadEndsWithItsContext(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		defer time.Sleep(3 * time.Hour) // until the last question has ended
		e := newElectorate(func(raft.ServerID) (uint64, error) { return hangs() }, raft.Server{ID: "b"}, raft.Server{ID: "c"})
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := e.confirm(ctx, 7); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			cancel()
		}
		if n := e.asked.Load(); n != 2 {
			t.Errorf("%d questions are on their way to two voters", n)
		}
	})
}
