package checker

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"havip-cluster/jepsen/history"
)

// Gap is a time without service as a client sees it. Start is the send time of the last
// answered probe before it and End the send time of the next answered one, both since the
// start of the run; Duration is End - Start less one probing interval, because two answered
// neighbours lie one interval apart without any gap. So it errs by less than one interval
// either way, and never by a round trip.
//
// At the edges of a history, where one of the two answers is missing, the first or the last
// probe stands in for it and Open is set: then the true gap is at least Duration.
type Gap struct {
	Start, End, Duration time.Duration
	FromNode, ToNode     string // who answered before and after; empty at an open edge
	Lost                 int    // unanswered probes within; at least 1
	Open                 bool
}

// Gaps returns the gaps of at least shortest, in time order. The probes are those of one
// client to one target, a tick of every apart. A pause of the prober itself, in which
// nothing was sent and so nothing lost, is no gap: see Blind.
func Gaps(probes []history.Probe, every, shortest time.Duration) []Gap {
	probes = bySent(probes)
	var gaps []Gap
	add := func(g Gap) {
		g.Duration = max(0, g.End-g.Start)
		if !g.Open {
			g.Duration = max(0, g.Duration-every)
		}
		if g.Lost > 0 && g.Duration >= shortest {
			gaps = append(gaps, g)
		}
	}
	last, lost := -1, 0
	for i, p := range probes {
		if p.Answered == 0 {
			lost++
			continue
		}
		if last < 0 {
			add(Gap{Start: ns(probes[0].Sent), End: ns(p.Sent), ToNode: p.Node, Lost: lost, Open: true})
		} else {
			before := probes[last]
			add(Gap{Start: ns(before.Sent), End: ns(p.Sent), FromNode: before.Node, ToNode: p.Node, Lost: lost})
		}
		last, lost = i, 0
	}
	if lost > 0 {
		edge := Gap{Start: ns(probes[max(0, last)].Sent), End: ns(probes[len(probes)-1].Sent), Lost: lost, Open: true}
		if last >= 0 {
			edge.FromNode = probes[last].Node
		}
		add(edge)
	}
	return gaps
}

// Blind is the longest time between two probes sent one after the other: what is shorter
// than this the prober may have missed, and a gap may look longer by it.
func Blind(probes []history.Probe) time.Duration {
	probes = bySent(probes)
	var blind int64
	for i := 1; i < len(probes); i++ {
		blind = max(blind, probes[i].Sent-probes[i-1].Sent)
	}
	return ns(blind)
}

// Summary condenses a series of probes. Percentiles are of the nearest-rank kind.
type Summary struct {
	Sent, Answered          int
	Gaps                    int
	GapP50, GapP99, GapMax  time.Duration
	RTTP50, RTTP99, RTTMax  time.Duration
	Blind                   time.Duration
	Nodes                   []string // who answered, sorted
	FirstAnswer, LastAnswer time.Duration
}

// Summarize counts the gaps of at least shortest.
func Summarize(probes []history.Probe, every, shortest time.Duration) Summary {
	s := Summary{Sent: len(probes), Blind: Blind(probes)}
	var trips, lengths []time.Duration
	for _, p := range bySent(probes) {
		if p.Answered == 0 {
			continue
		}
		if s.Answered == 0 {
			s.FirstAnswer = ns(p.Answered)
		}
		s.Answered++
		s.LastAnswer = max(s.LastAnswer, ns(p.Answered))
		trips = append(trips, ns(p.Answered-p.Sent))
		s.Nodes = append(s.Nodes, p.Node)
	}
	for _, g := range Gaps(probes, every, shortest) {
		lengths = append(lengths, g.Duration)
	}
	slices.Sort(s.Nodes)
	s.Nodes = slices.Compact(s.Nodes)
	s.Gaps = len(lengths)
	s.GapP50, s.GapP99, s.GapMax = Percentile(lengths, 50), Percentile(lengths, 99), Percentile(lengths, 100)
	s.RTTP50, s.RTTP99, s.RTTMax = Percentile(trips, 50), Percentile(trips, 99), Percentile(trips, 100)
	return s
}

// Percentile is the smallest element that is at least as large as p percent of all, 0 of
// an empty list. p is in 1..100.
func Percentile(list []time.Duration, p int) time.Duration {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// Availability checks that no client waited longer than budget for a HAVIP. It is unknown
// if nobody probed, or if a prober itself paused for longer than budget and so cannot tell.
func Availability(h *history.History, budget time.Duration) Verdict {
	v := Verdict{Check: "availability", Valid: Unknown, Message: "nobody probed"}
	var parts []Verdict
	for _, s := range h.Series {
		if s.Kind == history.Probing {
			parts = append(parts, available(h.Probes, s, budget))
		}
	}
	if len(parts) == 0 {
		return v
	}
	worst := Worst(parts...)
	v.Valid, v.Message = worst.Valid, worst.Message
	return v
}

func available(all []history.Probe, s history.Series, budget time.Duration) Verdict {
	v := Verdict{Check: s.From + " to " + s.Target}
	var probes []history.Probe
	for _, p := range all {
		if p.Target == s.Target && p.From == s.From {
			probes = append(probes, p)
		}
	}
	sum := Summarize(probes, ns(s.Every), 0)
	switch {
	case sum.Sent == 0:
		v.Message = "no probe was sent"
	case sum.Answered == 0:
		v.Valid, v.Message = Invalid, fmt.Sprintf("none of %d probes was answered", sum.Sent)
	case sum.Blind > budget:
		v.Message = fmt.Sprintf("the prober paused for %v, longer than the budget of %v", sum.Blind, budget)
	case sum.GapMax > budget:
		v.Valid, v.Message = Invalid, fmt.Sprintf("gap of %v exceeds the budget of %v", sum.GapMax, budget)
	default:
		v.Valid, v.Message = Valid, fmt.Sprintf("%d probes, longest gap %v", sum.Sent, sum.GapMax)
	}
	return v
}

func bySent(probes []history.Probe) []history.Probe {
	order := func(a, b history.Probe) int { return cmp.Compare(a.Sent, b.Sent) }
	if slices.IsSortedFunc(probes, order) {
		return probes
	}
	probes = slices.Clone(probes)
	slices.SortStableFunc(probes, order)
	return probes
}

func ns(v int64) time.Duration { return time.Duration(v) }
