package fsm

import (
	"maps"
	"slices"
)

// Result is what became of a command.
type Result struct {
	// Index is the log index that did it; for a repeated request, of the first time.
	Index uint64 `json:"index"`
	// Object is the id or name of what was made or changed.
	Object string `json:"object,omitempty"`
	// Refusal is nil when the command was done.
	Refusal *Refusal `json:"refusal,omitempty"`
	// Refused lists the assignments that were not done while others were.
	Refused []string `json:"refused,omitempty"`
	// Repeated says that the key was known and nothing was done a second time.
	Repeated bool `json:"repeated,omitempty"`
}

// Apply carries out one committed command at a log index and returns the next state.
// It is total: whatever the command says, it is done whole or refused whole, and a
// refusal leaves everything but the index as it was. The error is ErrCommandVersion or
// ErrCommandCorrupt; the caller must then stop applying.
func Apply(s *State, index uint64, c Command) (*State, Result, error) {
	if err := c.open(); err != nil {
		return s, Result{}, err
	}
	if len(c.Key) > MaxKey {
		return s.at(index), refused(index, Refuse(CodeTooLong, "the idempotency key has %d bytes, at most %d", len(c.Key), MaxKey)), nil
	}
	if c.Key != "" {
		if r, ok := s.Answered(c); ok {
			if r.Refusal != nil {
				r.Index = index
			}
			return s.at(index), r, nil
		}
	}
	if refusal := s.Admits(c); refusal != nil {
		return s.at(index), refused(index, refusal), nil
	}
	if refusal := s.holds(c); refusal != nil {
		return s.at(index), refused(index, refusal), nil
	}
	next := s.cloneFor(c.body)
	next.Index = index
	if movesChecks(c.body) {
		next.checked = nil
	}
	object, refusedParts, refusal := next.do(c)
	if refusal != nil {
		return s.at(index), refused(index, refusal), nil
	}
	next.follow(s, c)
	next.explainChange(s, c)
	if next.Level() >= 2 && configures(c.body) {
		next.Cluster.Revision++
	}
	next.audit(c, object)
	res := Result{Index: index, Object: object, Refused: refusedParts}
	if c.Key != "" {
		next.answered = appendRing(next.answered, answered{Key: c.Key, By: c.keyOwner(), Hash: c.fingerprint(), Index: index, Result: res}, MaxAnswered)
	}
	return next, res, nil
}

// ApplyEntry is Apply for an entry of the given Raft term. A command that names another
// term does nothing: its proposer decided as the leader of that term, and what it knew
// may be out of date (lease protocol, rule 5).
func ApplyEntry(s *State, index, term uint64, c Command) (*State, Result, error) {
	if c.Term != 0 && c.Term != term {
		return s.at(index), refused(index, Refuse(CodeStale, "decided in term %d, appended in term %d; it is decided again", c.Term, term)), nil
	}
	return Apply(s, index, c)
}

// Answered returns the result of an earlier command with the same key, or a refusal when
// that command was another one.
func (s *State) Answered(c Command) (Result, bool) {
	a, known := s.answeredTo(c)
	if !known {
		return Result{}, false
	}
	if a.Hash != c.fingerprint() {
		return refused(s.Index, Refuse(CodeKeyMismatch, "idempotency key %q was used for another request (log index %d); use a new key", c.Key, a.Index)), true
	}
	r := a.Result
	r.Repeated = true
	return r, true
}

// answeredTo finds what was answered under the key of a command: to its own principal, else to
// nobody in particular, as before level 4. What another principal was answered is not its.
func (s *State) answeredTo(c Command) (found answered, known bool) {
	owner := c.keyOwner()
	for i := len(s.answered) - 1; i >= 0; i-- {
		switch a := s.answered[i]; {
		case a.Key != c.Key:
		case a.By == owner:
			return a, true
		case a.By == "" && !known:
			found, known = a, true
		}
	}
	return found, known
}

// AnsweredObject is the object of what was answered under a key to a caller, nil for nobody; "": nothing was. It is for
// a repeat of a request that named what the first one has renamed or deleted.
func (s *State) AnsweredObject(key string, by *Caller) string {
	if key == "" {
		return ""
	}
	a, _ := s.answeredTo(Command{Key: key, Caller: by})
	return a.Result.Object
}

func refused(index uint64, r *Refusal) Result { return Result{Index: index, Refusal: r} }

// at is the same state at a later index.
func (s *State) at(index uint64) *State {
	n := *s
	n.Index = index
	return &n
}

// do changes s, which is a fresh copy, and returns the object that was made or changed.
// After a refusal the copy is thrown away, so it may be half changed then.
func (s *State) do(c Command) (object string, parts []string, refusal *Refusal) {
	if _, isInit := c.body.(*InitCluster); !isInit && s.Cluster.ID == "" {
		return "", nil, Refuse(CodeNotReady, "the cluster has not been initialised yet; try again in a moment")
	}
	switch b := c.body.(type) {
	case *InitCluster:
		refusal = s.initCluster(c, *b)
	case *CreateToken:
		object, refusal = s.createToken(c, *b)
	case *AddNode:
		object, refusal = s.addNode(c, *b)
	case *UpdateNode:
		object, refusal = s.updateNode(c, *b)
	case *RemoveNode:
		object, refusal = s.removeNode(c, *b)
	case *ReportENIs:
		refusal = s.reportENIs(c, *b)
	case *SetENI:
		object, refusal = s.setENI(c, *b)
	case *CreateSubnet:
		object, refusal = s.createSubnet(c, *b)
	case *DeleteSubnet:
		object, refusal = s.deleteSubnet(c, *b)
	case *CreateHAVIP:
		object, refusal = s.createHAVIP(c, *b)
	case *UpdateHAVIP:
		object, refusal = s.updateHAVIP(c, *b)
	case *DeleteHAVIP:
		object, refusal = s.deleteHAVIP(c, *b)
	case *OpenSession:
		refusal = s.openSession(c, *b)
	case *DrainSession:
		refusal = s.drainSession(c, *b)
	case *CloseSession:
		parts, refusal = s.closeSession(c, *b)
	case *Place:
		parts, refusal = s.place(c, *b)
	case *Release:
		refusal = s.release(c, *b)
	case *ReportEvent:
		refusal = s.reportEvent(c, *b)
	case *SetLease:
		refusal = s.setLease(c, *b)
	case *SettleLease:
		refusal = s.settleLease(*b)
	case *RecordFailover:
		refusal = s.recordFailover(*b)
	case *ReportGuarded:
		refusal = s.reportGuarded(*b)
	case *Confirm:
		refusal = s.confirm(*b)
	case *CloseSessions:
		parts, refusal = s.closeSessions(c, *b)
	case *RecordFailovers:
		refusal = s.recordFailovers(*b)
	case *CreateCredential:
		object, refusal = s.createCredential(c, *b)
	case *RevokeCredential:
		object, refusal = s.revokeCredential(c, *b)
	case *ReportBehind:
		refusal = s.reportBehind(c, *b)
	default:
		var known bool
		if object, refusal, known = s.doWebhooks(c); !known {
			object, refusal = s.doRest(c)
		}
	}
	return object, parts, refusal
}

// doRest is do for the commands about keys and of level 2.
func (s *State) doRest(c Command) (object string, refusal *Refusal) {
	switch b := c.body.(type) {
	case *SetAddress:
		return s.setAddress(c, *b)
	case *RestVote:
		return "", s.restVote(c, *b)
	case *VoidToken:
		return s.voidToken(c, *b)
	}
	if refusal, known := s.doKeys(c); known {
		return "", refusal
	}
	return s.doPolicy(c)
}

// follow brings up to date what is derived from the rest, after a command was done.
func (s *State) follow(before *State, c Command) {
	switch c.body.(type) {
	case *InitCluster, *AddNode, *RemoveNode, *ReportENIs, *SetAddress:
		s.followOwn(c, before.own)
	}
	if s.checked == nil {
		s.indexChecks()
	}
	if !s.samePlacement(before, c.body) {
		s.inputs = s.Index
	}
}

// samePlacement says that a command has changed nothing that a placement depends on.
func (s *State) samePlacement(before *State, b Body) bool {
	switch b := b.(type) {
	case *Confirm, *RegisterKey, *ReportKeys, *RotateKeys, *OfferKey, *AdvanceKeys, *ReportEvent, *RecordFailover, *RecordFailovers, *CreateToken, *SetLease, *SettleLease, *CreateCredential, *RevokeCredential, *VoidToken, *CreateWebhook, *DeleteWebhook, *AdvanceWebhook:
		return true
	case *ReportGuarded:
		// Only the last one that a HAVIP waited for makes a difference.
		up, was := s.GuardedUpTo(), before.GuardedUpTo()
		return up == was || s.Cluster.GuardIndex <= was
	case *ReportENIs:
		return before.own != nil && s.Cluster.GuardIndex == before.Cluster.GuardIndex && len(s.Subnets) == len(before.Subnets) &&
			maps.EqualFunc(s.ENIs, before.ENIs, ENI.equal) && maps.EqualFunc(s.own.clash, before.own.clash, slices.Equal)
	case *UpdateNode:
		return *b == (UpdateNode{ID: b.ID, Version: b.Version}) && s.Level() == before.Level()
	}
	return false
}

// PlacementInputs is the index of the last entry that changed what a placement depends on,
// beside the time. Two states of one log with the same one are placed alike.
func (s *State) PlacementInputs() uint64 { return s.inputs }

// doPolicy is do for the commands of level 2, and for those about checks.
func (s *State) doPolicy(c Command) (object string, refusal *Refusal) {
	switch b := c.body.(type) {
	case *ChangeRange:
		return s.changeRange(c, *b)
	case *BanHAVIP:
		return s.banHAVIP(c, *b)
	case *UnbanHAVIP:
		return s.unbanHAVIP(c, *b)
	case *BindEIP:
		return s.bindEIP(c, *b)
	case *UnbindEIP:
		return s.unbindEIP(c, *b)
	case *RecordFailure:
		return s.recordFailure(c, *b)
	case *ResetFailures:
		return s.resetFailures(c, *b)
	case *ReportHealth:
		return s.reportHealth(c, *b)
	case *DrainNode:
		return s.drainNode(c, *b)
	case *EndDrain:
		return s.endDrain(c, *b)
	case *ActivateNode:
		return s.activateNode(c, *b)
	case *CreateGroup:
		return s.createGroup(c, *b)
	case *DeleteGroup:
		return s.deleteGroup(c, *b)
	case *SetCluster:
		return "", s.setCluster(c, *b)
	case *ApplyConfig:
		return s.applyConfig(c, *b)
	case *Rollback:
		return s.rollback(c, *b)
	case *CreateCheck:
		return s.createCheck(c, *b)
	case *UpdateCheck:
		return s.updateCheck(c, *b)
	case *DeleteCheck:
		return s.deleteCheck(c, *b)
	case *ReportChecks:
		return "", s.reportChecks(c, *b)
	}
	panic("fsm: no case for a command of kind " + c.Kind)
}
