package membership

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	patienceSpan = 20 // heartbeat time-outs for which an election is remembered
	patienceMax  = 8  // times the ordinary limit
)

// writePatience is how long a leader's write may take: one heartbeat time-out, and one more for
// each election of late. Where every voter's disk is slow, each new leader would else give up
// as the one before it, and nobody would lead for long enough to do anything.
type writePatience struct {
	mu        sync.Mutex
	heartbeat time.Duration
	elections []time.Time // the last ones, at most patienceMax
}

func (p *writePatience) elected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.elections = append(p.elections, time.Now())
	p.elections = p.elections[max(0, len(p.elections)-patienceMax):]
}

// follow takes another heartbeat time-out.
func (p *writePatience) follow(heartbeat time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heartbeat = heartbeat
}

func (p *writePatience) limit() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	times := 1
	for _, at := range p.elections {
		if time.Since(at) < patienceSpan*p.heartbeat {
			times++
		}
	}
	return time.Duration(min(times, patienceMax)) * p.heartbeat
}

// callElection asks another voter to stand for election at once, as Raft's own transfer
// of leadership does (Raft dissertation, section 3.10). That one needs the leader's main
// loop, which the hanging write holds until the guard lets go, and by then this node leads
// no more; without the call the others would wait for their heartbeat timeouts. Whoever
// stands wins only if its log is good enough, so asking the wrong one costs time alone.
func (n *Node) callElection() {
	for _, s := range n.Servers() {
		if s.Suffrage != raft.Voter || string(s.ID) == n.cfg.Node {
			continue
		}
		answered := make(chan error, 1)
		go func() { // ends with the transport's own limit
			req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
				ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.cfg.Node), Addr: n.parts.Transport.EncodePeer(raft.ServerID(n.cfg.Node), n.parts.Transport.LocalAddr()),
			}}
			answered <- n.parts.Transport.TimeoutNow(s.ID, s.Address, req, &raft.TimeoutNowResponse{})
		}()
		select {
		case err := <-answered:
			if err == nil {
				n.cfg.Logger.Warn("the disk does not take the log's writes: another voter was asked to lead", "node", s.ID)
				return
			}
		case <-time.After(n.cfg.Heartbeat / 2): // it may be down; two candidates at one time are no harm
		case <-n.done:
			return
		}
	}
}
