package placement

import (
	"fmt"
	"strings"
)

// Words tells a decision to a person: a headline, then a line for each ENI that could
// matter. ENIs of other subnets are only counted.
func (d Decision) Words() string {
	var b strings.Builder
	to := d.To
	if to == "" {
		to = "nobody"
	}
	verb := "belongs to"
	switch {
	case d.Moves && d.From != "":
		verb = "should move from " + d.From + " to"
	case d.Moves:
		verb = "should go to"
	}
	fmt.Fprintf(&b, "HAVIP %s (%s) %s %s: %s.\n", d.Name, d.HAVIP, verb, to, d.Reason)
	elsewhere := 0
	for _, c := range d.Candidates {
		if c.Rule == "other-subnet" {
			elsewhere++
			continue
		}
		fmt.Fprintf(&b, "  %s\n", c.Words(d))
	}
	if elsewhere > 0 {
		fmt.Fprintf(&b, "  %d ENIs are in other subnets.\n", elsewhere)
	}
	return b.String()
}

// Words is the line about one candidate of a decision.
func (c Candidate) Words(d Decision) string {
	parts := []string{"eligible"}
	switch {
	case !c.Eligible:
		parts[0] = "not eligible: " + c.Why
	case c.ENI == d.To && c.Present:
		parts[0] = "owns it"
	case c.ENI == d.To:
		parts[0] = "chosen"
	case c.ENI == d.RunnerUp:
		parts[0] = "next"
	}
	if c.Present && c.ENI != d.To {
		parts = append(parts, "owns it now")
	}
	if c.Was {
		parts = append(parts, "owned it last")
	}
	if c.Fault != "" {
		parts = append(parts, "fault: "+c.Fault)
	}
	if c.Unsteady != "" {
		parts = append(parts, "its node is "+c.Unsteady)
	}
	if c.Against > 0 {
		parts = append(parts, fmt.Sprintf("against %d of its soft groups", c.Against))
	}
	if c.Eligible {
		score := fmt.Sprintf("score %d", c.Score)
		if len(c.Terms) > 0 {
			var terms []string
			for _, t := range c.Terms {
				terms = append(terms, fmt.Sprintf("%s %+d", t.Of, t.Value))
			}
			score += " (" + strings.Join(terms, ", ") + ")"
		}
		parts = append(parts, score, fmt.Sprintf("beside it %d HAVIPs on the node, %d on the ENI", c.OnNode, c.OnENI))
	}
	if c.Needs != "" {
		parts = append(parts, c.Needs)
	}
	return c.ENI + ": " + strings.Join(parts, "; ")
}
