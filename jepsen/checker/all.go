package checker

import "havip-cluster/jepsen/history"

// All makes every check of a run on whole clusters, safety first.
func All(h *history.History, b Budgets) []Verdict {
	wire := SingleOwner(h)
	wire.Check = "single owner, by wire"
	return []Verdict{
		wire, SingleKernel(h), NoFrameAfterDeadline(h), EpochOrder(h), Linearizable(h), NothingLost(h),
		Recovered(h), WithinBudget(h, b), Growth(h), Timelines(h),
	}
}
