package fsm

import (
	"net/netip"
	"slices"
	"time"
)

// The verbs of level 2.

// ChangeRange adds members to a range and removes others, whole or not at all. A range
// keeps its type until it is empty (R13). Removing the owner is refused (R22), unless
// Evict: then the owner is told to release, and the HAVIP is placed again.
type ChangeRange struct {
	ID     string    `json:"id"`
	Type   RangeType `json:"type,omitempty"` // "" = that of the range
	Add    []string  `json:"add,omitempty"`
	Remove []string  `json:"remove,omitempty"`
	Evict  bool      `json:"evict,omitempty"`
}

// BanHAVIP keeps a HAVIP off a node or ENI, for ever or for a time that begins when the
// command is done. A ban that is there already gets the new end.
type BanHAVIP struct {
	ID     string        `json:"id"`
	Target string        `json:"target"`
	For    time.Duration `json:"for,omitempty"` // 0 = until it is taken back
}

// UnbanHAVIP takes a ban back.
type UnbanHAVIP struct {
	ID     string `json:"id"`
	Target string `json:"target"`
}

// BindEIP records that a HAVIP has an elastic address (R23).
type BindEIP struct {
	ID  string     `json:"id"`
	EIP netip.Addr `json:"eip"`
}

// UnbindEIP takes the record away (R24).
type UnbindEIP struct {
	ID string `json:"id"`
}

// RecordFailure counts a failure of a HAVIP on a node that was not told by Release, such
// as that of a health check.
type RecordFailure struct {
	HAVIP  string `json:"havip"` // id
	Node   string `json:"node"`  // id
	Reason string `json:"reason"`
}

// ResetFailures forgets failures, pauses after failures and lost sessions: of one HAVIP
// or of all (""), on one node or on all ("").
type ResetFailures struct {
	HAVIP string `json:"havip,omitempty"` // id
	Node  string `json:"node,omitempty"`  // id
}

// ReportHealth is what a node's own checks say of it.
type ReportHealth struct {
	Node   string `json:"node"` // id
	Health Health `json:"health"`
	Reason string `json:"reason,omitempty"`
}

// DrainNode begins to move away what a node owns; it gets nothing until ActivateNode.
type DrainNode struct {
	ID  string        `json:"id"`
	For time.Duration `json:"for,omitempty"` // the deadline; 0 = none
}

// EndDrain records how a drain ended. The leader proposes it.
type EndDrain struct {
	ID     string `json:"id"`
	Result string `json:"result"` // done or deadline
}

// ActivateNode takes back standby and draining.
type ActivateNode struct {
	ID string `json:"id"`
}

// CreateGroup makes a group. Its HAVIPs are named by id or by name.
type CreateGroup struct {
	Group Group `json:"group"`
}

// DeleteGroup forgets a group.
type DeleteGroup struct {
	Name string `json:"name"`
}

// SetCluster changes what is not nil.
type SetCluster struct {
	Maintenance *bool     `json:"maintenance,omitempty"`
	Limits      *Limits   `json:"limits,omitempty"`
	Rebalance   *string   `json:"rebalance,omitempty"`
	Provider    *Provider `json:"provider,omitempty"` // whole: what it leaves nil is the profile's
	// CertificateLife is how long node certificates are made for; 0 = 2 years.
	CertificateLife *time.Duration `json:"certificate_life,omitempty" level:"4"`
	// CAHolders is how many nodes get the CA's key when they join, 1..MaxVoters.
	CAHolders *int `json:"ca_holders,omitempty" level:"4"`
	// Snapshots replaces the plan of automatic snapshots.
	Snapshots *SnapshotPlan `json:"snapshots,omitempty" level:"4"`
}

// ApplyConfig makes the desired configuration what Config says, whole or not at all.
type ApplyConfig struct {
	// Expected is the Cluster.Revision that the caller has seen; nil = any.
	Expected *uint64 `json:"expected,omitempty"`
	Config   Config  `json:"config"`
	// Prune deletes subnets, HAVIPs, groups and checks that Config does not name, of the kinds that
	// it speaks of. An owner releases first; a HAVIP with an EIP is not deleted.
	Prune bool   `json:"prune,omitempty"`
	Note  string `json:"note,omitempty"`
}

// Rollback applies the configuration of an earlier revision, with Prune.
type Rollback struct {
	To       uint64  `json:"to"`
	Expected *uint64 `json:"expected,omitempty"`
}

func (ChangeRange) kind() string   { return "change-range" }
func (BanHAVIP) kind() string      { return "ban-havip" }
func (UnbanHAVIP) kind() string    { return "unban-havip" }
func (BindEIP) kind() string       { return "bind-eip" }
func (UnbindEIP) kind() string     { return "unbind-eip" }
func (RecordFailure) kind() string { return "record-failure" }
func (ResetFailures) kind() string { return "reset-failures" }
func (ReportHealth) kind() string  { return "report-health" }
func (DrainNode) kind() string     { return "drain-node" }
func (EndDrain) kind() string      { return "end-drain" }
func (ActivateNode) kind() string  { return "activate-node" }
func (CreateGroup) kind() string   { return "create-group" }
func (DeleteGroup) kind() string   { return "delete-group" }
func (SetCluster) kind() string    { return "set-cluster" }
func (ApplyConfig) kind() string   { return "apply-config" }
func (Rollback) kind() string      { return "rollback" }

// level2Bodies are the kinds of level 2.
func level2Bodies() []Body {
	return []Body{
		&ChangeRange{}, &BanHAVIP{}, &UnbanHAVIP{}, &BindEIP{}, &UnbindEIP{}, &RecordFailure{}, &ResetFailures{},
		&ReportHealth{}, &DrainNode{}, &EndDrain{}, &ActivateNode{}, &CreateGroup{}, &DeleteGroup{}, &SetCluster{},
		&ApplyConfig{}, &Rollback{},
	}
}

// addedAt is the level at which a kind was added, from the lists; kindLevel is quicker.
func addedAt(kind string) int {
	for _, b := range level2Bodies() {
		if b.kind() == kind {
			return 2
		}
	}
	for _, b := range edgeBodies() {
		if b.kind() == kind {
			return 3
		}
	}
	for _, b := range slices.Concat(rightsBodies(), keyBodies(), doorBodies(), voteBodies(), webhookBodies(), checkBodies(), addressBodies()) {
		if b.kind() == kind {
			return 4
		}
	}
	return 1
}

// configures says that a command changes the desired configuration, and so the revision.
// ApplyConfig and Rollback count for themselves.
func configures(b Body) bool {
	switch b := b.(type) {
	case *UpdateNode:
		return b.Standby != nil || b.Maintenance != nil || b.Capacity != nil || b.NoCapacity || b.Score != nil
	case *CreateSubnet, *DeleteSubnet, *CreateHAVIP, *UpdateHAVIP, *DeleteHAVIP, *ChangeRange, *BanHAVIP, *UnbanHAVIP,
		*BindEIP, *UnbindEIP, *ActivateNode, *CreateGroup, *DeleteGroup, *SetCluster, *CreateCheck, *UpdateCheck, *DeleteCheck:
		return true
	}
	return false
}
