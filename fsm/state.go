package fsm

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"havip-cluster/fsm/placement"
	"havip-cluster/internal/plain"
)

// State is everything the log has agreed on, at Index. It is immutable: whoever has one
// may read it for as long as he likes, without a lock.
type State struct {
	Index    uint64 // of the last applied command
	Cluster  Cluster
	Nodes    map[string]Node    // by node id
	Sessions map[uint64]Session // by number; open ones only
	ENIs     map[string]ENI     // by id
	Subnets  map[string]Subnet  // by name
	HAVIPs   map[string]HAVIP   // by id
	Tokens   map[string]Token   // by id

	Credentials map[string]Credential // by name
	Webhooks    map[string]Webhook    // by name
	Audit       []Audited             // oldest first, at most MaxAudited

	Checks  map[string]Check         // by name
	Results map[string][]CheckResult // by node id, in the order of the checks' names

	answered  []answered // ascending Index, at most MaxAnswered
	Events    []Event    // ascending Index, at most MaxEvents
	Failovers []Failover // oldest first, at most MaxFailovers

	Groups map[string]Group // by name
	// Quarantine keeps the addresses of deleted HAVIPs, by "VPC/ADDRESS".
	Quarantine map[string]Quarantined
	Decisions  []Decision // oldest first, at most MaxDecisions
	Revisions  []Revision // ascending, at most MaxRevisions and MaxRevisionBytes

	// own is derived from nodes, ENIs and HAVIPs, see own_address.go.
	own *ownIndex
	// inputs is the index of the last entry that changed what a placement depends on. It is
	// in no snapshot: a restored state counts as changed.
	inputs uint64
	// checked is derived from checks, results, nodes and sessions, see apply_checks.go.
	checked *placement.Checked
	// entry is there while the assignments of one entry are carried out.
	entry *entryLog

	// batch is there while one command makes many changes, and never in a state that
	// anybody else sees.
	batch *batch
}

// New returns the empty state, before the first command.
func New() *State {
	return &State{
		Nodes:    map[string]Node{},
		Sessions: map[uint64]Session{},
		ENIs:     map[string]ENI{},
		Subnets:  map[string]Subnet{},
		HAVIPs:   map[string]HAVIP{},
		Tokens:   map[string]Token{},

		Groups:     map[string]Group{},
		Quarantine: map[string]Quarantined{},

		Credentials: map[string]Credential{},
		Webhooks:    map[string]Webhook{},

		Checks: map[string]Check{}, Results: map[string][]CheckResult{},
	}
}

// clone copies the maps, so that a command can change the copy. Values are replaced
// whole, and no slice or map inside a value is ever written to. The rings are clipped, so
// that the first entry added to the copy moves them to an array of their own.
func (s *State) clone() *State {
	n := *s
	n.Nodes = maps.Clone(s.Nodes)
	n.Sessions = maps.Clone(s.Sessions)
	n.ENIs = maps.Clone(s.ENIs)
	n.Subnets = maps.Clone(s.Subnets)
	n.HAVIPs = maps.Clone(s.HAVIPs)
	n.Tokens = maps.Clone(s.Tokens)
	n.Groups = maps.Clone(s.Groups)
	n.Quarantine = maps.Clone(s.Quarantine)
	n.Credentials, n.Audit = maps.Clone(s.Credentials), slices.Clip(s.Audit)
	n.Webhooks = maps.Clone(s.Webhooks)
	n.Checks, n.Results = maps.Clone(s.Checks), maps.Clone(s.Results)
	n.answered, n.Events, n.Failovers = slices.Clip(s.answered), slices.Clip(s.Events), slices.Clip(s.Failovers)
	n.Decisions, n.Revisions = slices.Clip(s.Decisions), slices.Clip(s.Revisions)
	return &n
}

// cloneFor is clone for one command. Those that nodes and leaders send again and again, and
// that change no HAVIP, share the two large maps with the state before.
func (s *State) cloneFor(b Body) *State {
	switch b.(type) {
	case *ReportGuarded, *ReportBehind, *RestVote, *RegisterKey, *ReportKeys, *RotateKeys, *OfferKey, *AdvanceKeys, *ReportEvent, *ReportENIs, *ReportHealth, *UpdateNode, *DrainSession, *SetLease, *SettleLease, *RecordFailover, *RecordFailovers, *CreateToken,
		*CreateCredential, *RevokeCredential, *VoidToken, *CreateWebhook, *DeleteWebhook, *AdvanceWebhook, *CreateCheck, *UpdateCheck, *ReportChecks:
		few := *s
		few.HAVIPs, few.Quarantine = nil, nil
		n := few.clone()
		n.HAVIPs, n.Quarantine = s.HAVIPs, s.Quarantine
		return n
	}
	return s.clone()
}

// sorted returns the values of a map in the order of its keys.
func sorted[K interface{ ~string | ~uint64 }, V any](m map[K]V) []V {
	out := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

// NodeList returns the nodes in the order of their names.
func (s *State) NodeList() []Node {
	out := sorted(s.Nodes)
	slices.SortStableFunc(out, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// HAVIPList returns the HAVIPs in the order of their names, then ids.
func (s *State) HAVIPList() []HAVIP {
	type key struct{ name, id string } // a HAVIP is large, and sorting moves things
	keys := make([]key, 0, len(s.HAVIPs))
	for id, v := range s.HAVIPs {
		keys = append(keys, key{v.Name, id})
	}
	slices.SortFunc(keys, func(a, b key) int { return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.id, b.id)) })
	out := make([]HAVIP, len(keys))
	for i, k := range keys {
		out[i] = s.HAVIPs[k.id]
	}
	return out
}

// ENIList returns the ENIs in the order of their ids.
func (s *State) ENIList() []ENI { return sorted(s.ENIs) }

// SubnetList returns the subnets in the order of their names.
func (s *State) SubnetList() []Subnet { return sorted(s.Subnets) }

// SessionList returns the open sessions in the order of their numbers.
func (s *State) SessionList() []Session { return sorted(s.Sessions) }

// GroupList returns the groups in the order of their names.
func (s *State) GroupList() []Group { return sorted(s.Groups) }

// TokenList returns the join tokens in the order of their ids.
func (s *State) TokenList() []Token { return sorted(s.Tokens) }

// NodeNamed finds a node by its name or id.
func (s *State) NodeNamed(name string) (Node, bool) {
	if n, ok := s.Nodes[name]; ok {
		return n, true
	}
	for _, n := range s.Nodes { // names are unique
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// NodeName gives the name of a node id, or the id itself for a node that has gone.
func (s *State) NodeName(id string) string {
	if n, ok := s.Nodes[id]; ok {
		return n.Name
	}
	return id
}

// SessionOf returns the open session of a node.
func (s *State) SessionOf(node string) (Session, bool) {
	n, ok := s.Nodes[node]
	if !ok {
		return Session{}, false
	}
	sess, ok := s.Sessions[n.LastSession]
	return sess, ok && sess.Node == node
}

// RenewsBy is the shortest length that an open session may renew by: its own was the first, and the cluster's may be
// shorter by now.
func (s *State) RenewsBy(sess Session) time.Duration { return min(sess.Lease, s.Cluster.Lease) }

// HAVIPNamed finds a HAVIP by id or by name. A name that several share is refused with
// the candidates, so that nobody changes the wrong one (R1).
func (s *State) HAVIPNamed(name string) (HAVIP, *Refusal) {
	if v, ok := s.HAVIPs[name]; ok {
		return v, nil
	}
	var found []HAVIP
	for _, v := range sorted(s.HAVIPs) {
		if v.Name == name {
			found = append(found, v)
		}
	}
	return theOne(name, found)
}

// theOne is the only one of the HAVIPs of a name; one that is being deleted counts only
// while there is no other.
func theOne(name string, found []HAVIP) (HAVIP, *Refusal) {
	if slices.ContainsFunc(found, func(v HAVIP) bool { return !v.Deleting }) {
		found = slices.DeleteFunc(found, func(v HAVIP) bool { return v.Deleting })
	}
	switch len(found) {
	case 0:
		return HAVIP{}, Refuse(CodeNotFound, "no HAVIP is called %q; `havip list` shows those there are", name)
	case 1:
		return found[0], nil
	}
	var ids []string
	for _, v := range found {
		ids = append(ids, v.ID+" ("+v.IP.String()+")")
	}
	return HAVIP{}, Refuse(CodeDuplicate, "%d HAVIPs are called %q: name one by its id: %s", len(found), name, strings.Join(ids, ", "))
}

// Claims returns all claims of a HAVIP, earliest epoch first.
func (v HAVIP) Claims() []Claim {
	out := slices.Clone(v.Draining)
	if v.Owner != nil {
		out = append(out, *v.Owner)
	}
	return out
}

// Claimed returns the HAVIPs on which a session has any claim, in the order of ids.
func (s *State) Claimed(session uint64) []HAVIP {
	var ids []string // a HAVIP is large, and sorting moves things
	for id, v := range s.HAVIPs {
		if (v.Owner != nil && v.Owner.Session == session) ||
			slices.ContainsFunc(v.Draining, func(c Claim) bool { return c.Session == session }) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var out []HAVIP
	for _, id := range ids {
		out = append(slices.Grow(out, len(ids)-len(out)), s.HAVIPs[id])
	}
	return out
}

func (s *State) note(c Command, kind, havip, node, text string) {
	if s.batch != nil {
		return // one line tells of all
	}
	ev := Event{Index: s.Index, At: c.At, Kind: kind, HAVIP: havip, Node: node, Text: clip(text, MaxReason)}
	s.Events = appendRing(s.Events, ev, MaxEvents)
}

// appendRing adds x to the end of a ring of at most limit entries. The ring must come from
// a clone, so that no two states ever share an array that one of them could write to.
func appendRing[T any](ring []T, x T, limit int) []T {
	if len(ring) >= limit {
		ring = ring[len(ring)-limit+1:]
	}
	return append(ring, x)
}

// clip shortens a text to at most n bytes, at a rune boundary.
func clip(text string, n int) string { return plain.Cut(text, n) }
