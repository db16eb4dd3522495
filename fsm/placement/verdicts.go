package placement

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// CheckState is what a check says of one node.
type CheckState string

// The states of a check on a node.
const (
	CheckPassing CheckState = "passing"
	CheckFailing CheckState = "failing"
	// CheckUnknown: no result yet, or none of this definition and this session of the node. It is
	// no reason to leave.
	CheckUnknown CheckState = "unknown"
)

// WhenAllFail is what becomes of a HAVIP whose check that bars fails everywhere.
type WhenAllFail string

const (
	// WhenAllFailKeep leaves it where it was, or gives it to the best of the bad places. Also "".
	WhenAllFailKeep WhenAllFail = "keep"
	// WhenAllFailDrop leaves it without an owner: a failing check is a hard rule.
	WhenAllFailDrop WhenAllFail = "drop"
)

// Check is a check as the placement sees it.
type Check struct {
	Name  string
	Score int  // added where it fails, below 0; 0 = it bars
	Drop  bool // it bars even if that leaves nobody
	// HAVIPs are the ids of those that it is about; none = all.
	HAVIPs []string
	// Results are of the nodes that run it, each once.
	Results []CheckResult
}

// CheckResult is what a check says of one node.
type CheckResult struct {
	Node   string // name
	State  CheckState
	Output string // of the last change, "" = none
}

// Checked is what all checks together say of each HAVIP.
type Checked struct {
	all map[string]Verdict
	of  map[string]map[string]Verdict
}

// Of is what they say of a HAVIP, by id: by node name, nil for nothing. Nobody writes to it.
func (c Checked) Of(havip string) map[string]Verdict {
	if own, ok := c.of[havip]; ok {
		return own
	}
	return c.all
}

// Verdicts sums up what checks say, in the order of their names.
func Verdicts(checks []Check) Checked {
	checks = slices.Clone(checks)
	slices.SortFunc(checks, func(a, b Check) int { return strings.Compare(a.Name, b.Name) })
	out := Checked{of: map[string]map[string]Verdict{}}
	for _, c := range checks {
		if len(c.HAVIPs) == 0 {
			out.all = c.into(out.all)
		}
	}
	for _, c := range checks {
		for _, id := range c.HAVIPs {
			if _, begun := out.of[id]; !begun {
				out.of[id] = maps.Clone(out.all)
			}
			out.of[id] = c.into(out.of[id])
		}
	}
	return out
}

// into adds what one check says.
func (c Check) into(to map[string]Verdict) map[string]Verdict {
	for _, r := range c.Results {
		if r.State == CheckPassing {
			continue
		}
		if to == nil {
			to = map[string]Verdict{}
		}
		to[r.Node] = to[r.Node].with(c, r)
	}
	return to
}

func (v Verdict) with(c Check, r CheckResult) Verdict {
	first := func(have, text string) string {
		if have != "" {
			return have
		}
		return text
	}
	switch {
	case r.State != CheckFailing:
		v.Awaits = first(v.Awaits, fmt.Sprintf("check %s has no result there yet", c.Name))
	case c.Score != 0:
		v.Marks = append(slices.Clip(v.Marks), Term{"check " + c.Name, c.Score}) // others may have the same list
	case c.Drop:
		v.Bars = first(v.Bars, c.fails(r))
	default:
		v.Fault = first(v.Fault, c.fails(r))
	}
	return v
}

func (c Check) fails(r CheckResult) string {
	if r.Output == "" {
		return fmt.Sprintf("check %s fails there", c.Name)
	}
	return fmt.Sprintf("check %s fails there (%s)", c.Name, r.Output)
}
