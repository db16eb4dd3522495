package membership

import (
	"hash/fnv"
	"slices"
	"time"

	"havip-cluster/fsm"
)

// dutyKind is one thing that a node does about certificates and keys.
type dutyKind string

const (
	dutyTrust   dutyKind = "trust"       // accept the CAs of the state
	dutyFetch   dutyKind = "gossip"      // get a gossip key that this node lacks
	dutyRing    dutyKind = "gossip-ring" // use the gossip keys of the state
	dutyHold    dutyKind = "ca-key"      // get the key of the new CA
	dutyForget  dutyKind = "forget"      // erase keys of CAs that are trusted no more, or were made in vain
	dutyRenew   dutyKind = "renew"       // get a new certificate
	dutyReport  dutyKind = "report"      // tell the state
	dutyAdopt   dutyKind = "adopt"       // leader: bring the keys of before into the state
	dutyMake    dutyKind = "make"        // make the new key of a rotation
	dutyAdvance dutyKind = "advance"     // leader: end a phase
	dutyRotate  dutyKind = "rotate"      // leader: begin to replace a CA that ends
)

// duty is one of them, with what it is about.
type duty struct {
	kind    dutyKind
	what    string // fsm.KeyOfCA or fsm.KeyOfGossip, where that is open
	id      string // of a key
	without []string
}

// keyView is what a node has, as duties sees it.
type keyView struct {
	self   string
	report fsm.KeyReport // what it would report
	life   time.Duration // of its certificate
	// movedTo is the node's address while its certificate is for another one, "" otherwise.
	movedTo string
	caEnds  time.Time // of the CA that signs
	// madeCA and madeGossip are the ids of the keys that this node has made for the rotations in
	// PhaseMake, "" = none. Nobody knows whether their offer was taken.
	madeCA, madeGossip string
	leads              bool
	leader             string // id, "" = unknown
}

// caReserve is how much more than two lives of a certificate a CA has to have left; it is replaced
// by itself when there is less.
const caReserve = 90 * 24 * time.Hour

// duties says what a node has to do now, the most urgent first. lost reports whether the leader
// sees a node as gone.
func duties(s *fsm.State, v keyView, lost func(node string) bool, now time.Time) []duty {
	n, member := s.Nodes[v.self]
	if !member || s.Level() < keyLevel {
		return nil
	}
	k := s.Cluster.Keys
	var out []duty
	add := func(d duty) { out = append(out, d) }
	if len(k.CAs) > 0 && !slices.Equal(caIDs(k), v.report.Trusts) {
		add(duty{kind: dutyTrust})
	}
	for _, id := range k.Gossip {
		if !slices.Contains(v.report.Gossip, id) {
			add(duty{kind: dutyFetch, id: id})
		}
	}
	if k.GossipUse != "" && !slices.Equal(v.ring(k), v.report.Gossip) {
		add(duty{kind: dutyRing})
	}
	if k.CA.New != "" && s.MayHold(v.self, k.CA.New) && !slices.Contains(v.report.Holds, k.CA.New) {
		add(duty{kind: dutyHold, id: k.CA.New})
	}
	if kept := v.kept(k); len(k.CAs) > 0 && slices.ContainsFunc(v.report.Holds, func(id string) bool { return !slices.Contains(kept, id) }) {
		add(duty{kind: dutyForget})
	}
	if renewalDue(k, n, v, now) {
		add(duty{kind: dutyRenew})
	}
	for _, what := range []string{fsm.KeyOfGossip, fsm.KeyOfCA} {
		if k.Rotation(what).Phase == fsm.PhaseMake && makes(s, v, what) {
			add(duty{kind: dutyMake, what: what})
		}
	}
	if !n.KeyReport.Equal(v.report) {
		add(duty{kind: dutyReport})
	}
	if v.leads {
		out = append(out, leadersDuties(s, v, lost, now)...)
	}
	return out
}

// leadersDuties move the cluster's rotations on.
func leadersDuties(s *fsm.State, v keyView, lost func(node string) bool, now time.Time) []duty {
	k := s.Cluster.Keys
	var out []duty
	if len(k.CAs) == 0 {
		out = append(out, duty{kind: dutyAdopt, what: fsm.KeyOfCA})
	}
	if k.GossipUse == "" {
		out = append(out, duty{kind: dutyAdopt, what: fsm.KeyOfGossip})
	}
	for _, what := range []string{fsm.KeyOfGossip, fsm.KeyOfCA} {
		r := k.Rotation(what)
		if r.Phase != fsm.PhaseSpread && r.Phase != fsm.PhaseUse {
			continue
		}
		var without []string
		ready := true
		for _, n := range s.Awaited(what) {
			_, open := s.SessionOf(n.ID)
			if what == fsm.KeyOfGossip && !open && lost(n.ID) {
				without = append(without, n.ID)
				continue
			}
			ready = false
		}
		if orphaned(s, what, lost, now) {
			out = append(out, duty{kind: dutyRotate, what: what})
			continue
		}
		if ready {
			out = append(out, duty{kind: dutyAdvance, what: what, id: r.New, without: without})
		}
	}
	if len(k.CAs) > 0 && !k.CA.Runs() && !v.caEnds.IsZero() && v.caEnds.Sub(now) < 2*certificateLife(k)+caReserve {
		out = append(out, duty{kind: dutyRotate, what: fsm.KeyOfCA})
	}
	return out
}

// orphanWait is how long a new key may be with nobody who answers, before another one is made.
const orphanWait = 30 * time.Second

// orphaned reports whether nobody who is there has the new key of a rotation, which nobody uses yet.
func orphaned(s *fsm.State, what string, lost func(node string) bool, now time.Time) bool {
	r := s.Cluster.Keys.Rotation(what)
	if r.Phase != fsm.PhaseSpread || now.Sub(time.Unix(0, r.Since)) < orphanWait {
		return false
	}
	return !slices.ContainsFunc(s.NodeList(), func(n fsm.Node) bool {
		has := n.KeyReport.Gossip
		if what == fsm.KeyOfCA {
			has = n.KeyReport.Holds
		}
		return slices.Contains(has, r.New) && !lost(n.ID)
	})
}

// defaultLife is that of certificates when nobody has set it.
const defaultLife = 2 * 365 * 24 * time.Hour

func certificateLife(k fsm.Keys) time.Duration {
	if k.CertificateLife > 0 {
		return k.CertificateLife
	}
	return defaultLife
}

// makes reports whether this node makes the new key of a rotation: the leader where it may, else
// whoever may.
func makes(s *fsm.State, v keyView, what string) bool {
	if what == fsm.KeyOfGossip {
		return v.leads
	}
	return s.MayMakeCA(v.self) && (v.leads || v.leader != "" && !s.MayMakeCA(v.leader))
}

// renewalDue reports whether a node needs another certificate: the last third of its life has
// begun, somebody has asked for it, or another CA signs by now.
func renewalDue(k fsm.Keys, n fsm.Node, v keyView, now time.Time) bool {
	end := time.Unix(v.report.Until, 0)
	if !now.Before(end.Add(-v.life/3 + spread(v.report.Cert, v.life/12))) {
		return true
	}
	if v.movedTo != "" && v.movedTo == n.Address { // before, the certificate would be for the old one again
		return true
	}
	return n.RenewFrom != "" && n.RenewFrom == v.report.Cert || k.Issuer != "" && k.Issuer != v.report.Issuer
}

// spread is a part of d that follows from a text, so that nodes whose certificates were made
// together do not renew them together.
func spread(text string, d time.Duration) time.Duration {
	h := fnv.New32a()
	h.Write([]byte(text))
	return d / 1024 * time.Duration(h.Sum32()%1024)
}

func caIDs(k fsm.Keys) []string {
	var out []string
	for _, ca := range k.CAs {
		out = append(out, ca.ID)
	}
	slices.Sort(out)
	return out
}

// kept are the CAs whose keys a node may have: what the state does not know, and was not made for
// the rotation that waits for a key, was retired or given up.
func (v keyView) kept(k fsm.Keys) []string {
	out := caIDs(k)
	if v.madeCA != "" && !slices.Contains(out, v.madeCA) {
		out = append(out, v.madeCA)
	}
	return out
}

// ring are the gossip keys that a node has to know, in the order in which it keeps them.
func (v keyView) ring(k fsm.Keys) []string {
	out := []string{k.GossipUse}
	for _, id := range append(slices.Clone(k.Gossip), v.madeGossip) {
		if id != "" && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}
