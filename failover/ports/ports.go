// Package ports is what the rooms of failover need of the rest of the program: the replicated
// log, a way to the leader, a way to other nodes, and a clock.
package ports

import (
	"context"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
	"havip-cluster/internal/boottime"
)

// Log is what failover needs of the replicated log.
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

// SubmitWait is for how long one Submit is waited for.
const SubmitWait = 5 * time.Second

// Post sends a datagram to another node: unreliable, at most 1200 bytes. It does not keep msg.
type Post interface {
	Send(to fsm.Node, msg []byte) error
}

// TaggedPost is a Post that also sends messages which a program in the kernel may read and answer.
type TaggedPost interface {
	Post
	// SendTagged sends a message of 56 bytes; answer: in answer to such a message of that node. An error:
	// nothing was sent, and Send is right.
	SendTagged(to fsm.Node, answer bool, msg []byte) error
}

// Clock reads CLOCK_BOOTTIME: it counts while the host is suspended, and nobody sets it.
type Clock func() lease.Instant

// Boot is the real Clock.
func Boot() lease.Instant {
	return lease.Instant(boottime.Now())
}
