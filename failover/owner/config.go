package owner

import (
	"log/slog"

	"havip-cluster/failover/lease"
	"havip-cluster/failover/ports"
	"havip-cluster/failover/wire"
	"havip-cluster/fsm"
)

// Config is what an Agent is made of.
type Config struct {
	Node   string // id
	Log    ports.Log
	Submit ports.Submit
	Mail   *wire.Mail
	Edge   Edge
	Clock  ports.Clock
	Logger *slog.Logger
	// Changed hears what becomes of HAVIPs here; nil: nobody does. The Agent calls it on its
	// way, so it must not block.
	Changed func(Change)
	// Sent reports whether clients find here what stands here: where a call of the cloud moves an
	// address, that takes longer. The log is told that a HAVIP is served only then, and nothing else
	// waits. nil: announcements move it, so they do. It must not block.
	Sent func(havip string, epoch fsm.Epoch) bool
	// Claimed hears of each claim of a HAVIP by somebody outside the cluster; nil: nobody does.
	Claimed func()
}

// Lease is what this node holds with the voters.
type Lease interface {
	// Lease returns the present session and its deadline; session 0 when there is none.
	Lease() (session uint64, deadline lease.Instant)
	// Release ends the session by this node's own will.
	Release()
}
