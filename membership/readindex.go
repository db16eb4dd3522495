package membership

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/internal/shared"
)

// errNoMajority says that fewer than a majority of the voters take this node for the leader.
var errNoMajority = errors.New("no majority of the voters answers")

// ReadIndex returns an index: a state that has it holds everything that was acknowledged
// before the call. Nothing is written for it (Raft dissertation, 6.4): this node leads and is up
// to date, so its state holds what was acknowledged, and a majority of the voters still takes it
// for the leader of its term, so nobody else has acknowledged anything since.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	term, leads := n.Leading()
	if err := n.mayLead(); err != nil || !leads {
		return 0, errors.Join(err, ErrNotLeader)
	}
	index := n.State().Index
	if err := n.reads.confirm(ctx, term); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return index, n.Halted()
}

// readRounds asks the voters whether this node still leads. Who asks
// together shares a round; one is under way at most, with one request to each voter.
//
// Raft's VerifyLeader would not do: it counts the answers of non-voters as well, and its
// heartbeats wait for their pace.
type readRounds struct {
	self   raft.ServerID
	voters func() []raft.Server
	// holds reports whether this node itself is in a term as its leader. Raft's own word: Leading
	// learns of an end a moment later, when this node may have voted for another one.
	holds func(term uint64) bool
	// ask sends one heartbeat of a term, and returns the term of a voter that takes it.
	ask   func(to raft.Server, term uint64) (taken uint64, err error)
	calls shared.Call[struct{}]

	mu sync.Mutex
	// limit is how long a round may take: the next one asks those who came back meanwhile.
	limit time.Duration
	lanes map[raft.ServerID]*readLane // those on which a request is under way
}

// readRound is one question to all voters.
type readRound struct {
	term    uint64
	answers chan error // room for all
}

// readLane is the way to one voter.
type readLane struct {
	want *readRound // asked for when the present request has ended
}

// confirm returns nil when a majority has said after the call that this node leads in a term. Who shares
// the round of an older term hears that it is over.
func (q *readRounds) confirm(ctx context.Context, term uint64) error {
	_, err := q.calls.Do(ctx, func() (struct{}, error) { return struct{}{}, q.play(term) })
	return err
}

// play asks all voters, and returns nil when a majority of them agrees.
func (q *readRounds) play(term uint64) error {
	var others []raft.Server
	voters, agree := 0, 0
	for _, s := range q.voters() {
		switch {
		case s.Suffrage != raft.Voter:
			continue
		case s.ID != q.self:
			others = append(others, s)
		case !q.holds(term):
			return fmt.Errorf("term %d is over", term)
		default:
			agree++
		}
		voters++
	}
	r := &readRound{term, make(chan error, len(others))}
	for _, s := range others {
		q.send(r, s)
	}
	var last error
	q.mu.Lock()
	limit := q.limit
	q.mu.Unlock()
	late := time.NewTimer(limit)
	defer late.Stop()
	for waiting := len(others); agree <= voters/2; waiting-- {
		if waiting == 0 {
			return errors.Join(errNoMajority, last)
		}
		select {
		case err := <-r.answers:
			if err == nil {
				agree++
			} else {
				last = err
			}
		case <-late.C:
			return fmt.Errorf("%w within %s", errNoMajority, limit)
		}
	}
	return nil
}

// follow takes another heartbeat time-out.
func (q *readRounds) follow(limit time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limit = limit
}

// send asks one voter, after the request that is on its way there. A request that began before
// the round proves nothing about it.
func (q *readRounds) send(r *readRound, to raft.Server) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lane := q.lanes[to.ID]
	if lane != nil {
		lane.want = r
		return
	}
	lane = &readLane{want: r}
	q.lanes[to.ID] = lane
	go q.travel(lane, to)
}

// travel sends what is wanted on a lane, until nothing is.
func (q *readRounds) travel(lane *readLane, to raft.Server) {
	for {
		q.mu.Lock()
		r := lane.want
		if lane.want = nil; r == nil {
			delete(q.lanes, to.ID)
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		term, err := q.ask(to, r.term)
		if err == nil && term != r.term {
			err = fmt.Errorf("%s is in term %d", to.ID, term)
		}
		r.answers <- err
	}
}

// newReadRounds asks over a transport, past the pace of Raft's own heartbeats.
func newReadRounds(self string, protocol raft.ProtocolVersion, trans raft.Transport, limit time.Duration) *readRounds {
	id := raft.ServerID(self)
	address := trans.EncodePeer(id, trans.LocalAddr())
	return &readRounds{
		self: id, limit: limit, lanes: map[raft.ServerID]*readLane{},
		ask: func(to raft.Server, term uint64) (uint64, error) {
			// What Raft itself sends as a heartbeat, and answers without a look at its log.
			req := raft.AppendEntriesRequest{
				RPCHeader: raft.RPCHeader{ProtocolVersion: protocol, ID: []byte(self), Addr: address},
				Term:      term,
				//lint:ignore SA1019 Raft sends it, and the doors of the others look at it
				Leader: address,
			}
			var resp raft.AppendEntriesResponse
			if err := trans.AppendEntries(to.ID, to.Address, &req, &resp); err != nil {
				return 0, err
			}
			if !resp.Success {
				return 0, fmt.Errorf("%s refuses term %d: it is in term %d", to.ID, term, resp.Term)
			}
			return resp.Term, nil
		},
	}
}
