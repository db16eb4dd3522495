package manifest

import (
	"havip-cluster/fsm"
	"havip-cluster/havip"
	"havip-cluster/internal/limits"
)

// Version is the only version of the form so far.
const Version = 1

// Limits of what is read. A file beyond one is refused before it costs much.
const (
	MaxBytes = limits.FileBytes // of a file; 10,000 HAVIPs with everything set take about 5 MiB
	MaxDepth = 16               // of lists and mappings in one another; the form needs 4
	MaxNodes = 1000000          // values in a file
	// MaxComments and MaxIndent bound what costs a parser more than its bytes.
	MaxComments = 12000
	MaxIndent   = 256    // blanks before a line
	MaxAliases  = 1000   // `*name` in a YAML file
	MaxAliased  = 100000 // values that aliases add, counted at each use
	MaxFaults   = 100    // reported for one file
	MaxENIs     = fsm.MaxNodes * fsm.MaxENIsPerNode
)

// Manifest is a whole configuration. A list that is nil says nothing of its kind; one that
// is empty says that there are none.
type Manifest struct {
	Version int `m:"version"`
	// Provider is the profile of the network: "" = lan, or tencent. Export and verify only.
	Provider string `m:"provider,omit"`
	// Revision is the revision that was exported; apply refuses if the cluster has gone on.
	Revision    int      `m:"revision,omit"`
	Maintenance *bool    `m:"maintenance"`
	Nodes       []Node   `m:"nodes"`
	ENIs        []ENI    `m:"enis"` // export and plan only
	Subnets     []Subnet `m:"subnets"`
	HAVIPs      []HAVIP  `m:"havips"`
	Groups      []Group  `m:"groups"`
	Checks      []Check  `m:"checks"`

	Webhooks  []Webhook `m:"webhooks"` // plan does not look at them
	Limits    *Limits   `m:"limits"`
	Rebalance string    `m:"rebalance,omit"` // never or even; "" says nothing
}

// Node is a member. Apply takes standby, maintenance, capacity and score; the rest is what
// was there at the export.
type Node struct {
	Name        string `m:"name"`
	Role        string `m:"role,omit"`   // "" = voter, witness or agent
	Status      string `m:"status,omit"` // "" = alive, suspect, lost, left
	Standby     bool   `m:"standby"`
	Maintenance bool   `m:"maintenance"`
	Draining    bool   `m:"draining,omit"`
	Score       int    `m:"score"`
	Health      string `m:"health"` // green, yellow or red
	HealthWhy   string `m:"health_reason,omit"`
	Capacity    *int   `m:"capacity"`      // sum of weights; nil = no limit
	Since       string `m:"since,omit"`    // when its session began (RFC 3339)
	Stopping    bool   `m:"stopping,omit"` // its agent is about to end
	Removing    bool   `m:"removing,omit"`
	Flapping    bool   `m:"flapping,omit"` // it lost several sessions lately
}

func (n *Node) setDefaults() { n.Health = string(fsm.HealthGreen) }

// ENI is a network interface of a node.
type ENI struct {
	ID        string   `m:"id"` // NODE/DEVICE unless a provider names it
	Node      string   `m:"node"`
	Device    string   `m:"device"`
	MAC       string   `m:"mac,omit"`
	Subnet    string   `m:"subnet,omit"`
	SetSubnet string   `m:"set_subnet,omit"` // the operator's word
	Addresses []string `m:"addresses,omit"`  // with prefix length
	Gateway   string   `m:"gateway,omit"`
	Primary   bool     `m:"primary"`
	Up        bool     `m:"up"`
	Detached  bool     `m:"detached,omit"`
	Fault     string   `m:"fault,omit"`
}

// Subnet holds HAVIPs and ENIs.
type Subnet struct {
	Name     string   `m:"name"`
	VPC      string   `m:"vpc"`
	CIDR     string   `m:"cidr"`
	Gateway  string   `m:"gateway,omit"`
	Reserved []string `m:"reserved,omit"`
	Auto     bool     `m:"auto,omit"` // registered from an ENI; apply leaves it alone
}

func (s *Subnet) setDefaults() { s.VPC = fsm.DefaultVPC }

// Range is the set of those that may own a HAVIP.
type Range struct {
	Type    string   `m:"type,omit"` // cvm or eni; "" without members
	Members []string `m:"members"`
	Limit   bool     `m:"limit"`
}

func (r *Range) setDefaults() { r.Limit, r.Members = true, []string{} }

// View is every setting of a HAVIP, with the defaults filled in.
type View = havip.View

// HAVIP is a floating address: what may be set is in package havip. Absent fields have their defaults.
type HAVIP struct {
	Name   string `m:"name"`
	ID     string `m:"id,omit"` // tells HAVIPs of one name apart
	IP     string `m:"ip,omit"` // "" = chosen when applied
	Subnet string `m:"subnet,omit"`
	VPC    string `m:"vpc,omit"`
	Range  Range  `m:"range"`
	View
	Bans []string `m:"bans,omit"`
	// BanEnds says until when (RFC 3339) those of Bans hold that end by themselves.
	BanEnds map[string]string `m:"ban_ends,omit"`
	EIP     string            `m:"eip,omit"`

	// What was there at the export; plan reads it, apply does not.
	Fails    map[string]int    `m:"fails,omit"`     // by node, after decay
	FailEnds map[string]string `m:"fail_ends,omit"` // by node: when it will be one less (RFC 3339)
	GaveUp   map[string]string `m:"gave_up,omit"`   // by ENI: until when (RFC 3339), a blank, and why
	Draining int               `m:"draining,omit"`
	Deleting bool              `m:"deleting,omit"`
	Last     string            `m:"last,omit"`  // ENI of the owner that was lost
	Owner    string            `m:"owner,omit"` // ENI
}

// setDefaults: a HAVIP without a range may be owned by any ENI of its subnet, as one that
// `havip create` makes; a range that is there is enforced.
func (h *HAVIP) setDefaults() {
	h.Range.Members = []string{}
	h.View = havip.Defaults()
}

// Values of HAVIP.Failback beside a duration and a daily window.
const (
	FailbackNever     = "never"
	FailbackImmediate = "immediate"
)

// NewHAVIP returns a HAVIP with every default set, and a range that is enforced.
func NewHAVIP(name string) HAVIP {
	h := HAVIP{Name: name}
	h.setDefaults()
	h.Range.setDefaults()
	return h
}

// Group is HAVIPs that are placed together or apart.
type Group struct {
	Name   string   `m:"name"`
	Kind   string   `m:"kind"` // together or apart
	Hard   bool     `m:"hard"`
	HAVIPs []string `m:"havips"` // names, or ids
}

func (g *Group) setDefaults() { g.Hard = true }

// Limits bound how many HAVIPs may be owned; 0 = no limit.
type Limits struct {
	PerENI  int `m:"per_eni"`
	PerNode int `m:"per_node"`
}

// New returns an empty manifest of the present version.
func New() Manifest { return Manifest{Version: Version} }
