package fsm

import (
	"encoding/json"
	"net/netip"
	"time"

	"havip-cluster/fsm/placement"
	"havip-cluster/havip"
)

// The nouns of level 2: what an operator may wish of a placement, and what is remembered
// of failures, deletions, decisions and configurations.

// Health is that of a node, as its operator says.
type Health = placement.Health

// Ban keeps a HAVIP off an ENI or a node, for good or until an instant.
type Ban = placement.Ban

// GroupKind is together or apart.
type GroupKind = placement.GroupKind

// Limits bound how many HAVIPs an ENI or a node owns; 0 is none.
type Limits = placement.Limits

// Failback says when a HAVIP may move for a wish.
type Failback = havip.Failback

const (
	HealthGreen  = placement.HealthGreen
	HealthYellow = placement.HealthYellow
	HealthRed    = placement.HealthRed

	Together = placement.Together
	Apart    = placement.Apart

	FailbackNever     = havip.FailbackNever
	FailbackImmediate = havip.FailbackImmediate
	FailbackDelay     = havip.FailbackDelay
	FailbackWindow    = havip.FailbackWindow
	FailbackMax       = havip.FailbackMax
)

// ParseFailback reads never (also ""), immediate, a delay such as 5m, or a daily window
// in UTC such as 02:00-04:00. The refusal is InvalidParameterValue.
func ParseFailback(text string) (Failback, *Refusal) {
	f, err := havip.ParseFailback(text)
	if err != nil {
		return Failback{}, Refuse(CodeParameter, "%s", err)
	}
	return f, nil
}

// Drain is the story of one `node drain`.
type Drain struct {
	Started  int64 `json:"started,omitempty"`  // Command.At
	Deadline int64 `json:"deadline,omitempty"` // unix nanoseconds; 0 = none
	Total    int   `json:"total,omitempty"`    // HAVIPs that it owned when it began
	// Result is "" while it runs, then done, deadline or cancelled.
	Result string `json:"result,omitempty"`
	Ended  int64  `json:"ended,omitempty"`
}

// Results of a drain.
const (
	DrainDone      = "done"      // it owns nothing any more
	DrainDeadline  = "deadline"  // the time was up before
	DrainCancelled = "cancelled" // `node activate` came before
)

// FailCount counts failures, and forgets one in each period since the last.
type FailCount struct {
	Count  int   `json:"count"`
	LastAt int64 `json:"last_at"` // unix nanoseconds
}

// Effective is what is left of the count at a time, where one is forgotten after a period.
func (f FailCount) Effective(at int64, period time.Duration) int {
	if at <= f.LastAt || f.Count <= 0 {
		return max(0, f.Count)
	}
	gone := uint64(at-f.LastAt) / uint64(period) // the difference may not fit an int64
	if gone >= uint64(f.Count) {
		return 0
	}
	return f.Count - int(gone)
}

// BanList returns the bans that hold at a time, sorted by target.
func (v HAVIP) BanList(at int64) []Ban {
	var out []Ban
	for _, target := range v.Bans {
		if end, ends := v.BanEnds[target]; !ends || end > at {
			out = append(out, Ban{Target: target, Until: end})
		}
	}
	return out
}

// FailsOn is what is left of the failures on a node at a time.
func (v HAVIP) FailsOn(node string, at int64) int { return v.Fails[node].Effective(at, v.FailsAfter()) }

// HealthNow is the node's health with the default filled in.
func (n Node) HealthNow() Health {
	if n.Health == "" {
		return HealthGreen
	}
	return n.Health
}

// Flapping says that the node has lost several sessions lately.
func (n Node) Flapping(at int64) bool { return n.Flaps.Effective(at, FailDecay) >= FlapLimit }

// Group is HAVIPs that are placed together or apart.
type Group struct {
	Name   string    `json:"name"`
	Kind   GroupKind `json:"kind"`
	Hard   bool      `json:"hard,omitempty"` // rather nowhere than against the group
	HAVIPs []string  `json:"havips"`         // ids, sorted; in a Config, names
}

// Values of Cluster.Rebalance.
const (
	RebalanceNever = "never" // also ""
	RebalanceEven  = "even"
)

// Quarantined is the address of a deleted HAVIP, which nobody gets for a while: a
// neighbour may still know the old owner.
type Quarantined struct {
	VPC   string     `json:"vpc"`
	IP    netip.Addr `json:"ip"`
	Until int64      `json:"until"` // unix nanoseconds
	HAVIP string     `json:"havip"` // the name it had
}

func (q Quarantined) key() string { return q.VPC + "/" + q.IP.String() }

// Decision is one change of owner as it was decided.
type Decision struct {
	Index  uint64 `json:"index"`
	At     int64  `json:"at"`
	HAVIP  string `json:"havip"` // id
	Name   string `json:"name"`
	Epoch  Epoch  `json:"epoch"`
	From   string `json:"from,omitempty"` // ENI
	To     string `json:"to,omitempty"`   // ENI, "" for nobody
	Reason string `json:"reason"`
	// Detail is what the placement put down about it, at most MaxDetail bytes of its own form.
	Detail string `json:"detail,omitempty"`
}

// Revision is one configuration of the past that can be rolled back to.
type Revision struct {
	Number uint64 `json:"number"` // Cluster.Revision after it
	Index  uint64 `json:"index"`
	At     int64  `json:"at"`
	By     string `json:"by,omitempty"`
	Note   string `json:"note,omitempty"`
	// Config is the whole desired configuration as JSON (type Config).
	Config json.RawMessage `json:"config"`
}

// Config is desired configuration. A list that is nil says nothing of its kind; an empty
// one says that there are none, which counts with Prune.
type Config struct {
	Subnets     []Subnet    `json:"subnets,omitzero"`
	HAVIPs      []HAVIPSpec `json:"havips,omitzero"`
	Groups      []Group     `json:"groups,omitzero"` // HAVIPs by name or id
	Nodes       []NodeSpec  `json:"nodes,omitzero"`
	Limits      *Limits     `json:"limits,omitempty"`
	Rebalance   *string     `json:"rebalance,omitempty"`
	Maintenance *bool       `json:"maintenance,omitempty"`
	Checks      []Check     `json:"checks,omitzero" level:"4"` // HAVIPs by name or id

	Webhooks []WebhookSpec `json:"webhooks,omitzero" level:"4"`
}

// NodeSpec is what an operator says of a node, by its name; a field that is absent has its
// default. Health is what the node's own checks may say too (ReportHealth): the last word counts.
type NodeSpec struct {
	Name        string `json:"name"`
	Standby     bool   `json:"standby,omitempty"`
	Maintenance bool   `json:"maintenance,omitempty"`
	Capacity    *int   `json:"capacity,omitempty"` // nil = no limit
	Score       int    `json:"score,omitempty"`
	Health      Health `json:"health,omitempty"` // "" = green
}

// Provider is the profile of the network that carries the HAVIPs: its rules, quotas and
// rates. The name gives the defaults; what is not nil wins over them.
type Provider struct {
	Name string `json:"name,omitempty"` // "" = lan, or tencent
	// HAVIPsPerVPC is the quota of R26; 0 = none.
	HAVIPsPerVPC *int `json:"havips_per_vpc,omitempty"`
	// HAVIPsPerENI is the advice of R27, a warning only; 0 = none.
	HAVIPsPerENI *int `json:"havips_per_eni,omitempty"`
	// RangeMembers is the limit of R11, 1..MaxRangeMembers.
	RangeMembers *int `json:"range_members,omitempty"`
	// AnnounceInterval is the shortest time between two claims of one ENI; 0 = no limit.
	AnnounceInterval *time.Duration `json:"announce_interval,omitempty"`
	// Quarantine is how long the address of a deleted HAVIP is given to nobody; 0 = not at all.
	Quarantine *time.Duration `json:"quarantine,omitempty"`
}
