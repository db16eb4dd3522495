package fsm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"
)

// doKeys is do for the commands about keys.
func (s *State) doKeys(c Command) (refusal *Refusal, known bool) {
	switch b := c.body.(type) {
	case *RegisterKey:
		return s.registerKey(c, *b), true
	case *ReportKeys:
		return s.reportKeys(c, *b), true
	case *RotateKeys:
		return s.rotateKeys(c, *b), true
	case *OfferKey:
		return s.offerKey(c, *b), true
	case *AdvanceKeys:
		return s.advanceKeys(c, *b), true
	}
	return nil, false
}

func checkKeyIDs(ids ...string) *Refusal {
	for _, id := range ids {
		if id == "" || len(id) > MaxKeyID || strings.Trim(id, "0123456789abcdef") != "" {
			return Refuse(CodeMalformed, "%q is not the id of a key: 1 to %d hex digits", clip(id, MaxNameRunes), MaxKeyID)
		}
	}
	return nil
}

func (s *State) reportKeys(c Command, b ReportKeys) *Refusal {
	n, ok := s.Nodes[b.Node]
	if !ok {
		return Refuse(CodeNotFound, "node %s is not a member of this cluster", b.Node)
	}
	r := b.Report
	if len(r.Trusts) > MaxKeyIDs || len(r.Holds) > MaxKeyIDs || len(r.Gossip) > MaxKeyIDs {
		return Refuse(CodeTooLong, "node %s reports %d CAs, %d of their keys and %d gossip keys; at most %d each", n.Name, len(r.Trusts), len(r.Holds), len(r.Gossip), MaxKeyIDs)
	}
	if refusal := checkKeyIDs(slices.Concat([]string{r.Cert, r.Issuer}, r.Trusts, r.Holds, r.Gossip)...); refusal != nil {
		return refusal
	}
	if n.Role == RoleAgent && len(r.Holds) > 0 {
		return Refuse(CodeUnsupported, "node %s has the role agent and may not have a CA's key", n.Name)
	}
	before := n.KeyReport
	n.KeyReport = r
	if n.RenewFrom != "" && n.RenewFrom != r.Cert {
		n.RenewFrom = ""
	}
	s.Nodes[n.ID] = n
	if before.Cert != r.Cert {
		s.note(c, "keys", "", n.Name, fmt.Sprintf("node %s uses certificate %.16s of CA %.16s, until %s", n.Name, r.Cert, r.Issuer, time.Unix(r.Until, 0).UTC().Format(time.RFC3339)))
	}
	return nil
}

func (s *State) rotateKeys(c Command, b RotateKeys) *Refusal {
	k := s.Cluster.Keys
	why := clip(b.Why, MaxReason)
	switch {
	case b.What == KeyOfNode:
		return s.renewNodes(c, b)
	case b.What != KeyOfCA && b.What != KeyOfGossip:
		return Refuse(CodeParameter, "%q is not a key that can be replaced: gossip, node or ca", b.What)
	case b.Node != "":
		return Refuse(CodeParameter, "the key of %s is the whole cluster's; a node is named with `keys rotate node`", b.What)
	case len(k.CAs) == 0 || k.GossipUse == "":
		return Refuse(CodeNotReady, "the nodes have not reported their keys yet; try again in a moment")
	}
	s.beginRotation(c, b.What, why)
	return nil
}

// renewNodes asks nodes for a new certificate: by the id of the present one, so that it is
// asked for once.
func (s *State) renewNodes(c Command, b RotateKeys) *Refusal {
	if _, ok := s.Nodes[b.Node]; !ok && b.Node != "" {
		return Refuse(CodeNotFound, "no node has the id %q", clip(b.Node, MaxNameRunes))
	}
	asked := 0
	for _, n := range s.NodeList() {
		if b.Node != "" && n.ID != b.Node || n.KeyReport.Cert == "" {
			continue
		}
		n.RenewFrom = n.KeyReport.Cert
		s.Nodes[n.ID] = n
		asked++
	}
	if asked == 0 {
		return Refuse(CodeNotReady, "the node has not reported its certificate yet; try again in a moment")
	}
	s.note(c, "keys", "", s.NodeName(b.Node), fmt.Sprintf("%d certificates of nodes are to be renewed", asked))
	return nil
}

// beginRotation begins a rotation, or marks that another one has to follow. A new key that no
// node uses yet is given up.
func (s *State) beginRotation(c Command, what, why string) {
	k := &s.Cluster.Keys
	r := k.Rotation(what)
	switch {
	case r.Phase == PhaseUse && (what == KeyOfGossip || len(s.HoldersOf(r.New)) > 0 || len(k.CAs) >= MaxCAs):
		r.Again = why
		if why == "" {
			r.Again = "asked for again"
		}
	case r.Phase == PhaseSpread:
		k.drop(what, r.New)
		fallthrough
	default:
		r = Rotation{Phase: PhaseMake, Begun: s.Index, Since: c.At, Why: why}
	}
	k.setRotation(what, r)
	text := fmt.Sprintf("a new key of %s begins", what)
	if r.Again != "" {
		text = fmt.Sprintf("another new key of %s follows the present one", what)
	}
	if why != "" {
		text += ": " + why
	}
	s.note(c, "keys", "", "", text)
}

func (k *Keys) setRotation(what string, r Rotation) {
	if what == KeyOfCA {
		k.CA = r
		return
	}
	k.GossipTurn = r
}

// drop forgets one key of a kind. The lists are of a copy.
func (k *Keys) drop(what, id string) {
	if what == KeyOfCA {
		k.CAs = slices.DeleteFunc(slices.Clone(k.CAs), func(c CA) bool { return c.ID == id })
		return
	}
	k.Gossip = slices.DeleteFunc(slices.Clone(k.Gossip), func(g string) bool { return g == id })
}

// keep forgets all others.
func (k *Keys) keep(what, id string) {
	if what == KeyOfCA {
		k.CAs = slices.DeleteFunc(slices.Clone(k.CAs), func(c CA) bool { return c.ID != id })
		return
	}
	k.Gossip = []string{id}
}

func (s *State) offerKey(c Command, b OfferKey) *Refusal {
	n, ok := s.Nodes[b.Node]
	switch {
	case b.What != KeyOfCA && b.What != KeyOfGossip:
		return Refuse(CodeParameter, "%q is not a key that can be offered: gossip or ca", b.What)
	case !ok || n.Removing || n.Role == RoleAgent:
		return Refuse(CodeUnsupported, "node %s makes no keys for the cluster: it has to be a member that may vote", s.NodeName(b.Node))
	}
	if refusal := checkKeyIDs(b.ID); refusal != nil {
		return refusal
	}
	k := &s.Cluster.Keys
	r := k.Rotation(b.What)
	adopts := b.What == KeyOfCA && len(k.CAs) == 0 || b.What == KeyOfGossip && k.GossipUse == ""
	switch {
	case !adopts && r.Phase != PhaseMake:
		return Refuse(CodeStale, "nobody waits for a new key of %s", b.What)
	case slices.Contains(k.Gossip, b.ID):
		return Refuse(CodeDuplicate, "the gossip key %s is known already", b.ID)
	}
	if b.What == KeyOfCA {
		if refusal := s.offeredCA(b, adopts); refusal != nil {
			return refusal
		}
		k.CAs = append(slices.Clone(k.CAs), b.CA)
	} else {
		k.Gossip = append(slices.Clone(k.Gossip), b.ID)
	}
	if adopts {
		if k.GossipUse == "" && b.What == KeyOfGossip {
			k.GossipUse = b.ID
		} else {
			k.Issuer = b.ID
		}
		s.note(c, "keys", "", n.Name, fmt.Sprintf("the key of %s is %.16s", b.What, b.ID))
		return nil
	}
	r.Phase, r.New, r.Since = PhaseSpread, b.ID, c.At
	if b.What == KeyOfCA {
		r.Holders = s.nextHolders(n.ID)
	}
	k.setRotation(b.What, r)
	s.note(c, "keys", "", n.Name, fmt.Sprintf("node %s has made the new key of %s, %.16s; every node has to know it before it is used", n.Name, b.What, b.ID))
	return nil
}

// offeredCA checks a CA that is offered. That its certificates are those of a CA of this cluster
// every node sees for itself before it trusts them.
func (s *State) offeredCA(b OfferKey, adopts bool) *Refusal {
	block, _ := pem.Decode([]byte(b.CA.Cert))
	if block == nil || len(b.CA.Cert) > MaxPEM || len(b.CA.Cross) > MaxPEM {
		return Refuse(CodeMalformed, "the CA's certificate is not PEM of at most %d bytes", MaxPEM)
	}
	sum := sha256.Sum256(block.Bytes)
	if hex.EncodeToString(sum[:]) != b.ID || b.CA.ID != b.ID {
		return Refuse(CodeMalformed, "the CA's certificate does not have the id %.16s", b.ID)
	}
	if _, known := s.Cluster.Keys.CAOf(b.ID); known {
		return Refuse(CodeDuplicate, "the CA %.16s is trusted already", b.ID)
	}
	if !adopts && !s.MayMakeCA(b.Node) {
		return Refuse(CodeUnsupported, "node %s has not the present CA's key, and others have: one of them makes the next", s.NodeName(b.Node))
	}
	return nil
}

func (s *State) advanceKeys(c Command, b AdvanceKeys) *Refusal {
	k := &s.Cluster.Keys
	r := k.Rotation(b.What)
	if r.Phase != b.Phase || r.New != b.New || r.Phase != PhaseSpread && r.Phase != PhaseUse {
		return Refuse(CodeStale, "the rotation of %s is not in phase %q with the new key %.16s", clip(b.What, MaxNameRunes), clip(b.Phase, MaxNameRunes), clip(b.New, MaxKeyID))
	}
	if b.What == KeyOfCA && len(s.HoldersOf(r.New)) == 0 {
		return Refuse(CodeNotReady, "no node says that it has the key of the new CA %.16s", r.New)
	}
	left, refusal := s.leftBehind(b)
	if refusal != nil {
		return refusal
	}
	text := fmt.Sprintf("every node knows the new key of %s, %.16s; it is used from now on", b.What, r.New)
	if r.Phase == PhaseUse {
		text = fmt.Sprintf("every node uses the new key of %s, %.16s; the old one is worth nothing any more", b.What, r.New)
	}
	if len(left) > 0 {
		text += "; left behind: " + strings.Join(left, ", ")
	}
	s.note(c, "keys", "", "", text)
	if r.Phase == PhaseSpread {
		r.Phase, r.Since = PhaseUse, c.At
		if b.What == KeyOfCA {
			k.Issuer = r.New
		} else {
			k.GossipUse = r.New
		}
		k.setRotation(b.What, r)
		return nil
	}
	k.keep(b.What, r.New)
	if b.What == KeyOfCA {
		s.nowHold(r.Holders)
	}
	k.setRotation(b.What, Rotation{})
	if r.Again != "" {
		s.beginRotation(c, b.What, r.Again)
	}
	return nil
}

// nowHold marks those that have the key of the CA that is the only one now.
func (s *State) nowHold(holders []string) {
	for id, n := range s.Nodes {
		if has := slices.Contains(holders, id); has != n.HoldsCA {
			n.HoldsCA = has
			s.Nodes[id] = n
		}
	}
}

// leftBehind returns the names of those that have not confirmed and are not waited for, or a
// refusal that names those that are.
func (s *State) leftBehind(b AdvanceKeys) (left []string, refusal *Refusal) {
	var waits []string
	missing := map[string]bool{}
	for _, n := range s.Awaited(b.What) {
		_, open := s.SessionOf(n.ID)
		missing[n.ID] = true
		switch {
		case b.Force, b.What == KeyOfGossip && !open && slices.Contains(b.Without, n.ID):
			left = append(left, n.Name)
		default:
			waits = append(waits, n.Name)
		}
	}
	if len(waits) > 0 {
		return nil, Refuse(CodeNotReady, "node %s has not confirmed the new key of %s yet (phase %s)", strings.Join(waits, ", "), b.What, b.Phase)
	}
	voting, confirmed := 0, 0
	for _, n := range s.Nodes {
		if n.Role == RoleAgent || n.Removing {
			continue
		}
		voting++
		if !missing[n.ID] {
			confirmed++
		}
	}
	if confirmed < voting/2+1 {
		return nil, Refuse(CodeUnsupported, "only %d of %d nodes that vote have confirmed the new key of %s, which is no majority: the cluster would lose its leader", confirmed, voting, b.What)
	}
	return left, nil
}

// keysAfterRemoval begins what a removal asks for: whoever was a member knows the gossip key,
// and may have kept the CA's.
func (s *State) keysAfterRemoval(c Command, n Node) {
	k := s.Cluster.Keys
	if s.Level() < 4 || len(k.CAs) == 0 || k.GossipUse == "" || len(s.Nodes) == 0 {
		return
	}
	s.beginRotation(c, KeyOfGossip, fmt.Sprintf("node %s was removed", n.Name))
	held := slices.ContainsFunc(n.KeyReport.Holds, func(id string) bool { _, trusted := k.CAOf(id); return trusted })
	if (held || n.HoldsCA) && !n.KeepCA {
		s.beginRotation(c, KeyOfCA, fmt.Sprintf("node %s, which was removed, was given its key", n.Name))
	}
}
