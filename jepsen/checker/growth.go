package checker

import (
	"fmt"
	"slices"

	"havip-cluster/jepsen/history"
)

// usageMin is how many samples of each node a verdict needs: three to compare with three.
const usageMin = 6

// quantity is one thing that must not grow: the median of the last third of a node's samples may
// exceed that of the first third by half, and by slack.
type quantity struct {
	name  string
	slack int64
	of    func(history.Usage) int64
}

var quantities = []quantity{
	{"memory (bytes)", 48 << 20, func(u history.Usage) int64 { return u.RSS }},
	{"file descriptors", 24, func(u history.Usage) int64 { return int64(u.FDs) }},
	{"threads", 16, func(u history.Usage) int64 { return int64(u.Threads) }},
	{"goroutines", 48, func(u history.Usage) int64 { return int64(u.Goroutines) }},
	{"files", 16, func(u history.Usage) int64 { return int64(u.Files) }},
	{"disk (bytes)", 64 << 20, func(u history.Usage) int64 { return u.Bytes }},
}

// Growth checks that agents do not take up more and more. Samples are of quiet moments, so they
// are comparable; the agent may be another process each time, its data directory stays.
func Growth(h *history.History) Verdict {
	v := Verdict{Check: "bounded growth", Message: "no usage was sampled"}
	byNode := map[string][]history.Usage{}
	for _, u := range h.Usage {
		byNode[u.Node] = append(byNode[u.Node], u)
	}
	if len(byNode) == 0 {
		return v
	}
	nodes := nodesOf(h)
	if len(nodes) == 0 {
		v.Message = "the history names no nodes"
		return v
	}
	var highest history.Usage
	for _, node := range nodes {
		list := byNode[node]
		if len(list) < usageMin {
			v.Message = fmt.Sprintf("%s has %d samples, a verdict needs %d", node, len(list), usageMin)
			return v
		}
		for _, q := range quantities {
			if slices.ContainsFunc(list, func(u history.Usage) bool { return q.of(u) < 0 }) {
				v.Message = fmt.Sprintf("%s of %s could not be read", q.name, node)
				return v
			}
			third := len(list) / 3
			first, last := medianOf(list[:third], q.of), medianOf(list[len(list)-third:], q.of)
			if last > first+first/2+q.slack {
				v.Valid, v.Message = Invalid, fmt.Sprintf("%s of %s grew from %d to %d", q.name, node, first, last)
				return v
			}
		}
		for _, u := range list {
			highest.RSS, highest.FDs = max(highest.RSS, u.RSS), max(highest.FDs, u.FDs)
			highest.Goroutines, highest.Files = max(highest.Goroutines, u.Goroutines), max(highest.Files, u.Files)
		}
	}
	v.Valid = Valid
	v.Message = fmt.Sprintf("at most %d MB, %d descriptors, %d goroutines, %d files", highest.RSS>>20, highest.FDs, highest.Goroutines, highest.Files)
	return v
}

func medianOf(list []history.Usage, of func(history.Usage) int64) int64 {
	var values []int64
	for _, u := range list {
		values = append(values, of(u))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
