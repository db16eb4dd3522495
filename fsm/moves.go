package fsm

// MoveReason says in one of few words why a HAVIP got another owner. Metrics count by it, so the
// list is closed.
type MoveReason string

// The reasons, in the order in which they are looked for.
const (
	MoveAsked    MoveReason = "asked"    // somebody asked for this very move
	MoveFailover MoveReason = "failover" // its owner's session ended by expiry
	MovePlaced   MoveReason = "placed"   // it had no owner
	MoveHandover MoveReason = "handover" // its owner stops, drains, stands by or is removed
	MoveUnfit    MoveReason = "unfit"    // its owner may not own it any more: link, health, range, ban
	MoveWish     MoveReason = "wish"     // its owner could have kept it: a preference, failback, spread
)

// MoveReasons lists all of them.
func MoveReasons() []MoveReason {
	return []MoveReason{MoveAsked, MoveFailover, MovePlaced, MoveHandover, MoveUnfit, MoveWish}
}

// EachMove calls add for each HAVIP that an applied command gave to another owner. before and after
// are the states around the command. A HAVIP that lost its owner and got none has not moved.
func EachMove(before, after *State, c Command, add func(MoveReason)) {
	if c.open() != nil {
		return
	}
	var list []Assignment
	expired := map[uint64]bool{}
	switch b := c.body.(type) {
	case *Place:
		list = b.Assignments
	case *CloseSession:
		list = b.Place
		expired[b.Session] = !b.Released
	case *CloseSessions:
		list = b.Place
		for _, s := range b.Sessions {
			expired[s] = true
		}
	}
	for _, a := range list {
		v, w := before.HAVIPs[a.HAVIP], after.HAVIPs[a.HAVIP]
		if a.Session == 0 || w.Owner == nil || w.Epoch != a.FromEpoch+1 || w.Owner.Session != a.Session {
			continue // refused, or taken away
		}
		add(before.moveReason(c, v, expired))
	}
}

func (s *State) moveReason(c Command, v HAVIP, expired map[uint64]bool) MoveReason {
	_, place := c.body.(*Place)
	switch {
	case place && c.Caller != nil:
		return MoveAsked
	case v.Owner == nil && v.Last != "" || v.Owner != nil && expired[v.Owner.Session]:
		return MoveFailover
	case v.Owner == nil:
		return MovePlaced
	}
	n := s.Nodes[v.Owner.Node]
	if !place || n.Standby || n.Draining || n.Removing || s.Sessions[v.Owner.Session].Draining {
		return MoveHandover
	}
	if s.Ineligible(v, s.ENIs[v.Owner.ENI], c.At) != nil {
		return MoveUnfit
	}
	return MoveWish
}

// Failovers are the timelines that a command records.
func (c Command) Failovers() []Failover {
	switch b := c.body.(type) {
	case *RecordFailover:
		return []Failover{b.Failover}
	case *RecordFailovers:
		return b.Failovers
	}
	return nil
}

// Candidates counts, for each HAVIP by id, the nodes that may own it at a time (unix nanoseconds),
// its owner among them. Limits and groups, which concern several HAVIPs, do not count. It takes
// about 100 ns for each HAVIP and ENI.
func (s *State) Candidates(at int64) map[string]int {
	p := s.Problem(at)
	return p.Candidates()
}
