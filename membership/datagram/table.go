package datagram

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// table is who may speak, by the newest state. It is brought up to date before each frame, so
// that a removal or a new key counts with the first frame after it was applied here.
type table struct {
	cluster, self string
	short         uint64
	state         func() *fsm.State
	keys          func() ([]identity.DatagramKey, error)
	changed       func() // is called when the peers are others than before

	mu    sync.Mutex // for writing seen
	seen  atomic.Pointer[view]
	fault atomic.Pointer[string] // why the own keys cannot be read; nil: they can
}

// view is the table as of one state. Nobody changes it.
type view struct {
	of    *fsm.State
	own   []identity.DatagramKey // all that this process has, the newest first
	said  []identity.DatagramKey // of these, those that the state has of this node: others know them
	peers map[uint64]*peer       // by short id
}

// now returns the view of the newest state.
func (t *table) now() *view {
	s := t.state()
	if v := t.seen.Load(); v != nil && v.of == s {
		return v
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.seen.Load()
	if before != nil && before.of == s {
		return before
	}
	v := t.follow(before, s)
	t.seen.Store(v)
	if before == nil || !sameMap(before, v) {
		t.changed()
	}
	return v
}

// follow makes the view of a state from the one before.
func (t *table) follow(before *view, s *fsm.State) *view {
	if before == nil {
		before = &view{peers: map[uint64]*peer{}}
	}
	v := &view{of: s, own: before.own, peers: before.peers}
	if own, err := t.keys(); err != nil {
		why := err.Error()
		t.fault.Store(&why)
	} else {
		t.fault.Store(nil)
		v.own = own
	}
	me := s.Nodes[t.self]
	for _, k := range v.own {
		if slices.Contains(me.Keys, fsm.NodeKey{Certificate: k.Certificate, Public: k.Public}) {
			v.said = append(v.said, k)
		}
	}
	sameOwn := slices.EqualFunc(before.own, v.own, sameKey)
	if sameOwn && samePeers(before.of, s) {
		return v
	}
	v.peers = map[uint64]*peer{}
	for id, n := range s.Nodes {
		short := shortID(id)
		if id == t.self || !n.Speaks() || short == t.short || v.peers[short] != nil {
			continue
		}
		p := before.peers[short]
		if p == nil || p.id != id {
			p = &peer{id: id, short: short, since: time.Now(), recv: receiving{next: draw()}}
		}
		p.follow(n, v.own)
		v.peers[short] = p
	}
	return v
}

// sameMap reports whether two views have the same peers with the same keys.
func sameMap(a, b *view) bool {
	return len(a.said) == len(b.said) && samePeers(a.of, b.of) && slices.EqualFunc(a.own, b.own, sameKey)
}

func sameKey(a, b identity.DatagramKey) bool { return a.Certificate == b.Certificate }

// samePeers reports whether two states have the same nodes with the same keys and addresses.
func samePeers(a, b *fsm.State) bool {
	if a == nil || len(a.Nodes) != len(b.Nodes) {
		return false
	}
	for id, n := range a.Nodes {
		m, there := b.Nodes[id]
		if !there || m.Address != n.Address || m.LeasePort != n.LeasePort || !slices.Equal(m.Keys, n.Keys) {
			return false
		}
	}
	return true
}

// follow takes what the state says of the peer, and forgets what hangs on keys that ended.
func (p *peer) follow(n fsm.Node, own []identity.DatagramKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.node, p.keys = n, n.Keys
	counts := func(x *pair) bool {
		return slices.Contains(p.keys, x.other) && slices.ContainsFunc(own, func(k identity.DatagramKey) bool { return sameKey(k, x.own) })
	}
	p.pairs = slices.DeleteFunc(p.pairs, func(x *pair) bool { return !counts(x) })
	p.drop(counts)
}

// pair returns what a key of this node and one of the peer's make; with the peer's lock held.
func (p *peer) pair(cluster, self string, own identity.DatagramKey, other fsm.NodeKey) (*pair, error) {
	for _, x := range p.pairs {
		if sameKey(x.own, own) && x.other == other {
			return x, nil
		}
	}
	x, err := newPair(cluster, self, own, p.id, other)
	if err != nil {
		return nil, err
	}
	p.pairs = append(p.pairs, x)
	return x, nil
}

// named finds the keys that a header names; with the peer's lock held.
func (t *table) named(v *view, p *peer, h *header) (*pair, cause) {
	for _, other := range p.keys {
		if shortKey(other.Certificate) != h.fromKey {
			continue
		}
		for _, own := range v.own {
			if ownKey(own) != h.toKey {
				continue
			}
			x, err := p.pair(t.cluster, t.self, own, other)
			if err != nil {
				return nil, causeKey
			}
			return x, ""
		}
	}
	return nil, causeKey
}
