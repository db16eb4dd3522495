package checker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"havip-cluster/jepsen/history"
)

// SingleKernel checks that at no instant two kernels let a HAVIP pass: the fence open and the
// deadline ahead. It looks at the permission itself, so it also sees what no frame happened to show.
//
// Two runs of samples overlap if each begins before the other ends. Then node A was seen open
// before and after a moment at which B was seen open; what explains that without two owners is
// a HAVIP that moved there and back between two samples of A, Widest apart. So a run is split
// wherever its samples lie farther apart than samplesApart: the assumption is that of Dual.
//
// It is unknown if a node was never sampled, or if no HAVIP was ever seen open.
func SingleKernel(h *history.History) Verdict {
	v := Verdict{Check: "single owner, by kernel", Message: "no fence was sampled"}
	if missing := unsampled(h); missing != "" {
		v.Message = missing
		return v
	}
	open := map[string][]history.Kernel{}
	var samples uint64
	for _, k := range h.Kernel {
		samples += k.Samples
		if k.State == history.FenceOpen && k.Widest <= int64(samplesApart) {
			open[k.HAVIP] = append(open[k.HAVIP], k)
		}
	}
	if len(open) == 0 {
		v.Message = "no HAVIP was ever seen open at a fence"
		return v
	}
	var dual time.Duration
	first := ""
	for _, havip := range slices.Sorted(maps.Keys(open)) {
		for _, o := range kernelOverlaps(open[havip]) {
			dual += o.End - o.Start
			first = cmp.Or(first, o.String())
		}
	}
	if dual > 0 {
		v.Valid, v.Message = Invalid, fmt.Sprintf("two fences open for %v: %s", dual, first)
		return v
	}
	v.Valid, v.Message = Valid, fmt.Sprintf("dual-owner time 0 ms in %d samples", samples)
	return v
}

// samplesApart is the longest time between two samples in a run that counts: within it no HAVIP
// legally moves there and back.
const samplesApart = 15 * time.Millisecond

// unsampled names a node without samples, or is empty.
func unsampled(h *history.History) string {
	count := map[string]uint64{}
	for _, s := range h.Series {
		if s.Kind == history.Sampling {
			count[s.Target] += s.Count
		}
	}
	if len(count) == 0 {
		return "no fence was sampled"
	}
	for _, node := range nodesOf(h) {
		if count[node] == 0 {
			return "the fence of " + node + " was never sampled"
		}
	}
	return ""
}

func nodesOf(h *history.History) []string {
	var nodes []string
	for _, r := range h.Runs {
		nodes = append(nodes, r.Nodes...)
	}
	return nodes
}

// kernelOverlaps finds overlapping runs of different nodes, of one HAVIP.
func kernelOverlaps(runs []history.Kernel) []Overlap {
	runs = slices.SortedFunc(slices.Values(runs), func(a, b history.Kernel) int { return cmp.Compare(a.First, b.First) })
	var found []Overlap
	var live []history.Kernel
	for _, k := range runs {
		live = slices.DeleteFunc(live, func(l history.Kernel) bool { return l.Last <= k.First })
		for _, l := range live {
			if l.Node != k.Node && min(l.Last, k.Last) > k.First {
				nodes := [2]string{min(l.Node, k.Node), max(l.Node, k.Node)}
				found = append(found, Overlap{k.HAVIP, nodes, ns(k.First), ns(min(l.Last, k.Last)), int(min(l.Samples, k.Samples))})
			}
		}
		live = append(live, k)
	}
	return found
}
