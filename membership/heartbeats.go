package membership

import (
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
)

// heartbeatPart is which part of the heartbeat time-out lies between two heartbeats at least.
// hashicorp/raft sends one each tenth to fifth of it, and each wakes both hosts.
const heartbeatPart = 4

// pacedHeartbeats is Raft's transport with fewer heartbeats. Those of a new term, and all that
// says something, go at once.
type pacedHeartbeats struct {
	votingTransport
	every time.Duration
	done  <-chan struct{}

	mu   sync.Mutex
	last map[raft.ServerID]heartbeat // at most fsm.MaxNodes, and those sent to a moment ago
}

type heartbeat struct {
	term uint64
	at   time.Time
}

func newPacedHeartbeats(t votingTransport, timeout time.Duration, done <-chan struct{}) *pacedHeartbeats {
	return &pacedHeartbeats{votingTransport: t, every: timeout / heartbeatPart, done: done, last: map[raft.ServerID]heartbeat{}}
}

// AppendEntries implements raft.Transport.
func (p *pacedHeartbeats) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if isHeartbeat(req) {
		p.pace(id, req.Term)
	}
	return p.votingTransport.AppendEntries(id, to, req, resp)
}

// pace waits until a heartbeat is due, and notes it.
func (p *pacedHeartbeats) pace(id raft.ServerID, term uint64) {
	p.mu.Lock()
	last := p.last[id]
	p.mu.Unlock()
	if wait := p.every - time.Since(last.at); last.term == term && wait > 0 {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.done:
			timer.Stop()
		}
	}
	p.mu.Lock()
	if len(p.last) >= fsm.MaxNodes { // an older one holds nothing up any more
		maps.DeleteFunc(p.last, func(_ raft.ServerID, h heartbeat) bool { return time.Since(h.at) >= p.every })
	}
	p.last[id] = heartbeat{term, time.Now()}
	p.mu.Unlock()
}
