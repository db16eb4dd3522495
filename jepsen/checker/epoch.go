package checker

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"havip-cluster/jepsen/history"
)

// EpochOrder checks the fencing numbers that all answers showed, stale ones included: an epoch of
// a HAVIP has one owner, at whichever node it is read; at one node the epoch never
// goes back; a session belongs to one node. It is unknown if no answer showed two epochs of any HAVIP.
func EpochOrder(h *history.History) Verdict {
	v := Verdict{Check: "epoch order", Message: "no answer showed an epoch"}
	type epoch struct {
		id string
		n  uint64
	}
	type claim struct {
		node    string
		session uint64
	}
	owners, sessions := map[epoch]claim{}, map[uint64]string{}
	highest := map[[2]string]history.Op{} // by node asked and HAVIP: the latest answer
	shown := map[string]map[uint64]bool{}
	answers := 0
	for _, op := range byReturn(h.Ops) {
		view, ok := shownHAVIP(op)
		if !ok {
			continue
		}
		answers++
		if shown[view.ID] == nil {
			shown[view.ID] = map[uint64]bool{}
		}
		shown[view.ID][view.Epoch] = true
		got := claim{view.Node, view.Session}
		// An epoch begins with its owner; it can lose it, never change it.
		if before, seen := owners[epoch{view.ID, view.Epoch}]; seen && got.node != "" && before.node != "" && before != got {
			v.Valid, v.Message = Invalid, fmt.Sprintf("epoch %d of %s belongs to %v and to %v", view.Epoch, view.Name, before, got)
			return v
		}
		if got.node != "" {
			owners[epoch{view.ID, view.Epoch}] = got
			if node, seen := sessions[got.session]; seen && node != got.node {
				v.Valid, v.Message = Invalid, fmt.Sprintf("session %d belongs to %s and to %s", got.session, node, got.node)
				return v
			}
			sessions[got.session] = got.node
		}
		key := [2]string{op.Node, view.ID}
		if before, seen := highest[key]; seen && before.Return < op.Invoke {
			if old, _ := shownHAVIP(before); view.Epoch < old.Epoch {
				v.Valid, v.Message = Invalid, fmt.Sprintf("%s showed epoch %d of %s at %v and %d at %v",
					op.Node, old.Epoch, view.Name, ns(before.Return), view.Epoch, ns(op.Return))
				return v
			}
		}
		highest[key] = op
	}
	moved := 0
	for _, epochs := range shown {
		moved += len(epochs) - 1
	}
	if moved == 0 {
		v.Message = fmt.Sprintf("%d answers, and no epoch ever grew", answers)
		return v
	}
	v.Valid, v.Message = Valid, fmt.Sprintf("%d answers, %d epochs, %d sessions", answers, moved+len(shown), len(sessions))
	return v
}

// shownHAVIP is the HAVIP in an answer.
func shownHAVIP(op history.Op) (view history.HAVIP, ok bool) {
	if op.Outcome != history.OK || len(op.Output) == 0 {
		return view, false
	}
	err := json.Unmarshal(op.Output, &view)
	return view, err == nil && view.ID != ""
}

func byReturn(ops []history.Op) []history.Op {
	return slices.SortedStableFunc(slices.Values(ops), func(a, b history.Op) int { return cmp.Compare(a.Return, b.Return) })
}
