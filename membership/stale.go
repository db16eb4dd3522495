package membership

import (
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// freshOnly is Raft's transport without what the node has committed already: snapshots, and
// the beginning of appended entries.
//
// hashicorp/raft installs whatever snapshot comes (v1.8.0, raft.go, installSnapshot): one
// that was under way while its receiver was stopped, and is read after newer entries, takes
// the state and the voters back to an earlier time. The leader is told the truth instead:
// the node holds all that the snapshot has. What the leader then appends follows on the
// snapshot, where the node's log may have a gap that its own snapshot fills, and raft would
// refuse it for want of the entry before; so what is committed is cut off. That is the same
// in every leader's log (Raft, figure 3: leader completeness).
//
// It hands Raft one request at a time, because a request before the snapshot may be the one
// that commits what is newer. Heartbeats, which Raft takes past its queue, are not held up.
type freshOnly struct {
	votingTransport
	pace *pacedHeartbeats
	held func() (term, index uint64) // Raft's term, and the last index that it knows as committed
	// entry is the term of an entry in this node's log; false: it is not there.
	entry  func(index uint64) (term uint64, ok bool)
	still  func(raft.RPC) error // an error for a request whose sender lost the right to it while it waited
	settle func() error         // writes what an answer relies on (ballot)
	rpcs   chan raft.RPC
	done   <-chan struct{}
}

type votingTransport interface {
	raft.Transport
	raft.WithPreVote
}

// newFreshOnly returns t without stale snapshots, and with heartbeats so far apart; run has to be going until done is closed.
func newFreshOnly(t raft.Transport, every time.Duration, held func() (term, index uint64), done <-chan struct{}) (*freshOnly, error) {
	v, ok := t.(votingTransport)
	if !ok {
		return nil, fmt.Errorf("membership: the transport %T knows no pre-vote", t)
	}
	anybody := func(raft.RPC) error { return nil }
	nothing := func(uint64) (uint64, bool) { return 0, false }
	pace := newPacedHeartbeats(v, every, done)
	return &freshOnly{votingTransport: pace, pace: pace, held: held, entry: nothing, still: anybody, settle: func() error { return nil }, rpcs: make(chan raft.RPC), done: done}, nil
}

// Consumer implements raft.Transport.
func (f *freshOnly) Consumer() <-chan raft.RPC { return f.rpcs }

func (f *freshOnly) run() {
	in := f.votingTransport.Consumer()
	for {
		select {
		case <-f.done:
			return
		case rpc := <-in:
			if err := f.still(rpc); err != nil {
				rpc.Respond(nil, err)
				continue
			}
			switch req := rpc.Command.(type) {
			case *raft.InstallSnapshotRequest:
				if f.stale(rpc, req) {
					continue
				}
			case *raft.AppendEntriesRequest:
				rest, done := f.cut(req)
				if done {
					rpc.Respond(&raft.AppendEntriesResponse{Term: req.Term, LastLog: req.Entries[len(req.Entries)-1].Index, Success: true}, nil)
					continue
				}
				rpc.Command = rest
			}
			f.pass(rpc)
		}
	}
}

// stale answers a snapshot that has nothing new.
func (f *freshOnly) stale(rpc raft.RPC, req *raft.InstallSnapshotRequest) bool {
	term, index := f.held()
	if req.Term < term || req.LastLogIndex > index {
		return false // Raft's to refuse, or to install
	}
	go func() { // ends with the connection, if the rest does not come
		_, err := io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(&raft.InstallSnapshotResponse{Term: req.Term, Success: true}, err)
	}()
	return true
}

// cut returns what of a request is not committed here yet; done says that nothing is left.
func (f *freshOnly) cut(req *raft.AppendEntriesRequest) (rest *raft.AppendEntriesRequest, done bool) {
	term, index := f.held()
	if len(req.Entries) == 0 || req.PrevLogEntry > index || req.Term < term {
		return req, false
	}
	known := index - req.PrevLogEntry // entries; they follow one another
	if known > uint64(len(req.Entries)) {
		return nil, true
	}
	short := *req
	if known > 0 {
		short = after(short, known)
	}
	return f.skip(short), false
}

// after is a request without its first n entries.
func after(req raft.AppendEntriesRequest, n uint64) raft.AppendEntriesRequest {
	req.PrevLogEntry, req.PrevLogTerm = req.PrevLogEntry+n, req.Entries[n-1].Term
	req.Entries = req.Entries[n:]
	return req
}

// skip leaves out what this node's log has already, where the entry before is in its snapshot
// only. Raft compares that one with its log alone (v1.8.0, appendEntries) unless it is the last
// one of all, so a node whose log goes on behind its snapshot would refuse what fits, for ever.
func (f *freshOnly) skip(req raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	if _, there := f.entry(req.PrevLogEntry); !there {
		n := uint64(0)
		for _, e := range req.Entries {
			if term, there := f.entry(e.Index); !there || term != e.Term {
				break
			}
			n++
		}
		if n > 0 {
			req = after(req, n)
		}
	}
	return &req
}

// pass hands Raft a request and its answer back.
func (f *freshOnly) pass(rpc raft.RPC) {
	answer := make(chan raft.RPCResponse, 1)
	inner := rpc
	inner.RespChan = answer
	select {
	case f.rpcs <- inner:
	case <-f.done:
		rpc.Respond(nil, raft.ErrRaftShutdown)
		return
	}
	select {
	case r := <-answer:
		f.answer(rpc, r)
	case <-f.done:
		rpc.Respond(nil, raft.ErrRaftShutdown)
	}
}

// answer passes Raft's answer on, when all that it says is on disk.
func (f *freshOnly) answer(rpc raft.RPC, r raft.RPCResponse) {
	if err := f.settle(); err != nil {
		r = raft.RPCResponse{Error: err}
	}
	rpc.RespChan <- r
}

// SetHeartbeatHandler implements raft.Transport. Raft answers a heartbeat before its handler returns.
func (f *freshOnly) SetHeartbeatHandler(handle func(raft.RPC)) {
	if handle == nil {
		f.votingTransport.SetHeartbeatHandler(nil)
		return
	}
	f.votingTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		answer := make(chan raft.RPCResponse, 1)
		inner := rpc
		inner.RespChan = answer
		handle(inner)
		select {
		case r := <-answer:
			f.answer(rpc, r)
		default: // Raft has ended; whoever asked has a limit
		}
	})
}

// committed returns Raft's term and the last index that it knows as committed. The index is
// read first: what is committed by then is in the log of every leader of that term or a later
// one. The other way round, a leader of an earlier term could be told of entries that it lacks.
func (n *Node) committed() (term, index uint64) {
	r := n.inner.Load()
	if r == nil {
		return 0, 0 // it starts, and takes no requests yet
	}
	index = max(r.CommitIndex(), r.AppliedIndex())
	return r.CurrentTerm(), index
}

// entryTerm is the term of an entry of this node's log, if it is there.
func (n *Node) entryTerm(index uint64) (term uint64, ok bool) {
	var l raft.Log
	if index == 0 || n.parts.Store.GetLog(index, &l) != nil {
		return 0, false
	}
	return l.Term, true
}
