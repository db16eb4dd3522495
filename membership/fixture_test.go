package membership

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
	"havip-cluster/testbed/labtest"
)

// patience is how long a test waits for what must happen. It is long because the host may
// be busy; a test that works never uses it up.
const patience = 40 * time.Second

// Slow enough that a busy host holds no elections by itself.
const (
	testHeartbeat = time.Second
	testLease     = 500 * time.Millisecond
)

var loopback = netip.MustParseAddr("127.0.0.1")

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		check(t, err)
		return v
	}
}

// eventually fails unless cond becomes true.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// throughout fails unless cond stays true for a moment.
func throughout(t testing.TB, d time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if !cond() {
			t.Fatalf("not any more: %s", what)
		}
	}
}

// leavesNothing is for a defer: it fails when goroutines stay that were not there before.
func leavesNothing(t testing.TB) func() {
	before := goleak.IgnoreCurrent()
	return func() {
		t.Helper()
		if err := labtest.NothingLeft(before); err != nil {
			t.Error(err)
		}
	}
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// wantRefusal fails unless err is a refusal with the code whose message has the fragment.
func wantRefusal(t testing.TB, err error, code fsm.Code, fragment string) {
	t.Helper()
	var refusal *fsm.Refusal
	if !errors.As(err, &refusal) || refusal.Code != code || !strings.Contains(refusal.Message, fragment) {
		t.Fatalf("got %v, want a refusal %s that says %q", err, code, fragment)
	}
}

// portsGiven are those that freePorts has given out: nobody may listen there yet.
var portsGiven sync.Map

// freePorts returns ports that nobody uses, for TCP and UDP. They are below those that the kernel gives out by
// itself: a test binds them later, and again after its node was off, and other tests run beside it.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for tries := 0; len(ports) < n && tries < 100*n; tries++ {
		port := 10_000 + mrand.IntN(22_000)
		at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		l, err := net.Listen("tcp", at)
		if err != nil {
			continue
		}
		defer l.Close()
		u, err := net.ListenPacket("udp", at)
		if err != nil {
			continue
		}
		defer u.Close()
		if _, given := portsGiven.LoadOrStore(port, true); !given {
			ports = append(ports, port)
		}
	}
	if len(ports) < n {
		t.Fatal("no free ports")
	}
	return ports
}

// logBook keeps what a node logs.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) says(fragment string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), fragment)
}

func (l *logBook) lines() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.b.Bytes(), []byte("\n"))
}

func (l *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func tempDir(t testing.TB) string {
	t.Helper()
	dir := must[string](t)(os.MkdirTemp("", "mb")) // short, because of the socket below it
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// peer is one node of a test cluster.
type peer struct {
	t    testing.TB
	spec identity.Spec
	id   *identity.Identity
	cfg  Config
	node *Node
	log  *logBook
	rec  *Reconciler
	stop func() // ends the reconciler
	// runs is node while it runs, for the reconcilers of other peers.
	runs atomic.Pointer[Node]
}

func settings(t testing.TB, name string) identity.Settings {
	p := freePorts(t, 3)
	return identity.Settings{
		Name: name, Advertise: loopback, Ports: identity.Ports{API: p[0], Raft: p[1], Gossip: p[2]},
		Profile: identity.ProfileLAN,
	}
}

// newPeer makes a data directory of a spec, without a log.
func newPeer(t testing.TB, spec identity.Spec) *peer {
	t.Helper()
	dir := filepath.Join(tempDir(t), "d")
	check(t, identity.Create(dir, spec))
	p := &peer{t: t, spec: spec, id: must[*identity.Identity](t)(identity.Load(dir)), log: &logBook{}, stop: func() {}}
	p.cfg = Config{
		Dir: identity.RaftDir(dir), Node: p.id.NodeID,
		Listen: netip.AddrPortFrom(loopback, uint16(p.id.Ports.Raft)),
		Server: p.id.ServerTLS(true), Client: p.id.ClientTLSTo,
		Heartbeat: testHeartbeat, LeaderLease: testHeartbeat, Logger: p.log.logger(),
	}
	t.Cleanup(func() { p.close() })
	return p
}

func (p *peer) asNode() fsm.Node {
	return fsm.Node{
		ID: p.id.NodeID, Name: p.id.Name, Address: p.id.Advertise.String(), Role: fsm.Role(p.id.Role),
		APIPort: p.id.Ports.API, RaftPort: p.id.Ports.Raft, GossipPort: p.id.Ports.Gossip,
	}
}

// newFounder makes the first node of a cluster, not yet running.
func newFounder(t testing.TB) *peer {
	t.Helper()
	p := newPeer(t, must[identity.Spec](t)(identity.NewCluster(settings(t, "node-1"), time.Now())))
	check(t, Bootstrap(p.cfg.Dir, p.cfg.Node, RaftAddress(p.asNode())))
	return p
}

// open starts the node.
func (p *peer) open() *peer {
	p.t.Helper()
	p.node = must[*Node](p.t)(Open(p.cfg))
	if p.cfg.wrap == nil {
		p.node.patience.follow(patience) // a disk that is only busy deposes nobody
	}
	p.runs.Store(p.node)
	return p
}

// reconcile starts the loop that only does something in a leader.
func (p *peer) reconcile(all func() []*peer) {
	p.rec = &Reconciler{
		Node:  p.node,
		Alive: func(string) bool { return true },
		Applied: func(id string) (uint64, bool) {
			for _, q := range all() {
				if n := q.runs.Load(); q.cfg.Node == id && n != nil { // id changes while it is off
					return n.Applied(), true
				}
			}
			return 0, false
		},
		Founder: &fsm.InitCluster{ID: p.id.ClusterID, Profile: "lan", Lease: testLease, Node: p.asNode()},
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.rec.Run(ctx) }()
	p.stop = func() { cancel(); <-done }
}

// close stops the node as a crash would, as far as the others can tell.
func (p *peer) close() {
	p.stop()
	p.stop = func() {}
	p.runs.Store(nil)
	if p.node != nil {
		if err := p.node.Close(); err != nil {
			p.t.Errorf("close %s: %v", p.id.Name, err)
		}
		p.node = nil
	}
}

// cluster is some peers that run.
type cluster struct {
	t     testing.TB
	mu    sync.Mutex
	peers []*peer
}

func (c *cluster) all() []*peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*peer(nil), c.peers...)
}

func (c *cluster) add(p *peer) *peer {
	c.mu.Lock()
	c.peers = append(c.peers, p)
	c.mu.Unlock()
	p.reconcile(c.all)
	return p
}

// startCluster runs a founder and further voters, which join by a token each.
func startCluster(t testing.TB, voters int) *cluster {
	t.Helper()
	c := &cluster{t: t}
	c.add(newFounder(t).open())
	c.leader()
	for i := 2; i <= voters; i++ {
		c.join(fmt.Sprintf("node-%d", i), identity.RoleVoter)
	}
	eventually(t, fmt.Sprintf("%d voters", voters), func() bool {
		ids, _ := c.leader().node.Voters()
		return len(ids) == voters
	})
	return c
}

// leader waits for one that knows its cluster.
func (c *cluster) leader() *peer {
	c.t.Helper()
	var found *peer
	eventually(c.t, "a leader", func() bool {
		for _, p := range c.all() {
			if p.node == nil {
				continue
			}
			if _, ok := p.node.Leading(); ok && p.node.State().Cluster.ID != "" {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

func (c *cluster) followers() []*peer {
	c.t.Helper()
	leader := c.leader()
	var out []*peer
	for _, p := range c.all() {
		if p != leader && p.node != nil {
			out = append(out, p)
		}
	}
	return out
}

// do commits a command, whoever leads, and fails on a refusal. An attempt whose answer was lost may have been
// committed, so all have one key.
func (c *cluster) do(body fsm.Body) fsm.Result {
	c.t.Helper()
	var res fsm.Result
	key := rand.Text()
	eventually(c.t, "a leader that commits", func() bool {
		var err error
		res, err = c.leader().node.Propose(soon(c.t), 0, key, body)
		return err == nil
	})
	if res.Refusal != nil {
		c.t.Fatalf("%T was refused: %s", body, res.Refusal)
	}
	return res
}

// token makes a join token as the API does.
func (c *cluster) token(name string, role identity.Role, life time.Duration) (string, identity.Secret) {
	c.t.Helper()
	var secret identity.Secret
	copy(secret[:], "0123456789abcdef0123456789abcdef"+name)
	id := "t-" + name
	c.do(fsm.CreateToken{Token: fsm.Token{
		ID: id, SecretHash: identity.SecretHash(secret), Node: name, Role: fsm.Role(role),
		Expires: time.Now().Add(life).UnixNano(),
	}})
	return id, secret
}

// admit lets a node in and makes its data directory with an empty log.
func (c *cluster) admit(name string, role identity.Role) *peer {
	c.t.Helper()
	id, secret := c.token(name, role, time.Hour)
	s := settings(c.t, name)
	csr, key, err := identity.NewCSR()
	check(c.t, err)
	var leader *peer
	var got Admitted
	eventually(c.t, "a leader that admits", func() bool { // the same request again is the same node
		leader = c.leader()
		got, err = Admit(soon(c.t), leader.node, leader.id, Applicant{TokenID: id, Secret: secret, Name: name, Advertise: s.Advertise, Ports: s.Ports, CSR: csr, Program: fsm.VersionWithLevel("test")}, nil)
		return !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUnknownOutcome)
	})
	check(c.t, err)
	s.ClusterID, s.NodeID, s.Role = leader.id.ClusterID, got.Node.ID, role
	s.Lease, s.Created = got.Lease, time.Now()
	p := newPeer(c.t, identity.Spec{
		Settings: s, CACert: identity.CertPEM(got.CA), CAKey: got.CAKey, Cert: got.Cert, Key: key,
		GossipKey: identity.NewGossipKey(),
	})
	check(c.t, Prepare(p.cfg.Dir, got.Voters))
	return p
}

// join lets a node in and runs it.
func (c *cluster) join(name string, role identity.Role) *peer {
	c.t.Helper()
	return c.add(c.admit(name, role).open())
}

// openSession gives a node a session, as its own life would.
func (c *cluster) openSession(id string) uint64 {
	c.t.Helper()
	return c.do(fsm.OpenSession{Node: id, Last: c.leader().node.State().Nodes[id].LastSession, Attempt: "a"}).Index
}

func must24(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), 0}), 24)
}

func settingsAddr(t testing.TB) netip.AddrPort {
	return netip.AddrPortFrom(loopback, uint16(freePorts(t, 1)[0]))
}

// sibling is the data directory of another node of p's cluster.
func (p *peer) sibling() (identity.Spec, error) {
	p.t.Helper()
	s := settings(p.t, "node-2")
	s.ClusterID, s.NodeID, s.Role = p.id.ClusterID, identity.NewNodeID(), identity.RoleVoter
	s.Lease, s.Created = p.id.Lease, time.Now()
	csr, key, err := identity.NewCSR()
	check(p.t, err)
	cert, err := identity.SignCSR(p.id.Authority(), csr, s.NodeID, s.Name, s.Advertise, time.Now())
	return identity.Spec{Settings: s, CACert: identity.CertPEM(p.id.Issuer()), Cert: cert, Key: key, GossipKey: identity.NewGossipKey()}, err
}

// tlsServer is the listening side of the version before.
func tlsServer(conn net.Conn, p *peer) *tls.Conn { return tls.Server(conn, p.id.ServerTLS(true)) }

// rest has a follower's vote taken, as before an upgrade, and returns whether it votes.
func (c *cluster) rest(p *peer) (votes func() bool) {
	c.t.Helper()
	leader := c.leader()
	votes = func() bool {
		ids, _ := leader.node.Voters()
		return slices.Contains(ids, p.id.NodeID)
	}
	version := fsm.VersionWithLevel("test")
	c.do(fsm.UpdateNode{ID: leader.id.NodeID, Version: &version})
	c.do(fsm.RestVote{Node: p.id.NodeID})
	eventually(c.t, "its vote is taken", func() bool { return !votes() })
	return votes
}
