package membership

import (
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/testbed/labtest"
)

// sentAt is a transport that notes when each request left.
type sentAt struct {
	votingTransport
	mu   sync.Mutex
	when []time.Duration
	from time.Time
}

func (s *sentAt) AppendEntries(raft.ServerID, raft.ServerAddress, *raft.AppendEntriesRequest, *raft.AppendEntriesResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.when = append(s.when, time.Since(s.from))
	return nil
}

// Heartbeats to one server leave a third of the time-out apart; the first of a term, those to
// another server, and what is no heartbeat do not wait.
func TestHeartbeatsArePaced(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		wire := &sentAt{from: time.Now()}
		done := make(chan struct{})
		p := newPacedHeartbeats(wire, 100*time.Millisecond, done)
		send := func(id raft.ServerID, req raft.AppendEntriesRequest) time.Duration {
			t.Helper()
			check(t, p.AppendEntries(id, "", &req, nil))
			return wire.when[len(wire.when)-1].Round(time.Millisecond)
		}
		for i, row := range []struct {
			id   raft.ServerID
			req  raft.AppendEntriesRequest
			want time.Duration
		}{
			{"a", raft.AppendEntriesRequest{Term: 1}, 0},
			{"b", raft.AppendEntriesRequest{Term: 1}, 0},
			{"a", raft.AppendEntriesRequest{Term: 1}, 100 * time.Millisecond},
			{"a", raft.AppendEntriesRequest{Term: 1, LeaderCommitIndex: 3}, 100 * time.Millisecond},
			{"a", raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 3}, 100 * time.Millisecond},
			{"a", raft.AppendEntriesRequest{Term: 2}, 100 * time.Millisecond},
			{"a", raft.AppendEntriesRequest{Term: 2}, 200 * time.Millisecond},
			{"b", raft.AppendEntriesRequest{Term: 1}, 200 * time.Millisecond}, // it was long ago
		} {
			if got := send(row.id, row.req); got != row.want {
				t.Errorf("%d: left at %v, want %v", i, got, row.want)
			}
		}
		close(done)
		if got := send("a", raft.AppendEntriesRequest{Term: 2}); got != 200*time.Millisecond {
			t.Errorf("at the end it waits until %v", got)
		}
	})
}

// Raft asks for heartbeats to each server at moments of its own: they leave together.
func TestHeartbeatsToAllLeaveTogether(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		wire := map[raft.ServerID]*sentAt{"a": {from: time.Now()}, "b": {from: time.Now()}}
		p := newPacedHeartbeats(nil, 100*time.Millisecond, t.Context().Done())
		var both sync.WaitGroup
		for id, pause := range map[raft.ServerID]time.Duration{"a": 40 * time.Millisecond, "b": 70 * time.Millisecond} {
			own := &pacedHeartbeats{done: p.done, every: p.every, anew: p.anew, last: map[raft.ServerID]heartbeat{}, origin: p.origin}
			own.votingTransport = wire[id]
			both.Go(func() {
				for range 9 {
					check(t, own.AppendEntries(id, "", &raft.AppendEntriesRequest{Term: 1}, nil))
					time.Sleep(pause)
				}
			})
		}
		both.Wait()
		for id, w := range wire {
			for i, at := range w.when {
				if want := time.Duration(i) * 100 * time.Millisecond; at != want {
					t.Errorf("heartbeat %d to %s left at %v, want %v", i, id, at, want)
				}
			}
		}
		// One that was late brings the next one nearer: never more than a third of the time-out apart.
		time.Sleep(130 * time.Millisecond)
		start := time.Now()
		late := &pacedHeartbeats{done: p.done, every: p.every, anew: p.anew, last: map[raft.ServerID]heartbeat{}, origin: p.origin}
		late.votingTransport = wire["a"]
		for range 2 {
			check(t, late.AppendEntries("a", "", &raft.AppendEntriesRequest{Term: 1}, nil))
		}
		if took := time.Since(start); took <= 0 || took > 100*time.Millisecond {
			t.Errorf("the heartbeat after a late one left %v later", took)
		}
	})
}
