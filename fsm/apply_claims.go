package fsm

import (
	"fmt"
	"slices"
	"time"

	"havip-cluster/internal/limits"
)

// The life of a claim. An assignment makes it the owner, with a new epoch; the next
// assignment moves it to Draining; it is gone when its holder released it or when its
// session is closed, and by nothing else. Nobody may answer under a newer claim before
// (lease protocol, rules 6 and 7).

func (s *State) openSession(c Command, b OpenSession) *Refusal {
	n, ok := s.Nodes[b.Node]
	switch {
	case !ok:
		return Refuse(CodeNotFound, "node %s is not a member of this cluster; it was removed: wipe its data directory and join again with a new token", b.Node)
	case n.Removing:
		return Refuse(CodeUnsupported, "node %s is being removed", n.Name)
	case n.LastSession != b.Last:
		return Refuse(CodeStale, "the last session of node %s is %d, not %d", n.Name, n.LastSession, b.Last)
	case b.Attempt == "" || len(b.Attempt) > MaxKey:
		return Refuse(CodeMalformed, "a session needs an attempt id of 1 to %d bytes", MaxKey)
	case b.Lease < 0 || b.Lease > limits.OpeningLongest || b.Lease%time.Millisecond != 0:
		return Refuse(CodeRange, "a first lease of %s is not possible: whole milliseconds up to %s", b.Lease, limits.OpeningLongest)
	}
	if refusal := s.mayBegin(n, b); refusal != nil {
		return refusal
	}
	if old, ok := s.Sessions[n.LastSession]; ok {
		s.dropSession(c, old, "the node opened a new session", false)
		if s.Level() >= 2 {
			n.Flaps = n.Flaps.counted(c.At, FailDecay)
		}
	}
	n.LastSession = s.Index
	s.Nodes[n.ID] = n
	length := max(s.Cluster.Lease, b.Lease)
	if length > s.Cluster.Lease {
		s.Cluster.LeaseMax = max(s.Cluster.LeaseMax, length)
		s.Cluster.LeaseIndex = s.Index // a settling that was under way begins again
	}
	s.Sessions[s.Index] = Session{Number: s.Index, Node: n.ID, Attempt: b.Attempt, Lease: length, Opened: c.At, Guarded: b.Guarded}
	s.note(c, "session-opened", "", n.Name, fmt.Sprintf("node %s opened session %d", n.Name, s.Index))
	return nil
}

func (s *State) drainSession(c Command, b DrainSession) *Refusal {
	sess, ok := s.Sessions[b.Session]
	if !ok || sess.Node != b.Node {
		return Refuse(CodeStale, "session %d of node %s is not open", b.Session, s.NodeName(b.Node))
	}
	if !sess.Draining {
		sess.Draining = true
		s.Sessions[b.Session] = sess
		s.note(c, "session-draining", "", s.NodeName(b.Node), fmt.Sprintf("node %s hands over what it owns", s.NodeName(b.Node)))
	}
	return nil
}

func (s *State) closeSession(c Command, b CloseSession) ([]string, *Refusal) {
	sess, ok := s.Sessions[b.Session]
	if !ok {
		return nil, Refuse(CodeStale, "session %d is not open", b.Session)
	}
	if len(b.Place) > MaxAssignments {
		return nil, Refuse(CodeLimit, "%d assignments in one entry, at most %d", len(b.Place), MaxAssignments)
	}
	if b.Released {
		s.dropSession(c, sess, "the node ended it", true)
	} else {
		s.expire(c, sess)
	}
	return s.assignAll(c, b.Place), nil
}

// expire ends a session that a majority of the voters endorsed the end of.
func (s *State) expire(c Command, sess Session) {
	s.dropSession(c, sess, "its lease expired at a majority of the voters", false)
	if n, ok := s.Nodes[sess.Node]; ok && s.Level() >= 2 {
		n.Flaps = n.Flaps.counted(c.At, FailDecay)
		s.Nodes[n.ID] = n
	}
}

// dropSession ends a session and every claim that it has. left says that the node ended it
// by its own word: then nothing waits for it to come back.
func (s *State) dropSession(c Command, sess Session, why string, left bool) {
	delete(s.Sessions, sess.Number)
	name := s.NodeName(sess.Node)
	s.note(c, "session-closed", "", name, fmt.Sprintf("session %d of node %s is closed: %s", sess.Number, name, why))
	for _, v := range s.Claimed(sess.Number) {
		v.Draining = slices.DeleteFunc(slices.Clone(v.Draining), func(cl Claim) bool { return cl.Session == sess.Number })
		if v.Owner != nil && v.Owner.Session == sess.Number {
			if v.Last = v.Owner.ENI; left {
				v.Last = ""
			}
			v.Owner = nil
			v.Since = c.At
			v.Reason = fmt.Sprintf("session %d of node %s is closed: %s", sess.Number, name, why)
		}
		s.putClaims(c, v)
	}
}

// putClaims stores a HAVIP whose claims have changed; one that waited for its last claim
// to be deleted goes.
func (s *State) putClaims(c Command, v HAVIP) {
	if v.Deleting && v.Owner == nil && len(v.Draining) == 0 {
		delete(s.HAVIPs, v.ID)
		s.batch.deleted(v)
		s.leaveGroups(c, v.ID)
		s.leaveChecks(c, v.ID)
		s.intoQuarantine(c, v)
		s.note(c, "havip-deleted", v.Name, "", fmt.Sprintf("HAVIP %s (%s) is deleted", v.Name, v.IP))
		return
	}
	if v.Owner == nil || v.Served != v.Owner.Epoch {
		v.Served = 0
	}
	s.HAVIPs[v.ID] = v
}

func (s *State) place(c Command, b Place) ([]string, *Refusal) {
	if len(b.Assignments) == 0 || len(b.Assignments) > MaxAssignments {
		return nil, Refuse(CodeLimit, "%d assignments in one entry, 1 to %d fit", len(b.Assignments), MaxAssignments)
	}
	if len(b.Assignments) == 1 {
		return nil, s.assign(c, b.Assignments[0])
	}
	parts := s.assignAll(c, b.Assignments)
	if len(parts) == len(b.Assignments) {
		return nil, s.assign(c, b.Assignments[len(parts)-1])
	}
	return parts, nil
}

// assign checks one assignment against the hard rules and the epoch it was computed from,
// and makes the claim.
func (s *State) assign(c Command, a Assignment) *Refusal {
	v, ok := s.HAVIPs[a.HAVIP]
	switch {
	case !ok:
		return Refuse(CodeNotFound, "no HAVIP has the id %q", a.HAVIP)
	case v.Epoch != a.FromEpoch:
		return Refuse(CodeStale, "HAVIP %s is at epoch %d, the placement was computed from %d; it is computed again", v.Name, v.Epoch, a.FromEpoch)
	case len(v.Draining) >= MaxDraining:
		return Refuse(CodeLimit, "%d earlier owners of HAVIP %s have not released it yet; wait until one has", len(v.Draining), v.Name)
	}
	var owner *Claim
	if a.Session != 0 {
		eni, ok := s.ENIs[a.ENI]
		if !ok || eni.Node != a.Node {
			return Refuse(CodeNotFound, "node %s has no ENI %q", s.NodeName(a.Node), a.ENI)
		}
		if sess, ok := s.Sessions[a.Session]; !ok || sess.Node != a.Node {
			return Refuse(CodeStale, "session %d of node %s is not open", a.Session, s.NodeName(a.Node))
		}
		if waits := s.Unguarded(v); len(waits) > 0 {
			return Refuse(CodeNotReady, "HAVIP %s cannot be placed yet: %s", v.Name, WaitsForFence(waits))
		}
		if why := s.Ineligible(v, eni, c.At); why != nil {
			return Refuse(codeOf(why), "HAVIP %s cannot be on %s: %s", v.Name, eni.ID, why.Text)
		}
		owner = &Claim{Epoch: v.Epoch + 1, Node: a.Node, Session: a.Session, ENI: a.ENI}
	}
	if owner == nil && v.Owner == nil {
		return nil // nothing to take away
	}
	if v.Owner != nil {
		v.Draining = append(slices.Clip(v.Draining), *v.Owner)
		v.Last = v.Owner.ENI
	}
	from := ""
	if v.Owner != nil {
		from = v.Owner.ENI
	}
	v.Epoch++
	v.Owner, v.Since, v.Reason = owner, c.At, clip(a.Reason, MaxReason)
	to := "nobody"
	if owner != nil {
		to, v.Last = owner.ENI, ""
	}
	s.decided(c, v, from, a.Detail)
	if s.entry.another(func(e *entryLog) *int { return &e.placed }, MaxPlacedEvents) {
		s.note(c, "placed", v.Name, "", fmt.Sprintf("HAVIP %s goes to %s (epoch %d): %s", v.Name, to, v.Epoch, v.Reason))
		s.explainPlaced(from, v)
	}
	s.putClaims(c, v)
	return nil
}

// decided puts a change of owner into the journal of decisions.
func (s *State) decided(c Command, v HAVIP, from, detail string) {
	if s.Level() < 2 || !s.entry.another(func(e *entryLog) *int { return &e.decided }, MaxDecided) {
		return
	}
	d := Decision{Index: s.Index, At: c.At, HAVIP: v.ID, Name: v.Name, Epoch: v.Epoch, From: from, Reason: v.Reason, Detail: clip(detail, MaxDetail)}
	if v.Owner != nil {
		d.To = v.Owner.ENI
	}
	s.Decisions = appendRing(s.Decisions, d, MaxDecisions)
}

// release takes away claims that their holders gave back. Unknown ones are not an error:
// a holder repeats its message until it sees the effect.
func (s *State) release(c Command, b Release) *Refusal {
	if len(b.Claims) == 0 || len(b.Claims) > MaxAssignments {
		return Refuse(CodeLimit, "%d claims in one release, 1 to %d fit", len(b.Claims), MaxAssignments)
	}
	for _, r := range b.Claims {
		v, ok := s.HAVIPs[r.HAVIP]
		if !ok {
			continue
		}
		is := func(cl Claim) bool {
			return cl.Epoch == r.Epoch && cl.Session == r.Session
		}
		if v.Owner != nil && is(*v.Owner) {
			if r.Failure != "" {
				v = s.gaveUp(c, v, *v.Owner, r.Failure)
			}
			v.Last, v.Owner, v.Since, v.Reason = v.Owner.ENI, nil, c.At, "its node gave it back"
			if r.Failure != "" {
				v.Reason = clip(v.Reason+": "+r.Failure, MaxReason)
			}
		} else if !slices.ContainsFunc(v.Draining, is) {
			continue
		}
		v.Draining = slices.DeleteFunc(slices.Clone(v.Draining), is)
		s.putClaims(c, v)
	}
	return nil
}

func (s *State) gaveUp(c Command, v HAVIP, cl Claim, why string) HAVIP {
	g := GaveUp{Until: c.At + int64(GiveUpPause), Reason: clip(why, MaxReason)}
	if s.Level() >= 2 {
		var count int
		v, count = s.failed(c, v, s.NodeName(cl.Node))
		g.At, g.Until = c.At, later(c.At, pause(count))
	}
	m := map[string]GaveUp{cl.ENI: g}
	for eni, g := range v.GaveUp {
		if eni != cl.ENI && g.Until > c.At {
			m[eni] = g
		}
	}
	v.GaveUp = m
	s.note(c, "gave-up", v.Name, s.NodeName(cl.Node), fmt.Sprintf("%s could not serve HAVIP %s: %s", cl.ENI, v.Name, why))
	return v
}

func (s *State) setLease(c Command, b SetLease) *Refusal {
	if b.Lease < limits.LeaseShortest || b.Lease > limits.LeaseLongest || b.Lease%time.Millisecond != 0 {
		return Refuse(CodeRange, "a lease of %s is not possible: whole milliseconds from %s to %s", b.Lease, limits.LeaseShortest, limits.LeaseLongest)
	}
	if b.Lease == s.Cluster.Lease {
		return nil
	}
	s.note(c, "lease", "", "", fmt.Sprintf("the lease length changes from %s to %s", s.Cluster.Lease, b.Lease))
	s.Cluster.Lease = b.Lease
	s.Cluster.LeaseMax = max(s.Cluster.LeaseMax, b.Lease)
	s.Cluster.LeaseIndex = s.Index
	return nil
}

func (s *State) settleLease(b SettleLease) *Refusal {
	if b.Index != s.Cluster.LeaseIndex {
		return Refuse(CodeStale, "the lease length changed again at index %d", s.Cluster.LeaseIndex)
	}
	s.Cluster.LeaseMax = s.Cluster.Lease
	return nil
}

func (s *State) recordFailovers(b RecordFailovers) *Refusal {
	if len(b.Failovers) == 0 || len(b.Failovers) > MaxFailoversPerEntry {
		return Refuse(CodeLimit, "%d failovers in one entry, 1 to %d fit", len(b.Failovers), MaxFailoversPerEntry)
	}
	for _, f := range b.Failovers {
		if refusal := s.recordFailover(RecordFailover{Failover: f}); refusal != nil {
			return refusal
		}
	}
	return nil
}

func (s *State) recordFailover(b RecordFailover) *Refusal {
	f := b.Failover
	if len(f.Steps) > MaxFailoverSteps {
		return Refuse(CodeLimit, "%d steps in a failover, at most %d", len(f.Steps), MaxFailoverSteps)
	}
	if len(f.Clocks) > MaxFailoverClocks {
		return Refuse(CodeLimit, "%d clocks in a failover, at most %d", len(f.Clocks), MaxFailoverClocks)
	}
	f.HAVIP, f.From, f.To = clip(f.HAVIP, MaxReason), clip(f.From, MaxReason), clip(f.To, MaxReason)
	f.Kind, f.Reason, f.Leader = clip(f.Kind, MaxStepName), clip(f.Reason, MaxReason), clip(f.Leader, MaxNameBytes)
	f.Clocks = slices.Clone(f.Clocks)
	for i := range f.Clocks {
		f.Clocks[i].Node = clip(f.Clocks[i].Node, MaxNameBytes)
	}
	for _, old := range s.Failovers {
		if old.HAVIP == f.HAVIP && old.Epoch == f.Epoch && (s.Level() < 4 || old.To == f.To) {
			return nil
		}
	}
	f.Steps = slices.Clone(f.Steps)
	for i := range f.Steps {
		step := &f.Steps[i]
		step.What, step.Step, step.Node = clip(step.What, MaxReason), clip(step.Step, MaxStepName), clip(step.Node, MaxNameBytes)
	}
	s.Failovers = appendRing(s.Failovers, f, MaxFailovers)
	return nil
}
