package fsm

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// MaxNodeKeys is how many keys of one node count: the present one and the one before.
const MaxNodeKeys = 2

// Point returns the public key, or an error for what is no point of P-256.
func (k NodeKey) Point() (*ecdh.PublicKey, error) {
	raw, err := base64.StdEncoding.DecodeString(k.Public)
	if err != nil {
		return nil, fmt.Errorf("fsm: public key %q: %w", clip(k.Public, MaxNameRunes), err)
	}
	point, err := ecdh.P256().NewPublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("fsm: public key of %d bytes: %w", len(raw), err)
	}
	return point, nil
}

// Speaks reports whether the words of a node are sealed: it has registered a key and a port.
func (n Node) Speaks() bool { return n.LeasePort != 0 && len(n.Keys) > 0 }

// check refuses what is no key.
func (k NodeKey) check() *Refusal {
	raw, err := hex.DecodeString(k.Certificate)
	if err != nil || len(raw) != 32 || strings.ToLower(k.Certificate) != k.Certificate {
		return Refuse(CodeMalformed, "%q is not the SHA-256 of a certificate in 64 lower-case hex digits", clip(k.Certificate, MaxNameRunes))
	}
	if _, err := k.Point(); err != nil {
		return Refuse(CodeMalformed, "the key of certificate %s cannot be used: %v", k.Certificate, err)
	}
	return nil
}

// checkKeys refuses keys and a port that node n may not have.
func (s *State) checkKeys(n Node) *Refusal {
	if n.LeasePort < 0 || n.LeasePort > 65535 {
		return Refuse(CodeRange, "port %d for the words of the lease is not between 1 and 65535", n.LeasePort)
	}
	if len(n.Keys) > MaxNodeKeys || len(n.Keys) > 0 && n.LeasePort == 0 {
		return Refuse(CodeMalformed, "node %s names %d keys and the lease port %d; at most %d keys, and none without a port", n.Name, len(n.Keys), n.LeasePort, MaxNodeKeys)
	}
	for _, k := range n.Keys {
		if r := k.check(); r != nil {
			return r
		}
	}
	for _, old := range sorted(s.Nodes) {
		switch {
		case old.ID == n.ID:
		case n.LeasePort != 0 && old.LeasePort == n.LeasePort && old.Address == n.Address:
			return Refuse(CodeInUse, "address %s with the lease port %d belongs to node %s", n.Address, n.LeasePort, old.Name)
		case slices.ContainsFunc(old.Keys, func(k NodeKey) bool {
			return slices.ContainsFunc(n.Keys, func(x NodeKey) bool { return x.Public == k.Public })
		}):
			return Refuse(CodeDuplicate, "node %s speaks with this key already; two nodes never share one: is there a copy of its data directory?", old.Name)
		}
	}
	return nil
}

// registerKey makes a key the newest one of its node.
func (s *State) registerKey(c Command, b RegisterKey) *Refusal {
	n, ok := s.Nodes[b.Node]
	if !ok {
		return Refuse(CodeNotFound, "node %s is not a member of this cluster", b.Node)
	}
	if b.LeasePort == 0 {
		return Refuse(CodeRange, "node %s names no port for the words of the lease", n.Name)
	}
	before := n.Keys
	n.Keys, n.LeasePort = []NodeKey{b.Key}, b.LeasePort
	if !b.Alone {
		for _, k := range before {
			if k != b.Key && len(n.Keys) < MaxNodeKeys {
				n.Keys = append(n.Keys, k)
			}
		}
	}
	if r := s.checkKeys(n); r != nil {
		return r
	}
	s.Nodes[n.ID] = n
	if len(before) == 0 || before[0] != b.Key {
		s.note(c, "key", "", n.Name, fmt.Sprintf("node %s speaks with the key of certificate %s", n.Name, b.Key.Certificate[:16]))
	}
	return nil
}
