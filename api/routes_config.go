package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
	"havip-cluster/manifest"
)

// Applied is what an application of a configuration did, or would do.
type Applied struct {
	DryRun   bool              `json:"dry_run"`
	Changed  bool              `json:"changed" doc:"false: the cluster is as the file says already"`
	Revision uint64            `json:"revision" doc:"After it; of a dry run, the one that it was tried on"`
	Index    uint64            `json:"index"`
	Changes  []manifest.Change `json:"changes"`
	Warnings []string          `json:"warnings"`
}

// Revision is a configuration of the past that can be rolled back to.
type Revision struct {
	Number  uint64    `json:"number"`
	Index   uint64    `json:"index"`
	At      time.Time `json:"at"`
	By      string    `json:"by,omitempty" doc:"Name of the node that wrote it into the log"`
	Note    string    `json:"note,omitempty"`
	Present bool      `json:"present" doc:"The configuration is this one now"`
}

// PlanSpec is what a plan supposes.
type PlanSpec struct {
	Down      []string `json:"down,omitempty" doc:"Nodes that are down"`
	Up        []string `json:"up,omitempty" doc:"Nodes that are up again"`
	Standby   []string `json:"standby,omitempty" doc:"Nodes in standby"`
	Activate  []string `json:"activate,omitempty" doc:"Nodes whose standby or drain ends"`
	Drain     []string `json:"drain,omitempty" doc:"Nodes that are drained"`
	ENIsGone  []string `json:"enis_gone,omitempty" doc:"ENIs that are detached"`
	Changes   string   `json:"changes,omitempty" doc:"A configuration, YAML or JSON, that is applied before"`
	Prune     bool     `json:"prune,omitempty" doc:"With changes: delete what they do not name"`
	NMinusOne bool     `json:"n_minus_one,omitempty" doc:"Ask for every node what its failure would cost"`
}

// Plan is what would be placed where.
type Plan struct {
	placement.Result
	NMinusOne []placement.Loss `json:"n_minus_one,omitzero" doc:"Absent unless it was asked for"`
	// Index is that of the state that was asked; 0 for a file.
	Index uint64 `json:"index"`
	// Of the running cluster alone: a file does not say who votes.
	NoMajority string   `json:"no_majority,omitempty" doc:"What follows for everything when too few voters would be there"`
	LastVoters []string `json:"last_voters,omitempty" doc:"With n_minus_one: nodes without any of which no majority would be left"`
}

// supposed are the changes of a spec beside its configuration.
func (p PlanSpec) supposed() placement.Changes {
	return placement.Changes{Down: p.Down, Up: p.Up, Standby: p.Standby, Activate: p.Activate, Drain: p.Drain, ENIsGone: p.ENIsGone}
}

// PlanFor asks the placement about a problem: before is as things are, after with the
// configuration of the spec in it.
func PlanFor(before, after placement.Problem, spec PlanSpec) (Plan, error) {
	after, err := after.With(spec.supposed())
	if err != nil {
		return Plan{}, problemOf(fsm.Refuse(fsm.CodeNotFound, "%s", plain(err)))
	}
	// What only waits for its last release is as good as gone.
	after.HAVIPs = slices.DeleteFunc(slices.Clone(after.HAVIPs), func(v placement.HAVIP) bool { return v.Deleting && v.Owner == "" })
	for i := range after.HAVIPs {
		after.HAVIPs[i].Waits = nil // a plan is about what comes once every fence knows what is new
	}
	out := Plan{Result: placement.PlanBetween(before, after)}
	if spec.NMinusOne {
		out.NMinusOne = placement.NMinusOne(after)
	}
	return out, nil
}

type applyInput struct {
	Key
	DryRun   bool   `query:"dry_run" doc:"Only say what would change"`
	Prune    bool   `query:"prune" doc:"Delete subnets, HAVIPs and groups that the file does not name, of the kinds that it speaks of"`
	Expected string `query:"expected" doc:"The revision that the file was made from; refused when the cluster has gone on. Absent: the file's own, if it names one"`
	Note     string `query:"note" maxLength:"300"`
	RawBody  []byte `contentType:"application/yaml" doc:"The configuration as a file, YAML or JSON"`
}

type rollbackInput struct {
	Key
	Number   uint64 `path:"number"`
	DryRun   bool   `query:"dry_run" doc:"Only say what would change"`
	Expected string `query:"expected" doc:"Refused unless this is the present revision"`
}

type planInput struct {
	Consistency
	Body PlanSpec
}

type exportInput struct {
	Consistency
	Format string `query:"format" enum:"yaml,json" default:"yaml"`
}

// fileReply is a whole file as an answer.
type fileReply struct {
	Index    uint64 `header:"X-Havip-Index"`
	Revision uint64 `header:"X-Havip-Revision"`
	Type     string `header:"Content-Type"`
	Body     []byte
}

func (s *Server) configRoutes() {
	op := func(method, path, id, summary string, errs []int) huma.Operation {
		return huma.Operation{Method: method, Path: path, OperationID: id, Summary: summary, Errors: errs, MaxBodyBytes: -1, BodyReadTimeout: -1}
	}
	huma.Register(s.huma, op(http.MethodGet, "/v1/export", "export", "The whole configuration and what plan needs, as a file", readErrors), s.export)
	huma.Register(s.huma, op(http.MethodGet, "/v1/snapshot", "snapshot", "The whole replicated state, as a file", readErrors), s.snapshot)
	huma.Register(s.huma, op(http.MethodPost, "/v1/plan", "plan", "What would be placed where", readErrors), s.plan)
	huma.Register(s.huma, op(http.MethodPost, "/v1/apply", "apply", "Make the configuration what a file says, whole or not at all", writeErrors), s.apply)
	huma.Register(s.huma, op(http.MethodPost, "/v1/revisions/{number}/rollback", "rollback", "Make the configuration what it was", writeErrors), s.rollback)
	read(s, "/v1/revisions", "list-revisions", "Configurations that can be rolled back to, oldest first", func(st *fsm.State, _ *Consistency) ([]Revision, error) {
		out := []Revision{}
		for _, r := range st.Revisions {
			out = append(out, Revision{Number: r.Number, Index: r.Index, At: wall(r.At), By: st.NodeName(r.By), Note: r.Note, Present: r.Number == st.Cluster.Revision})
		}
		return out, nil
	})
}

// known is the state that a read may answer from.
func (s *Server) known(ctx context.Context, c Consistency) (*fsm.State, error) {
	st := s.Backend.State()
	if !c.stale() {
		var err error
		if st, err = s.newest(ctx); err != nil {
			return nil, err
		}
	}
	if refusal := still(ctx, st); refusal != nil {
		return nil, refusal
	}
	return st, nil
}

func (s *Server) export(ctx context.Context, in *exportInput) (*fileReply, error) {
	st, err := s.known(ctx, in.Consistency)
	if err != nil {
		return nil, err
	}
	m := s.exported(st)
	out := &fileReply{Index: st.Index, Revision: st.Cluster.Revision, Type: "application/yaml", Body: m.YAML()}
	if in.Format == "json" {
		out.Type, out.Body = "application/json", m.JSON()
	}
	return out, nil
}

// snapshot gives the whole state to admins alone: for others the secrets of webhooks are left out. Of
// tokens it has hashes.
func (s *Server) snapshot(ctx context.Context, in *Consistency) (*fileReply, error) {
	st, err := s.known(ctx, *in)
	if err != nil {
		return nil, err
	}
	if w, known := CallerOf(ctx); !known || !w.Right.Covers(fsm.RightAdmin) {
		st = st.WithoutSecrets()
	}
	data, err := st.Snapshot()
	return &fileReply{Index: st.Index, Revision: st.Cluster.Revision, Type: "application/octet-stream", Body: data}, err
}

// exported is the manifest of a state, with the statuses of the nodes as this one sees them.
func (s *Server) exported(st *fsm.State) manifest.Manifest {
	m := manifest.FromState(st, time.Now().UnixNano())
	live := s.Backend.Live()
	for i := range m.Nodes {
		n, _ := st.NodeNamed(m.Nodes[i].Name)
		// An open session says more than gossip: the words must not turn one into the other.
		switch is := &m.Nodes[i].Status; {
		case *is == StatusAlive && live[n.ID].Status == StatusSuspect:
			*is = StatusSuspect
		case *is == StatusLost && live[n.ID].Status == StatusLeft:
			*is = StatusLeft
		}
	}
	return m
}

func (s *Server) plan(ctx context.Context, in *planInput) (*reply[Plan], error) {
	st, err := s.known(ctx, in.Consistency)
	if err != nil {
		return nil, err
	}
	select {
	case s.plans <- struct{}{}:
		defer func() { <-s.plans }()
	case <-ctx.Done():
		return nil, problemOf(ctx.Err())
	}
	if size := len(st.Nodes) * len(st.HAVIPs); in.Body.NMinusOne && size > lossesMax {
		return nil, problemOf(fsm.Refuse(fsm.CodeLimit, "%d nodes and %d HAVIPs are too many to ask about the failure of each node here; do it on another host: `export`, then `plan --offline FILE --n-1`", len(st.Nodes), len(st.HAVIPs)))
	}
	now := time.Now().UnixNano()
	next := st
	if in.Body.Changes != "" {
		cfg, _, err := s.readConfig(ctx, []byte(in.Body.Changes))
		if err != nil {
			return nil, problemOf(err)
		}
		if next, err = after(st, nil, "", fsm.ApplyConfig{Config: cfg.config, Prune: in.Body.Prune}, now); err != nil {
			return nil, problemOf(err)
		}
	}
	out, err := PlanFor(st.Problem(now), next.Problem(now), in.Body)
	if err != nil {
		return nil, problemOf(err)
	}
	out.Index = st.Index
	planMajority(&out, st, s.Backend.Live(), in.Body)
	return answer(st, out), nil
}

// desired is a configuration that was read from a file.
type desired struct {
	config   fsm.Config
	revision *uint64 // that it was made from, nil if it does not say
}

// readConfig reads a file; a fault in it is a problem that names line and column.
func (s *Server) readConfig(ctx context.Context, data []byte) (desired, []string, error) {
	select { // one at a time: the other place is for one whose body is on its way
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return desired{}, nil, ctx.Err()
	}
	m, warned, err := manifest.DecodeFor(ctx, data)
	if faults, ok := errors.AsType[manifest.Faults](err); ok {
		return desired{}, nil, faultsProblem(faults)
	}
	if err != nil {
		return desired{}, nil, err
	}
	out := desired{config: m.ToConfig()}
	if m.Revision != 0 {
		r := uint64(m.Revision)
		out.revision = &r
	}
	var warnings []string
	for _, w := range warned {
		warnings = append(warnings, w.Error())
	}
	return out, warnings, nil
}

// faultsProblem shows what is wrong with a file: the first in words, all as fields.
func faultsProblem(faults manifest.Faults) *Problem {
	first := faults[0]
	p := problem(http.StatusBadRequest, string(first.Code), "%s", first.Error())
	if n := len(faults) - 1; n > 0 {
		p.Detail += fmt.Sprintf("; and %d more", n)
	}
	for _, f := range faults {
		p.Errors = append(p.Errors, ProblemField{Location: fmt.Sprintf("%d:%d %s", f.Line, f.Col, f.Path), Message: fmt.Sprintf("%s (%s)", f.Text, f.Code)})
	}
	return p
}

// expectation is the revision that a change demands: what the caller says, else what the
// file says.
func expectation(said string, file *uint64) (*uint64, error) {
	if said == "" {
		return file, nil
	}
	n, err := strconv.ParseUint(said, 10, 64)
	if err != nil {
		return nil, fsm.Refuse(fsm.CodeMalformed, "expected %q is not the number of a revision", said)
	}
	return &n, nil
}

func (s *Server) apply(ctx context.Context, in *applyInput) (*reply[Applied], error) {
	want, warnings, err := s.readConfig(ctx, in.RawBody)
	if err != nil {
		return nil, problemOf(err)
	}
	cmd := fsm.ApplyConfig{Config: want.config, Prune: in.Prune, Note: in.Note}
	if cmd.Expected, err = expectation(in.Expected, want.revision); err != nil {
		return nil, problemOf(err)
	}
	return s.configure(ctx, in.Key.Key, cmd, in.DryRun, warnings)
}

func (s *Server) rollback(ctx context.Context, in *rollbackInput) (*reply[Applied], error) {
	expected, err := expectation(in.Expected, nil)
	if err != nil {
		return nil, problemOf(err)
	}
	return s.configure(ctx, in.Key.Key, fsm.Rollback{To: in.Number, Expected: expected}, in.DryRun, nil)
}

// configure carries out a whole configuration, or says what it would do. The difference
// that it shows is the one between the states before and after, so it is what was done.
func (s *Server) configure(ctx context.Context, key string, cmd fsm.Body, dry bool, warnings []string) (*reply[Applied], error) {
	out := Applied{DryRun: dry, Warnings: list(warnings)}
	once, err := fsm.Prepare(cmd)
	if err != nil {
		return nil, problemOf(err)
	}
	before, next, err := s.foresee(ctx, key, once, dry)
	if err != nil {
		return nil, problemOf(err)
	}
	out.Changes = list(manifest.Between(configured(before), configured(next)))
	out.Changed = before.Cluster.Revision != next.Cluster.Revision
	out.Warnings = append(out.Warnings, s.unboundInCloud(before, next)...)
	if dry {
		out.Revision, out.Index = before.Cluster.Revision, before.Index
		return answer(before, out), nil
	}
	res, err := s.Backend.Propose(ctx, once, key)
	if err == nil && res.Refusal != nil {
		err = res.Refusal
	}
	if err != nil {
		return nil, problemOf(err)
	}
	out.Index = res.Index
	if out.Revision, err = strconv.ParseUint(res.Object, 10, 64); err != nil {
		return nil, problemOf(fmt.Errorf("api: the result names no revision: %q", res.Object))
	}
	return answer(s.Backend.State(), out), nil
}

// configured is a state as a file, without what only waits for its last release.
func configured(st *fsm.State) manifest.Manifest {
	m := manifest.FromState(st, 0)
	m.HAVIPs = slices.DeleteFunc(m.HAVIPs, func(h manifest.HAVIP) bool { return h.Deleting })
	return m
}

// foresee is the state before a command and that after it. What is not proposed then, a
// dry run and a refusal, is given only after a look at the newest state (see commit).
func (s *Server) foresee(ctx context.Context, key string, cmd fsm.Body, dry bool) (before, next *fsm.State, err error) {
	if before = s.Backend.State(); !dry {
		if next, err = after(before, who(ctx), key, cmd, time.Now().UnixNano()); err == nil {
			return before, next, nil
		}
	}
	if before, err = s.newest(ctx); err != nil {
		return nil, nil, err
	}
	next, err = after(before, who(ctx), key, cmd, time.Now().UnixNano())
	return before, next, err
}
