package fsm

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"havip-cluster/fsm/placement"
)

// Guard before placement. A HAVIP may be placed only when the fence of every node with a
// session knows its address and is shut for it: otherwise another node that has the address,
// for whatever reason, answers beside the owner. HAVIP.Guard is the entry that brought the
// address into being, Session.Guarded is how far the node's fence has come, and a session
// begins only with a fence that knows all there is. So there is nothing to time: the log says
// who waits for whom, and the close of a session ends the waiting for it.

// GuardIndex is the newest Guard that any HAVIP has had; 0 below level 3.
func (s *State) GuardIndex() uint64 { return s.Cluster.GuardIndex }

// GuardedUpTo is the index up to which every open session's fence knows the HAVIPs.
func (s *State) GuardedUpTo() uint64 {
	lowest := uint64(math.MaxUint64)
	for _, sess := range s.Sessions {
		lowest = min(lowest, sess.Guarded)
	}
	return lowest
}

// Unguarded returns the names of the nodes whose fence does not know a HAVIP yet, sorted:
// until there are none it is placed nowhere.
func (s *State) Unguarded(v HAVIP) []string {
	var out []string
	for _, sess := range s.Sessions {
		if sess.Guarded < v.Guard {
			out = append(out, s.NodeName(sess.Node))
		}
	}
	slices.Sort(out)
	return out
}

// WaitsForFence says whose fence a HAVIP waits for.
func WaitsForFence(nodes []string) string { return placement.WaitsForFence(nodes) }

// guard makes an address one that every fence has to know from this entry on.
func (s *State) guard(v *HAVIP) {
	if s.Level() >= 3 {
		v.Guard, s.Cluster.GuardIndex = s.Index, s.Index
	}
}

// guardAll follows the rise to level 3: nobody has said anything of what was there before.
func (s *State) guardAll() {
	s.HAVIPs = maps.Clone(s.HAVIPs)
	for id, v := range s.HAVIPs {
		s.guard(&v)
		v.Free = v.Epoch > 0 // it was owned before
		s.HAVIPs[id] = v
	}
}

func (s *State) reportGuarded(b ReportGuarded) *Refusal {
	sess, ok := s.Sessions[b.Session]
	switch {
	case !ok || sess.Node != b.Node:
		return Refuse(CodeStale, "session %d of node %s is not open", b.Session, s.NodeName(b.Node))
	case b.Index > s.Index:
		return Refuse(CodeRange, "node %s cannot guard what is in the log at index %d: the log is at %d", s.NodeName(b.Node), b.Index, s.Index)
	case b.Index > sess.Guarded:
		sess.Guarded = b.Index
		s.Sessions[b.Session] = sess
	}
	return nil
}

// mayBegin refuses a session whose fence does not know every HAVIP.
func (s *State) mayBegin(n Node, b OpenSession) *Refusal {
	switch {
	case b.Guarded > s.Index:
		return Refuse(CodeRange, "node %s cannot guard what is in the log at index %d: the log is at %d", n.Name, b.Guarded, s.Index)
	case s.Level() >= 3 && b.Guarded < s.Cluster.GuardIndex:
		return Refuse(CodeNotReady, "the fence of node %s knows the HAVIPs of the log up to %d, and there are newer ones up to %d; the node guards them and tries again", n.Name, b.Guarded, s.Cluster.GuardIndex)
	}
	return nil
}

// confirm notes which owners serve. Claims that are not the present ones are no error: an
// owner repeats its word until it sees the effect.
func (s *State) confirm(b Confirm) *Refusal {
	if len(b.Claims) == 0 || len(b.Claims) > MaxAssignments {
		return Refuse(CodeLimit, "%d claims in one confirmation, 1 to %d fit", len(b.Claims), MaxAssignments)
	}
	for _, r := range b.Claims {
		if v, ok := s.HAVIPs[r.HAVIP]; ok && v.Owner != nil && v.Owner.Epoch == r.Epoch && v.Owner.Session == r.Session {
			v.Served, v.Free = r.Epoch, true
			s.HAVIPs[v.ID] = v
		}
	}
	return nil
}

// Serving is what the log knows of a HAVIP's service.
type Serving string

const (
	Unbound   Serving = "UNBIND"    // nobody owns it
	Pending   Serving = "PENDING"   // its owner has not said yet that it serves
	Available Serving = "AVAILABLE" // its owner has said so
)

// Serving says how far a HAVIP's service is. Below level 3 nobody says more than who owns it.
func (s *State) Serving(v HAVIP) Serving {
	switch {
	case v.Owner == nil:
		return Unbound
	case s.Level() >= 3 && v.Served != v.Owner.Epoch:
		return Pending
	}
	return Available
}

func (s *State) closeSessions(c Command, b CloseSessions) ([]string, *Refusal) {
	if len(b.Sessions) == 0 || len(b.Sessions) > MaxSessionsPerEntry || len(b.Place) > MaxAssignments {
		return nil, Refuse(CodeLimit, "%d sessions and %d assignments in one entry, 1 to %d and at most %d fit", len(b.Sessions), len(b.Place), MaxSessionsPerEntry, MaxAssignments)
	}
	for i, number := range b.Sessions {
		if _, open := s.Sessions[number]; !open {
			return nil, Refuse(CodeStale, "session %d is not open", number)
		}
		if i > 0 && b.Sessions[i-1] >= number {
			return nil, Refuse(CodeMalformed, "session %d comes after %d; the sessions must ascend", number, b.Sessions[i-1])
		}
	}
	for _, number := range b.Sessions {
		s.expire(c, s.Sessions[number])
	}
	return s.assignAll(c, b.Place), nil
}

// assignAll carries out the assignments of one entry, each by itself, and returns what was
// refused.
func (s *State) assignAll(c Command, list []Assignment) (parts []string) {
	if s.Level() >= 3 {
		s.entry = &entryLog{}
		defer func() { s.entry = nil }()
	}
	for _, a := range list {
		if refusal := s.assign(c, a); refusal != nil {
			parts = append(parts, refusal.Message)
		}
	}
	if s.entry != nil && s.entry.placed > MaxPlacedEvents {
		s.note(c, "placed", "", "", fmt.Sprintf("%d more HAVIPs were placed by the same entry", s.entry.placed-MaxPlacedEvents))
	}
	return parts
}

// entryLog counts what one entry put into the journals, so that thousands of assignments do
// not push everything else out of them.
type entryLog struct{ placed, decided int }

// another counts one more, and says whether it gets a line of its own.
func (e *entryLog) another(count func(*entryLog) *int, limit int) bool {
	if e == nil {
		return true
	}
	n := count(e)
	*n++
	return *n <= limit
}
