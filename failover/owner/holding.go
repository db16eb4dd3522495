package owner

import (
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// Serving is one HAVIP that this node answers for, or is about to.
type Serving struct {
	Holding
	Since   lease.Instant // when it was first wanted here
	Stands  bool          // address, fence and announcement were read back
	Leaving bool
}

// holding is one HAVIP that may answer on this node.
type holding struct {
	Holding
	begun    lease.Instant
	took     time.Duration // until it was served
	serving  bool
	told     fsm.Epoch // the leader was told that it is served under this epoch
	acquired bool      // Changed was told so
	leaving  bool      // it is to go; it may answer until it is gone
	givenUp  bool
	why      string // it leaves
	// release is what is to be said when it is gone; nil: nothing, the lease is over.
	release *Step
}
