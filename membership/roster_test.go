//lint:file-ignore SA1019 the deprecated fields are on the wire, and forged here

package membership

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"

	"havip-cluster/membership/identity"
)

func server(id string, s raft.ServerSuffrage) raft.Server {
	return raft.Server{ID: raft.ServerID(id), Address: address(id), Suffrage: s}
}

// rosterOf is the roster of n1 with a configuration of entry 5.
func rosterOf(list ...raft.Server) *roster {
	book := &ledger{configs: map[uint64][]raft.Server{5: list}}
	return newRoster("n1", book, nil, func(context.Context, raft.Server) (servers, error) {
		return servers{}, errors.New("nobody answers")
	})
}

// A word for a voter counts only from a voter that is known here, and only when it is newer.
func TestVouching(t *testing.T) {
	known := []raft.Server{server("n1", raft.Voter), server("n2", raft.Voter), server("n3", raft.Nonvoter)}
	with := func(index uint64, s raft.ServerSuffrage) servers {
		return servers{index, append(slices.Clone(known), server("n9", s))}
	}
	for _, tc := range []struct {
		name   string
		answer servers
		want   bool
	}{
		{"a newer configuration has it as a voter", with(6, raft.Voter), true},
		{"the same configuration", with(5, raft.Voter), false},
		{"an older configuration", with(4, raft.Voter), false},
		{"it is no voter", with(6, raft.Nonvoter), false},
		{"it is not there", servers{6, known}, false},
		{"an empty answer", servers{}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := rosterOf(known...)
			var mu sync.Mutex
			var asked []string
			r.ask = func(_ context.Context, v raft.Server) (servers, error) {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, string(v.ID))
				return tc.answer, nil
			}
			begun := time.Now()
			for range 3 {
				srv, err := r.admit(soon(t), "n9")
				if (err == nil) != tc.want || tc.want && srv != server("n9", raft.Voter) || err != nil && !errors.Is(err, ErrNoSpeaker) {
					t.Errorf("got %v, %v", srv, err)
				}
			}
			if time.Since(begun) >= vouchPause { // a busy host: it may have been asked again
				asked = slices.Compact(asked)
			}
			if !slices.Equal(asked, []string{"n2"}) {
				t.Errorf("asked %v: only voters know, and only once a second", asked)
			}
			// The word was for the configuration that was there; the next one says it itself.
			r.book.snapshot(7, known)
			if _, err := r.speaker("n9"); err == nil {
				t.Error("the word outlives the configuration")
			}
		})
	}
}

func TestVouchingIsBounded(t *testing.T) {
	r := rosterOf(server("n1", raft.Voter), server("n2", raft.Voter))
	asked := 0
	r.ask = func(context.Context, raft.Server) (servers, error) { asked++; return servers{}, nil }
	for i := range 10 * vouchMax {
		if _, err := r.admit(soon(t), fmt.Sprintf("n%d", 100+i)); err == nil {
			t.Fatal("let in")
		}
		for _, v := range r.vouch { // however long a busy host takes for this
			v.retry = time.Now().Add(time.Hour)
		}
	}
	if asked != vouchMax || len(r.vouch) != vouchMax {
		t.Errorf("%d questions, %d kept", asked, len(r.vouch))
	}
	for _, v := range r.vouch {
		v.retry = time.Now().Add(-time.Second)
	}
	if _, err := r.admit(soon(t), "n99"); err == nil || asked != vouchMax+1 || len(r.vouch) != 1 {
		t.Errorf("%v, %d questions, %d kept", err, asked, len(r.vouch))
	}
	// A voter that does not answer holds nobody for longer than the caller waits.
	r.ask = func(ctx context.Context, _ raft.Server) (servers, error) { <-ctx.Done(); return servers{}, ctx.Err() }
	ctx, cancel := context.WithTimeout(soon(t), 20*time.Millisecond)
	defer cancel()
	if _, err := r.admit(ctx, "n98"); !errors.Is(err, ErrNoSpeaker) {
		t.Errorf("got %v", err)
	}
}

// A word ends by itself: who is removed before this node hears of it does not speak for ever.
func TestAWordEnds(t *testing.T) {
	r := rosterOf(server("n1", raft.Voter), server("n2", raft.Voter))
	r.ask = func(context.Context, raft.Server) (servers, error) {
		return servers{6, []raft.Server{server("n9", raft.Voter)}}, nil
	}
	must[raft.Server](t)(r.admit(soon(t), "n9"))
	must[raft.Server](t)(r.speaker("n9"))
	r.vouch["n9"].until = time.Now()
	if _, err := r.speaker("n9"); !errors.Is(err, ErrNoSpeaker) {
		t.Errorf("got %v", err)
	}
}

// A node that joins believes the voters that it was told, and nobody else of its cluster.
func TestSponsors(t *testing.T) {
	dir := t.TempDir()
	check(t, Prepare(dir, []raft.Server{server("n7", raft.Voter), server("n8", raft.Voter)}))
	list := must[[]raft.Server](t)(readSponsors(dir))
	if want := []raft.Server{server("n7", raft.Voter), server("n8", raft.Voter)}; !slices.Equal(list, want) {
		t.Fatalf("got %v", list)
	}
	r := rosterOf()
	r.sponsors = list
	must[raft.Server](t)(r.speaker("n7"))
	if _, err := r.speaker("n9"); !errors.Is(err, ErrNoSpeaker) {
		t.Errorf("got %v", err)
	}
	r.book.snapshot(6, []raft.Server{server("n1", raft.Nonvoter), server("n8", raft.Voter)})
	if _, err := r.speaker("n7"); !errors.Is(err, ErrNoSpeaker) {
		t.Errorf("a sponsor of long ago speaks: %v", err)
	}
	// Without any, as after a join through an older version, every member is believed at first.
	old := rosterOf()
	must[raft.Server](t)(old.speaker("n9"))
	if _, err := old.speaker("n1"); !errors.Is(err, ErrNoSpeaker) {
		t.Errorf("this node's own certificate: %v", err)
	}
	check(t, os.WriteFile(filepath.Join(dir, sponsorsFile), []byte("[]"), 0o600))
	if _, err := readSponsors(dir); err == nil {
		t.Error("a list without a voter is taken")
	}
}

// A node that has just joined refuses members that are no voters, and takes the leader.
func TestAJoiningNodeTakesItsLeader(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	agent := c.join("agent-1", identity.RoleAgent)
	eventually(t, "it follows", func() bool { return agent.node.State().Index > 0 })
	leader := c.leader()
	leader.stop() // so that the new one stays without a configuration
	leader.stop = func() {}
	p := c.admit("node-2", identity.RoleVoter).open()
	trans := calling(t, agent.id.ClientTLS())
	for _, a := range attempts(t, subnet(1)) {
		if err := a.send(trans, as(agent), p.address()); err == nil {
			t.Errorf("%s of a member was answered", a.name)
		}
	}
	if term := p.node.raft.CurrentTerm(); term != 0 {
		t.Errorf("its term is %d", term)
	}
	c.add(p)
	leader.reconcile(c.all)
	eventually(t, "it follows", func() bool { return p.node.State().Cluster.ID != "" })
}

// received collects what a boundTransport reads, and answers it.
func received(t *testing.T, book *ledger, p *peer) (*boundTransport, chan any) {
	t.Helper()
	bound := must[*boundTransport](t)(openBound(p.cfg))
	bound.bind(p.cfg.Node, book, nil)
	bound.serve()
	t.Cleanup(func() { bound.CloseStreams(); _ = bound.Close() })
	got := make(chan any, 8)
	bound.SetHeartbeatHandler(func(rpc raft.RPC) {
		got <- rpc.Command
		rpc.Respond(&raft.AppendEntriesResponse{Term: 8}, nil)
	})
	go func() {
		for {
			select {
			case <-bound.ctx.Done():
				return
			case rpc := <-bound.Consumer():
				got <- rpc.Command
				switch rpc.Command.(type) {
				case *raft.AppendEntriesRequest:
					rpc.Respond(&raft.AppendEntriesResponse{Term: 9, Success: true}, nil)
				case *raft.RequestVoteRequest:
					rpc.Respond(&raft.RequestVoteResponse{Term: 9, Granted: true}, nil)
				case *raft.RequestPreVoteRequest:
					rpc.Respond(&raft.RequestPreVoteResponse{Term: 9, Granted: true}, nil)
				case *raft.TimeoutNowRequest:
					rpc.Respond(&raft.TimeoutNowResponse{}, errors.New("not now"))
				case *raft.InstallSnapshotRequest:
					b, _ := io.ReadAll(rpc.Reader)
					got <- string(b)
					rpc.Respond(&raft.InstallSnapshotResponse{Term: 9, Success: true}, nil)
				}
			}
		}
	}()
	return bound, got
}

// What hashicorp/raft's own transport writes is read here as it was, and its answers are
// what it expects; so a node of the version before is understood, and understands.
func TestTheBytesAreThoseOfRaft(t *testing.T) {
	p := newFounder(t)
	other := newPeer(t, must[identity.Spec](t)(p.sibling()))
	book := &ledger{configs: map[uint64][]raft.Server{5: {
		{ID: raft.ServerID(p.id.NodeID), Address: p.address()}, {ID: raft.ServerID(other.id.NodeID), Address: other.address()},
	}}}
	_, got := received(t, book, p)
	trans := calling(t, other.id.ClientTLS())
	h := as(other)
	same := func(sent any) {
		t.Helper()
		if read := <-got; !reflect.DeepEqual(read, sent) {
			t.Errorf("sent %+v, read %+v", sent, read)
		}
	}
	log := &raft.Log{Index: 3, Term: 2, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("more"), AppendedAt: time.Unix(1_700_000_000, 5).UTC()}
	entries := &raft.AppendEntriesRequest{RPCHeader: h, Leader: h.Addr, Term: 2, PrevLogEntry: 2, PrevLogTerm: 1, Entries: []*raft.Log{log}, LeaderCommitIndex: 2}
	var appended raft.AppendEntriesResponse
	check(t, trans.AppendEntries("", p.address(), entries, &appended))
	same(entries)
	if appended.Term != 9 || !appended.Success {
		t.Errorf("got %+v", appended)
	}
	beat := &raft.AppendEntriesRequest{RPCHeader: h, Leader: h.Addr, Term: 2}
	check(t, trans.AppendEntries("", p.address(), beat, &appended))
	same(beat)
	if appended.Term != 8 {
		t.Error("the heartbeat waited in Raft's queue")
	}
	vote := &raft.RequestVoteRequest{RPCHeader: h, Candidate: h.Addr, Term: 3, LastLogIndex: 3, LastLogTerm: 2, LeadershipTransfer: true}
	check(t, trans.RequestVote("", p.address(), vote, &raft.RequestVoteResponse{}))
	same(vote)
	pre := &raft.RequestPreVoteRequest{RPCHeader: h, Term: 3, LastLogIndex: 3, LastLogTerm: 2}
	check(t, trans.RequestPreVote("", p.address(), pre, &raft.RequestPreVoteResponse{}))
	same(pre)
	now := &raft.TimeoutNowRequest{RPCHeader: h}
	if err := trans.TimeoutNow("", p.address(), now, &raft.TimeoutNowResponse{}); err == nil || err.Error() != "not now" {
		t.Errorf("got %v", err)
	}
	same(now)
	data := bytes.Repeat([]byte("snapshot"), 100_000)
	snap := &raft.InstallSnapshotRequest{RPCHeader: h, SnapshotVersion: 1, Term: 2, Leader: h.Addr, LastLogIndex: 3, LastLogTerm: 2, Configuration: []byte("c"), ConfigurationIndex: 1, Size: int64(len(data))}
	check(t, trans.InstallSnapshot("", p.address(), snap, &raft.InstallSnapshotResponse{}, bytes.NewReader(data)))
	same(snap)
	same(string(data))
	pipe := must[raft.AppendPipeline](t)(trans.AppendEntriesPipeline("", p.address()))
	for range 50 {
		must[raft.AppendFuture](t)(pipe.AppendEntries(entries, &raft.AppendEntriesResponse{}))
		same(entries)
		check(t, (<-pipe.Consumer()).Error())
	}
	check(t, pipe.Close())
}

// The dialler is understood by a node of the version before, which knows no protocol names.
func TestTheDiallerIsUnderstoodByOlderNodes(t *testing.T) {
	p := newFounder(t)
	old := newPeer(t, must[identity.Spec](t)(p.sibling()))
	l := must[net.Listener](t)(net.Listen("tcp", string(old.address())))
	shaken := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			s := tlsServer(conn, old)
			err = s.Handshake()
			defer s.Close()
		}
		shaken <- err
	}()
	defer l.Close()
	book := &ledger{configs: map[uint64][]raft.Server{5: {{ID: raft.ServerID(old.id.NodeID), Address: old.address()}}}}
	bound, _ := received(t, book, p)
	conn := must[net.Conn](t)(bound.out.Dial(old.address(), patience))
	check(t, <-shaken)
	check(t, conn.Close())
	if _, err := bound.out.Dial("127.0.0.1:1", patience); err == nil {
		t.Error("it dials who is no server")
	}
}

// FuzzRequest: what a voter's connection may carry is read or refused, and never panics.
func FuzzRequest(f *testing.F) {
	for kind, cmd := range []any{
		&raft.AppendEntriesRequest{Term: 1, Entries: []*raft.Log{{Index: 1, Data: []byte("x")}}}, &raft.RequestVoteRequest{Term: 1},
		&raft.InstallSnapshotRequest{Size: 1 << 40}, &raft.TimeoutNowRequest{}, &raft.RequestPreVoteRequest{},
	} {
		var b bytes.Buffer
		check(f, codec.NewEncoder(&b, &codec.MsgpackHandle{}).Encode(cmd))
		f.Add(byte(kind), b.Bytes())
	}
	f.Add(byte(200), []byte{})
	f.Add(byte(0), []byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	speaker := raft.Server{ID: "n-1", Address: "192.0.2.1:7401"}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		r := bytes.NewReader(b)
		rpc, err := decodeRequest(kind, r, codec.NewDecoder(r, &codec.MsgpackHandle{}))
		if err != nil {
			return
		}
		h := rpc.Command.(headed).GetRPCHeader()
		mine := string(h.ID) == "n-1" && string(h.Addr) == "192.0.2.1:7401"
		if err := says(speaker, rpc.Command); err == nil && !mine {
			t.Errorf("%+v is taken for the speaker's", rpc.Command)
		}
	})
}

// silentFrom makes a connection that says nothing.
func silentFrom(t *testing.T, source string, to net.Addr) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn := must[net.Conn](t)(d.DialContext(soon(t), "tcp", to.String()))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Row S7 of the attacks: silent connections do not keep a member out, from whatever address
// they come, the member's own one too.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	for _, tc := range []struct {
		name    string
		sources []string
	}{
		{"another source", []string{"127.0.0.2"}},
		{"the member's source", []string{"127.0.0.1"}},
		{"many sources", []string{"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6", "127.0.0.7", "127.0.0.8", "127.0.0.9"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, p := listening(t)
			defer s.Close()
			for i := range 400 {
				silentFrom(t, tc.sources[i%len(tc.sources)], s.Addr())
				if i%100 != 99 {
					continue
				}
				for try := 1; ; try++ { // a busy host has six, each behind as many silent ones
					begun := time.Now()
					out := p.call(s)
					in := must[*accepted](t)(s.Accept())
					took := time.Since(begun)
					check(t, errors.Join(in.Close(), out.Close()))
					if took <= handshakeTimeout/2 {
						break
					}
					if try == 6 {
						t.Errorf("after %d silent ones a member waits %v", i+1, took)
						break
					}
					for j := range 100 {
						silentFrom(t, tc.sources[j%len(tc.sources)], s.Addr())
					}
				}
			}
			s.mu.Lock()
			open := len(s.conns)
			s.mu.Unlock()
			if open > waitingMax {
				t.Errorf("%d connections without a name are open", open)
			}
			if lines := p.log.count("refused"); lines != 1 {
				t.Errorf("%d lines", lines)
			}
		})
	}
}

// addressed is a connection that only has an address.
type addressed struct {
	net.Conn
	from net.Addr
}

func (a *addressed) RemoteAddr() net.Addr { return a.from }

func TestWaiting(t *testing.T) {
	member := netip.MustParseAddr("192.0.2.1")
	from := func(ip string) *addressed {
		return &addressed{from: &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}}
	}
	w := waiting{member: func(a netip.Addr) bool { return a == member }}
	var first []net.Conn
	for range waitingPerSource {
		c := from("198.51.100.1")
		first = append(first, c)
		if w.enter(c) != nil {
			t.Fatal("no place below the limit")
		}
	}
	if w.enter(from("198.51.100.1")) != first[0] || w.leave(first[0]) || !w.leave(first[1]) {
		t.Error("the oldest of the source does not make room")
	}
	mine := from("192.0.2.1")
	if w.enter(mine) != nil {
		t.Error("a member has no place")
	}
	for i := 0; len(w.conns) < waitingMax; i++ {
		w.enter(from(fmt.Sprintf("198.51.100.%d", 2+i)))
	}
	for i := range 3 * waitingMax {
		loser := w.enter(from(fmt.Sprintf("203.0.113.%d", i)))
		if loser == nil || loser == mine || len(w.conns) != waitingMax {
			t.Fatalf("%v lost its place, %d have one", loser, len(w.conns))
		}
	}
	if !w.leave(mine) {
		t.Error("the member's place was given away")
	}
}

// However many are refused, there is one line at once, and one a minute with the count.
func TestRefusalsAreCounted(t *testing.T) {
	log := &logBook{}
	r := &refusals{log: log.logger(), pause: time.Hour}
	over := func() { // the pause is over
		r.mu.Lock()
		defer r.mu.Unlock()
		r.timer.Reset(0)
	}
	for range 1000 {
		r.note("192.0.2.9:1", errors.New("no"))
	}
	if log.count("\n") != 1 {
		t.Fatalf("%d lines at once", log.count("\n"))
	}
	over()
	eventually(t, "the count", func() bool { return log.says("count=999") })
	over()
	eventually(t, "a pause without any", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.timer == nil
	})
	r.note("192.0.2.9:1", errors.New("again"))
	if log.count("\n") != 3 || r.count() != 1001 {
		t.Errorf("%d lines, %d counted", log.count("\n"), r.count())
	}
	r.note("192.0.2.9:1", errors.New("again"))
	timer := r.timer
	r.stop()
	if timer.Stop() {
		t.Error("its timer goes on after its end")
	}
	r.summarise() // which the timer had begun
	r.note("192.0.2.9:1", errors.New("late"))
	if log.count("\n") != 3 {
		t.Error("it logs after its end")
	}
}
