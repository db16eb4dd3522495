//lint:file-ignore SA1019 the deprecated fields are on the wire, and forged here

package membership

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"

	"havip-cluster/fsm"
	"havip-cluster/internal/doorbook"
	"havip-cluster/membership/identity"
)

// caller dials like a Raft of the version before: it asks for no protocol, and takes whoever
// answers. conf decides which certificate it shows.
type caller struct {
	conf *tls.Config
	at   net.Addr
	done chan struct{}
}

func (c caller) Accept() (net.Conn, error) { <-c.done; return nil, net.ErrClosed }
func (c caller) Close() error              { close(c.done); return nil }
func (c caller) Addr() net.Addr            { return c.at }
func (c caller) Dial(a raft.ServerAddress, d time.Duration) (net.Conn, error) {
	return tls.DialWithDialer(&net.Dialer{Timeout: d}, "tcp", string(a), c.conf)
}

// calling is hashicorp/raft's own transport, with a certificate of one's choice.
func calling(t testing.TB, conf *tls.Config) *raft.NetworkTransport {
	t.Helper()
	return callingFor(t, conf, 10*time.Second)
}

// callingFor is calling that waits that long for an answer.
func callingFor(t testing.TB, conf *tls.Config, limit time.Duration) *raft.NetworkTransport {
	t.Helper()
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: caller{conf, at, make(chan struct{})}, MaxPool: 1, Timeout: limit, Logger: newHCLog((&logBook{}).logger()),
	})
	t.Cleanup(func() { trans.CloseStreams(); _ = trans.Close() })
	return trans
}

// attempt is one request that a node sends under a name.
type attempt struct {
	kind byte
	name string
	send func(trans *raft.NetworkTransport, h raft.RPCHeader, to raft.ServerAddress) error
}

const highTerm = 1 << 40

// attempts are the requests of Raft, each as harmful as it can be.
func attempts(t testing.TB, log fsm.Body) []attempt {
	forged := entry(t, 0, log)
	forged.Index, forged.Term = highTerm, highTerm
	return []attempt{
		{kindAppendEntries, "an entry", func(trans *raft.NetworkTransport, h raft.RPCHeader, to raft.ServerAddress) error {
			req := &raft.AppendEntriesRequest{RPCHeader: h, Leader: h.Addr, Term: highTerm, Entries: []*raft.Log{forged}, LeaderCommitIndex: highTerm}
			return trans.AppendEntries("", to, req, &raft.AppendEntriesResponse{})
		}},
		{kindAppendEntries, "a heartbeat", func(trans *raft.NetworkTransport, h raft.RPCHeader, to raft.ServerAddress) error {
			return trans.AppendEntries("", to, &raft.AppendEntriesRequest{RPCHeader: h, Leader: h.Addr, Term: highTerm}, &raft.AppendEntriesResponse{})
		}},
		{kindRequestVote, "a vote", func(trans *raft.NetworkTransport, h raft.RPCHeader, to raft.ServerAddress) error {
			req := &raft.RequestVoteRequest{RPCHeader: h, Candidate: h.Addr, Term: highTerm, LastLogIndex: highTerm, LastLogTerm: highTerm, LeadershipTransfer: true}
			return trans.RequestVote("", to, req, &raft.RequestVoteResponse{})
		}},
		{kindRequestPreVote, "a pre-vote", func(trans *raft.NetworkTransport, h raft.RPCHeader, to raft.ServerAddress) error {
			return trans.RequestPreVote("", to, &raft.RequestPreVoteRequest{RPCHeader: h, Term: highTerm, LastLogIndex: highTerm, LastLogTerm: highTerm}, &raft.RequestPreVoteResponse{})
		}},
		{kindTimeoutNow, "a call for an election", func(trans *raft.NetworkTransport, h raft.RPCHeader, to raft.ServerAddress) error {
			return trans.TimeoutNow("", to, &raft.TimeoutNowRequest{RPCHeader: h}, &raft.TimeoutNowResponse{})
		}},
		{kindInstallSnapshot, "a snapshot", func(trans *raft.NetworkTransport, h raft.RPCHeader, to raft.ServerAddress) error {
			req := &raft.InstallSnapshotRequest{RPCHeader: h, Leader: h.Addr, SnapshotVersion: raft.SnapshotVersionMax, Term: highTerm, LastLogIndex: highTerm, LastLogTerm: highTerm, Size: 4}
			return trans.InstallSnapshot("", to, req, &raft.InstallSnapshotResponse{}, bytes.NewReader([]byte("what")))
		}},
	}
}

// as is the header of a node's requests.
func as(p *peer) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(p.id.NodeID), Addr: []byte(RaftAddress(p.asNode()))}
}

func (p *peer) address() raft.ServerAddress { return RaftAddress(p.asNode()) }

// standing is what no attempt may change.
type standing struct {
	term, last uint64
	leader     string
}

func (p *peer) standing() standing {
	return standing{p.node.raft.CurrentTerm(), p.node.raft.LastIndex(), p.node.LeaderID()}
}

// settle stops what adds entries by itself, and waits until all hold the same.
func (c *cluster) settle() *peer {
	c.t.Helper()
	for _, p := range c.all() {
		p.stop()
		p.stop = func() {}
	}
	var leader *peer
	eventually(c.t, "all hold the same log", func() bool {
		leader = c.leader()
		for _, p := range c.all() {
			if p.node != nil && p.standing() != leader.standing() {
				return false
			}
		}
		return true
	})
	return leader
}

// demote makes a server of Raft a non-voter.
func (c *cluster) demote(leader *peer, p *peer) {
	c.t.Helper()
	check(c.t, leader.node.raft.DemoteVoter(raft.ServerID(p.id.NodeID), 0, patience).Error())
}

func (c *cluster) remove(p *peer) {
	c.t.Helper()
	check(c.t, c.removal(p.id.Name, false))
}

// removal takes a node out, and asks again whoever leads, as a client does.
func (c *cluster) removal(name string, force bool) error {
	c.t.Helper()
	ctx, begun := soon(c.t), false
	for {
		err := RemoveNode(ctx, c.leader().node, name, force, func(string) bool { return true })
		var refusal *fsm.Refusal
		switch {
		case begun && errors.As(err, &refusal) && refusal.Code == fsm.CodeNotFound: // it was done meanwhile
			return nil
		case ctx.Err() != nil || !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUnknownOutcome):
			return err
		}
		begun = begun || errors.Is(err, ErrUnknownOutcome)
		time.Sleep(5 * time.Millisecond)
	}
}

// TestOnlyVotersSpeak: everybody else who has a certificate tries every request on a follower
// and on the leader, under its own name and under those of voters. Nothing changes anywhere.
func TestOnlyVotersSpeak(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 4)
	agent, gone := c.join("agent-1", identity.RoleAgent), c.join("agent-2", identity.RoleAgent)
	c.openSession(agent.id.NodeID)
	formerly := c.followers()[1]
	if formerly == agent || formerly == gone {
		t.Fatal("the followers are not in the order in which they joined")
	}
	c.remove(gone)
	c.remove(formerly)
	gone.close()
	formerly.close()
	first := c.settle()
	others := slices.DeleteFunc(c.all(), func(p *peer) bool { return p == first || p == agent || p.node == nil })
	follower, demoted := others[0], others[1]
	c.demote(first, demoted)
	leader := c.settle()
	if leader == follower { // elected meanwhile
		follower = first
	}
	session := leader.node.State().Nodes[agent.id.NodeID].LastSession
	foreign := newPeer(t, must[identity.Spec](t)(identity.NewCluster(settings(t, "node-1"), time.Now())))
	before := leader.standing()
	tried := 0
	answered := map[[2]string]int{} // by who and what
	for _, who := range []struct {
		name  string
		p     *peer
		conf  *tls.Config
		names []*peer
	}{
		{"a removed agent", gone, gone.id.ClientTLS(), []*peer{gone, follower, leader}},
		{"a removed voter", formerly, formerly.id.ClientTLS(), []*peer{formerly, follower, leader}},
		{"a demoted voter", demoted, demoted.id.ClientTLS(), []*peer{demoted, follower, leader}},
		{"a member of role agent", agent, agent.id.ClientTLS(), []*peer{agent, follower, leader}},
		{"a voter for another", follower, follower.id.ClientTLS(), []*peer{leader, agent, gone}},
		{"a node of another cluster", foreign, careless(foreign.id.ClientTLS()), []*peer{foreign, follower, leader}},
		{"a host without any key", foreign, careless(&tls.Config{}), []*peer{follower, leader}},
		{"a certificate without an id", foreign, nameless(t, leader), []*peer{follower, leader}},
	} {
		trans := callingFor(t, who.conf, 3*time.Second)
		for _, name := range who.names {
			for _, target := range []*peer{follower, leader} {
				for _, a := range attempts(t, fsm.CloseSession{Session: session}) {
					tried++
					what := fmt.Sprintf("%s sends %s as %s to %s", who.name, a.name, name.id.Name, target.id.Name)
					if err := a.send(trans, as(name), target.address()); err == nil {
						t.Errorf("%s: it was answered", what)
						answered[[2]string{who.name, a.name}]++
					}
				}
			}
		}
	}
	if now := leader.standing(); now != before {
		t.Errorf("the leader had %+v, and has %+v", before, now)
	}
	if now := follower.standing(); now != before {
		t.Errorf("a follower had %+v, and has %+v", before, now)
	}
	if _, open := leader.node.State().SessionOf(agent.id.NodeID); !open {
		t.Error("the session was closed")
	}
	t.Logf("%d attempts", tried)
	raftDoorbook(t, attempts(t, fsm.CloseSession{}), answered, map[string]*peer{doorbook.RemovedAgent: gone, doorbook.RemovedVoter: formerly, doorbook.Agent: agent, doorbook.Stranger: foreign}, follower)
	if lines := follower.log.count("connection refused"); lines > 1 {
		t.Errorf("%d lines about refused connections", lines)
	}
}

// raftDoorbook makes the table of docs/doors.md: each kind of request that is read at all, and the question for the servers.
func raftDoorbook(t *testing.T, tried []attempt, answered map[[2]string]int, four map[string]*peer, at *peer) {
	t.Helper()
	table := doorbook.NewTable("request")
	kinds := map[byte]bool{}
	for _, a := range tried {
		kinds[a.kind] = true
		table.Row(func(who string) string {
			if answered[[2]string{who, a.name}] > 0 {
				return "answered"
			}
			return doorbook.Refused
		}, a.name)
	}
	for kind := range 256 {
		_, err := decodeRequest(byte(kind), bytes.NewReader(nil), codec.NewDecoder(bytes.NewReader(nil), &codec.MsgpackHandle{}))
		if read := err == nil || !strings.Contains(err.Error(), "raft has no request of kind"); read != kinds[byte(kind)] {
			t.Errorf("a request of kind %d is read: %t, and tried: %t", kind, read, kinds[byte(kind)])
		}
	}
	table.Row(func(who string) string {
		conf := careless(four[who].id.ClientTLS())
		if who == doorbook.Stranger {
			conf = careless(&tls.Config{})
		}
		d := dialler{client: func(string) *tls.Config { return conf.Clone() }}
		got, err := d.ask(soon(t), raft.Server{ID: raft.ServerID(at.id.NodeID), Address: at.address()})
		if want := who == doorbook.Agent; want != (err == nil && len(got.Servers) > 0) {
			t.Errorf("%s asks for the servers: %v, %v", who, got, err)
		}
		if err == nil {
			return "answered"
		}
		return doorbook.Refused
	}, "who are the servers?")
	if err := doorbook.Check("raft", table); err != nil {
		t.Error(err)
	}
}

func (l *logBook) count(fragment string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.b.Bytes(), []byte(fragment))
}

// careless takes any server.
func careless(conf *tls.Config) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, GetClientCertificate: conf.GetClientCertificate}
}

// nameless shows the CA's own certificate, which is of the cluster and names no node.
func nameless(t *testing.T, p *peer) *tls.Config {
	t.Helper()
	key := must[[]byte](t)(p.id.Authority().KeyPEM())
	pair := must[tls.Certificate](t)(tls.X509KeyPair(p.id.Authority().CertPEM(), key))
	return &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}
}

// A voter itself is answered, also by the bytes of the version before.
func TestAVoterIsAnswered(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	p := c.followers()[0]
	p.close()
	leader := c.settle()
	trans := calling(t, p.id.ClientTLS())
	var resp raft.RequestPreVoteResponse
	check(t, trans.RequestPreVote("", leader.address(), &raft.RequestPreVoteRequest{RPCHeader: as(p), Term: 1}, &resp))
	if resp.Granted || resp.Term != leader.node.raft.CurrentTerm() {
		t.Errorf("got %+v", resp)
	}
}

// held makes a connection of a node to another, and reads the answer to one request.
func (p *peer) held(to *peer) (trans *raft.NetworkTransport, conn *tls.Conn) {
	p.t.Helper()
	trans = calling(p.t, p.id.ClientTLS())
	req := &raft.RequestPreVoteRequest{RPCHeader: as(p), Term: 1}
	check(p.t, trans.RequestPreVote("", to.address(), req, &raft.RequestPreVoteResponse{}))
	conn = must[*tls.Conn](p.t)(tls.Dial("tcp", string(to.address()), p.id.ClientTLS()))
	p.t.Cleanup(func() { _ = conn.Close() })
	eventually(p.t, "the connection is taken in", func() bool {
		s := to.node.parts.Transport.(*boundTransport).stream
		s.mu.Lock()
		defer s.mu.Unlock()
		n := 0
		for _, node := range s.conns {
			if node == p.id.NodeID {
				n++
			}
		}
		return n >= 2
	})
	return trans, conn
}

// Removal and demotion end what is open, within a heartbeat, and what is sent on it later is not read.
func TestRemovalCutsWhatIsOpen(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"removed", "demoted"} {
		t.Run(how, func(t *testing.T) {
			c := startCluster(t, 3)
			p := c.followers()[0]
			p.close() // its data directory goes on in other hands
			leader := c.leader()
			trans, conn := p.held(leader)
			begun := time.Now()
			if how == "removed" {
				check(t, RemoveNode(soon(t), leader.node, p.id.Name, false, func(string) bool { return true }))
			} else {
				leader.stop() // it would promote the node again
				leader.stop = func() {}
				c.demote(leader, p)
			}
			took := time.Since(begun)
			check(t, conn.SetReadDeadline(time.Now().Add(testHeartbeat+5*time.Second))) // and what a busy host adds
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the connection is open still, a heartbeat later (the change took %v): %v", took, err)
			}
			req := &raft.RequestVoteRequest{RPCHeader: as(p), Candidate: as(p).Addr, Term: highTerm, LeadershipTransfer: true}
			for range 2 { // on the pooled connection, and on a new one
				if err := trans.RequestVote("", leader.address(), req, &raft.RequestVoteResponse{}); err == nil {
					t.Error("it still votes")
				}
			}
			if now := leader.node.raft.CurrentTerm(); now >= highTerm {
				t.Errorf("the term went to %d", now)
			}
			bound := leader.node.parts.Transport.(*boundTransport)
			if how == "removed" {
				eventually(t, "nothing goes out to it", func() bool {
					bound.out.mu.Lock()
					defer bound.out.mu.Unlock()
					for c := range bound.out.open {
						if c.node == p.id.NodeID {
							return false
						}
					}
					return true
				})
				if _, err := bound.out.Dial(p.address(), time.Second); err == nil {
					t.Error("it is dialled still")
				}
			}
		})
	}
}

// Somebody else at a voter's address is no voter: the dialler names whom it wants.
func TestTheDiallerNamesWhomItWants(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	agent := c.join("agent-1", identity.RoleAgent)
	leader := c.leader()
	voter := c.followers()[0]
	if voter == agent {
		t.Fatal("the agent is no voter")
	}
	voter.close()
	l := must[net.Listener](t)(tls.Listen("tcp", string(voter.address()), agent.id.ServerTLS(false)))
	defer l.Close()
	shaken := make(chan error, 64)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(patience))
				err := conn.(*tls.Conn).Handshake()
				if err == nil {
					_, err = conn.Read(make([]byte, 1)) // in TLS 1.3 the other side refuses after this one is done
				}
				select {
				case shaken <- err:
				default:
				}
			}()
		}
	}()
	d := leader.node.parts.Transport.(*boundTransport).out
	conn, err := d.Dial(voter.address(), patience)
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, identity.ErrForeign) {
		t.Errorf("got %v", err)
	}
	if err := <-shaken; err == nil {
		t.Error("it spoke with the wrong node")
	}
}

// A node that was away while its cluster got another leader lets that one in, because a voter that
// it knows vouches for it.
func TestANodeThatWasAwayMeetsANewLeader(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	away := c.join("agent-1", identity.RoleAgent)
	eventually(t, "it follows", func() bool { return away.node.State().Index > 0 && away.node.CaughtUp() })
	away.close()
	leader := c.leader()
	for _, p := range c.all() {
		p.stop() // they would wait for the node that is away
		p.stop = func() {}
	}
	fresh := c.admit("node-9", identity.RoleVoter).open()
	for _, kind := range []ChangeKind{AddReplica, Promote} {
		check(t, leader.node.Change(soon(t), Change{Kind: kind, Node: fresh.id.NodeID, Address: fresh.address()}))
	}
	eventually(t, "it leads", func() bool {
		if _, leads := fresh.node.Leading(); leads {
			return true
		}
		_ = leader.node.raft.LeadershipTransferToServer(raft.ServerID(fresh.id.NodeID), fresh.address()).Error()
		return false
	})
	must[fsm.Result](t)(fresh.node.Propose(soon(t), 0, "", subnet(1)))
	away.open()
	if err := speakerError(away, fresh); err == nil && !has(away.node.State(), 1) {
		t.Error("the node knows the new voter already: the test proves nothing")
	}
	eventually(t, "it follows the new leader", func() bool { return has(away.node.State(), 1) })
}

func speakerError(p, q *peer) error {
	_, err := p.node.parts.Transport.(*boundTransport).roster.speaker(q.id.NodeID)
	return err
}
