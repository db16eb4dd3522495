package leader

import (
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// changeKind is why a decision was taken, in one word: one of the Change constants of fsm. before is the
// state before it, after one with it.
func changeKind(before, after *fsm.State, d fsm.Decision) string {
	v, w := before.HAVIPs[d.HAVIP], after.HAVIPs[d.HAVIP]
	switch {
	case d.Reason == movedByOperator:
		return fsm.ChangeMove
	case v.Owner == nil:
		return kindOfLost(before, v, w)
	}
	sess, open := after.Sessions[v.Owner.Session]
	if !open {
		switch n := v.Owner.Node; {
		case after.Nodes[n].Flaps != before.Nodes[n].Flaps:
			return fsm.ChangeCrash
		case before.Sessions[v.Owner.Session].Draining:
			return fsm.ChangeStop
		}
		return fsm.ChangeGuard // by the node's own word, without a farewell
	}
	if g := w.GaveUp[v.Owner.ENI]; g.Until > d.At {
		return fsm.ChangeFault
	}
	n, e := after.Nodes[v.Owner.Node], after.ENIs[v.Owner.ENI]
	switch {
	case !e.Up || e.Detached || e.Fault != "":
		return fsm.ChangeLink
	case n.Standby || n.Removing:
		return fsm.ChangeStandby
	case n.Draining:
		return fsm.ChangeDrain
	case sess.Draining:
		return fsm.ChangeStop
	case n.HealthNow() == fsm.HealthRed:
		return fsm.ChangeCheck
	}
	switch {
	case strings.Contains(d.Detail, `"cause":"`+string(placement.Even)+`"`):
		return fsm.ChangeRebalance
	case strings.Contains(d.Detail, `"cause":"`+string(placement.Wish)+`"`), strings.Contains(d.Detail, `"cause":"`+string(placement.Fault)+`"`):
		return fsm.ChangeFailback
	}
	return fsm.ChangeRule
}

// kindOfLost is changeKind for a HAVIP that had no owner when it was decided.
func kindOfLost(before *fsm.State, v, w fsm.HAVIP) string {
	last, known := before.ENIs[v.Last]
	switch {
	case v.Epoch == 0:
		return fsm.ChangeFirst
	case len(w.GaveUp) > 0 && (v.Last == "" || w.GaveUp[v.Last].Until != 0):
		return fsm.ChangeFault
	case !known:
		return fsm.ChangeReturn
	}
	if _, open := before.SessionOf(last.Node); !open {
		return fsm.ChangeCrash
	}
	return fsm.ChangeReturn
}

// plannedLater: what makes a change of this kind is seen in the log before it is decided.
func plannedLater(kind string) bool {
	switch kind {
	case fsm.ChangeLink, fsm.ChangeCheck, fsm.ChangeStandby, fsm.ChangeStop, fsm.ChangeFault, fsm.ChangeGuard:
		return true
	}
	return false
}
