package plane

import (
	"net/netip"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/lease/shell"
	"havip-cluster/fsm"
	"havip-cluster/internal/realtime"
)

// order is what the agent wants of the plane, one field beside ID of it.
type order struct {
	ID      uint64 // of the answer that is waited for; 0: none
	Start   *Start
	View    *View // with Begin: what it begins by
	Keys    []Key
	Begin   *begin
	Release bool
	Ask     question
	From    int64 // seconds of CLOCK_BOOTTIME, of askCourse
}

type question uint8

const (
	askPromises question = 1 + iota
	askFigures
	askCourse
)

// Start is what a plane needs to know before it can speak.
type Start struct {
	Cluster, Node string // ids
	Listen        netip.AddrPort
	// Lease is the length in force by the state on disk: the silence of the voter.
	Lease time.Duration
	// Owner: this node keeps a session.
	Owner bool
	Keys  []Key
	View  View
}

// Key is one of the node's own keys for words. It stays between two processes of one host.
type Key struct {
	Certificate string
	Secret      []byte
}

// View is what the plane knows of the replicated state.
type View struct {
	Index    uint64
	Nodes    map[string]fsm.Node // nil: as before
	Sessions map[uint64]fsm.Session
	Lease    time.Duration
	LeaseMax time.Duration
	Level    int
	Voters   []string // of the latest configuration in the log; empty: not known for sure
	VotersAt uint64
	// Suspended is Page.Suspended before the voters were looked at.
	Suspended int64
	Leader    string
	CaughtUp  bool
}

// promise is what the voter knows of an open session.
type promise struct {
	Session   lease.Session
	Ago, Left time.Duration
	Revoked   bool
}

type begin struct {
	Session lease.Session
	Sent    lease.Instant
	Length  time.Duration
}

// answer is what the plane says: to an order, or by itself.
type answer struct {
	ID    uint64 // of the order; 0: it says it by itself
	Error string
	OK    bool

	Promises []promise
	Figures  *Figures
	Course   []shell.Second

	Wake  bool
	Again string // why everything is announced once more
	Seen  *seen
}

// seen is how renewals did, gathered.
type seen struct {
	Trips, Left []time.Duration
}

// Figures is what a plane has counted.
type Figures struct {
	Granted uint64
	Refused map[string]uint64
	Words   []RefusedMessages
	Dropped map[string]uint64
	Silent  []string
	Report  realtime.Report
	// Kernel says on which devices renewals are answered in the kernel, InKernel how many were; NoKernel why none is.
	// Counted is how many times the kernel, by the answers that it has counted, has moved the deadline.
	Kernel, NoKernel  string
	InKernel, Counted uint64
}

// RefusedMessages are words of one kind that were not heard, for one reason.
type RefusedMessages struct {
	Kind, Reason string
	Count        uint64
}
