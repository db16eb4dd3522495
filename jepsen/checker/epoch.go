package checker

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"havip-cluster/jepsen/history"
)

// EpochOrder checks the fencing numbers that all answers showed, stale ones included: an epoch of
// a HAVIP has one owner, at whichever node it is read; a session belongs to one node; and an answer
// that promises to be up to date never shows an epoch below one that was shown before it was asked for.
// It is unknown if no answer showed two epochs of any HAVIP.
func EpochOrder(h *history.History) Verdict {
	v := Verdict{Check: "epoch order", Message: "no answer showed an epoch"}
	var shown []shownOp
	ids := map[string][]shownOp{}
	for _, op := range h.Ops {
		if view, ok := shownHAVIP(op); ok {
			shown = append(shown, shownOp{op, view})
			ids[view.ID] = append(ids[view.ID], shownOp{op, view})
		}
	}
	sessions, message := oneOwner(shown)
	epochs := 0
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		n, backwards := growing(ids[id])
		epochs += n
		message = cmp.Or(message, backwards)
	}
	switch {
	case message != "":
		v.Valid, v.Message = Invalid, message
	case epochs > len(ids):
		v.Valid, v.Message = Valid, fmt.Sprintf("%d answers, %d HAVIPs, %d epochs, %d sessions", len(shown), len(ids), epochs, sessions)
	case len(shown) > 0:
		v.Message = fmt.Sprintf("%d answers, and no epoch ever grew", len(shown))
	}
	return v
}

type shownOp struct {
	op   history.Op
	view history.HAVIP
}

// oneOwner checks that epochs and sessions have one owner each, and counts the sessions. An epoch
// begins with its owner and may lose it; it never gets another one.
func oneOwner(list []shownOp) (sessions int, message string) {
	type epoch struct {
		id string
		n  uint64
	}
	owners, nodes := map[epoch]history.HAVIP{}, map[uint64]string{}
	for _, s := range list {
		got := s.view
		if got.Node == "" {
			continue
		}
		if was, seen := owners[epoch{got.ID, got.Epoch}]; seen && (was.Node != got.Node || was.Session != got.Session) {
			return 0, fmt.Sprintf("epoch %d of %s belongs to %s (session %d) and to %s (session %d)",
				got.Epoch, got.Name, was.Node, was.Session, got.Node, got.Session)
		}
		owners[epoch{got.ID, got.Epoch}] = got
		if node, seen := nodes[got.Session]; seen && node != got.Node {
			return 0, fmt.Sprintf("session %d belongs to %s and to %s", got.Session, node, got.Node)
		}
		nodes[got.Session] = got.Node
	}
	return len(nodes), ""
}

// growing counts the epochs that one HAVIP showed, and finds an answer that went back.
func growing(list []shownOp) (epochs int, message string) {
	seen := map[uint64]bool{}
	for _, s := range list {
		seen[s.view.Epoch] = true
	}
	returned := slices.SortedStableFunc(slices.Values(list), func(a, b shownOp) int { return cmp.Compare(a.op.Return, b.op.Return) })
	asked := slices.SortedStableFunc(slices.Values(list), func(a, b shownOp) int { return cmp.Compare(a.op.Invoke, b.op.Invoke) })
	var newest shownOp
	next := 0
	for _, s := range asked {
		for ; next < len(returned) && returned[next].op.Return < s.op.Invoke; next++ {
			if returned[next].view.Epoch >= newest.view.Epoch {
				newest = returned[next]
			}
		}
		if stale(s.op.Verb) || s.view.Epoch >= newest.view.Epoch {
			continue
		}
		return len(seen), fmt.Sprintf("%s showed epoch %d of %s at %v, and %s, asked at %v, epoch %d", newest.op.Node,
			newest.view.Epoch, s.view.Name, ns(newest.op.Return), s.op.Node, ns(s.op.Invoke), s.view.Epoch)
	}
	return len(seen), ""
}

// stale answers promise no more than that the asked node had applied it.
func stale(verb string) bool { return verb == history.VerbStale || verb == history.VerbFinal }

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
