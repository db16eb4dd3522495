package leader

import (
	"cmp"
	"slices"

	"havip-cluster/fsm"
)

// drainStep holds decisions about a draining node back: its HAVIPs leave one after another,
// each after the one before has been released. What has no other place to go stays and is
// served; the drain then ends at its deadline, and `node standby` takes it away.
func drainStep(s *fsm.State, moves []fsm.Assignment) []fsm.Assignment {
	if len(moves) == 0 {
		return nil
	}
	busy := map[string]bool{} // by node id
	for _, v := range s.HAVIPs {
		for _, cl := range v.Draining {
			busy[cl.Node] = true
		}
	}
	return slices.DeleteFunc(moves, func(a fsm.Assignment) bool {
		v := s.HAVIPs[a.HAVIP]
		if v.Owner == nil || !leaves(s, v.Owner.Node) || v.Disabled || v.Deleting {
			return false
		}
		if a.Node == "" || a.Node != v.Owner.Node && busy[v.Owner.Node] {
			return true
		}
		busy[v.Owner.Node] = true
		return false
	})
}

// leaves reports whether a node is being drained, and nothing more urgent takes its HAVIPs
// away: its session is open and not ending, and it is neither in standby nor being removed.
func leaves(s *fsm.State, node string) bool {
	n := s.Nodes[node]
	sess, open := s.SessionOf(node)
	return n.Draining && open && !sess.Draining && !n.Standby && !n.Removing
}

// endedDrains says of each drain that is over how it ended, and of one that is not, nothing.
// at is in unix nanoseconds.
func endedDrains(s *fsm.State, at int64) []fsm.EndDrain {
	var out []fsm.EndDrain
	for id, n := range s.Nodes {
		if !n.Draining || n.Drain.Result != "" {
			continue
		}
		switch {
		case !claims(s, id):
			out = append(out, fsm.EndDrain{ID: id, Result: fsm.DrainDone})
		case n.Drain.Deadline != 0 && at >= n.Drain.Deadline:
			out = append(out, fsm.EndDrain{ID: id, Result: fsm.DrainDeadline})
		}
	}
	slices.SortFunc(out, func(a, b fsm.EndDrain) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// claims reports whether a node has a HAVIP or has yet to release one.
func claims(s *fsm.State, node string) bool {
	for _, v := range s.HAVIPs {
		if slices.ContainsFunc(v.Claims(), func(cl fsm.Claim) bool { return cl.Node == node }) {
			return true
		}
	}
	return false
}
