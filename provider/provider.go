// Package provider compares what the cluster has agreed with what a cloud says of the same
// addresses, and carries an operator's changes to the cloud. Nothing here is on the way of a
// failover: a cloud that is slow, down or wrong changes nothing but what is shown.
//
// The package holds the words that all clouds share and the pure comparison of them (Compare,
// Plan); folders below it speak with one cloud each.
package provider

import (
	"context"
	"errors"
	"net/netip"
)

// Capabilities are what a cloud can do for a HAVIP. The zero value can do nothing.
type Capabilities struct {
	// Describe: it says who owns a HAVIP.
	Describe bool `json:"describe"`
	// Keep: HAVIPs are made, renamed and deleted by call.
	Keep bool `json:"keep"`
	// Range: members are registered at the cloud, which refuses announcements of others.
	Range bool `json:"range"`
	// RangeTypes are the types of members, "CVM" and "ENI", sorted.
	RangeTypes []string `json:"range_types,omitempty"`
	// MaxMembers bounds a range; 0 = no bound is known.
	MaxMembers int `json:"max_members,omitempty"`
	// EIP: public addresses are bound to a HAVIP by call.
	EIP bool `json:"eip"`
	// Async: some calls are done later than they are answered.
	Async bool `json:"async"`
	// ClaimByAPI: a call, not an announcement, moves the address.
	ClaimByAPI bool `json:"claim_by_api"`
}

// ENI is a network interface as the cloud knows it.
type ENI struct {
	ID       string `json:"id"`  // such as eni-1a2b3c4d
	MAC      string `json:"mac"` // lower case, with colons
	Instance string `json:"instance"`
	VPC      string `json:"vpc"`
	Subnet   string `json:"subnet"` // the cloud's id
	Zone     string `json:"zone,omitempty"`
	Primary  bool   `json:"primary"`
	// State is the cloud's own word, "" if it has none.
	State string `json:"state,omitempty"`
	// Addresses are private ones, sorted.
	Addresses []netip.Addr `json:"addresses,omitempty"`
}

// Types of the members of a range.
const (
	MemberCVM = "CVM" // an instance
	MemberENI = "ENI"
)

// Member is an instance or an ENI that may own a HAVIP, by the cloud's id.
type Member struct {
	Type string `json:"type" enum:"CVM,ENI"`
	ID   string `json:"id"`
}

// States of a HAVIP in a cloud, by Tencent's words.
const (
	Available = "AVAILABLE" // it has an owner
	Unbound   = "UNBIND"    // it has none
)

// Observed is a HAVIP as the cloud shows it.
type Observed struct {
	ID      string     `json:"id"` // such as havip-9o233uri
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	VPC     string     `json:"vpc"`
	Subnet  string     `json:"subnet"` // the cloud's id
	// State is Available or Unbound. It tells of the last announcement that the cloud took, not of
	// whether the owner lives.
	State    string     `json:"state"`
	ENI      string     `json:"eni,omitempty"`      // of the owner
	Instance string     `json:"instance,omitempty"` // of the owner
	EIP      netip.Addr `json:"eip,omitzero"`
	// Range is sorted. RangeKnown is false where the cloud's answer has no range.
	Range      []Member `json:"range,omitempty"`
	RangeKnown bool     `json:"range_known"`
	// Enforced: only members of the range may take it; nil = the cloud does not say.
	Enforced *bool `json:"enforced,omitempty"`
	// Flushed is when the cloud last changed the owner, in the cloud's own form and zone; "" = never.
	Flushed string `json:"flushed,omitempty"`
}

// Spec is a HAVIP that is to be made in the cloud.
type Spec struct {
	Name     string
	Address  netip.Addr
	VPC      string // the cloud's ids
	Subnet   string
	Range    []Member
	Enforced bool
}

// Provider is one cloud. What else it can do is said by Caps; the interfaces below are then
// implemented by the same value.
type Provider interface {
	// Kind is the word of the configuration: tencent, aws, exec.
	Kind() string
	Caps() Capabilities
	// Test asks the cloud with these credentials, once, without a change.
	Test(ctx context.Context) (Self, error)
}

// Self is what the cloud says of the host that asks.
type Self struct {
	Instance    string `json:"instance,omitempty"`
	Region      string `json:"region,omitempty"`
	Zone        string `json:"zone,omitempty"`
	VPC         string `json:"vpc,omitempty"`
	Credentials string `json:"credentials,omitempty"` // where they come from: file, environment, role NAME; never what they are
	Endpoint    string `json:"endpoint,omitempty"`
}

// Describer says what HAVIPs a cloud has.
type Describer interface {
	// Describe lists the HAVIPs of this host's VPC, sorted by address.
	Describe(ctx context.Context) ([]Observed, error)
}

// Finder says where addresses are: for clouds in which a HAVIP is no object of its own.
type Finder interface {
	// Find gives one answer for each address that it looked for, sorted by address; one that nothing has is Unbound.
	Find(ctx context.Context, addresses []netip.Addr) ([]Observed, error)
}

// Inventory says what interfaces a cloud has.
type Inventory interface {
	// ENIs lists the interfaces of this host's VPC that have one of the MACs, sorted by id. MACs
	// are compared without regard to case.
	ENIs(ctx context.Context, macs []string) ([]ENI, error)
}

// Provisioner makes HAVIPs in a cloud. Each change carries a token: the same token and content is done
// once. What the cloud does later is waited for until ctx ends.
type Provisioner interface {
	Create(ctx context.Context, spec Spec, token string) (Observed, error)
	Delete(ctx context.Context, id, token string) error
	Rename(ctx context.Context, id, name, token string) error
	AddRange(ctx context.Context, id string, members []Member, token string) error
	RemoveRange(ctx context.Context, id string, members []Member, token string) error
}

// EIPBinder binds public addresses. Both wait until the cloud has done it, or ctx ends.
type EIPBinder interface {
	// BindEIP is refused while the HAVIP has another one.
	BindEIP(ctx context.Context, id string, eip netip.Addr, token string) error
	// UnbindEIP takes this EIP away. One that the HAVIP has instead stays.
	UnbindEIP(ctx context.Context, id string, eip netip.Addr, token string) error
}

// Circuit is a provider that leaves a cloud alone for a while when it does not answer.
type Circuit interface {
	// Circuit says whether calls are held back now, and how often that began since the provider was made.
	Circuit() (open bool, opened uint64)
}

// Errors that a provider wraps.
var (
	// ErrUnavailable: the cloud was not asked, or did not answer; the same call may succeed later.
	ErrUnavailable = errors.New("provider: the cloud does not answer")
	// ErrCredentials: there are none, or the cloud does not take them.
	ErrCredentials = errors.New("provider: credentials")
)

// Error is the refusal of a cloud, with its own code.
type Error struct {
	Code    string // the cloud's, such as InvalidParameterValue.Range
	Message string
	Request string // the cloud's id of the request, "" if it gave none
}

// Error implements error.
func (e *Error) Error() string {
	if e.Request == "" {
		return e.Code + ": " + e.Message
	}
	return e.Code + ": " + e.Message + " (request " + e.Request + ")"
}
