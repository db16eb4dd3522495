package membership

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// tellAgain is the first pause before a server that has not got an entry yet, or is not reached, is told
	// again; twice as long each time, tellTries times: 2 s in all. Raft's own next message tells who is further behind.
	tellAgain = 2 * time.Millisecond
	tellTries = 10
)

// committed is an entry of this node's term as its leader, and known to be committed.
type committed struct{ term, index uint64 }

// commitNotifier tells the other servers what is committed, at once.
//
// In hashicorp/raft a follower learns of a commit with the next message (v1.8.0, replication.go). The
// word is what Raft itself says when nothing new is to be appended: no entries, the entry before them,
// and the commit index, which are one and the same here. By log matching a server that has that entry
// has all before it, so it may commit up to there and no further; one that has not got it refuses.
// Nothing is written for it, on no disk.
type commitNotifier struct {
	self    raft.ServerID
	servers func() []raft.Server
	// say sends one word; taken: the server has the entry.
	say func(to raft.Server, c committed) (taken bool, err error)
	// push has Raft send what is missing: of itself it does so with the next entry, or after CommitTimeout. What
	// waited for the server's return (absentPeers) is on its way already.
	push func()
	done <-chan struct{}

	mu    sync.Mutex
	lanes map[raft.ServerID]*tellLane // those on which a word is under way, at most one for each server
}

// tellLane is the way to one server.
type tellLane struct {
	want committed // the newest; zero: nothing is wanted after the present word
	back bool      // the server was away: what it missed is pushed, once
}

// tell says that an entry is committed, and so are those before it.
func (t *commitNotifier) tell(c committed) {
	for _, s := range t.servers() {
		if s.ID != t.self {
			t.tellServer(s, c, false)
		}
	}
}

// tellServer is tell for one server; back: it answers again after it did not.
func (t *commitNotifier) tellServer(s raft.Server, c committed, back bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if lane := t.lanes[s.ID]; lane != nil {
		lane.want, lane.back = c, lane.back || back
		return
	}
	lane := &tellLane{want: c, back: back}
	t.lanes[s.ID] = lane
	go t.travel(lane, s) // ends with the transport's own limit
}

// travel says what is wanted on a lane, until nothing is.
func (t *commitNotifier) travel(lane *tellLane, to raft.Server) {
	pause, tries := tellAgain, 0
	for {
		t.mu.Lock()
		c := lane.want
		if lane.want = (committed{}); c.index == 0 {
			delete(t.lanes, to.ID)
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
		taken, err := t.say(to, c) // an error is like a refusal: the next try is on another connection
		if taken {
			pause, tries = tellAgain, 0
			continue
		}
		if err == nil && t.missed(lane) {
			t.push()
		}
		if tries++; tries > tellTries {
			tries, pause = 0, tellAgain
			continue
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-t.done:
			return
		}
		t.mu.Lock()
		if lane.want.index == 0 {
			lane.want = c
		}
		t.mu.Unlock()
	}
}

// missed reports, once, whether the server of a lane is back from somewhere.
func (t *commitNotifier) missed(lane *tellLane) (back bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	back, lane.back = lane.back, false
	return back
}

// newCommitNotifier speaks over a transport, past the pace of Raft's own heartbeats.
func newCommitNotifier(self string, protocol raft.ProtocolVersion, trans raft.Transport, done <-chan struct{}) *commitNotifier {
	id := raft.ServerID(self)
	address := trans.EncodePeer(id, trans.LocalAddr())
	return &commitNotifier{
		self: id, done: done, lanes: map[raft.ServerID]*tellLane{}, push: func() {},
		say: func(to raft.Server, c committed) (bool, error) {
			req := raft.AppendEntriesRequest{
				RPCHeader: raft.RPCHeader{ProtocolVersion: protocol, ID: []byte(self), Addr: address},
				Term:      c.term,
				//lint:ignore SA1019 Raft sends it, and the doors of the others look at it
				Leader:       address,
				PrevLogEntry: c.index, PrevLogTerm: c.term, LeaderCommitIndex: c.index,
			}
			var resp raft.AppendEntriesResponse
			err := trans.AppendEntries(to.ID, to.Address, &req, &resp)
			return resp.Success || resp.Term > c.term, err // of a newer term: this one is over
		},
	}
}
