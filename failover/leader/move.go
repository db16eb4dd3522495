package leader

import (
	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// movedByOperator is the reason of such a move.
const movedByOperator = "moved by an operator"

// Move is an operator's planned move of one HAVIP to a node (name) or an ENI (id). It is
// one change and leaves no rule behind. at is the time in unix nanoseconds. The refusal says why
// the target cannot own it.
func Move(s *fsm.State, at int64, havip, to string) (fsm.Place, *fsm.Refusal) {
	d, known := s.ExplainOne(at, havip)
	if !known {
		return fsm.Place{}, fsm.Refuse(fsm.CodeNotFound, "no HAVIP has the id %q", havip)
	}
	var found []placement.Candidate
	for _, cand := range d.Candidates {
		if cand.ENI == to || cand.Node == to {
			found = append(found, cand)
		}
	}
	return moveTo(s, s.HAVIPs[havip], to, found)
}

func moveTo(s *fsm.State, v fsm.HAVIP, to string, found []placement.Candidate) (fsm.Place, *fsm.Refusal) {
	if n, known := s.NodeNamed(to); known && len(found) == 0 {
		why := "it has no ENI"
		if n.Role == fsm.RoleWitness {
			why = "it is a witness: it votes and owns nothing"
		}
		return fsm.Place{}, fsm.Refuse(fsm.CodeUnsupported, "HAVIP %s cannot go to node %s: %s", v.Name, to, why)
	}
	if len(found) == 0 {
		return fsm.Place{}, fsm.Refuse(fsm.CodeNotFound, "%q is neither a node nor an ENI of the cluster; `node list` and `eni list` show those there are", to)
	}
	why := ""
	for _, cand := range found {
		if cand.Present {
			return fsm.Place{}, fsm.Refuse(fsm.CodeInUse, "HAVIP %s is on %s already", v.Name, cand.ENI)
		}
		if cand.Eligible {
			sess, _ := s.SessionOf(s.ENIs[cand.ENI].Node)
			return fsm.Place{Assignments: []fsm.Assignment{{
				HAVIP: v.ID, FromEpoch: v.Epoch, Node: sess.Node, Session: sess.Number, ENI: cand.ENI,
				Reason: movedByOperator,
			}}}, nil
		}
		if why == "" || cand.Rule != "other-subnet" {
			why = cand.ENI + ": " + cand.Why
		}
	}
	return fsm.Place{}, fsm.Refuse(fsm.CodeUnsupported, "HAVIP %s cannot go to %s: %s", v.Name, to, why)
}
