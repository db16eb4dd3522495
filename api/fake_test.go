package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// fakeLog is a cluster without a network: one real state machine that all backends share.
type fakeLog struct {
	mu     sync.Mutex
	state  *fsm.State
	leader string // node id, "" = none
	slow   bool   // no node says that its fence knows a new HAVIP
	// watchers have a token after each change.
	watchers map[chan struct{}]bool
}

func (l *fakeLog) apply(t testing.TB, body fsm.Body, key string) fsm.Result {
	return l.applyFor(t, nil, body, key)
}

func (l *fakeLog) applyFor(t testing.TB, w *fsm.Caller, body fsm.Body, key string) fsm.Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	res := l.commit(t, w, body, key)
	if !l.slow && l.state.GuardedUpTo() < l.state.GuardIndex() { // as the nodes do at once
		for _, sess := range l.state.SessionList() {
			l.commit(t, nil, fsm.ReportGuarded{Node: sess.Node, Session: sess.Number, Index: l.state.Index}, "")
		}
	}
	return res
}

func (l *fakeLog) commit(t testing.TB, w *fsm.Caller, body fsm.Body, key string) fsm.Result {
	cmd, err := fsm.NewCommand(time.Now().UnixNano(), "", key, body)
	if err != nil {
		t.Fatal(err)
	}
	if l.state.Level() >= 4 {
		cmd.Caller = w
	}
	raw, err := cmd.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if cmd, err = fsm.DecodeCommand(raw); err != nil {
		t.Fatal(err)
	}
	next, res, err := fsm.Apply(l.state, l.state.Index+1, cmd)
	if err != nil {
		t.Fatal(err)
	}
	l.state = next
	for w := range l.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
	return res
}

func (l *fakeLog) watch() (<-chan struct{}, func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watchers == nil {
		l.watchers = map[chan struct{}]bool{}
	}
	w := make(chan struct{}, 1)
	l.watchers[w] = true
	return w, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.watchers, w)
	}
}

func (l *fakeLog) now() *fsm.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *fakeLog) lead(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leader = node
}

// fakeNode is one node's Backend.
type fakeNode struct {
	t      testing.TB
	log    *fakeLog
	id     *identity.Identity
	mu     sync.Mutex
	frozen *fsm.State            // what State returns, nil = the newest
	taken  map[netip.Addr]string // who outside the cluster has an address
	// what nodes say that they do not reach; set before anybody asks
	unreached     map[string][]Door
	moreUnreached int
	course        []CalibrationSecond // set before anybody asks
}

func (n *fakeNode) Self() string { return n.id.NodeID }

func (n *fakeNode) Watch() (<-chan struct{}, func()) { return n.log.watch() }

func (n *fakeNode) freeze(st *fsm.State) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frozen = st
}

func (n *fakeNode) State() *fsm.State {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen != nil {
		return n.frozen
	}
	return n.log.now()
}

func (n *fakeNode) Linearizable(ctx context.Context) (*fsm.State, error) {
	for _, ok := n.Leader(); !ok; _, ok = n.Leader() {
		if !poll(ctx, leaderPoll) {
			return nil, fmt.Errorf("%w: nobody votes", ErrNoLeader)
		}
	}
	return n.log.now(), nil
}

func (n *fakeNode) ReadIndex(context.Context) (uint64, error) {
	if !n.leads() {
		return 0, ErrNotLeader
	}
	return n.log.now().Index, nil
}

func (n *fakeNode) leads() bool {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	return n.log.leader == n.id.NodeID
}

func (n *fakeNode) IsLeader() bool { return n.leads() }

func (n *fakeNode) Leader() (fsm.Node, bool) {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	node, ok := n.log.state.Nodes[n.log.leader]
	return node, ok
}

func (n *fakeNode) Propose(ctx context.Context, body fsm.Body, key string) (fsm.Result, error) {
	if !n.leads() {
		return fsm.Result{}, ErrNotLeader
	}
	w, ok := CallerOf(ctx)
	if !ok {
		return fsm.Result{}, errors.New("a change without a caller")
	}
	if refusal := n.State().Permits(w, body); refusal != nil {
		return fsm.Result{Refusal: refusal}, nil
	}
	return n.log.applyFor(n.t, &w, body, key), nil
}

func (n *fakeNode) OwnCalibration(int, bool) NodeCalibration {
	return NodeCalibration{Node: n.State().NodeName(n.Self()), LeaseMS: 500, Seconds: n.course}
}

func (n *fakeNode) Calibration(context.Context, int, bool) []NodeCalibration {
	return []NodeCalibration{n.OwnCalibration(0, false)}
}

// Sign implements Backend.
func (n *fakeNode) Sign(_ context.Context, node string, csr []byte) ([]byte, error) {
	return identity.SignCSR(n.id.Authority(), csr, node, n.State().NodeName(node), netip.MustParseAddr("127.0.0.1"), time.Now())
}

func (n *fakeNode) ProposeFor(_ context.Context, node, kind string, raw json.RawMessage) (fsm.Result, error) {
	if !n.leads() {
		return fsm.Result{}, ErrNotLeader
	}
	body, refusal := fsm.OwnCommand(n.State(), node, kind, raw)
	if refusal != nil {
		return fsm.Result{Refusal: refusal}, nil
	}
	return n.log.apply(n.t, body, ""), nil
}

func (n *fakeNode) Live() map[string]Live {
	out := map[string]Live{}
	for id := range n.State().Nodes {
		out[id] = Live{Status: StatusAlive, LeaseRemaining: 432 * time.Millisecond, Version: "v1.2.3", Suffrage: "voter", Unreached: n.unreached[id], MoreUnreached: n.moreUnreached}
	}
	return out
}

func (n *fakeNode) Local() Local {
	return Local{Fence: "ebpf", Session: 7, LeaseRemaining: time.Second, LogBytes: 4096}
}

func (n *fakeNode) Admit(_ context.Context, req JoinRequest) (JoinAnswer, error) {
	node := fsm.Node{
		ID: identity.NewNodeID(), Name: req.Name, Address: req.Advertise.String(),
		APIPort: req.Ports.API, RaftPort: req.Ports.Raft, GossipPort: req.Ports.Gossip, KeyHash: "k", Version: req.Program,
	}
	res := n.log.apply(n.t, fsm.AddNode{Token: req.TokenID, SecretHash: identity.SecretHash(req.Secret), Node: node}, "")
	if res.Refusal != nil {
		return JoinAnswer{}, res.Refusal
	}
	cert, err := identity.SignCSR(n.id.Authority(), req.CSR, res.Object, req.Name, req.Advertise, time.Now())
	if err != nil {
		return JoinAnswer{}, err
	}
	key, err := n.id.Authority().KeyPEM()
	return JoinAnswer{
		ClusterID: n.id.ClusterID, NodeID: res.Object, Profile: "lan", LeaseMS: 500, Role: string(n.State().Nodes[res.Object].Role),
		Certificate: string(cert), CA: string(n.id.Authority().CertPEM()), CAKey: string(key), GossipKey: n.id.GossipKeys()[0],
	}, err
}

func (n *fakeNode) RemoveNode(ctx context.Context, name string, _ bool) error {
	node, ok := n.State().NodeNamed(name)
	if !ok {
		return fsm.Refuse(fsm.CodeNotFound, "no node is called %q", name)
	}
	yes := true
	res, err := n.Propose(ctx, fsm.UpdateNode{ID: node.ID, Removing: &yes}, "")
	if err == nil && res.Refusal != nil {
		err = res.Refusal
	}
	if err != nil {
		return err
	}
	if res := n.log.apply(n.t, fsm.RemoveNode{ID: node.ID}, ""); res.Refusal != nil {
		return res.Refusal
	}
	return nil
}

// Taken answers with what the test has put on the wire.
func (n *fakeNode) Taken(_ context.Context, ip netip.Addr) string { return n.taken[ip] }

func (n *fakeNode) MoveHAVIP(ctx context.Context, id, to, key string) (fsm.Result, error) {
	st := n.State()
	for _, e := range st.ENIList() {
		if sess, ok := st.SessionOf(e.Node); ok && (e.ID == to || st.NodeName(e.Node) == to) {
			return n.Propose(ctx, fsm.Place{Assignments: []fsm.Assignment{{
				HAVIP: id, FromEpoch: st.HAVIPs[id].Epoch, Node: e.Node, Session: sess.Number, ENI: e.ID, Reason: "moved by hand",
			}}}, key)
		}
	}
	return fsm.Result{Refusal: fsm.Refuse(fsm.CodeNotFound, "%q is neither a node nor an ENI", to)}, nil
}

// place carries out what the placement wants, as the leader's controller would.
func (l *fakeLog) place(t testing.TB) {
	var all []fsm.Assignment
	for _, d := range l.now().Explain(time.Now().UnixNano()) {
		if d.Moves {
			all = append(all, l.now().Assignment(d))
		}
	}
	if len(all) > 0 {
		l.apply(t, fsm.Place{Assignments: all}, "")
	}
}

// world is a cluster of two nodes, with a server each, on loopback.
type world struct {
	log     *fakeLog
	nodes   []*fakeNode
	servers []*Server
	addrs   []string
	sockets []string
}

func freePort(t testing.TB) (net.Listener, int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l, l.Addr().(*net.TCPAddr).Port
}

// newIdentity makes and loads a node; by is the CA of its cluster, nil for a new one.
func newIdentity(t testing.TB, name string, port int, by *identity.Identity) *identity.Identity {
	t.Helper()
	settings := identity.Settings{
		Name: name, Advertise: netip.MustParseAddr("127.0.0.1"), Ports: identity.Ports{API: port, Raft: port ^ 0x4000, Gossip: port ^ 0x2000},
		Profile: identity.ProfileLAN,
	}
	spec, err := identity.NewCluster(settings, time.Now())
	must(t, err)
	if by != nil {
		spec.ClusterID = by.ClusterID
		spec.CACert = by.Authority().CertPEM()
		spec.CAKey, err = by.Authority().KeyPEM()
		must(t, err)
		csr, key, err := identity.NewCSR()
		must(t, err)
		spec.Key = key
		spec.Cert, err = identity.SignCSR(by.Authority(), csr, spec.NodeID, name, settings.Advertise, time.Now())
		must(t, err)
	}
	dir := filepath.Join(t.TempDir(), "d")
	must(t, identity.Create(dir, spec))
	id, err := identity.Load(dir)
	must(t, err)
	return id
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t testing.TB) *world {
	w := &world{log: &fakeLog{state: fsm.New()}}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	t.Cleanup(func() { cancel(); group.Wait() })
	for i := range 2 {
		l, port := freePort(t)
		var by *identity.Identity
		if i > 0 {
			by = w.nodes[0].id
		}
		id := newIdentity(t, fmt.Sprintf("node-%d", i+1), port, by)
		n := &fakeNode{t: t, log: w.log, id: id}
		s := New(Config{Backend: n, Identity: id, Version: "v1.2.3", Console: noConsole})
		socket := identity.SocketPath(id.Dir)
		local, err := ListenLocal(socket)
		must(t, err)
		w.nodes, w.servers = append(w.nodes, n), append(w.servers, s)
		w.addrs, w.sockets = append(w.addrs, l.Addr().String()), append(w.sockets, socket)
		group.Go(func() {
			if err := s.Run(ctx, l, local); err != nil {
				t.Error(err)
			}
		})
	}
	w.fill(t)
	return w
}

// fill makes the state: two nodes with sessions and an ENI each.
func (w *world) fill(t testing.TB) {
	member := func(id *identity.Identity) fsm.Node {
		return fsm.Node{
			ID: id.NodeID, Name: id.Name, Address: id.Advertise.String(), Role: fsm.RoleVoter, Version: fsm.VersionWithLevel("v1.2.3"),
			APIPort: id.Ports.API, RaftPort: id.Ports.Raft, GossipPort: id.Ports.Gossip,
		}
	}
	first, second := w.nodes[0].id, w.nodes[1].id
	steps := []fsm.Body{
		fsm.InitCluster{ID: first.ClusterID, Profile: "lan", Lease: 500 * time.Millisecond, Node: member(first)},
		fsm.CreateToken{Token: fsm.Token{ID: "t", SecretHash: "h", Node: "node-2", Role: fsm.RoleVoter, Expires: time.Now().Add(time.Hour).UnixNano()}},
		fsm.AddNode{Token: "t", SecretHash: "h", Node: member(second)},
	}
	for i, n := range w.nodes {
		steps = append(steps,
			fsm.OpenSession{Node: n.id.NodeID, Attempt: "a"},
			fsm.ReportENIs{Node: n.id.NodeID, ENIs: []fsm.ENI{{
				Device: "eth0", MAC: fmt.Sprintf("02:00:00:00:00:0%d", i+1), Primary: true, Up: true,
				Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.77.0.%d/24", i+11))},
			}}})
	}
	for _, b := range steps {
		if res := w.log.apply(t, b, ""); res.Refusal != nil {
			t.Fatalf("%T: %v", b, res.Refusal)
		}
	}
	w.log.lead(first.NodeID)
}

// local is a client on node i's socket.
func (w *world) local(i int) *Client {
	return NewLocalClient(w.sockets[i])
}

// curl is a bare HTTP client for node i over its socket.
func (w *world) curl(i int) *http.Client { return w.local(i).http }

// noConsole is a console without a page: its own tests are in its folder.
func noConsole(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("a page")) })
}
