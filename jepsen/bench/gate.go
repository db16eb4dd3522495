package bench

import (
	"fmt"
	"slices"
	"strings"
)

// verdict is one gate: a ratio, or a count, of what one run measured beside each other.
type verdict struct {
	Name            string
	Measured, Limit float64
	Holds           bool
}

// ratio demands that one contender's gap is at most so many times another's, in the same run.
type ratio struct {
	fault, peerFault string
	of, to           kind
	q                float64 // quantile of the gaps
	limit            float64
}

// The ratios leave room for a machine that did something else during one run.
var ratios = []ratio{
	{hostLoss, hostLoss, lease150, vrrpTuned, 0.5, 0.8},
	{hostLoss, hostLoss, lease500, vrrpDefaults, 0.5, 0.3},
	{partition, partition, lease150, vrrpTuned, 0.5, 0.8},
	{hostLossLeader, hostLoss, lease150, lease150, 0.5, 2},
	{cleanStop, hostLoss, lease150, lease150, 0.5, 0.3},
	{plannedMove, hostLoss, lease150, lease150, 0.5, 0.2},
	{leaderLoss, hostLoss, lease150, lease150, 0.5, 0.1},
}

// judge holds what was measured to the gates. What was not measured has none.
func judge(r *results) (list []verdict) {
	for _, g := range ratios {
		of, there := r.find(g.of, g.fault)
		to, peer := r.find(g.to, g.peerFault)
		if !there || !peer || to.quantile(g.q) == 0 {
			continue
		}
		name := fmt.Sprintf("%s: %s against %s", g.fault, g.of.name, g.to.name)
		if g.fault != g.peerFault {
			name = fmt.Sprintf("%s against %s: %s", g.fault, g.peerFault, g.of.name)
		}
		list = append(list, limit(fmt.Sprintf("%s, p%.0f of the gaps", name, 100*g.q), of.quantile(g.q)/to.quantile(g.q), g.limit))
	}
	two, changes, ours, busy := 0.0, 0, false, false
	for _, w := range r.Rows {
		if !strings.HasPrefix(w.Contender, "havip-cluster") {
			continue
		}
		ours, two = true, max(two, w.TwoMS)
		if w.Fault == busyLoops && slices.Contains([]string{lease500.name, lease150.name, lease50.name, lease30.name}, w.Contender) {
			busy, changes = true, max(changes, w.Changes)
		}
	}
	if ours {
		list = append(list, limit("two owners of havip-cluster in any run, ms", two, 0))
	}
	if busy {
		list = append(list, limit("changes of the owner under eight busy loops, lease 30 ms and more", float64(changes), 0))
	}
	peer, there := r.find(vrrpRealTime, busyLoops)
	for _, k := range []kind{lease20, lease10} {
		if w, measured := r.find(k, busyLoops); there && measured {
			list = append(list, limit(fmt.Sprintf("changes of the owner under eight busy loops: %s against %s, all runs", k.name, vrrpRealTime.name), float64(w.AllChange), float64(peer.AllChange)))
		}
	}
	return list
}

func limit(name string, measured, limit float64) verdict {
	return verdict{Name: name, Measured: measured, Limit: limit, Holds: measured <= limit}
}

// passed: each gate holds, and there was one.
func passed(list []verdict) bool {
	return len(list) > 0 && !slices.ContainsFunc(list, func(v verdict) bool { return !v.Holds })
}

// find is the row of one address on three idle nodes.
func (r *results) find(k kind, fault string) (row, bool) {
	for _, w := range r.Rows {
		if w.Contender == k.name && w.Fault == fault && w.Voters == 3 && w.HAVIPs == 1 && !w.Busy {
			return w, true
		}
	}
	return row{}, false
}
