package fsm

// The verbs by which keys are replaced, of level 4. Secrets travel between two nodes over mutual
// TLS, never in these.

// ReportKeys is what a node says of its own certificates and keys. The node proposes it whenever
// that differs from what the state has; phases of rotations end by it.
type ReportKeys struct {
	Node   string    `json:"node"` // id
	Report KeyReport `json:"report"`
}

// RotateKeys begins the replacement of a key: that of the CA or of gossip, or the certificates of
// one node or all. One that runs already is begun anew where its new key is in no use yet;
// else another one follows it.
type RotateKeys struct {
	What string `json:"what"`           // KeyOfNode, KeyOfCA or KeyOfGossip
	Node string `json:"node,omitempty"` // id, with KeyOfNode; "" = all
	Why  string `json:"why,omitempty"`
}

// OfferKey says that a node has made the new key of a rotation; the first offer is taken. While
// the cluster manages no keys yet, it is the key that is there already.
type OfferKey struct {
	What string `json:"what"` // KeyOfCA or KeyOfGossip
	Node string `json:"node"` // id of the maker
	ID   string `json:"id"`
	// CA is the certificate of a new CA, with its cross certificate.
	CA CA `json:"ca,omitzero"`
}

// AdvanceKeys ends a phase of a rotation. It is refused while a node that counts has not
// confirmed the phase; the leader names those that it does not wait for.
type AdvanceKeys struct {
	What  string `json:"what"`
	Phase string `json:"phase"` // the one that ends
	New   string `json:"new"`   // id of the new key
	// Without are ids of nodes without a session that a rotation of the gossip key does not wait
	// for: they fetch it when they come back.
	Without []string `json:"without,omitempty"`
	// Force, of an operator: the nodes that have not confirmed are left behind, and come back by
	// `keys sign` only. A majority of those that vote must have confirmed all the same.
	Force bool `json:"force,omitempty"`
}

func (ReportKeys) kind() string  { return "report-keys" }
func (RotateKeys) kind() string  { return "rotate-keys" }
func (OfferKey) kind() string    { return "offer-key" }
func (AdvanceKeys) kind() string { return "advance-keys" }

// keyBodies are the kinds of level 4 about keys.
func keyBodies() []Body {
	return []Body{&ReportKeys{}, &RotateKeys{}, &OfferKey{}, &AdvanceKeys{}}
}
