package membership

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"slices"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

const (
	keysTick      = time.Second
	keysPauseMin  = 500 * time.Millisecond // after a failure; it doubles
	keysPauseMax  = time.Minute
	keysStepsMax  = 32 // duties that are done one after the other without a pause
	keysCallLimit = 5 * time.Second
)

// KeyPeer is another node, for what two nodes say to each other about keys over mutual TLS.
type KeyPeer interface {
	// Renew asks for a certificate; node is this node's own id.
	Renew(ctx context.Context, node string, csr []byte) (certPEM []byte, err error)
	// GossipKey asks for a gossip key by its id.
	GossipKey(ctx context.Context, id string) ([]byte, error)
	// CAKey asks for the secret key of a CA by its id.
	CAKey(ctx context.Context, id string) (keyPEM []byte, err error)
}

// KeyRotator keeps a node's certificate and keys as the cluster has agreed, and, in the leader,
// moves the replacement of keys on. What it has to do follows from the state and from what the
// node has (duties), so a restart or another leader goes on where it was. Until the state has
// what was in the log at the start it does nothing: by an older state it would erase what is in use.
type KeyRotator struct {
	Node     *Node
	Identity *identity.Identity
	// Submit carries a command of this node's own life to whoever leads.
	Submit func(ctx context.Context, body fsm.Body) (fsm.Result, error)
	Peer   func(n fsm.Node) KeyPeer
	Alive  func(node string) bool
	// Ring gives the gossip keys to gossip, the one to encrypt with first.
	Ring func(keys [][]byte) error
	// Publish is called with a new certificate before it is used; nil does nothing. An error
	// puts its use off.
	Publish func(ctx context.Context, leaf *x509.Certificate) error
	// Renewed is called when another certificate is in use; nil does nothing.
	Renewed func()
	Log     *slog.Logger

	pending *pendingCert
	failed  map[string]failure // by the kind and subject of a duty
	warned  warnings
}

// pendingCert is a certificate that is signed and not in use yet.
type pendingCert struct {
	cert, key []byte // PEM
	issuer    string
}

// failure is when a duty may be tried again.
type failure struct {
	again time.Time
	pause time.Duration
}

// Run works until ctx ends.
func (k *KeyRotator) Run(ctx context.Context) {
	watch, stop := k.Node.Watch()
	defer stop()
	tick := time.NewTicker(keysTick)
	defer tick.Stop()
	k.failed = map[string]failure{}
	for {
		for range keysStepsMax {
			if ctx.Err() != nil || !k.step(ctx, time.Now()) {
				break
			}
		}
		k.warn(ctx, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-watch:
		case <-tick.C:
		}
	}
}

// step does the first duty that may be tried now; it reports whether one was done.
func (k *KeyRotator) step(ctx context.Context, now time.Time) bool {
	if !k.Node.CaughtUp() { // before the state, which is then that one or a later one
		return false
	}
	s := k.Node.State()
	list := duties(s, k.view(s), func(node string) bool { return !k.Alive(node) }, now)
	due := map[string]bool{}
	for _, d := range list {
		due[d.name()] = true
	}
	for name := range k.failed {
		if !due[name] {
			delete(k.failed, name)
		}
	}
	for _, d := range list {
		f := k.failed[d.name()]
		if now.Before(f.again) {
			continue
		}
		err := k.do(ctx, s, d)
		if ctx.Err() != nil {
			return false
		}
		f.pause = min(max(2*f.pause, keysPauseMin), k.pauseMax())
		if err == nil { // not again before the state had time to follow
			f.pause = keysPauseMin
		}
		f.again = time.Now().Add(f.pause*3/4 + mrand.N(f.pause/2))
		k.failed[d.name()] = f
		if err == nil {
			return true
		}
		k.Log.Info("keys: it is tried again", "duty", d.name(), "in", f.pause.String(), "err", err)
	}
	return false
}

// pauseMax is shorter where certificates live for minutes.
func (k *KeyRotator) pauseMax() time.Duration {
	return min(keysPauseMax, max(keysPauseMin, identity.Life(k.Identity.Leaf())/30))
}

func (d duty) name() string { return string(d.kind) + " " + d.what + " " + d.id }

// Report is what this node would say of its certificate and keys.
func Report(id *identity.Identity) fsm.KeyReport {
	leaf := id.Leaf()
	return fsm.KeyReport{
		Cert: identity.Fingerprint(leaf), Issuer: identity.Fingerprint(id.Issuer()), From: leaf.NotBefore.Unix(), Until: leaf.NotAfter.Unix(),
		Trusts: id.AnchorIDs(), Holds: id.HeldIDs(), Gossip: id.GossipIDs(),
	}
}

func (k *KeyRotator) view(s *fsm.State) keyView {
	_, leads := k.Node.Leading()
	v := keyView{self: k.Node.Self(), report: Report(k.Identity), life: identity.Life(k.Identity.Leaf()), leads: leads, leader: k.Node.LeaderID()}
	if r := s.Cluster.Keys.CA; r.Phase == fsm.PhaseMake {
		if ca := k.Identity.MadeCA(r.Begun); ca != nil {
			v.madeCA = identity.Fingerprint(ca.Cert)
		}
	}
	if r := s.Cluster.Keys.GossipTurn; r.Phase == fsm.PhaseMake {
		v.madeGossip = k.Identity.MadeGossip(r.Begun)
	}
	if k.Identity.Misplaced() {
		v.movedTo = k.Identity.Advertise.String()
	}
	for _, a := range k.Identity.Anchors() {
		if a.ID() == s.Cluster.Keys.Issuer {
			v.caEnds = a.Cert.NotAfter
		}
	}
	return v
}

// do carries one duty out.
func (k *KeyRotator) do(ctx context.Context, s *fsm.State, d duty) error {
	ctx, cancel := context.WithTimeout(ctx, 2*keysCallLimit)
	defer cancel()
	switch d.kind {
	case dutyTrust:
		return k.trust(s)
	case dutyFetch:
		return k.fetchGossip(ctx, s, d.id)
	case dutyRing:
		return k.useRing(s)
	case dutyHold:
		return k.fetchCA(ctx, s, d.id)
	case dutyForget:
		return k.Identity.Forget(k.view(s).kept(s.Cluster.Keys))
	case dutyRenew:
		return k.renew(ctx, s)
	case dutyReport:
		return k.submit(ctx, fsm.ReportKeys{Node: k.Node.Self(), Report: Report(k.Identity)})
	case dutyAdopt:
		return k.adopt(ctx, d.what)
	case dutyMake:
		return k.make(ctx, s, d.what)
	case dutyAdvance:
		return k.propose(ctx, fsm.AdvanceKeys{What: d.what, Phase: s.Cluster.Keys.Rotation(d.what).Phase, New: d.id, Without: d.without})
	case dutyRotate:
		return k.propose(ctx, fsm.RotateKeys{What: d.what, Why: "the present one ends, or nobody who is there has the new one"})
	}
	panic("membership: no case for the duty " + d.kind)
}

func (k *KeyRotator) submit(ctx context.Context, body fsm.Body) error {
	res, err := k.Submit(ctx, body)
	if err == nil && res.Refusal != nil {
		err = res.Refusal
	}
	return err
}

// propose is for what only the leader does.
func (k *KeyRotator) propose(ctx context.Context, body fsm.Body) error {
	term, leads := k.Node.Leading()
	if !leads {
		return ErrNotLeader
	}
	res, err := k.Node.Propose(ctx, term, "", body)
	if err == nil && res.Refusal != nil {
		err = res.Refusal
	}
	return err
}

// trust accepts the CAs of the state, each of which has to be one of this cluster.
func (k *KeyRotator) trust(s *fsm.State) error {
	var anchors []identity.Anchor
	for _, ca := range s.Cluster.Keys.CAs {
		a, err := identity.ParseAnchor(k.Identity.ClusterID, []byte(ca.Cert), []byte(ca.Cross))
		if err != nil {
			return err
		}
		anchors = append(anchors, a)
	}
	return k.Identity.Trust(anchors)
}

// useRing brings the gossip keys into the order of the state, and drops what it does not name.
func (k *KeyRotator) useRing(s *fsm.State) error {
	have := map[string][]byte{}
	for _, key := range k.Identity.GossipKeys() {
		have[identity.GossipKeyID(key)] = key
	}
	var keys [][]byte
	for _, id := range k.view(s).ring(s.Cluster.Keys) {
		if have[id] == nil {
			return fmt.Errorf("membership: the gossip key %s is not here yet", id)
		}
		keys = append(keys, have[id])
	}
	return k.setRing(keys)
}

func (k *KeyRotator) setRing(keys [][]byte) error {
	if err := k.Identity.SetGossipKeys(keys); err != nil {
		return err
	}
	return k.Ring(keys)
}

// fetchGossip gets a key from a node that says that it has it.
func (k *KeyRotator) fetchGossip(ctx context.Context, s *fsm.State, id string) error {
	return k.fromAny(ctx, s, func(n fsm.Node) bool { return slices.Contains(n.KeyReport.Gossip, id) }, func(ctx context.Context, p KeyPeer) error {
		key, err := p.GossipKey(ctx, id)
		if err != nil {
			return err
		}
		if got := identity.GossipKeyID(key); got != id {
			return fmt.Errorf("membership: the gossip key %s was sent for %s", got, id)
		}
		return k.setRing(append(k.Identity.GossipKeys(), key))
	})
}

// fetchCA gets the key of a CA from a node that has it.
func (k *KeyRotator) fetchCA(ctx context.Context, s *fsm.State, id string) error {
	return k.fromAny(ctx, s, holds(id), func(ctx context.Context, p KeyPeer) error {
		text, err := p.CAKey(ctx, id)
		if err != nil {
			return err
		}
		cert, _ := s.Cluster.Keys.CAOf(id)
		ca, err := identity.ParseCA([]byte(cert.Cert), text)
		if err != nil {
			return err
		}
		return k.Identity.Hold(ca)
	})
}

func holds(ca string) func(fsm.Node) bool {
	return func(n fsm.Node) bool { return slices.Contains(n.KeyReport.Holds, ca) }
}

// fromAny asks other nodes one after the other until one gives what is wanted: the leader
// first, then in any order.
func (k *KeyRotator) fromAny(ctx context.Context, s *fsm.State, has func(fsm.Node) bool, ask func(context.Context, KeyPeer) error) error {
	list := slices.DeleteFunc(s.NodeList(), func(n fsm.Node) bool { return n.ID == k.Node.Self() || n.Removing || !has(n) })
	mrand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	leader := k.Node.LeaderID()
	slices.SortStableFunc(list, func(a, b fsm.Node) int {
		switch leader {
		case a.ID:
			return -1
		case b.ID:
			return 1
		}
		return 0
	})
	errs := []error{errors.New("membership: no other node has it, or none that answers")}
	for _, n := range list {
		call, cancel := context.WithTimeout(ctx, keysCallLimit)
		err := ask(call, k.Peer(n))
		cancel()
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("node %s: %w", n.Name, err))
	}
	return errors.Join(errs...)
}

// adopt brings a key that was there before the cluster managed keys into the state.
func (k *KeyRotator) adopt(ctx context.Context, what string) error {
	b := fsm.OfferKey{What: what, Node: k.Node.Self(), ID: k.Identity.GossipIDs()[0]}
	if what == fsm.KeyOfCA {
		ca := k.Identity.Issuer()
		b.ID = identity.Fingerprint(ca)
		b.CA = fsm.CA{ID: b.ID, Cert: string(identity.CertPEM(ca))}
	}
	return k.propose(ctx, b)
}

// make makes the new key of a rotation and offers it. It is on the disk before it is offered.
func (k *KeyRotator) make(ctx context.Context, s *fsm.State, what string) error {
	b := fsm.OfferKey{What: what, Node: k.Node.Self()}
	var err error
	if what == fsm.KeyOfCA {
		b.CA, err = k.makeCA(s)
		b.ID = b.CA.ID
	} else {
		b.ID, err = k.makeGossip(s)
	}
	if err != nil {
		return err
	}
	return k.submit(ctx, b)
}

// makeGossip makes a gossip key. One that was made for the same rotation is offered again: nobody
// knows whether that offer was taken. Any other one may be known to somebody who was removed.
func (k *KeyRotator) makeGossip(s *fsm.State) (id string, err error) {
	rotation := s.Cluster.Keys.GossipTurn.Begun
	if id = k.Identity.MadeGossip(rotation); id == "" {
		key := make([]byte, 32)
		rand.Read(key)
		if err := k.Identity.AddGossipMade(key, rotation); err != nil {
			return "", err
		}
		id = identity.GossipKeyID(key)
	}
	return id, k.Ring(k.Identity.GossipKeys())
}

// makeCA makes a CA, which the present one endorses when its key is here. As with gossip only one
// that was made for the same rotation is offered again.
func (k *KeyRotator) makeCA(s *fsm.State) (fsm.CA, error) {
	rotation := s.Cluster.Keys.CA.Begun
	ca := k.Identity.MadeCA(rotation)
	if ca == nil {
		var err error
		if ca, err = identity.NewCA(k.Identity.ClusterID, time.Now()); err != nil {
			return fsm.CA{}, err
		}
		if err = k.Identity.HoldMade(ca, rotation); err != nil {
			return fsm.CA{}, err
		}
	}
	out := fsm.CA{ID: identity.Fingerprint(ca.Cert), Cert: string(ca.CertPEM())}
	if present := k.Identity.Held(s.Cluster.Keys.Issuer); present != nil {
		cross, err := present.Endorse(ca.Cert)
		if err != nil {
			return fsm.CA{}, err
		}
		out.Cross = string(identity.CertPEM(cross))
	}
	return out, nil
}

// renew gets a certificate for a new key, publishes it, and uses it from then on. What is signed
// and could not be published is tried again, not signed again.
func (k *KeyRotator) renew(ctx context.Context, s *fsm.State) error {
	issuer := s.Cluster.Keys.Issuer
	if k.pending == nil || k.pending.issuer != issuer {
		p, err := k.signed(ctx, s, issuer)
		if err != nil {
			return err
		}
		k.pending = p
	}
	leaf, err := identity.ParseCert("the new certificate", k.pending.cert)
	if err == nil && k.Publish != nil {
		err = k.Publish(ctx, leaf)
	}
	if err != nil {
		return err
	}
	p := k.pending
	k.pending = nil
	if err := k.Identity.Renew(p.cert, p.key, time.Now()); err != nil {
		return err
	}
	if k.Renewed != nil {
		k.Renewed()
	}
	k.Log.Info("keys: this node has a new certificate", "id", identity.Fingerprint(leaf)[:16], "until", leaf.NotAfter.Format(time.RFC3339))
	return nil
}

// signed makes a key and has it signed: here, when this node has the CA's key, else by one
// that has.
func (k *KeyRotator) signed(ctx context.Context, s *fsm.State, issuer string) (*pendingCert, error) {
	csr, key, err := identity.NewCSR()
	if err != nil {
		return nil, err
	}
	out := &pendingCert{key: key, issuer: issuer}
	self := k.Node.Self()
	if k.Identity.Held(issuer) != nil {
		out.cert, err = SignRenewal(k.Identity, s, self, self, csr, time.Now())
		return out, err
	}
	return out, k.fromAny(ctx, s, holds(issuer), func(ctx context.Context, p KeyPeer) error {
		out.cert, err = p.Renew(ctx, self, csr)
		return err
	})
}
