package limits

import "time"

// Limits of a lease's length. Below the shortest a session is over before it is opened: the
// lease counts from before the request, and a commit and the way to the plane come after it. Above the longest, a failover takes longer than an operator with
// a pager. The log refuses others, and so does failover/lease.
const (
	LeaseShortest = 20 * time.Millisecond
	LeaseLongest  = time.Minute
	// OpeningLongest bounds the first lease of a session where the log is slower than the cluster's lease.
	OpeningLongest = 500 * time.Millisecond
)
