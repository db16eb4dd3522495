package fsm

import (
	"fmt"

	"havip-cluster/fsm/placement"
)

// A node that does not apply the log keeps its lease, because renewals need no disk and not
// Raft's port. It would learn of nothing that is given to it. So the leader's finding goes into
// the log, where every node that explains a placement sees it.

func (s *State) reportBehind(c Command, b ReportBehind) *Refusal {
	sess, open := s.Sessions[b.Session]
	switch {
	case !open:
		return Refuse(CodeStale, "session %d is not open", b.Session)
	case b.Behind > s.Index:
		return Refuse(CodeRange, "node %s cannot have applied entry %d: the log is at %d", s.NodeName(sess.Node), b.Behind, s.Index)
	}
	was := sess.Behind
	sess.Behind = b.Behind
	s.Sessions[b.Session] = sess
	name := s.NodeName(sess.Node)
	switch {
	case was == 0 && b.Behind != 0:
		s.note(c, "behind", "", name, BehindText(name, b.Behind))
	case was != 0 && b.Behind == 0:
		s.note(c, "behind", "", name, fmt.Sprintf("node %s applies the log again", name))
	}
	return nil
}

// BehindText says that a node does not apply the log, and what to look at.
func BehindText(node string, at uint64) string { return placement.BehindText(node, at) }
