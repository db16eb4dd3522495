package checker

import (
	"fmt"
	"maps"
	"slices"

	"havip-cluster/jepsen/history"
)

// NothingLost checks that what was acknowledged is there in the end, at every node: it compares
// the last reads (VerbFinal, after everything was healed) with the acknowledged changes, and
// the nodes with each other. It is simpler than Linearizable on purpose, and asks only what
// is beyond doubt: the outcome of the last change of a kind, if no other one of the kind was under
// way at the same time and none had an unknown outcome.
//
// It is unknown if nothing was read in the end, or if no name had a change beyond doubt.
func NothingLost(h *history.History) Verdict {
	v := Verdict{Check: "acknowledged changes kept", Message: "nothing was read in the end"}
	final, changes := map[string][]history.Op{}, map[string][]history.Op{}
	for _, op := range h.Ops {
		switch op.Verb {
		case history.VerbFinal:
			final[op.Key] = append(final[op.Key], op)
		case history.VerbCreate, history.VerbDelete, history.VerbEnable, history.VerbDisable, history.VerbRange:
			changes[op.Key] = append(changes[op.Key], op)
		}
	}
	if len(final) == 0 {
		return v
	}
	kept := 0
	for _, name := range slices.Sorted(maps.Keys(final)) {
		n, message := keptFinally(changes[name], final[name])
		if message != "" {
			v.Valid, v.Message = Invalid, message
			return v
		}
		kept += n
	}
	if kept == 0 {
		v.Message = "no acknowledged change was the last of its kind beyond doubt"
		return v
	}
	v.Valid, v.Message = Valid, fmt.Sprintf("%d of %d, each at every node", kept, kept)
	return v
}

// keptFinally compares the changes of one name with what was read in the end, and counts what
// had to be there.
func keptFinally(changes, final []history.Op) (kept int, message string) {
	doubt := slices.ContainsFunc(changes, func(op history.Op) bool { return op.Outcome == history.Unknown })
	first, err := finalView(final[0])
	for _, op := range final {
		view, e := finalView(op)
		if op.Outcome == history.Unknown || err != nil || e != nil {
			return 0, fmt.Sprintf("%s: no answer from %s in the end", op.Key, op.Node)
		}
		if view.ID != first.ID || view.Enabled != first.Enabled || members(view.Range) != members(first.Range) {
			if doubt { // it may have taken effect between the two reads
				return 0, ""
			}
			return 0, fmt.Sprintf("%s differs in the end between %s (%+v) and %s (%+v)", op.Key, final[0].Node, first, op.Node, view)
		}
	}
	exists := first.ID != ""
	life := certain(changes, final[0], history.VerbCreate, history.VerbDelete)
	if life != nil {
		kept++
		if created := life.Verb == history.VerbCreate; created != exists {
			return 0, fmt.Sprintf("%s of %s by %s, acknowledged at %v, is not so in the end: %+v", life.Verb, life.Key, life.Node, ns(life.Return), first)
		}
	}
	// A HAVIP that was made anew begins enabled, so the switch is judged only in one life.
	if life == nil || !exists {
		return kept, ""
	}
	since := slices.DeleteFunc(slices.Clone(changes), func(op history.Op) bool { return op.Return != 0 && op.Return < life.Return })
	if last := certain(since, final[0], history.VerbEnable, history.VerbDisable); last != nil {
		kept++
		if enabled := last.Verb == history.VerbEnable; enabled != first.Enabled {
			return 0, fmt.Sprintf("%s of %s by %s, acknowledged at %v, is not so in the end", last.Verb, last.Key, last.Node, ns(last.Return))
		}
	}
	return kept, ""
}

// finalView is what a last read showed: the zero HAVIP if there is none of the name, or if it is
// about to go, which may happen between the reads of two nodes.
func finalView(op history.Op) (history.HAVIP, error) {
	if op.Outcome == history.Fail {
		return history.HAVIP{}, nil
	}
	view, ok := shownHAVIP(op)
	if !ok {
		return view, fmt.Errorf("no HAVIP in %s", op.Output)
	}
	if view.Deleting {
		return history.HAVIP{}, nil
	}
	return view, nil
}

// certain is the last acknowledged change of some kinds, or nil if another one may have come after it.
func certain(changes []history.Op, before history.Op, kinds ...string) *history.Op {
	var last *history.Op
	for i, op := range changes {
		if slices.Contains(kinds, op.Verb) && op.Outcome == history.OK && op.Return < before.Invoke && (last == nil || op.Return > last.Return) {
			last = &changes[i]
		}
	}
	if last == nil {
		return nil
	}
	for _, op := range changes {
		other := op.Invoke != last.Invoke || op.Client != last.Client
		if slices.Contains(kinds, op.Verb) && other && op.Outcome != history.Fail &&
			(op.Outcome == history.Unknown || op.Return >= last.Invoke) {
			return nil
		}
	}
	return last
}
