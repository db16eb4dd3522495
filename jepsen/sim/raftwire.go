package sim

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// wire is one process's raft.Transport. Requests are handed over in memory, after the
// trip; answers come back after another one. Heartbeats take the fast path past raft's
// main goroutine, as in raft's own transport. There is no pipelining.
type wire struct {
	p        *process
	address  raft.ServerAddress
	timeout  time.Duration
	consumer chan raft.RPC
	beat     atomic.Pointer[func(raft.RPC)]
}

const consumerQueue = 16

func newWire(p *process, timeout time.Duration) *wire {
	return &wire{p: p, address: raft.ServerAddress(p.h.address + raftPort), timeout: timeout, consumer: make(chan raft.RPC, consumerQueue)}
}

func (t *wire) Consumer() <-chan raft.RPC     { return t.consumer }
func (t *wire) LocalAddr() raft.ServerAddress { return t.address }
func (t *wire) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}
func (t *wire) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
func (t *wire) DecodePeer(b []byte) raft.ServerAddress                  { return raft.ServerAddress(b) }
func (t *wire) SetHeartbeatHandler(cb func(raft.RPC))                   { t.beat.Store(&cb) }

// take hands a request to this node's raft.
func (t *wire) take(cmd any, data []byte) (<-chan raft.RPCResponse, error) {
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: cmd, RespChan: answer}
	if data != nil {
		rpc.Reader = bytes.NewReader(data)
	}
	if req, ok := cmd.(*raft.AppendEntriesRequest); ok && isHeartbeat(req) {
		if f := t.beat.Load(); f != nil {
			(*f)(rpc)
			return answer, nil
		}
	}
	select {
	case t.consumer <- rpc:
		return answer, nil
	case <-t.p.gate.dead:
		return nil, errNoWay
	}
}

func isHeartbeat(r *raft.AppendEntriesRequest) bool {
	return r.Term != 0 && r.PrevLogEntry == 0 && r.PrevLogTerm == 0 && len(r.Entries) == 0 && r.LeaderCommitIndex == 0
}

func (t *wire) call(target raft.ServerAddress, cmd any, data []byte, limit time.Duration) (any, error) {
	to := t.p.h.w.byAddress(string(target[:len(target)-len(raftPort)]))
	if to == nil {
		return nil, fmt.Errorf("sim: nobody listens at %s", target)
	}
	r, err := stream(t.p, to.index, raftDoor, limit, func(q *process) (<-chan raft.RPCResponse, error) {
		w := q.wire.Load()
		if w == nil {
			return nil, errNoWay // not listening yet
		}
		return w.take(cmd, data)
	})
	if err != nil {
		return nil, err
	}
	return r.Response, r.Error
}

// AppendEntries sends copies of the entries: raft writes into its own.
func (t *wire) AppendEntries(_ raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	sent := *args
	sent.Entries = make([]*raft.Log, len(args.Entries))
	for i, e := range args.Entries {
		c := *e
		sent.Entries[i] = &c
	}
	return answer(t, target, &sent, nil, t.timeout, resp)
}

func (t *wire) RequestVote(_ raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return answer(t, target, args, nil, t.timeout, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (t *wire) RequestPreVote(_ raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return answer(t, target, args, nil, t.timeout, resp)
}

func (t *wire) TimeoutNow(_ raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return answer(t, target, args, nil, t.timeout, resp)
}

func (t *wire) InstallSnapshot(_ raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	b, err := io.ReadAll(data)
	if err != nil {
		return err
	}
	t.p.h.w.count(func(st *Stats) { st.SnapshotsSent++ })
	return answer(t, target, args, b, 10*t.timeout, resp)
}

func answer[T any](t *wire, target raft.ServerAddress, cmd any, data []byte, limit time.Duration, into *T) error {
	got, err := t.call(target, cmd, data, limit)
	if err != nil {
		return err
	}
	r, ok := got.(*T)
	if !ok {
		return fmt.Errorf("sim: raft answered with %T", got)
	}
	*into = *r
	return nil
}
