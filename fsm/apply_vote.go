package fsm

import "fmt"

// restVote records that a node's vote rests while it is stopped, or no longer does. A word that comes late, of
// a process that has ended, does no harm: the node that runs says Back as soon as its own state says that it rests.
func (s *State) restVote(c Command, b RestVote) *Refusal {
	n, ok := s.Nodes[b.Node]
	switch {
	case !ok:
		return Refuse(CodeNotFound, "node %s is not a member of this cluster", b.Node)
	case n.Role == RoleAgent && !b.Back:
		return Refuse(CodeUnsupported, "node %s is an agent and has no vote", n.Name)
	}
	if rests := !b.Back; rests != n.Resting {
		n.Resting = rests
		s.Nodes[n.ID] = n
		text := fmt.Sprintf("node %s stops in order: with two voters the other one goes on alone until it is back", n.Name)
		if !rests {
			text = fmt.Sprintf("node %s runs again and may vote", n.Name)
		}
		s.note(c, "node-changed", "", n.Name, text)
	}
	return nil
}
