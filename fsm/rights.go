package fsm

import "slices"

// Rights: who may do what. The leader asks Permits before it proposes; what Apply asks again
// (holds) is only what may have changed between the two, so that the log's order decides
// whether a token was revoked before its last command or after it.

// Right is what a principal may do: each one includes those before it.
type Right string

const (
	RightViewer   Right = "viewer"   // reads
	RightOperator Right = "operator" // moves, drains, standby, maintenance, enable, disable
	RightAdmin    Right = "admin"    // everything
)

// rights are in ascending order; "" is none at all.
var rights = []Right{"", RightViewer, RightOperator, RightAdmin}

// Covers reports whether who has r may do what needs the other one.
func (r Right) Covers(need Right) bool {
	have := slices.Index(rights, r)
	return have >= 0 && slices.Contains(rights, need) && have >= slices.Index(rights, need)
}

// Caller is who asked for a command. It travels in the entry from level 4 on.
type Caller struct {
	// Principal names who it is: root@NODE, node:NAME, token:NAME or join:NAME.
	Principal string `json:"principal"`
	Right     Right  `json:"right,omitempty"`
	// Group bounds the caller to the HAVIPs of one group; "" = of all.
	Group string `json:"group,omitempty"`
	// Source is the address that the request came from, "" for the local socket.
	Source string `json:"source,omitempty"`
	// Request is the API's name of what was asked for, such as move-havip.
	Request string `json:"request,omitempty"`
	// Credential is the id of the token that the caller showed, "" without one.
	Credential string `json:"credential,omitempty"`
	// Node is the id of the caller's own node, of which it may do more; "" = none.
	Node string `json:"node,omitempty"`
}

// check bounds what comes into the log.
func (w Caller) check() *Refusal {
	for _, text := range []string{w.Principal, w.Group, w.Source, w.Request, w.Credential, w.Node} {
		if len(text) > MaxCallerText {
			return Refuse(CodeTooLong, "the caller is described by a text of %d bytes, at most %d", len(text), MaxCallerText)
		}
	}
	if w.Principal == "" {
		return Refuse(CodeMissing, "a caller without a name")
	}
	return nil
}

// Credential is a token of a person or a program as the cluster keeps it: never the secret,
// only its hash.
type Credential struct {
	ID         string `json:"id"`
	Name       string `json:"name"`        // unique
	SecretHash string `json:"secret_hash"` // SHA-256 in hex
	Right      Right  `json:"right"`
	Group      string `json:"group,omitempty"`   // its scope; "" = everything
	Expires    int64  `json:"expires,omitempty"` // unix nanoseconds; 0 = never
	Created    int64  `json:"created"`           // Command.At
	By         string `json:"by,omitempty"`      // the principal that made it
}

// Expired reports whether the token is over at a time in unix nanoseconds.
func (c Credential) Expired(at int64) bool { return c.Expires != 0 && c.Expires <= at }

// Caller is who a token makes of its bearer.
func (c Credential) Caller() Caller {
	return Caller{Principal: "token:" + c.Name, Right: c.Right, Group: c.Group, Credential: c.ID}
}

// Audited is one accepted change: who asked for it, from where, and what it was.
type Audited struct {
	Index  uint64 `json:"index"`
	At     int64  `json:"at"`
	Caller Caller `json:"caller"`
	Key    string `json:"key,omitempty"`
	Kind   string `json:"kind"`             // of the command
	Object string `json:"object,omitempty"` // id or name of what was made or changed
}

// CreateCredential records a token.
type CreateCredential struct {
	Credential Credential `json:"credential"`
}

// RevokeCredential forgets a token: from this entry on nothing is done in its name.
type RevokeCredential struct {
	Name string `json:"name"`
}

// VoidToken forgets the join token of a node that has not used it.
type VoidToken struct {
	Node string `json:"node"` // its name
}

func (CreateCredential) kind() string { return "create-credential" }
func (RevokeCredential) kind() string { return "revoke-credential" }
func (VoidToken) kind() string        { return "void-token" }

// rightsBodies are kinds of level 4.
func rightsBodies() []Body { return []Body{&CreateCredential{}, &RevokeCredential{}, &VoidToken{}} }

// CredentialList returns the tokens in the order of their names.
func (s *State) CredentialList() []Credential { return sorted(s.Credentials) }

// CredentialOf finds a token by its id.
func (s *State) CredentialOf(id string) (Credential, bool) {
	for _, c := range s.Credentials { // ids are unique
		if c.ID == id {
			return c, true
		}
	}
	return Credential{}, false
}

// CAHolders counts the nodes that hold the CA's key.
func (s *State) CAHolders() int {
	n := 0
	for _, x := range s.Nodes {
		if x.HoldsCA {
			n++
		}
	}
	return n
}

// CAHoldersMax is how many nodes get the CA's key when they join.
func (s *State) CAHoldersMax() int {
	if s.Cluster.CAHolders == 0 {
		return DefaultCAHolders
	}
	return s.Cluster.CAHolders
}
