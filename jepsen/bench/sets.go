package bench

import (
	"maps"
	"slices"
)

// failures are the faults that every contender can have; the others are for those that lead.
var (
	failures = []string{hostLoss, killAll, freeze, partition, cleanStop}
	leaders  = []string{hostLossLeader, leaderLoss, plannedMove}
)

// sets are what can be measured. Of each scene the contender's whole life is measured before the next
// one begins, so that one never runs beside another.
var sets = map[string]func() []scene{
	"quick":    quick,
	"standard": standard,
	"full":     full,
	"rest":     rest,
	"load":     load,
}

func setNames() []string { return slices.Sorted(maps.Keys(sets)) }

// quick is what a change is tried with: about a minute for each run.
func quick() []scene {
	return []scene{
		{contender: vrrpTuned, voters: 3, havips: 1, cost: true, faults: []string{hostLoss, cleanStop}},
		{contender: lease150, voters: 3, havips: 1, cost: true, faults: []string{hostLoss, hostLossLeader, leaderLoss, plannedMove, cleanStop}},
	}
}

// standard is what docs/bench shows.
func standard() []scene {
	both := slices.Concat(failures, leaders)
	return []scene{
		{contender: vrrpDefaults, voters: 3, havips: 1, cost: true, faults: []string{hostLoss, killAll, cleanStop}},
		{contender: vrrpTuned, voters: 3, havips: 1, cost: true, faults: failures},
		{contender: vrrpRealTime, voters: 3, havips: 1, cost: true, faults: append(slices.Clone(failures), busyLoops)},
		{contender: lease500, voters: 3, havips: 1, cost: true, faults: both},
		{contender: lease150, voters: 3, havips: 1, cost: true, faults: append(slices.Clone(both), busyLoops)},
		{contender: lease50, voters: 3, havips: 1, cost: true, faults: append(slices.Clone(both), busyLoops)},
		{contender: lease20, voters: 3, havips: 1, cost: true, faults: append(slices.Clone(both), busyLoops)},
		{contender: lease150, voters: 5, havips: 1, cost: true, faults: []string{hostLoss, hostLossLeader}},
		{contender: vrrpTuned, voters: 3, havips: 100, faults: []string{hostLoss}},
		{contender: lease150, voters: 3, havips: 100, cost: true, faults: []string{hostLoss, cleanStop}},
		{contender: vrrpTuned, voters: 3, havips: 1000, faults: []string{hostLoss}},
		{contender: lease500, voters: 3, havips: 1000, cost: true, faults: []string{hostLoss, cleanStop}},
	}
}

// full is every length of lease and every size; hours.
func full() []scene {
	both := slices.Concat(failures, leaders)
	var list []scene
	for _, busy := range []bool{false, true} {
		for _, c := range []kind{vrrpDefaults, vrrpTuned, vrrpFast, vrrpRealTime} {
			list = append(list, scene{contender: c, voters: 3, havips: 1, busy: busy, cost: !busy, faults: append(slices.Clone(failures), busyLoops)})
		}
		for _, c := range []kind{lease500, lease150, lease50, lease20, lease10} {
			for _, voters := range []int{3, 5} {
				list = append(list, scene{contender: c, voters: voters, havips: 1, busy: busy, cost: !busy, faults: append(slices.Clone(both), busyLoops)})
			}
		}
	}
	for _, n := range []int{100, 1000, 5000} {
		list = append(list, scene{contender: vrrpTuned, voters: 3, havips: n, cost: true, faults: []string{hostLoss}})
		for _, c := range []kind{lease500, lease150, lease50} {
			list = append(list, scene{contender: c, voters: 3, havips: n, cost: true, faults: []string{hostLoss, killAll, cleanStop}})
		}
	}
	for _, nodes := range []int{7, 16} {
		list = append(list, scene{contender: lease500, voters: nodes, havips: 1, cost: true})
	}
	return append(list, scene{contender: lease500, voters: 3, havips: 10_000, cost: true, faults: []string{hostLoss}})
}

// rest is what the contenders need while nothing changes.
func rest() []scene {
	var list []scene
	for _, c := range []kind{vrrpTuned, lease500, lease150, lease50} {
		list = append(list, scene{contender: c, voters: 3, havips: 1, cost: true})
	}
	return append(list, scene{contender: lease500, voters: 3, havips: 1000, cost: true})
}

// load is who keeps the address while every core is busy; and for how long a lost host is missed, on idle
// cores. A run takes about four minutes, ten 40.
func load() []scene {
	var list []scene
	for _, c := range []kind{vrrpRealTime, lease150, lease50, lease30, lease20, lease10} {
		list = append(list, scene{contender: c, voters: 3, havips: 1, faults: []string{busyLoops, hostLoss}})
	}
	return list
}
