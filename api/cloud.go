package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/provider"
	"havip-cluster/provider/observer"
)

// Cloud is the node's provider as the API needs it. All methods may be called at the same time.
type Cloud interface {
	// Provider is the present one, nil without.
	Provider() (provider.Provider, provider.Config)
	// Last is what the leader has seen last, Refresh asks now, Drift compares the last look with the log.
	Last() observer.Snapshot
	Refresh(ctx context.Context) (observer.Snapshot, error)
	Drift() []provider.Warning
	// FollowEIP has the cloud give a HAVIP the EIP that the log has for it, in the background; was is the one that the
	// log has taken away, not valid where it took none. The journal tells how it ended. Leader only; without a
	// provider that binds EIPs it does nothing.
	FollowEIP(v fsm.HAVIP, was netip.Addr)
	// Tell writes an event of kind cloud into the journal; leader only.
	Tell(ctx context.Context, havip, text string)
}

// ProviderView is the provider of the node that answers: the leader.
type ProviderView struct {
	Kind         string                `json:"kind" enum:"tencent,aws,exec"`
	Node         string                `json:"node" doc:"Name of the node that looks: the leader"`
	Capabilities provider.Capabilities `json:"capabilities"`
	PollMS       int64                 `json:"poll_ms"`
	SettleMS     int64                 `json:"settle_ms" doc:"How long the cloud may take to follow a change of owner"`
	SeenAt       *time.Time            `json:"seen_at" doc:"When the newest answer was asked for; null: there was none"`
	AgeMS        *int64                `json:"age_ms"`
	Error        string                `json:"error,omitempty" doc:"Why the last look brought nothing"`
	FailingSince *time.Time            `json:"failing_since,omitempty"`
	HAVIPs       int                   `json:"havips" doc:"HAVIPs that the cloud has"`
	ENIs         []CloudENI            `json:"enis" doc:"ENIs of the cluster with what the cloud calls them, sorted"`
	Drift        []provider.Warning    `json:"drift"`
}

// CloudENI is an ENI of the cluster beside the cloud's.
type CloudENI struct {
	ENI   string          `json:"eni" doc:"Id in the cluster"`
	Node  string          `json:"node"`
	MAC   string          `json:"mac"`
	Known bool            `json:"known" doc:"The cloud has an interface with this MAC"`
	Cloud *CloudInterface `json:"cloud" doc:"As the cloud knows it; null: it does not"`
}

// CloudInterface is a network interface as the cloud knows it.
type CloudInterface provider.ENI

// ProviderTest is what a provider says when a node asks it once.
type ProviderTest struct {
	Kind string `json:"kind"`
	Node string `json:"node" doc:"The node that asked"`
	provider.Self
	TookMS int64 `json:"took_ms"`
}

// ObservedHAVIP are the three columns of one HAVIP.
type ObservedHAVIP struct {
	ID      string         `json:"id"`
	Name    string         `json:"name"`
	IP      string         `json:"ip"`
	Desired DesiredColumn  `json:"desired" doc:"What the log says"`
	Leased  *LeasedColumn  `json:"leased" doc:"Who may act now; null: nobody"`
	Seen    *CloudColumn   `json:"observed" doc:"What the cloud says; null: it has no such HAVIP, or was not seen"`
	Drift   []DriftWarning `json:"drift" doc:"How they differ"`
}

// DriftWarning is a difference; its fields are those of provider.Warning.
type DriftWarning = provider.Warning

// DesiredColumn is what the log says.
type DesiredColumn struct {
	ENI     *string   `json:"eni"`
	Node    *string   `json:"node"`
	Epoch   uint64    `json:"epoch"`
	EIP     *string   `json:"eip"`
	Subnet  string    `json:"subnet"`
	Range   Range     `json:"range"`
	Since   time.Time `json:"since"`
	Enabled bool      `json:"enabled"`
}

// LeasedColumn is who may answer for it.
type LeasedColumn struct {
	ENI     string `json:"eni"`
	Node    string `json:"node"`
	Session uint64 `json:"session"`
	Epoch   uint64 `json:"epoch"`
	Serving bool   `json:"serving" doc:"Its owner has said that address, fence and announcement stand"`
	Cloud   string `json:"cloud_eni,omitempty" doc:"What the cloud calls the ENI"`
}

// CloudColumn is what the cloud says.
type CloudColumn struct {
	provider.Observed
	Node  *string   `json:"node" doc:"The node whose instance the cloud names; null: none of ours"`
	At    time.Time `json:"at" doc:"When it was asked"`
	AgeMS int64     `json:"age_ms"`
}

// SyncRequest asks for a plan between log and cloud, and for carrying it out.
type SyncRequest struct {
	Direction string `json:"direction" enum:"to-cloud,from-cloud"`
	DryRun    bool   `json:"dry_run,omitempty" doc:"Say what would be done"`
	Prune     bool   `json:"prune,omitempty" doc:"to-cloud: take away there what is not here: members, EIPs, HAVIPs"`
}

// provider is the node's, or a problem with the way out.
func (s *Server) provider() (provider.Provider, provider.Config, error) {
	if s.Cloud != nil {
		if p, c := s.Cloud.Provider(); p != nil {
			return p, c, nil
		}
	}
	return nil, provider.Config{}, problem(http.StatusConflict, CodeNoProvider, "node %s has no provider, so there is no cloud to ask: %s",
		s.Backend.State().NodeName(s.Backend.Self()), observer.ErrNone)
}

// seen is the last look; where there was none it looks now.
func (s *Server) seen(ctx context.Context) (observer.Snapshot, error) {
	last := s.Cloud.Last()
	if !last.At.IsZero() || last.Err != "" {
		return last, nil
	}
	if last, err := s.Cloud.Refresh(ctx); err != nil {
		return last, problem(http.StatusFailedDependency, CodeCloud, "the cloud was not seen yet: %v", err)
	}
	return s.Cloud.Last(), nil
}

func (s *Server) providerView(st *fsm.State, p provider.Provider, c provider.Config, last observer.Snapshot) ProviderView {
	v := ProviderView{
		Kind: p.Kind(), Node: st.NodeName(s.Backend.Self()), Capabilities: p.Caps(), PollMS: c.PollEvery().Milliseconds(), SettleMS: c.SettleFor().Milliseconds(),
		Error: last.Err, HAVIPs: len(last.Observed), ENIs: []CloudENI{}, Drift: list(s.Cloud.Drift()),
	}
	if !last.At.IsZero() {
		at, age := last.At.UTC(), time.Since(last.At).Milliseconds()
		v.SeenAt, v.AgeMS = &at, &age
	}
	if !last.Failing.IsZero() {
		at := last.Failing.UTC()
		v.FailingSince = &at
	}
	for _, e := range provider.ClusterOf(st, last.ENIs).ENIs {
		c := CloudENI{ENI: e.ENI, Node: e.Node, MAC: st.ENIs[e.ENI].MAC, Known: e.Cloud.ID != ""}
		if c.Known {
			is := CloudInterface(e.Cloud)
			c.Cloud = &is
		}
		v.ENIs = append(v.ENIs, c)
	}
	return v
}

// observedViews puts the columns of HAVIPs side by side.
func (s *Server) observedViews(st *fsm.State, vips []fsm.HAVIP, last observer.Snapshot) []ObservedHAVIP {
	seen, drift, out := map[netip.Addr]provider.Observed{}, map[string][]provider.Warning{}, []ObservedHAVIP{}
	for _, o := range last.Observed {
		seen[o.Address] = o
	}
	for _, w := range s.Cloud.Drift() {
		drift[w.ID] = append(drift[w.ID], w)
	}
	cluster := provider.ClusterOf(st, last.ENIs)
	nodes, clouds := map[string]string{}, map[string]string{}
	for _, e := range cluster.ENIs {
		nodes[e.Cloud.Instance], clouds[e.ENI] = e.Node, e.Cloud.ID
	}
	for _, v := range vips {
		p := placementView(st, v)
		o := ObservedHAVIP{
			ID: v.ID, Name: v.Name, IP: v.IP.String(), Drift: list(drift[v.ID]),
			Desired: DesiredColumn{
				ENI: p.ENI, Node: p.Node, Epoch: p.Epoch, EIP: addrOrNull(v.EIP), Subnet: v.Subnet, Since: wall(v.Since), Enabled: !v.Disabled,
				Range: Range{Type: string(v.Range.Type), Members: list(v.Range.Members), Limit: v.Range.Limit},
			},
		}
		if v.Owner != nil {
			if sess, open := st.SessionOf(v.Owner.Node); open && sess.Number == v.Owner.Session {
				o.Leased = &LeasedColumn{
					ENI: v.Owner.ENI, Node: st.NodeName(v.Owner.Node), Session: sess.Number, Epoch: uint64(v.Owner.Epoch),
					Serving: st.Serving(v) == fsm.Available, Cloud: clouds[v.Owner.ENI],
				}
			}
		}
		if c, there := seen[v.IP]; there {
			o.Seen = &CloudColumn{Observed: c, At: last.At.UTC(), AgeMS: time.Since(last.At).Milliseconds()}
			if node, ours := nodes[c.Instance]; ours && c.Instance != "" {
				o.Seen.Node = &node
			}
		}
		out = append(out, o)
	}
	return out
}

// cloud tells status what differs: the leader of what it has seen, any other node of what the journal tells.
func (h *health) cloud(s *Server, st *fsm.State) {
	if s.Cloud != nil && s.Backend.IsLeader() {
		p, _ := s.Cloud.Provider()
		if p == nil {
			return
		}
		if last := s.Cloud.Last(); last.Err != "" {
			h.worse(HealthYellow, "the cloud (%s) has not been seen since %s: %s; nothing depends on it but the comparison: `provider test`", p.Kind(), wall(last.Failing.UnixNano()).Format(time.RFC3339), last.Err)
		}
		for _, w := range s.Cloud.Drift() {
			h.many("cloud", HealthYellow, "%s", driftText(w.HAVIP, w.Message, w.Command))
		}
	} else {
		for _, t := range observer.Outstanding(st.Events) {
			h.many("cloud", HealthYellow, "%s", driftText(t.HAVIP, t.Text, ""))
		}
	}
	h.rest("cloud", HealthYellow, "%d more differences between log and cloud; `provider show`")
}

func driftText(havip, message, command string) string {
	if havip != "" {
		message = "HAVIP " + havip + ": " + message
	}
	if command != "" {
		message += "; `" + command + "`"
	}
	return message
}

// cloudNamed is the id of the ENI that a cloud calls so; any other text stays what it is. An id of the cluster wins.
func cloudNamed(st *fsm.State, text string) string {
	if _, own := st.ENIs[text]; own || text == "" {
		return text
	}
	for _, e := range st.ENIList() {
		if e.Cloud.ID == text {
			return e.ID
		}
	}
	return text
}

// named is cloudNamed for a list, by what this node has applied; nil stays nil.
func (s *Server) named(texts []string) []string {
	if texts == nil {
		return nil
	}
	st, out := s.Backend.State(), make([]string, 0, len(texts))
	for _, t := range texts {
		out = append(out, cloudNamed(st, t))
	}
	return out
}

// eipsNamed is how many HAVIPs a sentence about EIPs names.
const eipsNamed = 8

// unboundInCloud warns of EIPs that a configuration changes: such a change is carried to no cloud by itself, because it may
// be of hundreds, and a file that was rolled back would undo what is bound there.
func (s *Server) unboundInCloud(before, next *fsm.State) []string {
	if s.Cloud == nil {
		return nil
	}
	p, _ := s.Cloud.Provider()
	if p == nil || !p.Caps().EIP && !p.Caps().Describe {
		return nil
	}
	var names []string
	for _, v := range next.HAVIPList() {
		if !v.Deleting && before.HAVIPs[v.ID].EIP != v.EIP {
			names = append(names, v.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	of := strings.Join(names[:min(len(names), eipsNamed)], ", ")
	if more := len(names) - eipsNamed; more > 0 {
		of += fmt.Sprintf(" and %d more", more)
	}
	if !p.Caps().EIP {
		return []string{fmt.Sprintf("EIPs of %s: provider %s binds none, so associate them by the cloud's own means; `havip-cluster havip observed` shows which the cloud has", of, p.Kind())}
	}
	return []string{fmt.Sprintf("EIPs of %s are changed in the log alone; to have the cloud follow: `havip-cluster provider sync --to-cloud` (with --prune, if one is taken away)", of)}
}
