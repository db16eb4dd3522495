package membership

import (
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
)

// heartbeatPart is which part of the heartbeat time-out lies between two heartbeats at least.
// hashicorp/raft sends one each tenth to fifth of it, and each wakes both hosts. shortPart is that
// part where a lease ends long before the time-out: the silence that shows who stands that the leader
// is gone (deaf) would come later than the end of its lease.
const (
	heartbeatPart = 3
	shortPart     = 5
)

// heartbeatEvery is the time between two heartbeats, for a time-out and the lease of the cluster (0: unknown).
func heartbeatEvery(timeout, lease time.Duration) time.Duration {
	// The leader was last heard a renewal, a fifth of the lease, before it was gone, at most.
	if lease > 0 && lease*4/5 < deaf(timeout/heartbeatPart) {
		return timeout / shortPart
	}
	return timeout / heartbeatPart
}

// pacedHeartbeats is Raft's transport with fewer heartbeats. Those of a new term, and all that
// says something, go at once. The others go to all servers at the same instants, so that this
// process wakes once for all of them.
type pacedHeartbeats struct {
	votingTransport
	done   <-chan struct{}
	origin time.Time // of the instants

	mu    sync.Mutex
	every time.Duration
	anew  chan struct{}               // closed when every becomes another one
	last  map[raft.ServerID]heartbeat // at most fsm.MaxNodes, and those sent to a moment ago
}

type heartbeat struct {
	term uint64
	at   time.Time
}

func newPacedHeartbeats(t votingTransport, every time.Duration, done <-chan struct{}) *pacedHeartbeats {
	return &pacedHeartbeats{votingTransport: t, every: every, anew: make(chan struct{}), done: done, last: map[raft.ServerID]heartbeat{}, origin: time.Now()}
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
	for p.wait(id, term) {
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.last) >= fsm.MaxNodes { // an older one holds nothing up any more
		maps.DeleteFunc(p.last, func(_ raft.ServerID, h heartbeat) bool { return time.Since(h.at) >= p.every })
	}
	p.last[id] = heartbeat{term, time.Now()}
}

// wait waits until a heartbeat is due; true: its time has changed meanwhile.
func (p *pacedHeartbeats) wait(id raft.ServerID, term uint64) (again bool) {
	p.mu.Lock()
	last, every, anew := p.last[id], p.every, p.anew
	p.mu.Unlock()
	wait := p.untilDue(last.at, every)
	if last.term != term || wait <= 0 {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-anew:
		return true
	case <-timer.C:
	case <-p.done:
	}
	return false
}

// interval is the time between two heartbeats.
func (p *pacedHeartbeats) interval() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.every
}

// follow takes another time between two heartbeats.
func (p *pacedHeartbeats) follow(every time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.every = every
	close(p.anew)
	p.anew = make(chan struct{})
}

// untilDue is how long until the heartbeat after one at last: at the last of the common instants that
// is not more than every after it.
func (p *pacedHeartbeats) untilDue(last time.Time, every time.Duration) time.Duration {
	due := last.Add(every)
	if every > 0 {
		due = due.Add(-(due.Sub(p.origin) % every))
	}
	return time.Until(due)
}
