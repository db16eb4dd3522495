package api

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// Cluster is what the cluster knows of itself.
type Cluster struct {
	ID         string  `json:"id"`
	Profile    string  `json:"profile"`
	LeaseMS    int64   `json:"lease_ms"`
	LeaseMaxMS int64   `json:"lease_max_ms" doc:"The longest lease that may still be running"`
	Leader     *string `json:"leader"`
	Nodes      int     `json:"nodes"`
	Voters     int     `json:"voters" doc:"How many vote now; a node that may vote does so once it has caught up"`
	HAVIPs     int     `json:"havips"`
	Index      uint64  `json:"index"`

	Maintenance bool     `json:"maintenance" doc:"Nothing is placed, moved or taken away"`
	Limits      Limits   `json:"limits"`
	Rebalance   string   `json:"rebalance" enum:"never,even"`
	Provider    Provider `json:"provider"`
	Level       int      `json:"level" doc:"Of the commands that all nodes can read"`
	Revision    uint64   `json:"revision" doc:"How often the configuration has changed"`
	CAHolders   int      `json:"ca_holders" doc:"How many nodes get the CA's key when they join as voters"`
	CAHeldBy    []string `json:"ca_held_by" doc:"Nodes that were given the CA's key"`
	// CertificateLifeS is 0 where nobody has set it.
	CertificateLifeS int64 `json:"certificate_life_seconds,omitempty" doc:"How long node certificates are made for; absent: 2 years"`
	// SnapshotEveryS is 0 where voters save none by themselves.
	SnapshotEveryS int64 `json:"snapshot_every_seconds,omitempty" doc:"Each voter saves a snapshot by itself so often; absent: never"`
	SnapshotKeep   int   `json:"snapshot_keep,omitempty" doc:"How many of them it keeps"`
}

// Limits bound how many HAVIPs may be owned; 0: no limit.
type Limits struct {
	PerENI  int `json:"per_eni" minimum:"0"`
	PerNode int `json:"per_node" minimum:"0"`
}

// Provider is the rules of the network that carries the HAVIPs.
type Provider struct {
	Name               string `json:"name" enum:"lan,tencent"`
	HAVIPsPerVPC       int    `json:"havips_per_vpc" doc:"Quota; 0: none"`
	HAVIPsPerENI       int    `json:"havips_per_eni" doc:"Advice; 0: none"`
	RangeMembers       int    `json:"range_members" doc:"At most in one range"`
	AnnounceIntervalMS int64  `json:"announce_interval_ms" doc:"Shortest time between two claims of one ENI"`
	QuarantineMS       int64  `json:"quarantine_ms" doc:"How long the address of a deleted HAVIP is given to nobody"`
}

// ClusterChange is a change of the cluster; what is absent stays. A provider that is
// named brings its own settings; those that are named with it win.
type ClusterChange struct {
	LeaseMS *int64 `json:"lease_ms,omitempty" minimum:"1" maximum:"60000" doc:"A change by itself: nothing else goes with it"`

	Maintenance        *bool   `json:"maintenance,omitempty"`
	PerENI             *int    `json:"per_eni,omitempty" doc:"HAVIPs on one ENI; 0: no limit"`
	PerNode            *int    `json:"per_node,omitempty" doc:"HAVIPs on one node; 0: no limit"`
	Rebalance          *string `json:"rebalance,omitempty" doc:"never or even"`
	Provider           *string `json:"provider,omitempty" doc:"lan or tencent"`
	HAVIPsPerVPC       *int    `json:"havips_per_vpc,omitempty"`
	HAVIPsPerENI       *int    `json:"havips_per_eni,omitempty"`
	RangeMembers       *int    `json:"range_members,omitempty"`
	AnnounceIntervalMS *int64  `json:"announce_interval_ms,omitempty" minimum:"0"`
	QuarantineMS       *int64  `json:"quarantine_ms,omitempty" minimum:"0"`
	CAHolders          *int    `json:"ca_holders,omitempty" doc:"Nodes that get the CA's key when they join as voters"`

	CertificateLifeS *int64 `json:"certificate_life_seconds,omitempty" minimum:"0" doc:"How long node certificates are made for; 0: 2 years. Those that are there keep theirs"`

	SnapshotEveryS *int64 `json:"snapshot_every_seconds,omitempty" minimum:"0" doc:"Each voter saves a snapshot by itself so often; 0: never"`
	SnapshotKeep   *int   `json:"snapshot_keep,omitempty" minimum:"0" doc:"How many of them it keeps"`
}

type clusterBody struct {
	Key
	Force bool `query:"force" doc:"Set a lease also where a node would have lost it of late"`
	Body  ClusterChange
}

type failoversQuery struct {
	Consistency
	HAVIP string `query:"havip" doc:"Only those of this HAVIP"`
}

type statusQuery struct {
	Consistency
	Brief bool `query:"brief" doc:"Without local.observed, which is as long as what this node owns"`
}

func (s *Server) clusterRoutes() {
	read(s, "/v1/status", "show-status", "Health at a glance", func(st *fsm.State, in *statusQuery) (Status, error) {
		out := s.status(st)
		if in.Brief {
			out.Local.Observed = []Observation{}
		}
		return out, nil
	})
	read(s, "/v1/cluster", "show-cluster", "The cluster", func(st *fsm.State, _ *Consistency) (Cluster, error) {
		return s.clusterView(st), nil
	})
	read(s, "/v1/events", "list-events", "What happened, oldest first; as a stream with follow", s.listEvents)
	read(s, "/v1/failovers", "list-failovers", "Timelines of failovers, oldest first", failovers)
	write(s, http.MethodPatch, "/v1/cluster", "update-cluster", "Change the lease length, or limits, maintenance and provider", s.updateCluster,
		func(st *fsm.State, _ *clusterBody, _ fsm.Result) (Cluster, error) { return s.clusterView(st), nil })
}

func (s *Server) clusterView(st *fsm.State) Cluster {
	c := Cluster{
		ID: st.Cluster.ID, Profile: st.Cluster.Profile, LeaseMS: st.Cluster.Lease.Milliseconds(), LeaseMaxMS: st.Cluster.LeaseMax.Milliseconds(),
		Nodes: len(st.Nodes), HAVIPs: len(st.HAVIPs), Index: st.Index,
		Maintenance: st.Cluster.Maintenance, Limits: Limits(st.Cluster.Limits), Rebalance: cmp.Or(st.Cluster.Rebalance, fsm.RebalanceNever),
		CertificateLifeS: int64(st.Cluster.Keys.CertificateLife / time.Second), Level: st.Level(), Revision: st.Cluster.Revision,
	}
	c.CAHolders, c.CAHeldBy = st.CAHoldersMax(), []string{}
	for _, n := range st.NodeList() {
		if n.HoldsCA {
			c.CAHeldBy = append(c.CAHeldBy, n.Name)
		}
	}
	c.SnapshotEveryS, c.SnapshotKeep = int64(st.Cluster.Snapshots.Every/time.Second), st.Cluster.Snapshots.Keep
	r := st.Cluster.Provider.Rules()
	c.Provider = Provider{
		Name: r.Name, HAVIPsPerVPC: r.HAVIPsPerVPC, HAVIPsPerENI: r.HAVIPsPerENI, RangeMembers: r.RangeMembers,
		AnnounceIntervalMS: r.AnnounceInterval.Milliseconds(), QuarantineMS: r.Quarantine.Milliseconds(),
	}
	if n, ok := s.Backend.Leader(); ok {
		c.Leader = orNull(n.Name)
	}
	for id, l := range s.Backend.Live() {
		if _, member := st.Nodes[id]; member && l.Suffrage == "voter" {
			c.Voters++
		}
	}
	return c
}

// updateCluster changes the lease, if the profile's hosts can keep the new one.
func (s *Server) updateCluster(ctx context.Context, in *clusterBody) (fsm.Result, error) {
	others := in.Body
	others.LeaseMS = nil
	switch {
	case in.Body == (ClusterChange{}):
		return fsm.Result{}, fsm.Refuse(fsm.CodeMissing, "say what to change: lease_ms, or maintenance, per_eni, per_node, rebalance, provider and its settings")
	case in.Body.LeaseMS == nil:
		return s.commitList(ctx, in.Key.Key, func(st *fsm.State) (fsm.Body, error) { return setCluster(st, others), nil })
	case others != (ClusterChange{}):
		return fsm.Result{}, fsm.Refuse(fsm.CodeParameter, "lease_ms is a change by itself; send the others in a second request")
	}
	lease := time.Duration(*in.Body.LeaseMS) * time.Millisecond
	profile := identity.Profile(s.Backend.State().Cluster.Profile)
	if _, err := identity.TimersFor(profile, lease); err != nil {
		return fsm.Result{}, fsm.Refuse(fsm.CodeRange, "%s", plain(err))
	}
	if !in.Force && lease < s.Backend.State().Cluster.Lease {
		if refusal := s.cannotKeep(ctx, lease); refusal != nil {
			return fsm.Result{}, refusal
		}
	}
	return s.commit(ctx, in.Key.Key, one(fsm.SetLease{Lease: lease}))
}

// setCluster makes the command of a change, whose limits and provider replace the present
// ones as a whole.
func setCluster(st *fsm.State, b ClusterChange) fsm.SetCluster {
	cmd := fsm.SetCluster{Maintenance: b.Maintenance, Rebalance: b.Rebalance, CAHolders: b.CAHolders}
	if b.PerENI != nil || b.PerNode != nil {
		l := st.Cluster.Limits
		set(&l.PerENI, b.PerENI)
		set(&l.PerNode, b.PerNode)
		cmd.Limits = &l
	}
	if b.CertificateLifeS != nil {
		d := duration(*b.CertificateLifeS, time.Second)
		cmd.CertificateLife = &d
	}
	if b.SnapshotEveryS != nil || b.SnapshotKeep != nil {
		plan := st.Cluster.Snapshots
		set(&plan.Keep, b.SnapshotKeep)
		if b.SnapshotEveryS != nil {
			plan.Every = duration(*b.SnapshotEveryS, time.Second)
		}
		cmd.Snapshots = &plan
	}
	p := st.Cluster.Provider
	if b.Provider != nil {
		p = fsm.Provider{Name: *b.Provider}
	}
	over := false
	for _, o := range []struct{ to, from **int }{
		{&p.HAVIPsPerVPC, &b.HAVIPsPerVPC}, {&p.HAVIPsPerENI, &b.HAVIPsPerENI}, {&p.RangeMembers, &b.RangeMembers},
	} {
		if *o.from != nil {
			*o.to, over = *o.from, true
		}
	}
	for _, o := range []struct {
		to   **time.Duration
		from *int64
	}{{&p.AnnounceInterval, b.AnnounceIntervalMS}, {&p.Quarantine, b.QuarantineMS}} {
		if o.from != nil {
			d := duration(*o.from, time.Millisecond)
			*o.to, over = &d, true
		}
	}
	if b.Provider != nil || over {
		cmd.Provider = &p
	}
	return cmd
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func failovers(st *fsm.State, in *failoversQuery) ([]Failover, error) {
	name := in.HAVIP
	if name != "" {
		if v, refusal := st.HAVIPNamed(name); refusal == nil {
			name = v.Name
		}
	}
	out := []Failover{}
	for _, f := range st.Failovers {
		if v := failoverView(st, f); name == "" || v.HAVIP == name {
			out = append(out, v)
		}
	}
	return out, nil
}

// InternalCommand is a command of a node's own life.
type InternalCommand struct {
	Kind string          `json:"kind" maxLength:"64"`
	Body json.RawMessage `json:"body"`
}

// ReadIndex is what a node must have applied before it answers a linearizable read.
type ReadIndex struct {
	Index uint64 `json:"index"`
}

// internalRoutes are for the other nodes only; they are not in the OpenAPI document, and
// change with the program. They are never forwarded: the caller's certificate says whose
// command it is, so it must reach the leader itself.
func (s *Server) internalRoutes() {
	s.calibrationRoutes()
	s.signRoute()
	huma.Register(s.huma, huma.Operation{
		Method: http.MethodPost, Path: "/v1/internal/commands", OperationID: "propose-own", Hidden: true, MaxBodyBytes: -1, BodyReadTimeout: -1,
		SkipValidateBody: true, // the body is the state machine's, which reads it strictly
	}, func(ctx context.Context, in *struct{ Body InternalCommand }) (*reply[fsm.Result], error) {
		node, err := s.callingNode(ctx)
		if err != nil {
			return nil, problemOf(err)
		}
		res, err := s.Backend.ProposeFor(ctx, node, in.Body.Kind, in.Body.Body)
		if err != nil {
			return nil, problemOf(err)
		}
		return answer(s.Backend.State(), res), nil
	})
	huma.Register(s.huma, huma.Operation{
		Method: http.MethodGet, Path: "/v1/internal/readindex", OperationID: "read-index", Hidden: true,
	}, func(ctx context.Context, _ *struct{}) (*reply[ReadIndex], error) {
		if _, err := s.callingNode(ctx); err != nil {
			return nil, problemOf(err)
		}
		index, err := s.Backend.ReadIndex(ctx)
		if err != nil {
			return nil, problemOf(err)
		}
		return &reply[ReadIndex]{Index: index, Body: ReadIndex{Index: index}}, nil
	})
}

// SignRequest asks a node that holds the CA's key for the certificate of a member.
type SignRequest struct {
	Node string `json:"node" maxLength:"64" doc:"Id"`
	CSR  string `json:"csr" maxLength:"8192" doc:"Certificate request, PEM"`
}

// Signed is the answer.
type Signed struct {
	Certificate string `json:"certificate" doc:"PEM"`
}

// signRoute serves a leader that does not hold the CA's key, and lets a node in.
func (s *Server) signRoute() {
	huma.Register(s.huma, huma.Operation{
		Method: http.MethodPost, Path: "/v1/internal/certificates", OperationID: "sign", Hidden: true, MaxBodyBytes: -1, BodyReadTimeout: -1,
	}, func(ctx context.Context, in *struct{ Body SignRequest }) (*reply[Signed], error) {
		cert, err := s.Backend.Sign(ctx, in.Body.Node, []byte(in.Body.CSR))
		if err != nil {
			return nil, problemOf(err)
		}
		return answer(s.Backend.State(), Signed{Certificate: string(cert)}), nil
	})
}

// callingNode is the member whose certificate the caller has shown.
func (s *Server) callingNode(ctx context.Context) (string, error) {
	node := peerOf(ctx).node
	_, ok := s.Backend.State().Nodes[node]
	// Only the leader's state is the present one: a node that has just started knows nobody
	// yet, and a member that it took for a stranger would believe that it was removed.
	if !ok && !s.Backend.IsLeader() {
		return "", ErrNotLeader
	}
	if !ok {
		return "", problem(http.StatusForbidden, CodeAuth, "only members may use this endpoint, with their own certificate")
	}
	return node, nil
}
