package fsm

import (
	"fmt"
	"net/netip"
)

// SetAddress gives a node another address at which the others reach it. Its id, name, keys and log stay,
// so it is the same member, and Raft's configuration follows (membership.NextChange).
type SetAddress struct {
	Node    string `json:"node"` // id
	Address string `json:"address"`
}

func (SetAddress) kind() string { return "set-address" }

// addressBodies are the kinds of level 4.
func addressBodies() []Body { return []Body{&SetAddress{}} }

// setAddress refuses while the node has a session: it would be cut off with HAVIPs on it, and a copy of
// its disk at the new address must not be taken for it.
func (s *State) setAddress(c Command, b SetAddress) (string, *Refusal) {
	n, ok := s.Nodes[b.Node]
	switch {
	case !ok:
		return "", Refuse(CodeNotFound, "no node has the id %q", clip(b.Node, MaxNameRunes))
	case n.Removing:
		return "", Refuse(CodeUnsupported, "node %s is being removed", n.Name)
	}
	addr, err := netip.ParseAddr(b.Address)
	if err != nil || addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" || addr.Is4In6() {
		return "", Refuse(CodeMalformed, "%q is not an address at which node %s can be reached", clip(b.Address, MaxNameRunes), n.Name)
	}
	if n.Address == addr.String() {
		return n.ID, nil
	}
	if sess, open := s.SessionOf(n.ID); open {
		return "", Refuse(CodeInUse, "node %s has session %d, so its agent runs at %s: stop it first, which hands its HAVIPs over; a node that is lost has none about a lease later", n.Name, sess.Number, n.Address)
	}
	was := n.Address
	n.Address = addr.String()
	if r := s.endpointFree(n); r != nil {
		return "", r
	}
	if r := s.reachable(n); r != nil {
		return "", r
	}
	if r := s.checkKeys(n); r != nil {
		return "", r
	}
	s.Nodes[n.ID] = n
	s.note(c, "node-changed", "", n.Name, fmt.Sprintf("node %s is at %s from now on, it was at %s", n.Name, n.Address, was))
	return n.ID, nil
}

// endpointFree refuses an address and ports that another node has.
func (s *State) endpointFree(n Node) *Refusal {
	for _, old := range sorted(s.Nodes) {
		if old.ID != n.ID && old.Address == n.Address && (old.RaftPort == n.RaftPort || old.APIPort == n.APIPort || old.GossipPort == n.GossipPort) {
			return Refuse(CodeInUse, "address %s with one of the ports %d, %d, %d belongs to node %s", n.Address, n.APIPort, n.RaftPort, n.GossipPort, old.Name)
		}
	}
	return nil
}
