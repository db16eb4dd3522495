package placement

import (
	"fmt"
	"strings"
	"time"

	"havip-cluster/havip"
	"havip-cluster/internal/limits"
)

// Spec is what an operator says of a HAVIP.
type Spec = havip.Spec

// Failback says when a HAVIP may move for a wish.
type Failback = havip.Failback

const (
	FailbackNever     = havip.FailbackNever
	FailbackImmediate = havip.FailbackImmediate
	FailbackDelay     = havip.FailbackDelay
	FailbackWindow    = havip.FailbackWindow
)

// The words that the rules and wishes are written in. Package fsm keeps the same types in
// the replicated state: their JSON names belong to the log and the snapshot.

// Role is what a node does for the cluster.
type Role string

const (
	RoleVoter   Role = "voter"   // votes and may own HAVIPs
	RoleAgent   Role = "agent"   // owns HAVIPs, never votes
	RoleWitness Role = "witness" // votes, never owns
)

// Health is what a node's own checks say of it as a whole.
type Health string

const (
	HealthGreen  Health = "green"  // also ""
	HealthYellow Health = "yellow" // keeps what it has; others come first
	HealthRed    Health = "red"    // owns nothing
)

// RangeType says what the members of a range are; the two never mix (R13).
type RangeType string

const (
	RangeCVM RangeType = "cvm" // nodes: each of their ENIs in the subnet
	RangeENI RangeType = "eni"
)

// Range is the set of those that may own a HAVIP.
type Range struct {
	Type    RangeType `json:"type,omitempty"` // "" when there are no members
	Members []string  `json:"members,omitempty"`
	// Limit enforces the range; without it any ENI of the subnet may own (R12).
	Limit bool `json:"limit"`
}

// Ban keeps a HAVIP off a target.
type Ban struct {
	Target string `json:"target"`          // node name or ENI id
	Until  int64  `json:"until,omitempty"` // unix nanoseconds; 0 = until it is taken back
}

// GaveUp records that a node could not serve a HAVIP on an ENI.
type GaveUp struct {
	Until  int64  `json:"until"` // unix nanoseconds; until then the ENI is not eligible
	Reason string `json:"reason"`
	At     int64  `json:"at,omitempty" level:"2"` // clock of the proposer at the failure
}

// ClockSlack is how far the clocks of two proposers may be apart in ordinary operation.
const ClockSlack = time.Second

// Holds reports whether the pause goes on at a time in unix nanoseconds. One that begins
// later than that was made by a clock that was ahead and has been set since: it would
// outlast itself by as much.
func (g GaveUp) Holds(at int64) bool {
	return g.Until > at && (g.At == 0 || at >= g.At-int64(ClockSlack))
}

// GroupKind says what the HAVIPs of a group are to each other.
type GroupKind string

const (
	Together GroupKind = "together" // on one node
	Apart    GroupKind = "apart"    // no two on one node
)

// Limits bound how many HAVIPs may be owned; 0 = no limit.
type Limits struct {
	PerENI  int `json:"per_eni,omitempty"`
	PerNode int `json:"per_node,omitempty"`
}

const (
	// FailDecay is how long it takes until one failure is forgotten.
	FailDecay = havip.DefaultFailPeriod // of a HAVIP that does not say another, and of a node
	// GiveUpPause is how long an ENI is not eligible after it failed to serve a HAVIP.
	GiveUpPause = 10 * time.Second
	// MaxDraining is how many claims of one HAVIP may wait for a release.
	MaxDraining = 32
	// MaxDetail bounds Decision.Detail, in bytes.
	MaxDetail = 1024

	maxHAVIPs = limits.HAVIPs
)

// WaitsForFence says whose fence a HAVIP waits for.
func WaitsForFence(nodes []string) string {
	return "it waits for the fence of " + strings.Join(nodes, ", ")
}

// BehindText says that a node does not apply the log, and what to look at.
func BehindText(node string, at uint64) string {
	return fmt.Sprintf("node %s keeps its lease but does not apply the log since entry %d: is its disk full, or its Raft port blocked?", node, at)
}
