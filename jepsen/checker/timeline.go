package checker

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"havip-cluster/jepsen/history"
)

// Timelines checks that each change of owner of a watched HAVIP is told: one timeline for every epoch
// up to the one at which it was read last, with the steps that its kind has, each with its node.
//
// It is unknown if nothing but first placements was told.
func Timelines(h *history.History) Verdict {
	v := Verdict{Check: "timelines", Message: "no timeline was read"}
	last := map[string]uint64{} // epoch, by HAVIP
	for _, m := range h.Marks {
		if m.Kind == history.MarkEpoch {
			last[m.Text] = max(last[m.Text], m.Value)
		}
	}
	told := map[string]map[uint64]bool{}
	var faults []string
	changes := 0
	for _, c := range h.Changes {
		if told[c.HAVIP] == nil {
			told[c.HAVIP] = map[uint64]bool{}
		}
		if lacks := incomplete(c); lacks != "" {
			faults = append(faults, fmt.Sprintf("%s, epoch %d (%s): %s", c.HAVIP, c.Epoch, c.Kind, lacks))
		}
		told[c.HAVIP][c.Epoch] = true
		if c.Kind != "first" {
			changes++
		}
	}
	for name, until := range last {
		for epoch := uint64(1); epoch <= until; epoch++ {
			if !told[name][epoch] {
				faults = append(faults, fmt.Sprintf("%s, epoch %d of %d has none", name, epoch, until))
			}
		}
	}
	slices.Sort(faults)
	switch {
	case len(faults) > 0:
		v.Valid, v.Message = Invalid, fmt.Sprintf("%d: %s", len(faults), strings.Join(faults[:min(len(faults), 3)], "; "))
	case changes > 0 && len(last) > 0:
		v.Valid, v.Message = Valid, fmt.Sprintf("%d changes of owner, each with its timeline", changes)
	}
	return v
}

// incomplete says what a timeline lacks, "" if nothing.
func incomplete(c history.Change) string {
	has := func(step string) bool { return slices.Contains(c.Steps, step) }
	need := []string{"noticed", "committed"}
	switch {
	case has("dark"), has("overtaken"):
	case has("adopted"): // the leader that knew the rest is gone
	case has("silent"):
		return "the new owner has not told anything"
	default:
		need = append(need, "applied", "announced", "confirmed")
	}
	if has("heard") {
		need = append(need, "deadline", "endorsed")
	}
	var lacks []string
	for _, step := range need {
		if !has(step) {
			lacks = append(lacks, "no step "+step)
		}
	}
	if len(c.Nodes) != len(c.Steps) || slices.Contains(c.Nodes, "") {
		lacks = append(lacks, "a step without its node")
	}
	if c.Kind == "" {
		lacks = append(lacks, "no kind")
	}
	return cmp.Or(strings.Join(lacks, ", "))
}
