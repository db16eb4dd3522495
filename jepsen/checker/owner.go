package checker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"havip-cluster/jepsen/history"
)

// quietPolls is how many ticks apart two double polls may be to belong to one run, if
// neither node answered in between: frames get lost, and ticks are skipped on a busy machine.
const quietPolls = 3

// Overlap is a time in which two nodes answered for one HAVIP, since the start of the run.
type Overlap struct {
	HAVIP      string
	Nodes      [2]string // sorted
	Start, End time.Duration
	Polls      int // double polls that prove it
}

func (o Overlap) String() string {
	return fmt.Sprintf("%s on %s and %s for %v from %v (%d polls)", o.HAVIP, o.Nodes[0], o.Nodes[1], o.End-o.Start, o.Start, o.Polls)
}

// Dual is the dual-owner time of a history, by two yardsticks.
//
// One answer proves that its node was an owner at *some* instant of [Sent, Received], so no
// finite set of answers proves two owners at *one* instant: any of them could be explained
// by a HAVIP that jumps to and fro between the instants. What can be excluded is how many
// jumps that takes.
//
// A double poll of nodes A and B is a poll that both answered. A run is a sequence of double
// polls of A and B, neighbours at most three ticks apart, without a poll between them that
// only one of the two answered: such a poll may be a hand-over and ends the run. In a run let
// lo be the earliest instant by which both had proved to be owners (the answers of one poll
// received) and hi the latest at which a question to both left that both still answered.
// If lo < hi, no single move explains the run: for a move from A to B, B's answer came before
// lo, thus the move did too, but A answered a question sent after hi. At least two moves, there
// and back, are needed for a run of two polls, and one more for every further poll.
//
// Certain is the total of [lo, hi] over all runs. It is a violation under this one assumption:
// no HAVIP legally moves there and back within three polling intervals (6 ms by default), where
// each of the two moves costs a commit. It finds every dual ownership that lasts three polling
// intervals and loses no frame; loss splits or shortens runs, so Certain is a lower bound.
//
// Suspect is the further time in which answers of two nodes overlap in [Sent, Received] without
// such proof: about one round trip at a legal hand-over that the observer happened to straddle, at
// the edges of a run, and more if a node's answer was late. It is the measuring error, not a verdict.
type Dual struct {
	Certain, Suspect time.Duration
	Overlaps         []Overlap // what Certain is made of, by HAVIP and time; may overlap for three owners
	Handovers        int       // changes of the answering node; more than there were moves is a finding of its own
}

// DualOwner measures how long two nodes answered for one HAVIP. Restrict the answers to one
// Channel beforehand to measure that alone; together, ARP from one node and UDP from another count.
func DualOwner(answers []history.Answer) Dual {
	type key struct{ from, havip string }
	groups := map[key][]history.Answer{}
	for _, a := range answers {
		k := key{a.From, a.HAVIP}
		groups[k] = append(groups[k], a)
	}
	keys := slices.SortedFunc(maps.Keys(groups), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.havip, b.havip), cmp.Compare(a.from, b.from))
	})
	var dual Dual
	for _, k := range keys {
		dual.add(groups[k])
	}
	return dual
}

// add measures the answers to one observer for one HAVIP.
func (d *Dual) add(answers []history.Answer) {
	found := overlaps(answers)
	var certain []span
	for _, o := range found {
		certain = append(certain, span{int64(o.Start), int64(o.End)})
	}
	d.Overlaps = append(d.Overlaps, found...)
	d.Certain += total(certain)
	d.Suspect += total(append(coincidences(answers), certain...)) - total(certain)
	byTime := slices.SortedFunc(slices.Values(answers), func(a, b history.Answer) int { return cmp.Compare(a.Received, b.Received) })
	for i := 1; i < len(byTime); i++ {
		if byTime[i].Node != byTime[i-1].Node {
			d.Handovers++
		}
	}
}

// proof is what one node's answers to one poll prove: owner by received, owner after sent.
type proof struct{ received, sent int64 }

// overlaps finds the runs of every pair of nodes.
func overlaps(answers []history.Answer) []Overlap {
	polls := map[uint64]map[string]proof{}
	nodes := map[string]bool{}
	for _, a := range answers {
		if polls[a.Poll] == nil {
			polls[a.Poll] = map[string]proof{}
		}
		p, seen := polls[a.Poll][a.Node]
		if !seen {
			p.received = a.Received
		}
		polls[a.Poll][a.Node] = proof{min(p.received, a.Received), max(p.sent, a.Sent)}
		nodes[a.Node] = true
	}
	numbers, names := slices.Sorted(maps.Keys(polls)), slices.Sorted(maps.Keys(nodes))
	var found []Overlap
	for i, a := range names {
		for _, b := range names[i+1:] {
			found = append(found, runs(answers[0].HAVIP, a, b, numbers, polls)...)
		}
	}
	slices.SortStableFunc(found, func(a, b Overlap) int { return cmp.Compare(a.Start, b.Start) })
	return found
}

// runs finds the runs of the nodes a and b; numbers are the polls in order.
func runs(havip, a, b string, numbers []uint64, polls map[uint64]map[string]proof) []Overlap {
	var found []Overlap
	var lo, hi int64
	length, last := 0, uint64(0)
	flush := func() {
		if length > 1 && lo < hi {
			found = append(found, Overlap{havip, [2]string{a, b}, ns(lo), ns(hi), length})
		}
		length = 0
	}
	for _, n := range numbers {
		pa, answeredA := polls[n][a]
		pb, answeredB := polls[n][b]
		if !answeredA && !answeredB {
			continue
		}
		if answeredA != answeredB || (length > 0 && n-last > quietPolls) {
			flush()
		}
		if answeredA != answeredB {
			continue
		}
		received, sent := max(pa.received, pb.received), min(pa.sent, pb.sent)
		if length == 0 {
			lo, hi = received, sent
		}
		lo, hi, last, length = min(lo, received), max(hi, sent), n, length+1
	}
	flush()
	return found
}

// span is a time, in ns since the start of the run.
type span struct{ start, end int64 }

// coincidences returns where the answers of two nodes may have been given at the same time.
func coincidences(answers []history.Answer) []span {
	sorted := slices.SortedFunc(slices.Values(answers), func(a, b history.Answer) int { return cmp.Compare(a.Sent, b.Sent) })
	var open []history.Answer // those sent earlier whose answer may still be under way
	var found []span
	for _, a := range sorted {
		open = slices.DeleteFunc(open, func(o history.Answer) bool { return o.Received <= a.Sent })
		for _, o := range open {
			if o.Node != a.Node {
				found = append(found, span{a.Sent, min(a.Received, o.Received)})
			}
		}
		open = append(open, a)
	}
	return found
}

// total is the length of the union of spans.
func total(spans []span) time.Duration {
	sorted := slices.SortedFunc(slices.Values(spans), func(a, b span) int { return cmp.Compare(a.start, b.start) })
	var sum, reached int64
	for i, s := range sorted {
		if i == 0 {
			reached = s.start
		}
		sum += max(0, s.end-max(s.start, reached))
		reached = max(reached, s.end)
	}
	return ns(sum)
}

// SingleOwner checks that no HAVIP was answered for by two nodes: dual-owner time is certain
// nowhere. It is unknown if nobody observed, or if some observed HAVIP was never answered for.
func SingleOwner(h *history.History) Verdict {
	v := Verdict{Check: "single owner", Valid: Unknown, Message: "nobody observed"}
	dual := DualOwner(h.Answers)
	if dual.Certain > 0 {
		lines := make([]string, len(dual.Overlaps))
		for i, o := range dual.Overlaps {
			lines[i] = o.String()
		}
		v.Valid, v.Message = Invalid, fmt.Sprintf("two owners for %v: %s", dual.Certain, strings.Join(lines, "; "))
		return v
	}
	observed := 0
	for _, s := range h.Series {
		if s.Kind != history.Observing {
			continue
		}
		observed++
		if !slices.ContainsFunc(h.Answers, func(a history.Answer) bool { return a.HAVIP == s.Target && a.From == s.From }) {
			v.Message = fmt.Sprintf("nobody ever answered %d polls for %s", s.Count, s.Target)
			return v
		}
	}
	if observed > 0 {
		v.Valid = Valid
		v.Message = fmt.Sprintf("%d answers, %d hand-overs, suspect for %v", len(h.Answers), dual.Handovers, dual.Suspect)
	}
	return v
}
