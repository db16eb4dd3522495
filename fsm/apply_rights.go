package fsm

import "fmt"

func (s *State) createCredential(c Command, b CreateCredential) (string, *Refusal) {
	t := b.Credential
	if !nodeName.MatchString(t.Name) {
		return "", Refuse(CodeMalformed, "%q cannot name a token: use 1 to 63 lower-case letters, digits, '-' and '.', starting with a letter or digit", t.Name)
	}
	if _, there := s.Credentials[t.Name]; there {
		return "", Refuse(CodeDuplicate, "a token is called %s already; revoke it with `token revoke %s`, or choose another name", t.Name, t.Name)
	}
	if t.Right == "" || !RightAdmin.Covers(t.Right) {
		return "", Refuse(CodeParameter, "%q is not a role: viewer, operator or admin", t.Right)
	}
	if _, ok := s.Groups[t.Group]; !ok && t.Group != "" {
		return "", Refuse(CodeNotFound, "no group is called %q; `group list` shows those there are", t.Group)
	}
	if t.ID == "" || len(t.ID) > MaxNameRunes || len(t.SecretHash) != 64 || t.Expires != 0 && t.Expires <= c.At {
		return "", Refuse(CodeParameter, "a token needs an id, a secret, and an end in the future or none")
	}
	if old, there := s.CredentialOf(t.ID); there {
		return "", Refuse(CodeDuplicate, "the id of the token is taken by token %s; try again", old.Name)
	}
	for name, old := range s.Credentials {
		if old.Expired(c.At) {
			delete(s.Credentials, name)
		}
	}
	if len(s.Credentials) >= MaxCredentials {
		return "", Refuse(CodeLimit, "there are %d tokens, at most %d; revoke some", len(s.Credentials), MaxCredentials)
	}
	t.Created, t.By = c.At, c.principal()
	s.Credentials[t.Name] = t
	s.note(c, "token-created", "", "", fmt.Sprintf("token %s (%s) was made by %s", t.Name, t.Right, named(t.By)))
	return t.Name, nil
}

func (s *State) revokeCredential(c Command, b RevokeCredential) (string, *Refusal) {
	t, ok := s.Credentials[b.Name]
	if !ok {
		return "", Refuse(CodeNotFound, "no token is called %q; `token list` shows those there are", b.Name)
	}
	delete(s.Credentials, t.Name)
	s.note(c, "token-revoked", "", "", fmt.Sprintf("token %s (%s) was revoked by %s", t.Name, t.Right, named(c.principal())))
	return t.Name, nil
}

// OpenToken is the join token that admits a node of a name, if there is one at a time in unix nanoseconds.
func (s *State) OpenToken(node string, at int64) (Token, bool) {
	for _, t := range s.TokenList() {
		if t.Node == node && t.NodeID == "" && t.Expires > at {
			return t, true
		}
	}
	return Token{}, false
}

func (s *State) voidToken(c Command, b VoidToken) (string, *Refusal) {
	t, ok := s.OpenToken(b.Node, c.At)
	if !ok {
		return "", Refuse(CodeNotFound, "no join token for node %q is open", clip(b.Node, MaxNameRunes))
	}
	delete(s.Tokens, t.ID)
	s.note(c, "token-revoked", "", t.Node, fmt.Sprintf("the join token for node %s (%s) was made void by %s", t.Node, t.Role, named(c.principal())))
	return t.Node, nil
}

// principal names who asked for a command, "" if nobody did.
func (c Command) principal() string {
	if c.Caller == nil {
		return ""
	}
	return c.Caller.Principal
}

// keyOwner is whose an idempotency key is: a principal's own, but who is root at one voter is so
// at all, and may repeat a request at another one.
func (c Command) keyOwner() string {
	if w := c.Caller; w != nil && w.Right == RightAdmin && w.Credential == "" && w.Node != "" {
		return "root"
	}
	return c.principal()
}

// audit puts an accepted change on record.
func (s *State) audit(c Command, object string) {
	if c.Caller == nil {
		return
	}
	if p, ok := c.body.(*Place); ok && object == "" && len(p.Assignments) > 0 {
		object = p.Assignments[0].HAVIP
	}
	s.Audit = appendRing(s.Audit, Audited{Index: s.Index, At: c.At, Caller: *c.Caller, Key: c.Key, Kind: c.Kind, Object: object}, MaxAudited)
}

// mayHoldCA reports whether a node that joins gets the CA's key: it votes, few enough have
// it, its token was made by a principal, which a node's certificate is not, and the leader
// has it to give.
func (s *State) mayHoldCA(b AddNode, t Token) bool {
	return s.Level() >= 4 && b.WithCA && t.Role == RoleVoter && t.By != "" && s.CAHolders() < s.CAHoldersMax()
}

// holdCA marks those who got the CA's key from the programs before level 4: all that vote.
func (s *State) holdCA() {
	for id, n := range s.Nodes {
		if n.Role != RoleAgent {
			n.HoldsCA = true
			s.Nodes[id] = n
		}
	}
}
