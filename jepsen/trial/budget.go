package trial

import (
	"time"

	"havip-cluster/jepsen/checker"
)

// Budgets are those of the availability verdict. Where the machine is not known to be quiet, a lease may be lost
// to a busy host, so the budgets only tell a cluster that works from one that hangs.
func Budgets(lease time.Duration, measuring bool) checker.Budgets {
	if measuring {
		return checker.Budgets{Failover: 4 * lease, Recovery: 10 * time.Second}
	}
	return checker.Budgets{Failover: 15 * time.Second, Recovery: 30 * time.Second}
}
