//lint:file-ignore SA1019 the deprecated fields are on the wire

package membership

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/membership/identity"
)

// liar answers Raft at a member's address, with its certificate, in a term of its choice.
type liar struct {
	net.Listener
	told atomic.Int64 // answers with the later term
}

func (l *liar) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) { return nil, net.ErrClosed }

// newLiar takes the place of a node that was closed. lies says which requests get the later term;
// the others are answered as a sound node would.
func newLiar(t *testing.T, p *peer, lies func(req any) bool) *liar {
	t.Helper()
	conf := p.id.ServerTLS(true)
	conf.NextProtos = []string{protoRaft}
	l := &liar{Listener: must[net.Listener](t)(tls.Listen("tcp", string(p.address()), conf))}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: l, MaxPool: 1, Timeout: 3 * time.Second, Logger: newHCLog((&logBook{}).logger()),
	})
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case rpc := <-trans.Consumer():
				rpc.Respond(l.answer(rpc, lies), nil)
			case <-done:
				return
			}
		}
	}()
	t.Cleanup(func() {
		trans.CloseStreams()
		_ = trans.Close()
		close(done)
		<-ended
	})
	return l
}

func (l *liar) answer(rpc raft.RPC, lies func(req any) bool) any {
	term := func(asked uint64) uint64 {
		if lies(rpc.Command) {
			l.told.Add(1)
			return highTerm
		}
		return asked
	}
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		return &raft.AppendEntriesResponse{Term: term(req.Term), LastLog: req.PrevLogEntry + uint64(len(req.Entries)), Success: true}
	case *raft.RequestVoteRequest:
		return &raft.RequestVoteResponse{Term: term(req.Term)}
	case *raft.RequestPreVoteRequest:
		return &raft.RequestPreVoteResponse{Term: term(req.Term)}
	case *raft.InstallSnapshotRequest:
		_, _ = bytes.NewBuffer(nil).ReadFrom(rpc.Reader)
		return &raft.InstallSnapshotResponse{Term: term(req.Term), Success: true}
	}
	return &raft.TimeoutNowResponse{}
}

// What was left of row S1: a member without a vote deposes nobody by the term in its answers, to whatever
// it is asked; the same answers of a voter do, which shows that they come through.
func TestATermCountsOnlyFromAVoter(t *testing.T) {
	c := startCluster(t, 2)
	agent := c.join("agent-1", identity.RoleAgent)
	leader := c.settle()
	agent.close()
	before := leader.node.raft.CurrentTerm()
	var kind atomic.Value
	var appended atomic.Int64 // since the kind was chosen
	kind.Store("")
	l := newLiar(t, agent, func(req any) bool {
		_, entries := req.(*raft.AppendEntriesRequest)
		switch entries = entries && !isHeartbeat(req); kind.Load() {
		case "heartbeats":
			return isHeartbeat(req)
		case "entries":
			return entries
		case "entries of a pipeline": // Raft begins one after a success
			return entries && appended.Add(1) > 2
		}
		return false
	})
	lead := func() bool {
		return leader.node.raft.State() == raft.Leader && leader.node.raft.CurrentTerm() == before
	}
	for _, what := range []string{"heartbeats", "entries", "entries of a pipeline"} {
		l.told.Store(0)
		appended.Store(0)
		kind.Store(what)
		eventually(t, what+" are answered with a lie", func() bool {
			check(t, leader.node.raft.Apply(entry(t, 0, subnet(1)).Data, patience).Error())
			return l.told.Load() >= 3
		})
		throughout(t, testHeartbeat, "the leader leads", lead)
	}
	if lines := leader.log.count("does not count"); lines != 1 {
		t.Errorf("%d lines about it, want one in a minute", lines)
	}
	_ = leader.node.raft.AddVoter(raft.ServerID(agent.id.NodeID), agent.address(), 0, patience) // it may be deposed before it can say so
	eventually(t, "the same answers of a voter depose it", func() bool {
		_ = leader.node.raft.Apply(entry(t, 0, subnet(2)).Data, patience)
		return !lead()
	})
}

// Every kind of answer, over the real transport: whose term counts is decided when the answer comes, by the latest
// configuration in the log here, committed or not.
func TestWhoseTermCounts(t *testing.T) {
	c := startCluster(t, 1)
	agent := c.join("agent-1", identity.RoleAgent)
	leader := c.settle()
	agent.close()
	newLiar(t, agent, func(any) bool { return true })
	id, at := raft.ServerID(agent.id.NodeID), agent.address()
	bound := leader.node.parts.Transport.(*boundTransport)
	self := raft.Server{ID: raft.ServerID(leader.id.NodeID), Address: leader.address()}
	with := func(s raft.ServerSuffrage) []raft.Server {
		return []raft.Server{self, {ID: id, Address: at, Suffrage: s}}
	}
	book := &ledger{configs: map[uint64][]raft.Server{}, moved: make(chan struct{}, 1)}
	eventually(t, "no connection to the agent of before is used again", func() bool {
		return bound.RequestPreVote(id, at, &raft.RequestPreVoteRequest{RPCHeader: as(leader), Term: 3}, &raft.RequestPreVoteResponse{}) == nil
	})
	told := 0
	v := voterTerms{bound, book.votes, func(error) { told++ }}
	index := uint64(5)
	for _, tc := range []struct {
		name  string
		list  []raft.Server
		votes bool
	}{
		{"a non-voter", with(raft.Nonvoter), false},
		{"promoted", with(raft.Voter), true},
		{"demoted", with(raft.Nonvoter), false},
		{"removed", []raft.Server{self}, false},
		{"joined again and promoted", with(raft.Voter), true},
	} {
		book.snapshot(index, tc.list)
		index++
		h := as(leader)
		appending := &raft.AppendEntriesRequest{RPCHeader: h, Term: 3, PrevLogEntry: 1, PrevLogTerm: 1}
		var pipelined raft.AppendEntriesResponse
		for name, err := range map[string]error{
			"append":   v.AppendEntries(id, at, appending, &raft.AppendEntriesResponse{}),
			"vote":     v.RequestVote(id, at, &raft.RequestVoteRequest{RPCHeader: h, Term: 3}, &raft.RequestVoteResponse{}),
			"pre-vote": v.RequestPreVote(id, at, &raft.RequestPreVoteRequest{RPCHeader: h, Term: 3}, &raft.RequestPreVoteResponse{}),
			"snapshot": v.InstallSnapshot(id, at, &raft.InstallSnapshotRequest{RPCHeader: h, Term: 3, SnapshotVersion: 1, Size: 4}, &raft.InstallSnapshotResponse{}, bytes.NewReader([]byte("what"))),
			"pipeline": piped(t, v, id, at, appending, &pipelined),
		} {
			if tc.votes && err != nil || !tc.votes && !errors.Is(err, errNoVote) {
				t.Errorf("%s, %s: %v", tc.name, name, err)
			}
		}
		if want := map[bool]uint64{true: highTerm}[tc.votes]; pipelined.Term != want {
			t.Errorf("%s: Raft sees term %d of a pipeline's answer", tc.name, pipelined.Term)
		}
	}
	if want := 3 * 5; told != want {
		t.Errorf("%d answers were told, want %d", told, want)
	}
}

// piped sends one request by a pipeline, and puts what Raft would see into resp.
func piped(t *testing.T, v voterTerms, id raft.ServerID, at raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	t.Helper()
	p := must[raft.AppendPipeline](t)(v.AppendEntriesPipeline(id, at))
	defer p.Close()
	must[raft.AppendFuture](t)(p.AppendEntries(req, &raft.AppendEntriesResponse{}))
	select {
	case f := <-p.Consumer():
		*resp = *f.Response()
		return f.Error()
	case <-time.After(patience):
		t.Fatal("a pipeline without an answer")
		return nil
	}
}

// A follower refuses an entry, as one whose disk fails does, and Raft, which reads no answer after that, has sent others
// already: what it sends before it notices ends with an error. It waited for ever, and with it all entries for that
// server (hashicorp/raft issue 612).
func TestAPipelineEndsWithItsFirstRefusal(t *testing.T) {
	open := func() *raft.NetworkTransport {
		trans := must[*raft.NetworkTransport](t)(raft.NewTCPTransport("127.0.0.1:0", nil, 1, patience, io.Discard))
		t.Cleanup(func() { check(t, trans.Close()) })
		return trans
	}
	follower, leader := open(), open()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case rpc := <-follower.Consumer():
				rpc.Respond(&raft.AppendEntriesResponse{Term: 3}, nil)
			case <-done:
				return
			}
		}
	}()
	defer func() { close(done); <-ended }()
	book := &ledger{configs: map[uint64][]raft.Server{}, moved: make(chan struct{}, 1)}
	v := voterTerms{leader, book.votes, func(error) {}}
	p := must[raft.AppendPipeline](t)(v.AppendEntriesPipeline("n-2", follower.LocalAddr()))
	defer p.Close()
	sent := make(chan error, 1)
	go func() {
		for range 10 {
			req := &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 1, PrevLogTerm: 1}
			if _, err := p.AppendEntries(req, &raft.AppendEntriesResponse{}); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	if f := <-p.Consumer(); f.Response().Success {
		t.Fatal("it was not refused")
	}
	select {
	case err := <-sent:
		if err == nil {
			t.Error("everything was sent by a pipeline that has ended")
		}
	case <-time.After(patience):
		t.Fatal("the sender waits for a reader that has ended")
	}
}

// A sound node that stood for election before it lost its vote is in a later term. It deposes nobody, it
// does not go back (it may have voted in that term), and it follows again after the next elections.
func TestASoundNodeInALaterTerm(t *testing.T) {
	c := startCluster(t, 2)
	agent := c.join("agent-1", identity.RoleAgent)
	leader := c.settle()
	agent.close()
	term := leader.node.raft.CurrentTerm()
	store := must[Store](t)(openBolt(agent.cfg.Dir))
	check(t, store.SetUint64([]byte("CurrentTerm"), term+1))
	check(t, store.Close())
	agent.open()
	eventually(t, "the leader hears of it", func() bool { return leader.log.says("does not count") })
	throughout(t, 2*testHeartbeat, "the leader leads", func() bool {
		return leader.node.raft.State() == raft.Leader && leader.node.raft.CurrentTerm() == term && agent.node.raft.CurrentTerm() == term+1
	})
	eventually(t, "it is handed over", func() bool {
		_, leads := leader.node.Leading()
		return !leads || leader.node.TransferLeadership() == nil
	})
	eventually(t, "it follows", func() bool {
		var now uint64
		for _, p := range c.all() {
			if p.node != nil && p.node.raft.State() == raft.Leader {
				now = p.node.raft.LastIndex()
			}
		}
		return now > 0 && agent.node.raft.LastIndex() == now && agent.node.raft.CurrentTerm() > term
	})
}
