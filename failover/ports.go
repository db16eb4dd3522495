package failover

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
	"havip-cluster/internal/boottime"
)

// Log is what this package needs of the replicated log.
type Log interface {
	State() *fsm.State
	// Watch gives a token after each change of the state or of the leader.
	Watch() (<-chan struct{}, func())
	// VoterSet is the latest one in the log, committed or not.
	VoterSet() lease.VoterSet
	// Leading gives the term in which this node leads, its state up to date.
	Leading() (term uint64, ok bool)
	LeaderID() string
	// CaughtUp: everything on disk at the start of the process has been applied.
	CaughtUp() bool
	Applied() uint64
	// Propose commits a command in the given term; only the leader can.
	Propose(ctx context.Context, term uint64, key string, body fsm.Body) (fsm.Result, error)
}

// Submit commits a command through whoever leads.
type Submit func(ctx context.Context, body fsm.Body) (fsm.Result, error)

// Post sends a datagram to another node: unreliable, encrypted, at most 1200 bytes. It
// does not keep msg.
type Post interface {
	Send(to fsm.Node, msg []byte) error
}

// Edge is this node's kernel: its interfaces and its fence. Only the Agent calls Turn and
// AnnounceAgain; the Keeper calls SetDeadline.
type Edge interface {
	// Turn brings the kernel closer to what is wanted, and tells what came to pass: each thing
	// once. It is called again at once while Report.Next has passed.
	Turn(want Wanted) Report
	// AnnounceAgain has the next Turn tell the neighbours once more what is served here.
	AnnounceAgain()
	// SetDeadline tells the fence until when anything may answer. One memory store.
	SetDeadline(t lease.Instant)
	// Inventory lists the node's ENIs as the log knows them, and says what it left out. s has
	// the operator's words about them.
	Inventory(s *fsm.State) (enis []fsm.ENI, leftOut string, err error)
	// Changes has a token when links, addresses or routes changed.
	Changes() <-chan struct{}
}

// Wanted is what this node may answer for. Everything else of the log it may not.
type Wanted struct {
	// State is what the holdings were decided on.
	State *fsm.State
	// CaughtUp: State is no earlier than what this node knew before it started.
	CaughtUp bool
	Holdings []Holding // in the order of HAVIP ids
	Deadline lease.Instant
}

// Report is what a turn of the Edge has brought about. HAVIPs are named by their ids.
type Report struct {
	Serving []string // address, fence and announcement stand, and were read back
	Gone    []string // nothing answers for it here any more
	Faults  []Trouble
	Repairs []Trouble
	Strays  []Stray
	Notes   []Note // what else came to pass on this host
	// Guarded is the log index up to which the fence of this node knows every HAVIP; 0: it does
	// not, and Unguarded says why.
	Guarded   uint64
	Unguarded string
	// Clean: nothing of ours is on an interface, and the fence is open for nothing.
	Clean bool
	Next  lease.Instant
}

// Trouble is something about one HAVIP: why it cannot be served, or what was put right.
type Trouble struct {
	HAVIP string // id
	Text  string
}

// Note is something that came to pass on this node, for the cluster's events.
type Note struct {
	HAVIP    string // id; "": it is about none
	Repaired bool   // it was put right; false: somebody has to do something
	Text     string
}

// Stray is a HAVIP's address that another program put on this node.
type Stray struct {
	HAVIP  string // id
	Prefix netip.Prefix
	Device string
	// Removed: it was taken off; one with a subnet's prefix or on another device is told only.
	Removed bool
}

// Holding is one HAVIP as the Agent handles it.
type Holding struct {
	HAVIP fsm.HAVIP
	Claim fsm.Claim
	ENI   fsm.ENI
	// Lifetime is the backstop of the address: the kernel takes it away by itself.
	Lifetime time.Duration
}

// ChangeKind is what became of a HAVIP on this node.
type ChangeKind string

const (
	// Acquired: this node answers for it. A Released follows, whatever happens, unless the
	// process dies. A new claim of the owner that goes on answering is no change.
	Acquired ChangeKind = "acquire"
	// Released: this node answers for it no longer.
	Released ChangeKind = "release"
	// Faulted: it could not be put up, or not be kept. Before the Released, if there is one.
	Faulted ChangeKind = "fault"
)

// Change is told when it has happened, those of one HAVIP in order.
type Change struct {
	Kind ChangeKind
	Holding
	Reason string
}

// Clock reads CLOCK_BOOTTIME: it counts while the host is suspended, and nobody sets it.
type Clock func() lease.Instant

// Boot is the real Clock.
func Boot() lease.Instant {
	return lease.Instant(boottime.Now())
}

// Config joins the parts of a Member.
type Config struct {
	Node   string // id
	Log    Log
	Submit Submit
	Post   Post
	Edge   Edge
	Clock  Clock
	Logger *slog.Logger
	// Owner: this node may own HAVIPs, so it keeps a session. A witness does not.
	Owner bool
	// Lease is the length in force until the log tells another one.
	Lease time.Duration
	// Changed hears what becomes of HAVIPs here; nil: nobody does. The Agent calls it on its
	// way, so it must not block.
	Changed func(Change)
	// Wall is the time for records in unix nanoseconds; nil is the system's clock.
	Wall func() int64
}

func (c Config) wall() int64 {
	if c.Wall == nil {
		return wall()
	}
	return c.Wall()
}

// wall is the time for records; nothing is decided by it but pauses and failback.
func wall() int64 { return time.Now().UnixNano() }
