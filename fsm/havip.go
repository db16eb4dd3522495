package fsm

import (
	"net/netip"
	"slices"

	"havip-cluster/havip"
	"havip-cluster/internal/form"
)

// A HAVIP in the state, and the commands and the configuration that make it what it is. What an
// operator may set is in package havip, and embedded here.

// Spec is what an operator says of a HAVIP.
type Spec = havip.Spec

// Change is what a caller says of some settings.
type Change = havip.Change

// HAVIP is a floating address.
type HAVIP struct {
	ID     string     `json:"id"` // "havip-" and 8 of [a-z0-9]
	Name   string     `json:"name"`
	IP     netip.Addr `json:"ip"`
	Subnet string     `json:"subnet"`
	VPC    string     `json:"vpc"`
	Range  Range      `json:"range"`
	Spec              // in the form that Clean gives it
	// Bans are node names or ENI ids, sorted.
	Bans []string `json:"bans,omitempty"`
	// BanEnds says until when those Bans hold that end by themselves, in unix nanoseconds.
	// Invariant: each key is in Bans.
	BanEnds map[string]int64 `json:"ban_ends,omitempty" level:"2"`
	EIP     netip.Addr       `json:"eip,omitzero" level:"2"` // the record; the provider acts on it
	// Deleting: the HAVIP goes when its last claim is gone.
	Deleting bool  `json:"deleting,omitempty"`
	Created  int64 `json:"created"`

	// Epoch is that of the newest claim ever made. Invariant: Owner.Epoch <= Epoch.
	Epoch Epoch `json:"epoch"`
	// Owner is the present claim, nil without an owner.
	Owner *Claim `json:"owner,omitempty"`
	// Last is the ENI of the owner that was lost, "" while there is one: after a restart of
	// the whole cluster everything goes back to where it was.
	Last string `json:"last,omitempty"`
	// Draining are earlier claims whose holder has neither released them nor lost its
	// session. Nobody may answer under Owner while one is left (rule 6). Ascending epochs.
	Draining []Claim `json:"draining,omitempty"`
	Since    int64   `json:"since,omitempty"`  // Command.At of the last change of owner
	Reason   string  `json:"reason,omitempty"` // why the owner is what it is
	// GaveUp is keyed by ENI id.
	GaveUp map[string]GaveUp `json:"gave_up,omitempty"`
	// Fails counts the failures by the node's name, with decay.
	Fails map[string]FailCount `json:"fails,omitempty" level:"2"`

	// Guard is the log index of the entry that brought its address into being, or back: it is
	// placed when every open session has Guarded at least that.
	Guard uint64 `json:"guard,omitempty" level:"3"`
	// Served is the epoch of the owner that has said that address, fence and announcement
	// stand; 0 = not yet. Invariant: 0 or Owner.Epoch.
	Served Epoch `json:"served,omitempty" level:"3"`
	// Free: no station outside the cluster has the address, because it was served once or the
	// operator said so. Else the first owner asks the neighbours before it takes it.
	Free bool `json:"free,omitempty" level:"3"`
}

// CreateHAVIP makes a HAVIP. A zero IP means that one is chosen; an empty Subnet is the
// one that holds the address. The id comes from the cluster id and the log index.
type CreateHAVIP struct {
	Name   string     `json:"name"`
	IP     netip.Addr `json:"ip,omitzero"`
	Subnet string     `json:"subnet,omitempty"`
	VPC    string     `json:"vpc,omitempty"`
	Range  Range      `json:"range"`
	Spec              // Disabled is of level 2 here, see levelOf
	EIP    netip.Addr `json:"eip,omitzero" level:"2"`
	// ReuseNow takes an address that is in quarantine.
	ReuseNow bool `json:"reuse_now,omitempty" level:"2"`
	// Force takes an address without asking the neighbours whether somebody has it.
	Force bool `json:"force,omitempty" level:"3"`
}

// UpdateHAVIP changes what is not nil.
type UpdateHAVIP struct {
	ID    string  `json:"id"`
	Name  *string `json:"name,omitempty"`
	Range *Range  `json:"range,omitempty"`
	Change
	Bans *[]string `json:"bans,omitempty"`
	// Evict lets an owner that leaves the range with this change release first.
	Evict bool `json:"evict,omitempty" level:"2"`
	// Force takes its address without asking the neighbours whether somebody has it.
	Force bool `json:"force,omitempty" level:"3"`
}

// HAVIPSpec is everything that an operator says of a HAVIP. A field that is absent has
// its default, not its former value.
type HAVIPSpec struct {
	Name string `json:"name"`
	// ID tells HAVIPs of one name apart, and may rename one; "" = the one of that name.
	ID string `json:"id,omitempty"`
	// IP, Subnet and VPC are fixed for life; when absent, those of the present HAVIP stay.
	IP     netip.Addr `json:"ip,omitzero"`
	Subnet string     `json:"subnet,omitempty"`
	VPC    string     `json:"vpc,omitempty"`
	Range  Range      `json:"range"`
	Spec
	Bans    []string         `json:"bans,omitempty"`
	BanEnds map[string]int64 `json:"ban_ends,omitempty"`
	EIP     netip.Addr       `json:"eip,omitzero"`
}

// The forms of the log and the snapshot. The log says "unmanaged" in a change too, and the
// snapshot "enabled", where the types say the contrary.
var (
	stateForm = form.New[HAVIP](havip.StateKeys,
		form.Rule{Key: "disabled", As: "enabled", Invert: true}, form.Rule{Key: "failback", As: "failback"})
	createForm = form.New[CreateHAVIP](havip.CreateKeys)
	updateForm = form.New[UpdateHAVIP](havip.UpdateKeys, form.Rule{Key: "managed", As: "unmanaged,omitempty", Invert: true})
	configForm = form.New[HAVIPSpec](havip.ConfigKeys)
)

// MarshalJSON is the form of a snapshot.
func (v HAVIP) MarshalJSON() ([]byte, error) { return stateForm.Marshal(&v) }

// UnmarshalJSON reads the form of a snapshot.
func (v *HAVIP) UnmarshalJSON(b []byte) error { return stateForm.Unmarshal(b, v) }

// MarshalJSON is the form of the log.
func (b CreateHAVIP) MarshalJSON() ([]byte, error) { return createForm.Marshal(&b) }

// UnmarshalJSON reads the form of the log.
func (b *CreateHAVIP) UnmarshalJSON(raw []byte) error { return createForm.Unmarshal(raw, b) }

// MarshalJSON is the form of the log.
func (b UpdateHAVIP) MarshalJSON() ([]byte, error) { return updateForm.Marshal(&b) }

// UnmarshalJSON reads the form of the log.
func (b *UpdateHAVIP) UnmarshalJSON(raw []byte) error { return updateForm.Unmarshal(raw, b) }

// MarshalJSON is the form of a configuration in the log.
func (h HAVIPSpec) MarshalJSON() ([]byte, error) { return configForm.Marshal(&h) }

// UnmarshalJSON reads the form of a configuration in the log.
func (h *HAVIPSpec) UnmarshalJSON(b []byte) error { return configForm.Unmarshal(b, h) }

// desired is what the operator says of the HAVIP.
func (v HAVIP) desired() HAVIPSpec {
	return HAVIPSpec{Name: v.Name, ID: v.ID, IP: v.IP, Subnet: v.Subnet, VPC: v.VPC, Range: v.Range, Spec: v.Spec, Bans: v.Bans, BanEnds: v.BanEnds, EIP: v.EIP}
}

// checkSettings is about what differs between two specs of a HAVIP: what was there before stays
// allowed, also a target that has gone since.
func (s *State) checkSettings(name string, before, after Spec) *Refusal {
	for i := range havip.Settings {
		row := &havip.Settings[i]
		if row.Same(&before, &after) {
			continue
		}
		if refusal := FaultRefusal(row.Check(&after)); refusal != nil {
			return refusal
		}
		if refusal := s.checkTargets(row.Named(&before), row.Named(&after)); refusal != nil {
			return refusal
		}
	}
	if refusal := s.checkFailback(after.Failback); refusal != nil && after.Failback != before.Failback {
		return refusal
	}
	for _, target := range after.Require {
		if slices.Contains(after.Forbid, target) {
			return Refuse(CodeParameter, "%s is both required and forbidden for HAVIP %s; say one of the two", target, name)
		}
	}
	return nil
}

// FaultRefusal is a fault of a setting as a refusal, nil for none.
func FaultRefusal(f *havip.Fault) *Refusal {
	if f == nil {
		return nil
	}
	return Refuse(faultCodes[f.Kind], "%s", f.Message)
}

// faultCodes are the codes of what is wrong with a setting by itself.
var faultCodes = map[havip.FaultKind]Code{
	havip.BadValue: CodeParameter, havip.OutOfRange: CodeRange, havip.TooMany: CodeLimit, havip.TooLong: CodeTooLong,
}
