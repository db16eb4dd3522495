package fsm

import (
	"cmp"
	"slices"
	"time"
)

// Keys is what the cluster has agreed about its CAs and its gossip key. No secret is ever in
// it: the log is read by every member, and by those that were removed later.
type Keys struct {
	// CAs are those whose certificates every node accepts, the eldest first; none = the cluster
	// has not begun to manage its keys (below level 4).
	CAs []CA `json:"cas,omitempty"`
	// Issuer is the id of the CA that signs.
	Issuer string   `json:"issuer,omitempty"`
	CA     Rotation `json:"ca,omitzero"`
	// Gossip are the ids of the gossip keys that every node has to know; GossipUse is the one to
	// encrypt with.
	Gossip    []string `json:"gossip,omitempty"`
	GossipUse string   `json:"gossip_use,omitempty"`
	// GossipTurn is the rotation of the gossip key.
	GossipTurn Rotation `json:"gossip_turn,omitzero"`
	// CertificateLife is how long a node's certificate is made for; 0 = 2 years.
	CertificateLife time.Duration `json:"certificate_life,omitempty"`
}

// CA is one that is trusted. Its certificates are public.
type CA struct {
	ID    string `json:"id"`              // SHA-256 of Cert, hex
	Cert  string `json:"cert"`            // PEM
	Cross string `json:"cross,omitempty"` // PEM: its name and key, signed by the CA before
}

// What can be rotated.
const (
	KeyOfNode   = "node"
	KeyOfCA     = "ca"
	KeyOfGossip = "gossip"
)

// Phases of a rotation. Each one ends when all nodes that count have confirmed it.
const (
	PhaseMake   = "make"   // somebody who may has to make the new key
	PhaseSpread = "spread" // every node has to know it
	PhaseUse    = "use"    // every node has to use it; then the old one is dropped
)

// Rotation is a replacement that is under way; its zero value is none.
type Rotation struct {
	Phase string `json:"phase,omitempty"`
	New   string `json:"new,omitempty"`   // id of the new key, from PhaseSpread on
	Begun uint64 `json:"begun,omitempty"` // log index
	Since int64  `json:"since,omitempty"` // Command.At of the present phase
	Why   string `json:"why,omitempty"`
	// Again says why another one follows at once; "" = none does.
	Again string `json:"again,omitempty"`
	// Holders are the ids of the nodes that shall have a new CA's key, sorted.
	Holders []string `json:"holders,omitempty"`
}

// Runs reports whether a rotation is under way.
func (r Rotation) Runs() bool { return r.Phase != "" }

// KeyReport is what a node says of its own certificates and keys: ids only.
type KeyReport struct {
	Cert   string   `json:"cert,omitempty"`   // SHA-256 of the certificate, hex; "" = it has not reported
	Issuer string   `json:"issuer,omitempty"` // id of the CA that signed it
	From   int64    `json:"from,omitempty"`   // unix seconds
	Until  int64    `json:"until,omitempty"`  // unix seconds
	Trusts []string `json:"trusts,omitempty"` // ids of the CAs it accepts, sorted
	Holds  []string `json:"holds,omitempty"`  // ids of the CAs whose keys it has, sorted
	Gossip []string `json:"gossip,omitempty"` // ids of its gossip keys; the first one encrypts
}

// Equal reports whether two reports say the same.
func (r KeyReport) Equal(o KeyReport) bool {
	return r.Cert == o.Cert && r.Issuer == o.Issuer && r.From == o.From && r.Until == o.Until &&
		slices.Equal(r.Trusts, o.Trusts) && slices.Equal(r.Holds, o.Holds) && slices.Equal(r.Gossip, o.Gossip)
}

// Limits of keys.
const (
	MaxCAs    = 3       // trusted at one time
	MaxPEM    = 4 << 10 // bytes of one certificate
	MaxKeyID  = 64      // characters
	MaxKeyIDs = 8       // of one list of a report
	// CertificateLifeMin and CertificateLifeMax bound the life of a node's certificate. Below
	// an hour is for tests: a node that is off for a third of it comes back with one that ended.
	CertificateLifeMin = 20 * time.Second
	CertificateLifeMax = 10 * 365 * 24 * time.Hour
)

// Rotation returns that of a kind of key, the zero value for others.
func (k Keys) Rotation(what string) Rotation {
	switch what {
	case KeyOfCA:
		return k.CA
	case KeyOfGossip:
		return k.GossipTurn
	}
	return Rotation{}
}

// CAOf returns a CA that is trusted.
func (k Keys) CAOf(id string) (CA, bool) {
	at := slices.IndexFunc(k.CAs, func(c CA) bool { return c.ID == id })
	if at < 0 {
		return CA{}, false
	}
	return k.CAs[at], true
}

// confirms reports whether a node has done what the present phase of a rotation asks.
func (n Node) confirms(what string, r Rotation) bool {
	k := n.KeyReport
	switch {
	case what == KeyOfCA && r.Phase == PhaseSpread:
		return slices.Contains(k.Trusts, r.New)
	case what == KeyOfCA && r.Phase == PhaseUse:
		has := !slices.Contains(r.Holders, n.ID) || slices.Contains(k.Holds, r.New)
		return k.Issuer == r.New && has
	case what == KeyOfGossip && r.Phase == PhaseSpread:
		return slices.Contains(k.Gossip, r.New)
	case what == KeyOfGossip && r.Phase == PhaseUse:
		return len(k.Gossip) > 0 && k.Gossip[0] == r.New
	}
	return false
}

// Awaited returns the nodes that the present phase of a rotation waits for, by name. A node
// that is being removed is not waited for.
func (s *State) Awaited(what string) []Node {
	r := s.Cluster.Keys.Rotation(what)
	if !r.Runs() || r.Phase == PhaseMake {
		return nil
	}
	return slices.DeleteFunc(s.NodeList(), func(n Node) bool { return n.Removing || n.confirms(what, r) })
}

// HoldersOf returns the nodes that say that they have a CA's key, by name; "" = of any CA that
// is trusted.
func (s *State) HoldersOf(ca string) []Node {
	return slices.DeleteFunc(s.NodeList(), func(n Node) bool {
		return !slices.ContainsFunc(n.KeyReport.Holds, func(id string) bool {
			_, trusted := s.Cluster.Keys.CAOf(id)
			return trusted && (ca == "" || ca == id)
		})
	})
}

// MayMakeCA reports whether a node may make the new CA: one that has the key of the present
// one, or, when nobody has, any that votes.
func (s *State) MayMakeCA(node string) bool {
	n, member := s.Nodes[node]
	if !member || n.Removing || n.Role == RoleAgent {
		return false
	}
	holders := s.HoldersOf("")
	return len(holders) == 0 || slices.ContainsFunc(holders, func(h Node) bool { return h.ID == node })
}

// MayHold reports whether a node may be given the key of a CA.
func (s *State) MayHold(node, ca string) bool {
	n, member := s.Nodes[node]
	r := s.Cluster.Keys.CA
	return member && !n.Removing && n.Role != RoleAgent && r.New == ca && slices.Contains(r.Holders, node)
}

// nextHolders chooses who shall have the key of a new CA, as many as the operator says: its maker,
// voters that were given the present one, and then other voters, who joined first first.
func (s *State) nextHolders(maker string) []string {
	list := slices.DeleteFunc(s.NodeList(), func(n Node) bool {
		return n.Removing || n.Role != RoleVoter && n.ID != maker
	})
	rank := func(n Node) int {
		switch {
		case n.ID == maker:
			return 0
		case n.HoldsCA:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(list, func(a, b Node) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Joined, b.Joined), cmp.Compare(a.ID, b.ID))
	})
	var out []string
	for _, n := range list[:min(len(list), s.CAHoldersMax())] {
		out = append(out, n.ID)
	}
	slices.Sort(out)
	return out
}

// Superseded reports whether a node has a newer certificate than one that ended at a time, in
// unix seconds, so that the older one opens nothing any more, however short ago it ended.
func (s *State) Superseded(node string, until int64) bool {
	return s.Nodes[node].KeyReport.Until > until
}

// WithoutKeys returns a copy of the state in which nothing is known of keys, for the cluster of
// another id that one node begins again: its CA and its gossip key are new, and only that node
// has them.
func (s *State) WithoutKeys(holder string) *State {
	n := s.clone()
	n.Cluster.Keys = Keys{CertificateLife: s.Cluster.Keys.CertificateLife}
	for id, node := range n.Nodes {
		node.KeyReport, node.RenewFrom = KeyReport{}, ""
		node.HoldsCA = id == holder && s.Level() >= 4
		n.Nodes[id] = node
	}
	return n
}
