package limits

import "time"

// Limits of a lease's length. Below the shortest, what a promise adds to it and the jitter of an
// ordinary scheduler eat the lease; above the longest, a failover takes longer than an operator with
// a pager. The log refuses others, and so does failover/lease.
const (
	LeaseShortest = 10 * time.Millisecond
	LeaseLongest  = time.Minute
)
