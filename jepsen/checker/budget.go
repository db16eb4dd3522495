package checker

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"havip-cluster/jepsen/history"
)

// Budgets are the longest gaps that are accepted.
type Budgets struct {
	Failover time.Duration // while a majority is whole
	Recovery time.Duration // from the end of an outage on
}

// WithinBudget checks each gap of each prober. What lies in an outage (Fault.Outage) does not count, nor
// do the Recovery after it; a longer rest is judged by Recovery. It is unknown if nobody
// probed, or if a prober itself paused for longer than the budget.
func WithinBudget(h *history.History, b Budgets) Verdict {
	v := Verdict{Check: "availability budget", Message: "nobody probed"}
	outages := outagesOf(h)
	var longest, excused time.Duration
	gaps, probes := 0, 0
	for _, s := range h.Series {
		if s.Kind != history.Probing {
			continue
		}
		var list []history.Probe
		for _, p := range h.Probes {
			if p.From == s.From && p.Target == s.Target {
				list = append(list, p)
			}
		}
		if blind := Blind(list); len(list) < 2 || blind > b.Failover {
			v.Message = fmt.Sprintf("%s sent %d probes to %s and paused for %v, the budget is %v", s.From, len(list), s.Target, blind, b.Failover)
			return v
		}
		probes += len(list)
		for _, g := range Gaps(list, ns(s.Every), 2*ns(s.Every)) {
			gaps++
			owed, budget := judged(g, outages, b)
			if owed > budget {
				v.Valid = Invalid
				v.Message = fmt.Sprintf("%s without service for %v from %v on, the budget is %v", s.Target, owed.Round(time.Millisecond), g.Start.Round(time.Millisecond), budget)
				return v
			}
			if budget == b.Failover {
				longest = max(longest, owed)
			} else {
				excused = max(excused, g.Duration)
			}
		}
	}
	if probes == 0 {
		return v
	}
	v.Valid = Valid
	v.Message = fmt.Sprintf("%d gaps in %d probes; longest %v (budget %v), with outages %v", gaps, probes, longest.Round(time.Millisecond), b.Failover, excused.Round(time.Millisecond))
	return v
}

// outagesOf are the times in which no service is owed, merged, in order. One that was never
// healed lasts for ever.
func outagesOf(h *history.History) []span {
	var list []span
	for _, f := range h.Faults {
		if f.Outage {
			list = append(list, span{f.Begin, cmp.Or(f.End, int64(1)<<62)})
		}
	}
	slices.SortFunc(list, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	var merged []span
	for _, s := range list {
		if n := len(merged); n > 0 && s.start <= merged[n-1].end {
			merged[n-1].end = max(merged[n-1].end, s.end)
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// judged is how much of a gap counts, and against what: a gap that touches an outage, or the
// time of recovery after it, counts from the outage's end on.
func judged(g Gap, outages []span, b Budgets) (owed, budget time.Duration) {
	for _, o := range slices.Backward(outages) {
		if int64(g.Start) < o.end+int64(b.Recovery) && int64(g.End) > o.start {
			return max(0, min(g.Duration, g.End-ns(o.end))), b.Recovery
		}
	}
	return g.Duration, b.Failover
}

// Recovered checks that after each fault everything came back: all nodes in the cluster, every
// watched HAVIP owned. It is unknown if no fault was ever healed.
func Recovered(h *history.History) Verdict {
	v := Verdict{Check: "recovered after each fault", Message: "no fault was healed"}
	var healed, waited int64
	open, count := false, 0
	for _, m := range slices.SortedStableFunc(slices.Values(h.Marks), func(a, b history.Mark) int { return cmp.Compare(a.At, b.At) }) {
		switch m.Kind {
		case history.MarkHeal:
			if open {
				v.Valid, v.Message = Invalid, fmt.Sprintf("after the fault healed at %v nothing says that it was whole again", ns(healed))
				return v
			}
			healed, open = m.At, true
		case history.MarkBroken:
			v.Valid, v.Message = Invalid, fmt.Sprintf("not whole again %v after the end of the fault: %s", ns(m.At-healed), m.Text)
			return v
		case history.MarkWhole:
			if open {
				waited = max(waited, m.At-healed)
				count++
			}
			open = false
		}
	}
	switch {
	case open:
		v.Message = "the run ended before the last fault was recovered from"
	case count > 0:
		v.Valid, v.Message = Valid, fmt.Sprintf("%d times, the slowest took %v", count, ns(waited).Round(time.Millisecond))
	}
	return v
}
