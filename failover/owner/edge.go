package owner

import (
	"net/netip"
	"time"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

// Edge is this node's kernel: its interfaces and its fence. Only the Agent calls Turn and
// AnnounceAgain.
type Edge interface {
	// Turn brings the kernel closer to what is wanted, and tells what came to pass: each thing
	// once. It is called again at once while Report.Next has passed.
	Turn(want Wanted) Report
	// AnnounceAgain has the next Turn tell the neighbours once more what is served here.
	AnnounceAgain()
	// Inventory lists the node's ENIs as the log knows them, and says what it left out. s has
	// the operator's words about them.
	Inventory(s *fsm.State) (enis []fsm.ENI, leftOut string, err error)
	// Changes has a token when links, addresses or routes changed.
	Changes() <-chan struct{}
}

// Wanted is what this node may answer for. Everything else of the log it may not.
type Wanted struct {
	// State is what the activations were decided on.
	State *fsm.State
	// CaughtUp: State is no earlier than what this node knew before it started.
	CaughtUp    bool
	Activations []Activation // in the order of HAVIP ids
	Deadline    lease.Instant
	// Awaited reports whether somebody waits for the next turn: what has time is left to it then.
	Awaited func() bool
}

// Report is what a turn of the Edge has brought about. HAVIPs are named by their ids.
type Report struct {
	Serving []string // address, fence and announcement stand, and were read back
	Stood   []Stood  // how each of Serving came up; empty: the Edge does not tell
	Gone    []string // nothing answers for it here any more
	Faults  []Trouble
	Repairs []Trouble
	Foreign []ForeignAddress
	Notes   []Note // what else came to pass on this host
	// Guarded is the log index up to which the fence of this node knows every HAVIP; 0: it does
	// not, and Unguarded says why.
	Guarded   uint64
	Unguarded string
	// Clean: nothing of ours is on an interface, and the fence is open for nothing.
	Clean bool
	Next  lease.Instant
}

// Stood says when a HAVIP came up, step by step; 0 is not known.
type Stood struct{ Address, Fence, Announced lease.Instant }

// Witness is an Edge that counts what its fence lets in.
type Witness interface {
	// LetIn is how many frames for HAVIPs that are served here the fence has let in since it
	// stands. Anybody may call it.
	LetIn() (frames uint64, err error)
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

// ForeignAddress is a HAVIP's address that another program put on this node.
type ForeignAddress struct {
	HAVIP  string // id
	Prefix netip.Prefix
	Device string
	// Removed: it was taken off; one with a subnet's prefix or on another device is told only.
	Removed bool
}

// Activation is one HAVIP as the Agent handles it.
type Activation struct {
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
	Activation
	Reason string
}
