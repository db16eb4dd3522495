package membership

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// keyed is a cluster whose nodes keep their keys.
type keyed struct {
	*cluster
	mu    sync.Mutex
	rings map[string][]string // ids of the gossip keys in use, by node id
	stop  map[*peer]func()
	looks sync.RWMutex // held for reading by who looks at other peers
	// publish is called with each new certificate.
	publish func(p *peer, leaf *x509.Certificate) error
}

// startKeyed runs voters at level 4, with their keys in the state.
func startKeyed(t *testing.T, voters int) *keyed {
	t.Helper()
	k := &keyed{cluster: startCluster(t, voters), rings: map[string][]string{}, stop: map[*peer]func(){}}
	for _, p := range k.all() {
		k.do(fsm.UpdateNode{ID: p.id.NodeID, Version: ptr(fsm.VersionWithLevel("test"))})
		k.keep(p)
	}
	k.settled("the keys are in the state")
	return k
}

func ptr[T any](v T) *T { return &v }

// keep runs the key rotator of a peer.
func (k *keyed) keep(p *peer) {
	rotator := &KeyRotator{
		Node: p.node, Identity: p.id, Log: p.log.logger(),
		Submit: func(ctx context.Context, body fsm.Body) (fsm.Result, error) {
			k.looks.RLock()
			defer k.looks.RUnlock()
			for _, q := range k.all() { // whoever leads, as over the API
				node := q.runs.Load()
				if node == nil {
					continue
				}
				if res, err := node.Propose(ctx, 0, "", body); !errors.Is(err, ErrNotLeader) {
					return res, err
				}
			}
			return fsm.Result{}, ErrNotLeader
		},
		Peer: func(n fsm.Node) KeyPeer { return loopPeer{k, p, n.ID} },
		Alive: func(id string) bool {
			return slices.ContainsFunc(k.all(), func(q *peer) bool { return q.cfg.Node == id && q.runs.Load() != nil })
		},
		Ring: func(keys [][]byte) error {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.rings[p.id.NodeID] = p.id.GossipIDs()
			return nil
		},
		Publish: func(_ context.Context, leaf *x509.Certificate) error {
			if k.publish == nil {
				return nil
			}
			return k.publish(p, leaf)
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); rotator.Run(ctx) }()
	k.stop[p] = func() { cancel(); <-done }
	k.t.Cleanup(func() { k.down(p) })
}

// down stops a peer with its key rotator, as the end of its process does. Nobody looks at it then.
func (k *keyed) down(p *peer) {
	k.cluster.mu.Lock()
	k.peers = slices.DeleteFunc(slices.Clone(k.peers), func(q *peer) bool { return p == q })
	k.cluster.mu.Unlock()
	k.looks.Lock() // whoever had found it is done with it
	stop := k.stop[p]
	k.looks.Unlock()
	if stop != nil {
		stop()
		delete(k.stop, p)
	}
	p.close()
}

// up starts it again from its disk.
func (k *keyed) up(p *peer) {
	k.t.Helper()
	p.id = must[*identity.Identity](k.t)(identity.Load(p.id.Dir))
	p.cfg.Server, p.cfg.Client = p.id.ServerTLS(true), p.id.ClientTLSTo
	k.add(p.open())
	k.keep(p)
}

// settled waits until every node that runs has reported what it has, and no rotation runs.
func (k *keyed) settled(what string) {
	k.t.Helper()
	eventually(k.t, what, func() bool {
		s := k.leader().node.State()
		keys := s.Cluster.Keys
		if len(keys.CAs) != 1 || keys.GossipUse == "" || keys.CA.Runs() || keys.GossipTurn.Runs() || len(keys.Gossip) != 1 {
			return false
		}
		for _, p := range k.all() {
			n := s.Nodes[p.id.NodeID]
			if time.Now().After(p.id.Leaf().NotAfter) {
				return false // it has told of the certificate that ended, and asks for its next one
			}
			if p.node != nil && (!n.KeyReport.Equal(Report(p.id)) || n.RenewFrom != "" || n.KeyReport.Issuer != keys.Issuer || !slices.Equal(n.KeyReport.Trusts, caIDs(keys)) || slices.ContainsFunc(n.KeyReport.Holds, func(id string) bool { return id != keys.Issuer }) || !slices.Equal(n.KeyReport.Gossip, keys.Gossip)) {
				return false
			}
		}
		return true
	})
}

func (k *keyed) newcomer(name string, role identity.Role) *peer {
	k.t.Helper()
	p := k.join(name, role)
	k.keep(p)
	return p
}

// phase waits for a phase of a rotation, and for who is awaited in it.
func (k *keyed) phase(what, phase string, awaited ...string) {
	k.t.Helper()
	eventually(k.t, fmt.Sprintf("%s in phase %q waits for %v", what, phase, awaited), func() bool {
		s := k.leader().node.State()
		var names []string
		for _, n := range s.Awaited(what) {
			names = append(names, n.Name)
		}
		return s.Cluster.Keys.Rotation(what).Phase == phase && slices.Equal(names, awaited)
	})
}

func certs(peers []*peer) map[string]string {
	out := map[string]string{}
	for _, p := range peers {
		out[p.id.Name] = identity.Fingerprint(p.id.Leaf())
	}
	return out
}

// loopPeer speaks with another peer over TLS on loopback: who asks, the certificate says.
type loopPeer struct {
	k    *keyed
	from *peer
	to   string
}

func (l loopPeer) ask(answer func(p *peer, s *fsm.State, caller string) ([]byte, error)) ([]byte, error) {
	l.k.looks.RLock()
	defer l.k.looks.RUnlock()
	for _, to := range l.k.all() {
		node := to.runs.Load()
		if to.cfg.Node != l.to || node == nil {
			continue
		}
		caller, err := handshakeOf(l.from.id, to.id)
		if err != nil {
			return nil, err
		}
		return answer(to, node.State(), caller)
	}
	return nil, errors.New("nobody listens")
}

func (l loopPeer) Renew(_ context.Context, node string, csr []byte) ([]byte, error) {
	return l.ask(func(p *peer, s *fsm.State, caller string) ([]byte, error) {
		return SignRenewal(p.id, s, caller, node, csr, time.Now())
	})
}

func (l loopPeer) GossipKey(_ context.Context, id string) ([]byte, error) {
	return l.ask(func(p *peer, s *fsm.State, caller string) ([]byte, error) { return GiveGossipKey(p.id, s, caller, id) })
}

func (l loopPeer) CAKey(_ context.Context, id string) ([]byte, error) {
	return l.ask(func(p *peer, s *fsm.State, caller string) ([]byte, error) { return GiveCAKey(p.id, s, caller, id) })
}

// handshakeOf opens a connection between two nodes and returns who called, as the other one sees it.
func handshakeOf(from, to *identity.Identity) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	type seen struct {
		node string
		err  error
	}
	got := make(chan seen, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			got <- seen{"", err}
			return
		}
		defer raw.Close()
		_ = raw.SetDeadline(time.Now().Add(patience))
		conn := tls.Server(raw, to.ServerTLS(true))
		if err := conn.Handshake(); err != nil {
			got <- seen{"", err}
			return
		}
		node, err := identity.PeerNodeID(conn.ConnectionState())
		got <- seen{node, err}
		_, _ = conn.Write([]byte("x"))
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), from.ClientTLSTo(to.NodeID))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	s := <-got
	return s.node, s.err
}

// Certificates are replaced on running nodes, three times over: Raft's connections stay, nobody
// is elected, and every commit is made.
func TestCertificatesRenewOnRunningNodes(t *testing.T) {
	t.Parallel()
	k := startKeyed(t, 3)
	agent := k.newcomer("node-4", identity.RoleAgent)
	k.settled("the agent has reported")
	for rounds, calm := 0, 0; calm < 3; rounds++ {
		if rounds == 8 { // a busy host holds one by itself, now and then
			t.Fatal("a renewal costs an election")
		}
		term, _ := k.leader().node.Leading()
		before := certs(k.all())
		k.do(fsm.RotateKeys{What: fsm.KeyOfNode})
		k.settled("all certificates are new")
		for name, now := range certs(k.all()) {
			if before[name] == now {
				t.Errorf("%s has its old certificate", name)
			}
		}
		if now, _ := k.leader().node.Leading(); now == term {
			calm++
		} else {
			t.Logf("term %d after %d", now, term)
		}
	}
	k.settle()
	again := must[*identity.Identity](t)(identity.Load(agent.id.Dir))
	if identity.Fingerprint(again.Leaf()) != identity.Fingerprint(agent.id.Leaf()) {
		t.Error("the disk has another certificate")
	}
}

// The last third of a short life is enough.
func TestCertificatesRenewByThemselves(t *testing.T) {
	t.Parallel()
	k := startKeyed(t, 2)
	k.do(fsm.SetCluster{CertificateLife: ptr(fsm.CertificateLifeMin)})
	k.do(fsm.RotateKeys{What: fsm.KeyOfNode})
	k.settled("certificates are short")
	first := certs(k.all())
	eventually(t, "both renewed by themselves", func() bool {
		now := certs(k.all())
		return now["node-1"] != first["node-1"] && now["node-2"] != first["node-2"]
	})
	for _, p := range k.all() {
		if time.Now().After(p.id.Leaf().NotAfter) || p.log.says("has ended") {
			t.Errorf("%s let its certificate end", p.id.Name)
		}
	}
}

// What is published is what is used, and nothing is used before it is published.
func TestACertificateIsPublishedFirst(t *testing.T) {
	t.Parallel()
	k := startKeyed(t, 2)
	var mu sync.Mutex
	tries, published := 0, map[string]bool{}
	k.mu.Lock()
	k.publish = func(p *peer, leaf *x509.Certificate) error {
		mu.Lock()
		defer mu.Unlock()
		published[identity.Fingerprint(leaf)] = true
		if tries++; tries <= 2 {
			return errors.New("no leader takes it")
		}
		return nil
	}
	k.mu.Unlock()
	k.do(fsm.RotateKeys{What: fsm.KeyOfNode, Node: k.followers()[0].id.NodeID})
	k.settled("renewed")
	mu.Lock()
	defer mu.Unlock()
	if now := certs(k.all()); tries != 3 || len(published) != 1 || !published[now["node-2"]] && !published[now["node-1"]] {
		t.Errorf("%d tries, %d certificates were published", tries, len(published))
	}
}

func TestARenewalUnderAnotherName(t *testing.T) {
	t.Parallel()
	k := startKeyed(t, 2)
	a, b := k.leader(), k.followers()[0]
	csr, _, err := identity.NewCSR()
	check(t, err)
	_, err = loopPeer{k, b, a.id.NodeID}.Renew(soon(t), a.id.NodeID, csr)
	wantRefusal(t, err, fsm.CodeUnsupported, "for its own node alone")
	text := must[[]byte](t)(loopPeer{k, b, a.id.NodeID}.Renew(soon(t), b.id.NodeID, csr))
	leaf := must[*x509.Certificate](t)(identity.ParseCert("x", text))
	if leaf.Subject.CommonName != b.id.NodeID || !slices.Contains(leaf.DNSNames, b.id.Name) {
		t.Errorf("signed for %s %v", leaf.Subject.CommonName, leaf.DNSNames)
	}
	// A key of the cluster goes to a member, and that of a CA to who shall hold it.
	_, err = GiveGossipKey(a.id, a.node.State(), "n-0000000000000009", a.id.GossipIDs()[0])
	wantRefusal(t, err, fsm.CodeNotFound, "not a member")
	_, err = GiveCAKey(a.id, a.node.State(), b.id.NodeID, a.id.HeldIDs()[0])
	wantRefusal(t, err, fsm.CodeUnsupported, "none of those")
	_, err = SignRenewal(a.id, a.node.State(), "n-0000000000000009", "n-0000000000000009", csr, time.Now())
	wantRefusal(t, err, fsm.CodeNotFound, "not a member")
}

// The CA is replaced while one node is off, the leader is stopped in the middle, and another node
// joins. The node that was off was waited for.
func TestTheCAIsReplacedOnARunningCluster(t *testing.T) {
	t.Parallel()
	k := startKeyed(t, 3)
	off := k.newcomer("node-4", identity.RoleAgent)
	k.settled("the agent has reported")
	old := k.leader().node.State().Cluster.Keys.Issuer
	k.down(off)
	k.do(fsm.RotateKeys{What: fsm.KeyOfCA})
	k.phase(fsm.KeyOfCA, fsm.PhaseSpread, "node-4")
	first := k.leader()
	k.down(first)
	k.phase(fsm.KeyOfCA, fsm.PhaseSpread, "node-4") // another leader goes on
	joined := k.newcomer("node-5", identity.RoleAgent)
	k.up(first)
	throughout(t, time.Second, "the old CA signs while a node does not know the new one", func() bool {
		return k.leader().node.State().Cluster.Keys.Issuer == old
	})
	k.up(off)
	k.settled("the CA is replaced")
	s := k.leader().node.State()
	if s.Cluster.Keys.Issuer == old {
		t.Fatal("the old CA signs")
	}
	for _, p := range k.all() {
		if held := p.id.HeldIDs(); slices.Contains(held, old) || p.id.Role == identity.RoleAgent && len(held) > 0 {
			t.Errorf("%s has the keys %v", p.id.Name, held)
		}
		if p.id.Role == identity.RoleVoter && p.id.Authority() == nil {
			t.Errorf("%s has not the new key", p.id.Name)
		}
	}
	// Who has only a certificate of the old CA is a stranger by now.
	stranger := must[*identity.Identity](t)(identity.Assemble(joined.spec, time.Now()))
	if _, err := handshakeOf(stranger, k.leader().id); err == nil {
		t.Error("a certificate of the old CA opens a connection")
	}
}

// An operator does not wait for a node. While the old CA is trusted the node comes back by the
// new CA's cross certificate, although it never heard of that one.
func TestANodeThatWasNotWaitedForComesBack(t *testing.T) {
	t.Parallel()
	k := startKeyed(t, 3)
	off := k.newcomer("node-4", identity.RoleAgent)
	k.settled("the agent has reported")
	k.down(off)
	k.do(fsm.RotateKeys{What: fsm.KeyOfCA})
	k.phase(fsm.KeyOfCA, fsm.PhaseSpread, "node-4")
	r := k.leader().node.State().Cluster.Keys.CA
	k.do(fsm.AdvanceKeys{What: fsm.KeyOfCA, Phase: fsm.PhaseSpread, New: r.New, Force: true})
	k.phase(fsm.KeyOfCA, fsm.PhaseUse, "node-4")
	k.up(off)
	k.settled("the node that was off has a certificate of the new CA")
}

func TestTheGossipKeyIsReplacedOnARunningCluster(t *testing.T) {
	t.Parallel()
	k := startKeyed(t, 3)
	off := k.newcomer("node-4", identity.RoleAgent)
	k.settled("the agent has reported")
	old := k.leader().id.GossipIDs()[0]
	k.down(off)
	k.do(fsm.RotateKeys{What: fsm.KeyOfGossip})
	eventually(t, "it is replaced without the node that is off", func() bool {
		keys := k.leader().node.State().Cluster.Keys
		return !keys.GossipTurn.Runs() && keys.GossipUse != old
	})
	k.up(off)
	k.settled("the node that was off has fetched it")
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.all() {
		if got := k.rings[p.id.NodeID]; len(got) != 1 || got[0] == old || !slices.Equal(got, p.id.GossipIDs()) {
			t.Errorf("%s gossips with %v", p.id.Name, got)
		}
	}
}

// Whoever goes takes no key along that is worth something.
func TestARemovalReplacesWhatTheNodeKnew(t *testing.T) {
	t.Parallel()
	k := startKeyed(t, 3)
	gossip, ca := k.leader().id.GossipIDs()[0], k.leader().node.State().Cluster.Keys.Issuer
	gone := k.followers()[0]
	check(t, k.removal(gone.id.Name, true))
	k.down(gone)
	k.settled("the keys are new")
	s := k.leader().node.State()
	if s.Cluster.Keys.Issuer == ca || s.Cluster.Keys.GossipUse == gossip {
		t.Errorf("it goes on with CA %.16s and gossip key %s", s.Cluster.Keys.Issuer, s.Cluster.Keys.GossipUse)
	}
	if _, err := handshakeOf(gone.id, k.leader().id); err == nil {
		t.Error("the node that was removed opens a connection")
	}
}

// A cluster that was asleep until all its certificates had ended elects a leader, loudly, and
// has new ones at once; then the ones that ended are worth nothing.
func TestAsleepForTwoLives(t *testing.T) {
	t.Parallel()
	k := startKeyed(t, 3)
	ca, all := k.leader().id.Authority(), k.all()
	for _, p := range all {
		stop := k.stop[p]
		stop() // the key rotator alone: it would renew at once
		delete(k.stop, p)
		csr, key, err := identity.NewCSR()
		check(t, err)
		cert := must[[]byte](t)(identity.SignCSRFor(ca, csr, p.id.NodeID, p.id.Name, p.id.Advertise, time.Now(), 5*time.Second))
		check(t, p.id.Renew(cert, key, time.Now()))
		k.down(p)
	}
	time.Sleep(6 * time.Second)
	old := must[*identity.Identity](t)(identity.Load(all[1].id.Dir))
	old.Dir = "" // a copy that somebody took
	for _, p := range all {
		k.up(p)
	}
	k.settled("the certificates are new")
	if first := k.all()[1].log; !first.says("has ended") {
		t.Error("nobody was told")
	}
	late := &lateComers{state: k.leader().node.State, log: k.leader().log.logger()}
	seen := tls.ConnectionState{PeerCertificates: []*x509.Certificate{old.Leaf()}}
	if err := late.judge(old.NodeID, seen); !errors.Is(err, ErrSuperseded) {
		t.Errorf("the certificate of before is accepted: %v", err)
	}
	if err := late.judge("n-0000000000000009", seen); err != nil {
		t.Errorf("a node of which nothing newer is known: %v", err)
	}
}
