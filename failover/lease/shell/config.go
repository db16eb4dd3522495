// Package shell runs the pure cores of failover/lease in a node: the Renewer around the holder of the
// own session, the Voter around the acceptor; the SessionClient opens sessions. It moves messages and reads clocks; its duties are
// numbered in package lease, and who has a right to what is decided there.
package shell

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/internal/realtime"
)

// Config is what the parts of this package are made of.
type Config struct {
	Node   string // id
	Log    ports.Log
	Submit ports.Submit // the SessionClient's
	Mail   *wire.Mail
	Clock  ports.Clock
	Logger *slog.Logger
	// Boot names this process of the voter: from DrawBoot.
	Boot lease.BootID
	// Lease is the length in force until the log tells another one.
	Lease time.Duration
	// Plane gives the Renewer a thread of its own, by the real clock; nil: a goroutine does.
	Plane *realtime.Plane
	// Authorised is asked before each renewal is sent: whether the node still wants its session. nil: it does.
	Authorised func(now lease.Instant) bool
	// Stand has this node stand for election in place of a leader whose lease has ended at a majority;
	// false: it does not, because it hears that leader, or heard it too lately: who does not stand first waits
	// for so much more silence. It does not block for long. nil: nobody stands.
	Stand func(leader string, later time.Duration) bool
	// Delegate acknowledges renewals in the Voter's place; nil: nobody does.
	Delegate Delegate
	// Counter counts beside the Renewer; nil: nobody does.
	Counter Counter
	// Viewed is the index of the state that acceptor and holder know, where they are elsewhere; nil: the log's.
	Viewed func() uint64
	Measure
}

// Measure hears how the Renewer's renewals do. Each may be nil, and must not block.
type Measure struct {
	// Renewed hears how long another voter's acknowledgement took from the renewal's send time.
	Renewed func(rtt time.Duration)
	// Extended hears what was left of the lease when a majority extended it.
	Extended func(left time.Duration)
}

// DrawBoot draws the name of this process of the voter.
func DrawBoot() lease.BootID {
	var b [8]byte
	rand.Read(b[:]) // never fails, the process ends instead
	return lease.BootID(binary.BigEndian.Uint64(b[:]) | 1)
}
