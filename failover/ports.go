package failover

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
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

// Edge is the node's side towards its interfaces and its fence. Only the Agent calls it,
// but for SetDeadline, which the Keeper calls, and Inventory.
type Edge interface {
	// Clean shuts the fence and removes every managed address, whoever put it there.
	Clean() error
	// Up puts the address on the ENI and opens the fence for it; the kernel has
	// acknowledged both when it returns nil. Keep follows at once and reads them back.
	Up(h Holding) error
	// Down shuts the fence for the address and takes it off the ENI. It returns nil only
	// when nothing answers for it any more.
	Down(h Holding) error
	// Keep extends the lifetime of the address and repairs what others have changed; it
	// returns a word for each repair.
	Keep(h Holding) (repairs []string, err error)
	// Announce tells the neighbours.
	Announce(h Holding) error
	// SetDeadline tells the fence until when anything may answer. One memory store.
	SetDeadline(t lease.Instant)
	// RemoveStrays takes HAVIPs' addresses off this node's ENIs that another program put there.
	RemoveStrays() ([]Stray, error)
	// Inventory lists the node's ENIs as the log knows them.
	Inventory() ([]fsm.ENI, error)
	// Changes has a token when links, addresses or routes changed.
	Changes() <-chan struct{}
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
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("failover: CLOCK_BOOTTIME: %v", err)) // every Linux since 2.6.39 has it
	}
	return lease.Instant(ts.Nano())
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
