package membership

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
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

// Heartbeats to one server leave a quarter of the time-out apart; the first of a term, those to
// another server, and what is no heartbeat do not wait.
func TestHeartbeatsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &sentAt{from: time.Now()}
		done := make(chan struct{})
		p := newPacedHeartbeats(wire, 400*time.Millisecond, done)
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
