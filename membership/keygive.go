package membership

import (
	"net/netip"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// What a node gives to another one whose certificate it has seen; caller is that node's id, and
// s the newest state. Each returns a refusal.

// SignRenewal signs a new key of a member. Who it is the caller's present certificate says, and
// what it is called and where it is the state; claimed, what the request says of itself, has to
// be the same.
func SignRenewal(id *identity.Identity, s *fsm.State, caller, claimed string, csr []byte, now time.Time) ([]byte, error) {
	if caller != claimed {
		return nil, fsm.Refuse(fsm.CodeUnsupported, "node %s asks for a certificate of node %s: a certificate is renewed for its own node alone", s.NodeName(caller), s.NodeName(claimed))
	}
	n, refusal := member(s, caller)
	if refusal != nil {
		return nil, refusal
	}
	ca := id.Held(s.Cluster.Keys.Issuer)
	if ca == nil {
		return nil, fsm.Refuse(fsm.CodeNotReady, "this node has not the key of the CA that signs now")
	}
	addr, err := netip.ParseAddr(n.Address)
	if err != nil {
		return nil, fsm.Refuse(fsm.CodeMalformed, "the address %q of node %s cannot be in a certificate", n.Address, n.Name)
	}
	cert, err := identity.SignCSRFor(ca, csr, n.ID, n.Name, addr, now, s.Cluster.Keys.CertificateLife)
	if err != nil {
		return nil, fsm.Refuse(fsm.CodeParameter, "no certificate can be made for node %s: %v", n.Name, err)
	}
	return cert, nil
}

// GiveGossipKey gives a gossip key of the present state to a member.
func GiveGossipKey(id *identity.Identity, s *fsm.State, caller, key string) ([]byte, error) {
	if _, refusal := member(s, caller); refusal != nil {
		return nil, refusal
	}
	for _, g := range id.GossipKeys() {
		if identity.GossipKeyID(g) == key {
			return g, nil
		}
	}
	return nil, fsm.Refuse(fsm.CodeNotFound, "this node has not the gossip key %.16s", key)
}

// GiveCAKey gives the key of a new CA to a node that shall hold it.
func GiveCAKey(id *identity.Identity, s *fsm.State, caller, ca string) ([]byte, error) {
	n, refusal := member(s, caller)
	if refusal != nil {
		return nil, refusal
	}
	if !s.MayHold(caller, ca) {
		return nil, fsm.Refuse(fsm.CodeUnsupported, "node %s is none of those that shall have the key of the CA %.16s", n.Name, ca)
	}
	held := id.Held(ca)
	if held == nil {
		return nil, fsm.Refuse(fsm.CodeNotFound, "this node has not the key of the CA %.16s", ca)
	}
	return held.KeyPEM()
}

func member(s *fsm.State, node string) (fsm.Node, *fsm.Refusal) {
	n, ok := s.Nodes[node]
	if !ok || n.Removing {
		return n, fsm.Refuse(fsm.CodeNotFound, "node %s is not a member of this cluster", node)
	}
	return n, nil
}
