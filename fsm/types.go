package fsm

import (
	"net/netip"
	"time"

	"havip-cluster/fsm/placement"
	"havip-cluster/havip"
	"havip-cluster/internal/limits"
)

// Epoch counts the changes of owner of one HAVIP. It only grows; every claim carries
// the epoch it was made with.
type Epoch uint64

// Role says what a node does in the cluster.
type Role = placement.Role

const (
	RoleVoter   = placement.RoleVoter
	RoleWitness = placement.RoleWitness
	RoleAgent   = placement.RoleAgent
)

// Cluster is what the cluster knows of itself.
type Cluster struct {
	ID      string `json:"id"`      // "c-" and 16 hex digits, random, given by bootstrap
	Profile string `json:"profile"` // fast, lan or wan
	// Lease is the length of every lease that is renewed from now on.
	Lease time.Duration `json:"lease"`
	// LeaseMax is the longest lease that may still be running. Acceptors derive their
	// silence from it (lease protocol, rule 8). Invariant: LeaseMax >= Lease.
	LeaseMax time.Duration `json:"lease_max"`
	// LeaseIndex is the log index of the last change of Lease; SettleLease names it.
	LeaseIndex uint64 `json:"lease_index,omitempty"`

	// Level is the highest level of commands that may be in the log; 0 counts as 1. It
	// rises when every member has reported that it reads them, and never sinks (level.go).
	Level int `json:"level,omitempty" level:"2"`
	// Maintenance freezes every placement: nothing is moved, placed or taken away.
	Maintenance bool     `json:"maintenance,omitempty" level:"2"`
	Limits      Limits   `json:"limits,omitzero" level:"2"`
	Rebalance   string   `json:"rebalance,omitempty" level:"2"` // "" = never, or even
	Provider    Provider `json:"provider,omitzero" level:"2"`
	// Revision counts the changes of the desired configuration, by whichever command.
	Revision uint64 `json:"revision,omitempty" level:"2"`
	// GuardIndex is the newest Guard that any HAVIP has had: a fence that knows the HAVIPs of
	// the log up to there knows all of them.
	GuardIndex uint64 `json:"guard_index,omitempty" level:"3"`
	// Keys are the CAs and the gossip key, by their ids, and what is being replaced.
	Keys Keys `json:"keys,omitzero" level:"4"`
	// CAHolders is how many nodes get the CA's key when they join; 0 = DefaultCAHolders.
	CAHolders int `json:"ca_holders,omitempty" level:"4"`
	// Snapshots is what each voter saves by itself.
	Snapshots SnapshotPlan `json:"snapshots,omitzero" level:"4"`
}

// Node is a member: one agent on one instance.
type Node struct {
	ID         string `json:"id"`   // "n-" and 16 hex digits, random, for life; the Raft server id
	Name       string `json:"name"` // unique among present nodes
	Address    string `json:"address"`
	APIPort    int    `json:"api_port"`
	RaftPort   int    `json:"raft_port"`
	GossipPort int    `json:"gossip_port"`
	Role       Role   `json:"role"`
	Version    string `json:"version,omitempty"`
	Standby    bool   `json:"standby,omitempty"`
	// Maintenance freezes the placement of what the node owns.
	Maintenance bool `json:"maintenance,omitempty"`
	// Removing is set by `node remove`; the node gets nothing any more and goes when its
	// session is closed (lease protocol, rule 9).
	Removing bool `json:"removing,omitempty"`
	// LastSession is the number of the node's newest session, open or closed; 0 = none yet.
	LastSession uint64 `json:"last_session,omitempty"`
	// KeyHash is the SHA-256 of the public key in the node's certificate.
	KeyHash string `json:"key_hash,omitempty"`
	Joined  int64  `json:"joined"` // Command.At of its admission

	// Capacity bounds the sum of the weights of what the node owns; nil = no bound, 0 =
	// nothing that has a weight.
	Capacity *int `json:"capacity,omitempty" level:"2"`
	// Score is added for every HAVIP on this node, -ScoreLimit..ScoreLimit.
	Score  int    `json:"score,omitempty" level:"2"`
	Health Health `json:"health,omitempty" level:"2"` // "" = green
	// HealthReason says in words why the node is not green.
	HealthReason string `json:"health_reason,omitempty" level:"2"`
	// Draining: `node drain` moves away what it owns and it gets nothing until `node activate`.
	Draining bool `json:"draining,omitempty" level:"2"`
	// Drain tells of the last drain; its zero value means none yet.
	Drain Drain `json:"drain,omitzero" level:"2"`
	// Flaps counts the sessions that the node lost rather than ended, with decay.
	Flaps FailCount `json:"flaps,omitzero" level:"2"`
	// Leftout says what the node's inventory does not report, and why; "" = it is whole.
	Leftout string `json:"leftout,omitempty" level:"3"`
	// KeyReport is what the node says of its own certificates and keys.
	KeyReport KeyReport `json:"key_report,omitzero" level:"4"`
	// RenewFrom is the id of a certificate that the node shall replace; "" = none.
	RenewFrom string `json:"renew_from,omitempty" level:"4"`
	// KeepCA: the CA is not replaced although this node, which is being removed, has its key.
	KeepCA bool `json:"keep_ca,omitempty" level:"4"`
	// HoldsCA: it was given the CA's key when it joined, or made the cluster.
	HoldsCA bool `json:"holds_ca,omitempty" level:"4"`
	// LeasePort is the UDP port at which the node takes the sealed words of the lease; 0 = it
	// takes them by gossip alone, as programs below level 4 do.
	LeasePort int `json:"lease_port,omitempty" level:"4"`
	// Keys are the keys with which the node speaks, the newest first, at most MaxNodeKeys. A
	// word in its name counts only if it was sealed with one of them; none = not registered yet.
	Keys []NodeKey `json:"keys,omitempty" level:"4"`
	// Resting: the node was stopped in order and has not started again; as one of two voters it
	// has handed its vote over.
	Resting bool `json:"resting,omitempty" level:"4"`
}

// NodeKey is the public half of a key by which a node proves its words: the key of one of its
// certificates.
type NodeKey struct {
	// Certificate is the SHA-256 of the certificate, in 64 lower-case hex digits.
	Certificate string `json:"certificate"`
	// Public is the point on P-256, uncompressed (SEC 1, section 2.3.3): 65 bytes in base64.
	Public string `json:"public"`
}

// Session is one life of a node's lease. Only open sessions are in the State.
type Session struct {
	Number uint64 `json:"number"` // the log index that opened it, so it only grows
	Node   string `json:"node"`
	// Attempt is the random id that the opener gave this one request, so that it
	// recognises its own session and knows when it asked for it.
	Attempt string        `json:"attempt"`
	Lease   time.Duration `json:"lease"`
	Opened  int64         `json:"opened"` // Command.At
	// Draining says that the holder is about to end the session: it gets nothing new.
	Draining bool `json:"draining,omitempty"`
	// Guarded: the fence of the holder knows every HAVIP of the log up to this index. It only
	// grows while the session is open.
	Guarded uint64 `json:"guarded,omitempty" level:"3"`
	// Behind is the entry at which the holder's log stood when the leader found that it does not
	// apply what was committed; 0 = it does.
	Behind uint64 `json:"behind,omitempty" level:"4"`
}

// ENI is a network interface of a node.
type ENI struct {
	ID       string         `json:"id"` // NODE/DEVICE as it was first seen; it stays when the device is renamed
	Node     string         `json:"node"`
	Device   string         `json:"device"` // the present name
	MAC      string         `json:"mac"`
	Subnet   string         `json:"subnet,omitempty"` // name of the subnet, "" if none holds its addresses
	Prefixes []netip.Prefix `json:"prefixes,omitempty"`
	Gateway  netip.Addr     `json:"gateway,omitzero"`
	Primary  bool           `json:"primary,omitempty"`
	Up       bool           `json:"up,omitempty"`
	Detached bool           `json:"detached,omitempty"` // no longer reported by its node
	// Fault is why the node itself does not trust the ENI, such as a gateway that does not
	// answer. A HAVIP leaves for an ENI without one, and stays where all have one.
	Fault string `json:"fault,omitempty"`
	// SetSubnet and SetPrimary are the operator's word, which wins over the report.
	SetSubnet  string `json:"set_subnet,omitempty"`
	SetPrimary *bool  `json:"set_primary,omitempty"`
	// Cloud is what the cloud calls it, by the node's provider; zero without one.
	Cloud CloudENI `json:"cloud,omitzero" level:"4"`
}

// CloudENI are a cloud's ids of a network interface, each at most MaxNameRunes bytes.
type CloudENI struct {
	ID       string `json:"id"` // such as eni-1a2b3c4d
	Instance string `json:"instance,omitempty"`
	VPC      string `json:"vpc,omitempty"`
	Subnet   string `json:"subnet,omitempty"`
}

// short reports whether each id has a length that the log takes.
func (c CloudENI) short() bool {
	return max(len(c.ID), len(c.Instance), len(c.VPC), len(c.Subnet)) <= MaxNameRunes
}

// IsPrimary reports whether the ENI counts as its node's primary one.
func (e ENI) IsPrimary() bool {
	if e.SetPrimary != nil {
		return *e.SetPrimary
	}
	return e.Primary
}

// Subnet holds HAVIPs and ENIs.
type Subnet struct {
	Name     string       `json:"name"`
	VPC      string       `json:"vpc"`
	CIDR     netip.Prefix `json:"cidr"`
	Gateway  netip.Addr   `json:"gateway,omitzero"`
	Reserved []netip.Addr `json:"reserved,omitempty"`
	// Auto says that it was registered from a node's own ENI.
	Auto bool `json:"auto,omitempty"`
	// Cursor is the last address given out automatically, so that a freed address is not
	// given out again at once (DOMAIN rule R5).
	Cursor netip.Addr `json:"cursor,omitzero"`
}

// RangeType is cvm or eni.
type RangeType = placement.RangeType

// Range says who may own a HAVIP.
type Range = placement.Range

// GaveUp is a pause of an ENI after a failure.
type GaveUp = placement.GaveUp

const (
	RangeCVM = placement.RangeCVM
	RangeENI = placement.RangeENI
)

// Claim is the right of one session to own a HAVIP on one ENI.
type Claim struct {
	Epoch   Epoch  `json:"epoch"`
	Node    string `json:"node"`
	Session uint64 `json:"session"`
	ENI     string `json:"eni"`
}

// ClockSlack is how far the clocks of two proposers may be apart in ordinary operation.
const ClockSlack = placement.ClockSlack

// Token is a join token as the cluster keeps it: never the secret, only its hash.
type Token struct {
	ID         string `json:"id"`
	SecretHash string `json:"secret_hash"`
	Node       string `json:"node"` // the name it admits
	Role       Role   `json:"role"`
	Expires    int64  `json:"expires"` // unix nanoseconds
	// UsedBy is the hash of the public key that used it. The same key may repeat its
	// request, because an answer can be lost; another key is refused.
	UsedBy string `json:"used_by,omitempty"`
	NodeID string `json:"node_id,omitempty"` // the id it gave out
	// By is the principal that made it, "" if that is not known.
	By string `json:"by,omitempty" level:"4"`
}

// StrangerClaims begins the text of an event of the kind conflict about a station outside the cluster that claims a HAVIP.
const StrangerClaims = "a station outside the cluster"

// Event is one line of the cluster's journal.
type Event struct {
	Index uint64 `json:"index"`
	At    int64  `json:"at"`
	Kind  string `json:"kind"`
	HAVIP string `json:"havip,omitempty"`
	Node  string `json:"node,omitempty"`
	Text  string `json:"text"`
	// Fields are what changed, sorted by name, at most MaxEventFields.
	Fields []FieldChange `json:"fields,omitempty" level:"4"`
}

// FieldChange is one field of an object before and after, as JSON, cut to MaxFieldValue bytes.
type FieldChange struct {
	Field string `json:"field"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

// Failover is the timeline of one change of owner.
type Failover struct {
	HAVIP string         `json:"havip"`
	Epoch Epoch          `json:"epoch"`
	From  string         `json:"from"`
	To    string         `json:"to"`
	At    int64          `json:"at"` // unix nanoseconds of the last step
	Steps []FailoverStep `json:"steps"`

	// Kind is why the owner changed, one of the Change constants; "" = not known.
	Kind   string `json:"kind,omitempty" level:"4"`
	Reason string `json:"reason,omitempty" level:"4"` // of the decision, in words
	// Leader names the node whose clock the steps are on.
	Leader string `json:"leader,omitempty" level:"4"`
	// Clocks are those of the other nodes against the leader's, as they were used.
	Clocks []ClockOffset `json:"clocks,omitempty" level:"4"`
}

// FailoverStep is one step of a Failover: what happened, and how long after the first.
type FailoverStep struct {
	What  string        `json:"what"`
	After time.Duration `json:"after"`

	Step string `json:"step,omitempty" level:"4"` // one of the Step constants
	Node string `json:"node,omitempty" level:"4"` // name of the node that did it, on whose clock it was timed
}

// ClockOffset is how far a node's clock is ahead of the leader's: Offset, give or take Bound.
type ClockOffset struct {
	Node   string        `json:"node"` // name
	Offset time.Duration `json:"offset"`
	Bound  time.Duration `json:"bound"`
}

// answered remembers the result of a request for its repetition.
type answered struct {
	Key string `json:"key"`
	// By is the principal whose key it is; "" = everybody's, from before level 4.
	By     string `json:"by,omitempty"`
	Hash   string `json:"hash"`
	Index  uint64 `json:"index"`
	Result Result `json:"result"`
}

// Limits. Every list in the state has one.
const (
	MaxNodes          = 128
	MaxVoters         = 5 // of those who vote at one time, see membership.NextChange
	MaxENIsPerNode    = 64
	MaxPrefixesPerENI = 32
	MaxSubnets        = 1024
	MaxReserved       = 256
	MaxHAVIPs         = limits.HAVIPs
	MaxRangeMembers   = 10 // R11, unless the provider profile says otherwise
	MaxPrefer         = havip.TargetsMax
	MaxBans           = 64
	MaxDraining       = placement.MaxDraining // claims of one HAVIP that wait for a release
	MaxTokens         = 256
	MaxCredentials    = limits.Credentials
	MaxAudited        = limits.Audited
	MaxCallerText     = 128 // bytes of each text that describes a caller
	DefaultCAHolders  = 3   // nodes with the CA's key
	MaxAnswered       = 4096
	MaxEvents         = 1000
	MaxFailovers      = 200
	MaxFailoverSteps  = 16
	MaxGroups         = 1000
	MaxGroupMembers   = 1000 // HAVIPs of one group
	MaxFails          = MaxNodes
	MaxTargets        = havip.TargetsMax // of Require, and of Forbid
	RangeMembersCap   = 64               // the highest setting of Provider.RangeMembers
	MaxQuarantine     = 10000
	MaxDecisions      = 500
	MaxDetail         = placement.MaxDetail // bytes of a decision's detail
	MaxRevisions      = 16                  // applied configurations that can be rolled back to
	MaxRevisionBytes  = 8 << 20             // of all of them together
	MaxNameRunes      = 60                  // R1
	MaxKey            = 128                 // bytes of an idempotency key
	MaxReason         = 300                 // bytes of a reason or an event's text
	MaxAssignments    = limits.Assignments  // of one entry; limits.AssignmentsLevel2 below level 3
	MaxCommand        = limits.CommandBytes // of an encoded command; limits.CommandBytesLevel2 below level 3
	// MaxSessionsPerEntry bounds CloseSessions, MaxPlacedEvents and MaxDecided what one entry
	// puts into the journals of events and decisions, from level 3 on.
	MaxSessionsPerEntry  = limits.SessionsPerEntry
	MaxPlacedEvents      = limits.PlacedEvents
	MaxDecided           = limits.DecisionsPerEntry
	MaxFailoversPerEntry = limits.FailoversPerEntry
	ScoreLimit           = havip.ScoreLimit
	// GiveUpPause is how long an ENI is not eligible after it failed to serve a HAVIP.
	GiveUpPause = placement.GiveUpPause
	DefaultVPC  = "vpc-default"

	// FailDecay is how long it takes until one failure is forgotten.
	FailDecay = placement.FailDecay
	// GiveUpMax bounds the pause after a failure, which doubles with each one.
	GiveUpMax = 10 * time.Minute
	// FlapLimit is the count of lost sessions at which a node counts as flapping.
	FlapLimit = 3
	// BanMax is the longest ban that ends by itself.
	BanMax = 366 * 24 * time.Hour
	// DrainMax is the longest deadline of a drain.
	DrainMax = 24 * time.Hour
)
