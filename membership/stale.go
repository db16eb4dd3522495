package membership

import (
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// freshOnly is Raft's transport without snapshots of what the node has committed already.
//
// hashicorp/raft installs whatever snapshot comes (v1.7.3, raft.go, installSnapshot): one
// that was under way while its receiver was stopped, and is read after newer entries, takes
// the state and the voters back to an earlier time. The leader is told the truth: the node
// holds all that the snapshot has.
//
// It hands Raft one request at a time, because a request before the snapshot may be the one
// that commits what is newer. Heartbeats, which Raft takes past its queue, are not held up.
type freshOnly struct {
	votingTransport
	held func() (term, index uint64) // Raft's term, and the last index that it knows as committed
	rpcs chan raft.RPC
	done <-chan struct{}
}

type votingTransport interface {
	raft.Transport
	raft.WithPreVote
}

// newFreshOnly returns t without stale snapshots; run has to be going until done is closed.
func newFreshOnly(t raft.Transport, held func() (term, index uint64), done <-chan struct{}) (*freshOnly, error) {
	v, ok := t.(votingTransport)
	if !ok {
		return nil, fmt.Errorf("membership: the transport %T knows no pre-vote", t)
	}
	return &freshOnly{votingTransport: v, held: held, rpcs: make(chan raft.RPC), done: done}, nil
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
			if !f.stale(rpc) {
				f.pass(rpc)
			}
		}
	}
}

// stale answers a snapshot that has nothing new.
func (f *freshOnly) stale(rpc raft.RPC) bool {
	req, ok := rpc.Command.(*raft.InstallSnapshotRequest)
	if !ok {
		return false
	}
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
		rpc.RespChan <- r
	case <-f.done:
		rpc.Respond(nil, raft.ErrRaftShutdown)
	}
}
