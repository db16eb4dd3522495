package limits

import "time"

// Limits of a lease's length. At the shortest a renewal goes out every 2 ms, and a host that stops for
// longer than four of them loses it. Above the longest, a failover takes longer than an operator with
// a pager. The log refuses others, and so does failover/lease.
const (
	LeaseShortest = 10 * time.Millisecond
	LeaseLongest  = time.Minute
	// LeaseProposed is the shortest that calibrate proposes: what is below is an operator's own choice.
	LeaseProposed = 20 * time.Millisecond
	// LeaseLevel3 is the shortest that members below level 4 take.
	LeaseLevel3 = 20 * time.Millisecond
	// OpeningLongest bounds the first lease of a session where the log is slower than the cluster's lease:
	// it counts from before the request, and a commit and the way to the plane come after it.
	OpeningLongest = 500 * time.Millisecond
)
