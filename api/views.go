package api

import (
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"havip-cluster/fsm"
	"havip-cluster/havip"
	"havip-cluster/internal/form"
)

// Done is the answer to a change after which there is nothing to show.
type Done struct {
	Object   string `json:"object"`
	Index    uint64 `json:"index" doc:"Raft index of the change"`
	Repeated bool   `json:"repeated,omitempty" doc:"The Idempotency-Key was known; nothing was done again"`
	Note     string `json:"note,omitempty" doc:"What a person should know of it"`
}

// States of a HAVIP, as the cloud's own list names them.
const (
	StateAvailable = string(fsm.Available) // its owner serves it
	StatePending   = string(fsm.Pending)   // it has an owner, who has not said yet that it serves
	StateUnbind    = string(fsm.Unbound)   // it has no owner
)

// Placement says who owns a HAVIP.
type Placement struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	IP      string    `json:"ip"`
	Subnet  string    `json:"subnet"`
	State   string    `json:"state" enum:"AVAILABLE,PENDING,UNBIND"`
	ENI     *string   `json:"eni" doc:"null without an owner"`
	Node    *string   `json:"node" doc:"Name; null without an owner"`
	Session uint64    `json:"session" doc:"0 without an owner"`
	Epoch   uint64    `json:"epoch"`
	Since   time.Time `json:"since"`
	Index   uint64    `json:"index"`
	Reason  string    `json:"reason"`
}

// Range is the set of those that may own a HAVIP.
type Range struct {
	Type    string   `json:"type" enum:"cvm,eni,"`
	Members []string `json:"members"`
	Limit   bool     `json:"limit" doc:"false: any ENI of the subnet may own it"`
}

// View is every setting of a HAVIP, with the defaults filled in.
type View = havip.View

// HAVIP is everything about a HAVIP.
type HAVIP struct {
	Placement
	VPC   string  `json:"vpc"`
	Range Range   `json:"range"`
	EIP   *string `json:"eip"`
	View
	Bans     []string  `json:"bans"`
	Deleting bool      `json:"deleting,omitempty"`
	Waits    []string  `json:"waits" doc:"Nodes whose fence does not know it yet: it is placed when all do"`
	Draining []string  `json:"draining" doc:"ENIs of earlier owners that have not released it yet"`
	Created  time.Time `json:"created"`

	BanEnds  map[string]time.Time `json:"ban_ends" doc:"Bans that end by themselves"`
	Fails    map[string]int       `json:"fails" doc:"Node: failures that count now"`
	GaveUp   map[string]GaveUp    `json:"gave_up" doc:"ENI: a pause after a failure"`
	Groups   []string             `json:"groups"`
	Warnings []string             `json:"warnings" doc:"What is legal and probably not meant"`
}

// answerForm is the order in which the keys have always come.
var answerForm = form.New[HAVIP](havip.AnswerKeys)

// MarshalJSON is the form of an answer.
func (v HAVIP) MarshalJSON() ([]byte, error) { return answerForm.Marshal(&v) }

// TransformSchema puts the sentences of the settings into the schema of an answer.
func (HAVIP) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	for i := range havip.Settings {
		s.Properties[havip.Settings[i].Key].Description = havip.Settings[i].Doc()
	}
	return s
}

// GaveUp is a pause after a failure.
type GaveUp struct {
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// Node is a member.
type Node struct {
	Name             string    `json:"name"`
	ID               string    `json:"id"`
	Role             string    `json:"role" enum:"voter,witness,agent"`
	Address          string    `json:"address"`
	Status           string    `json:"status" enum:"alive,suspect,lost,left"`
	Leader           bool      `json:"leader"`
	Session          uint64    `json:"session" doc:"0: none is open"`
	LeaseRemainingMS int64     `json:"lease_remaining_ms"`
	Standby          bool      `json:"standby"`
	Maintenance      bool      `json:"maintenance"`
	Version          string    `json:"version"`
	HAVIPs           int       `json:"havips" doc:"How many it owns"`
	Draining         bool      `json:"draining" doc:"node drain: what it owns moves away, and it gets nothing"`
	Score            int       `json:"score" doc:"Added for every HAVIP on it"`
	Capacity         *int      `json:"capacity" doc:"Bound of the sum of weights; null: none"`
	Carries          int       `json:"carries" doc:"Sum of the weights of what it owns"`
	Health           string    `json:"health" enum:"green,yellow,red"`
	HealthReason     string    `json:"health_reason,omitempty"`
	Flapping         bool      `json:"flapping,omitempty" doc:"It lost several sessions lately; nothing goes there for a wish"`
	Flaps            int       `json:"flaps,omitempty" doc:"Sessions that it lost lately"`
	FailingChecks    []string  `json:"failing_checks,omitempty" doc:"Checks of services that fail on it"`
	Leftout          string    `json:"leftout,omitempty" doc:"What its inventory does not report, and why"`
	Removing         bool      `json:"removing,omitempty"`
	APIPort          int       `json:"api_port"`
	RaftPort         int       `json:"raft_port"`
	GossipPort       int       `json:"gossip_port"`
	LeasePort        int       `json:"lease_port,omitempty" doc:"For the words of the lease; absent while it has none"`
	Suffrage         string    `json:"suffrage,omitempty"`
	AppliedIndex     uint64    `json:"applied_index,omitempty"`
	Joined           time.Time `json:"joined"`
}

// Subnet holds HAVIPs and ENIs.
type Subnet struct {
	Name     string   `json:"name"`
	VPC      string   `json:"vpc"`
	CIDR     string   `json:"cidr"`
	Gateway  *string  `json:"gateway"`
	Reserved []string `json:"reserved"`
	Auto     bool     `json:"auto" doc:"Registered from a node's ENI"`
	HAVIPs   int      `json:"havips"`
}

// ENI is a network interface of a node.
type ENI struct {
	ID         string   `json:"id"`
	Node       string   `json:"node"`
	Device     string   `json:"device"`
	MAC        string   `json:"mac"`
	Subnet     *string  `json:"subnet"`
	Addresses  []string `json:"addresses"`
	Gateway    *string  `json:"gateway"`
	Primary    bool     `json:"primary"`
	Up         bool     `json:"up"`
	Detached   bool     `json:"detached"`
	SetSubnet  *string  `json:"set_subnet" doc:"The operator's word"`
	SetPrimary *bool    `json:"set_primary" doc:"The operator's word"`
	HAVIPs     []string `json:"havips" doc:"Names of those it owns"`
	// What the cloud calls it; absent without a provider at its node.
	CloudID       string `json:"cloud_id,omitempty" doc:"Such as eni-1a2b3c4d; taken wherever an ENI is named"`
	CloudInstance string `json:"cloud_instance,omitempty"`
	CloudSubnet   string `json:"cloud_subnet,omitempty"`
}

// Event is one line of the journal. Those of one change share its index.
type Event struct {
	Index uint64    `json:"index"`
	At    time.Time `json:"at"`
	Kind  string    `json:"kind"`
	HAVIP string    `json:"havip,omitempty"`
	Node  string    `json:"node,omitempty"`
	Text  string    `json:"text"`

	Fields []FieldChange `json:"fields,omitempty" doc:"What changed"`
}

// FieldChange is one field of an object before and after; an absent one is empty.
type FieldChange struct {
	Field string `json:"field"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

// Failover is the timeline of one change of owner.
type Failover struct {
	HAVIP   string         `json:"havip"`
	Epoch   uint64         `json:"epoch"`
	From    string         `json:"from"`
	To      string         `json:"to"`
	At      time.Time      `json:"at" doc:"Of the last step"`
	TotalUS int64          `json:"total_us"`
	Steps   []FailoverStep `json:"steps"`

	Kind   string        `json:"kind,omitempty" doc:"Why: first, crash, guard, stop, link, check, fault, drain, standby, move, failback, rebalance, rule, return"`
	Reason string        `json:"reason,omitempty" doc:"Of the decision"`
	Leader string        `json:"leader,omitempty" doc:"On whose clock the steps are"`
	Clocks []ClockOffset `json:"clocks,omitempty" doc:"Those of other nodes, as they were used to bring their steps onto the leader's clock"`
}

// ClockOffset is how far a node's clock is ahead of the leader's, give or take the bound.
type ClockOffset struct {
	Node     string `json:"node"`
	OffsetUS int64  `json:"offset_us"`
	BoundUS  int64  `json:"bound_us"`
}

// FailoverStep is one step of a Failover.
type FailoverStep struct {
	What    string `json:"what"`
	AfterUS int64  `json:"after_us" doc:"Microseconds after the first step"`
	Step    string `json:"step,omitempty" doc:"heard, deadline, noticed, endorsed, committed, applied, released, address, fence, announced, confirmed, answered; dark, overtaken, adopted, silent"`
	Node    string `json:"node,omitempty" doc:"Who did it, or saw it"`
}

// wall gives a proposer's clock reading; 0 is no time at all.
func wall(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// orNull is nil for "".
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func addrOrNull(a netip.Addr) *string {
	if !a.IsValid() {
		return nil
	}
	return orNull(a.String())
}

// list is s, but never nil: lists are arrays in JSON.
func list[T any](s []T) []T { return append([]T{}, s...) }

func placementView(st *fsm.State, v fsm.HAVIP) Placement {
	p := Placement{
		ID: v.ID, Name: v.Name, IP: v.IP.String(), Subnet: v.Subnet, State: string(st.Serving(v)),
		Epoch: uint64(v.Epoch), Since: wall(v.Since), Index: st.Index, Reason: v.Reason,
	}
	if o := v.Owner; o != nil {
		p.ENI, p.Node, p.Session = orNull(o.ENI), orNull(st.NodeName(o.Node)), o.Session
	}
	if why := notPlaceable(st, v); why != "" {
		p.Reason = why
	}
	return p
}

// notPlaceable says why an enabled HAVIP without an owner gets none, where that is not about
// one ENI or the other; else "".
func notPlaceable(st *fsm.State, v fsm.HAVIP) string {
	if v.Owner != nil || v.Disabled || v.Deleting {
		return ""
	}
	if node, own := st.OwnAddress(v.IP); own {
		return fsm.OwnAddressText(v.IP, node)
	}
	if waits := st.Unguarded(v); len(waits) > 0 {
		return fsm.WaitsForFence(waits)
	}
	return ""
}

// viewer shows HAVIPs as they are at a time: bans and failures end by themselves.
type viewer struct {
	st     *fsm.State
	at     int64 // unix nanoseconds
	advise *fsm.Adviser
	groups map[string][]string // by HAVIP id
}

func newViewer(st *fsm.State, at int64) *viewer {
	w := &viewer{st: st, at: at, advise: st.Adviser(), groups: map[string][]string{}}
	for _, g := range st.GroupList() {
		for _, id := range g.HAVIPs {
			w.groups[id] = append(w.groups[id], g.Name)
		}
	}
	return w
}

func (w *viewer) havip(v fsm.HAVIP) HAVIP {
	st, at := w.st, w.at
	out := HAVIP{
		Placement: placementView(st, v), VPC: v.VPC,
		Range: Range{Type: string(v.Range.Type), Members: list(v.Range.Members), Limit: v.Range.Limit},
		EIP:   addrOrNull(v.EIP), View: v.Spec.View().Whole(), Bans: []string{},
		Deleting: v.Deleting, Waits: list(st.Unguarded(v)), Draining: []string{}, Created: wall(v.Created),
		BanEnds: map[string]time.Time{}, Fails: map[string]int{}, GaveUp: map[string]GaveUp{},
		Groups: list(w.groups[v.ID]), Warnings: w.advice(v),
	}
	for _, b := range v.BanList(at) {
		out.Bans = append(out.Bans, b.Target)
		if b.Until != 0 {
			out.BanEnds[b.Target] = wall(b.Until)
		}
	}
	for node := range v.Fails {
		if n := v.FailsOn(node, at); n > 0 {
			out.Fails[node] = n
		}
	}
	for eni, g := range v.GaveUp {
		if g.Until > at {
			out.GaveUp[eni] = GaveUp{Until: wall(g.Until), Reason: g.Reason}
		}
	}
	for _, c := range v.Draining {
		out.Draining = append(out.Draining, c.ENI)
	}
	return out
}

// advice says what is allowed and probably not meant.
func (w *viewer) advice(v fsm.HAVIP) []string {
	out := list(w.advise.Warnings(v))
	if v.Unmanaged {
		out = append(out, "it is not managed: nobody takes it over when its owner fails; `havip update "+v.Name+" --managed=true`")
	}
	if v.Maintenance {
		out = append(out, "it is in maintenance: nothing moves it; `havip maintenance "+v.Name+" off`")
	}
	return out
}

// nodeViews shows nodes with what this node sees of them.
func (s *Server) nodeViews(st *fsm.State, nodes []fsm.Node) []Node {
	live := s.Backend.Live()
	leader, _ := s.Backend.Leader()
	owned, carries, at := map[string]int{}, map[string]int{}, time.Now().UnixNano()
	for _, v := range st.HAVIPs {
		if v.Owner != nil {
			owned[v.Owner.Node]++
			carries[v.Owner.Node] += v.Takes()
		}
	}
	out := []Node{}
	for _, n := range nodes {
		l := live[n.ID]
		if l.Status == "" {
			l.Status = StatusLost // never seen
		}
		if l.Version == "" {
			l.Version = n.Version
		}
		l.Version, _ = fsm.SplitVersion(l.Version)
		sess, _ := st.SessionOf(n.ID)
		out = append(out, Node{
			Name: n.Name, ID: n.ID, Role: string(n.Role), Address: n.Address, Status: l.Status, Leader: n.ID == leader.ID,
			Session: sess.Number, LeaseRemainingMS: max(0, l.LeaseRemaining.Milliseconds()),
			Standby: n.Standby, Maintenance: n.Maintenance, Version: l.Version, HAVIPs: owned[n.ID], Removing: n.Removing,
			APIPort: n.APIPort, RaftPort: n.RaftPort, GossipPort: n.GossipPort, LeasePort: n.LeasePort,
			Draining: n.Draining, Score: n.Score, Capacity: n.Capacity, Carries: carries[n.ID],
			Health: string(n.HealthNow()), HealthReason: n.HealthReason, Flapping: n.Flapping(at), Flaps: n.Flaps.Effective(at, fsm.FailDecay), Leftout: n.Leftout, FailingChecks: failingOn(st, n),
			Suffrage: l.Suffrage, AppliedIndex: l.AppliedIndex, Joined: wall(n.Joined),
		})
	}
	return out
}

func subnetView(st *fsm.State, n fsm.Subnet) Subnet {
	out := Subnet{Name: n.Name, VPC: n.VPC, CIDR: n.CIDR.String(), Gateway: addrOrNull(n.Gateway), Reserved: []string{}, Auto: n.Auto}
	for _, a := range n.Reserved {
		out.Reserved = append(out.Reserved, a.String())
	}
	for _, v := range st.HAVIPs {
		if v.Subnet == n.Name {
			out.HAVIPs++
		}
	}
	return out
}

func eniView(st *fsm.State, e fsm.ENI) ENI {
	out := ENI{
		ID: e.ID, Node: st.NodeName(e.Node), Device: e.Device, MAC: e.MAC, Subnet: orNull(e.Subnet), Addresses: []string{},
		Gateway: addrOrNull(e.Gateway), Primary: e.IsPrimary(), Up: e.Up, Detached: e.Detached,
		SetSubnet: orNull(e.SetSubnet), SetPrimary: e.SetPrimary, HAVIPs: []string{},
		CloudID: e.Cloud.ID, CloudInstance: e.Cloud.Instance, CloudSubnet: e.Cloud.Subnet,
	}
	for _, p := range e.Prefixes {
		out.Addresses = append(out.Addresses, p.String())
	}
	for _, v := range st.HAVIPList() {
		if v.Owner != nil && v.Owner.ENI == e.ID {
			out.HAVIPs = append(out.HAVIPs, v.Name)
		}
	}
	return out
}

func eventView(e fsm.Event) Event {
	out := Event{Index: e.Index, At: wall(e.At), Kind: e.Kind, HAVIP: e.HAVIP, Node: e.Node, Text: e.Text}
	for _, f := range e.Fields {
		out.Fields = append(out.Fields, FieldChange(f))
	}
	return out
}

func failoverView(st *fsm.State, f fsm.Failover) Failover {
	out := Failover{HAVIP: f.HAVIP, Epoch: uint64(f.Epoch), From: f.From, To: f.To, At: wall(f.At), Steps: []FailoverStep{}}
	if v, ok := st.HAVIPs[f.HAVIP]; ok {
		out.HAVIP = v.Name
	}
	for _, step := range f.Steps {
		out.Steps = append(out.Steps, FailoverStep{What: step.What, AfterUS: step.After.Microseconds(), Step: step.Step, Node: step.Node})
		out.TotalUS = max(out.TotalUS, step.After.Microseconds())
	}
	out.Kind, out.Reason, out.Leader = f.Kind, f.Reason, f.Leader
	for _, c := range f.Clocks {
		out.Clocks = append(out.Clocks, ClockOffset{Node: c.Node, OffsetUS: c.Offset.Microseconds(), BoundUS: c.Bound.Microseconds()})
	}
	return out
}
