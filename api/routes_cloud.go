package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"havip-cluster/fsm"
	"havip-cluster/provider"
	"havip-cluster/provider/observer"
)

const (
	// testWait bounds a test of the provider, syncWait the carrying out of a sync: less than a request may take.
	testWait = 20 * time.Second
	syncWait = 50 * time.Second
)

type observedPath struct {
	Consistency
	ID string `path:"id" doc:"Id or name"`
}

type observedQuery struct {
	Consistency
	Limit int `query:"limit" minimum:"0" maximum:"10000" doc:"The first so many alone; 0 or absent: all"`
}

type syncInput struct {
	Key
	Body SyncRequest
}

type keyOnly struct{ Key }

// cloudRoutes are about the provider. The leader answers, because it is the one that looks; a test is made by the
// node that is asked.
func (s *Server) cloudRoutes() {
	looking(s, "/v1/provider", "show-provider", "The provider, what it can do, and how log and cloud differ", func(st *fsm.State, _ *Consistency, p provider.Provider, c provider.Config, last observer.Snapshot) (ProviderView, error) {
		return s.providerView(st, p, c, last), nil
	})
	looking(s, "/v1/observed", "list-observed", "What log, lease and cloud say of each HAVIP", func(st *fsm.State, in *observedQuery, _ provider.Provider, _ provider.Config, last observer.Snapshot) ([]ObservedHAVIP, error) {
		all := st.HAVIPList()
		if in.Limit > 0 {
			all = all[:min(len(all), in.Limit)]
		}
		return s.observedViews(st, all, last), nil
	})
	looking(s, "/v1/observed/{id}", "show-observed", "What log, lease and cloud say of one HAVIP", func(st *fsm.State, in *observedPath, _ provider.Provider, _ provider.Config, last observer.Snapshot) (ObservedHAVIP, error) {
		v, refusal := st.HAVIPNamed(in.ID)
		if refusal != nil {
			return ObservedHAVIP{}, refusal
		}
		return s.observedViews(st, []fsm.HAVIP{v}, last)[0], nil
	})
	asking(s, "/v1/provider/test", "test-provider", "Ask the cloud once, from the node that is asked", s.testProvider)
	asking(s, "/v1/provider/sync", "sync-provider", "Make cloud and log agree, as a plan or at once", s.syncProvider)
}

// looking registers a GET about what the leader has seen.
func looking[I any, P interface {
	*I
	stale() bool
}, T any](s *Server, path, id, summary string, show func(st *fsm.State, in *I, p provider.Provider, c provider.Config, last observer.Snapshot) (T, error)) {
	op := huma.Operation{Method: http.MethodGet, Path: path, OperationID: id, Summary: summary, Errors: append([]int{http.StatusConflict, http.StatusFailedDependency}, readErrors...)}
	huma.Register(s.huma, op, func(ctx context.Context, in *I) (*reply[T], error) {
		p, c, err := s.provider()
		if err != nil {
			return nil, err
		}
		st := s.Backend.State()
		if !P(in).stale() {
			if st, err = s.newest(ctx); err != nil {
				return nil, err
			}
		}
		last, err := s.seen(ctx)
		if err != nil {
			return nil, err
		}
		body, err := show(st, in, p, c, last)
		if err != nil {
			return nil, problemOf(err)
		}
		return answer(st, body), nil
	})
}

// asking registers a POST that speaks with the cloud.
func asking[I, T any](s *Server, path, id, summary string, act func(ctx context.Context, in *I) (T, error)) {
	huma.Register(s.huma, huma.Operation{Method: http.MethodPost, Path: path, OperationID: id, Summary: summary, Errors: writeErrors, MaxBodyBytes: -1, BodyReadTimeout: -1},
		func(ctx context.Context, in *I) (*reply[T], error) {
			out, err := act(ctx, in)
			if err != nil {
				return nil, problemOf(err)
			}
			return answer(s.Backend.State(), out), nil
		})
}

func (s *Server) testProvider(ctx context.Context, _ *keyOnly) (ProviderTest, error) {
	p, _, err := s.provider()
	if err != nil {
		return ProviderTest{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, testWait)
	defer cancel()
	began := time.Now()
	self, err := p.Test(ctx)
	out := ProviderTest{Kind: p.Kind(), Node: s.Backend.State().NodeName(s.Backend.Self()), Self: self, TookMS: time.Since(began).Milliseconds()}
	if err != nil {
		return out, problem(http.StatusFailedDependency, CodeCloud, "the test of provider %s at node %s failed: %v", p.Kind(), out.Node, err)
	}
	return out, nil
}

// syncProvider plans by a fresh look, and carries out what it planned.
func (s *Server) syncProvider(ctx context.Context, in *syncInput) ([]provider.Outcome, error) {
	p, _, err := s.provider()
	if err != nil {
		return nil, err
	}
	if in.Body.Direction == "to-cloud" && !p.Caps().Keep && !p.Caps().EIP {
		return nil, problem(http.StatusConflict, CodeNoProvider, "provider %s keeps no HAVIPs, ranges or EIPs in the cloud, so nothing is to be made there: the owner's own call moves an address. An EIP is bound by the cloud's own means, and `provider sync --from-cloud` notes it here", p.Kind())
	}
	ctx, cancel := context.WithTimeout(ctx, syncWait)
	defer cancel()
	last, err := s.Cloud.Refresh(ctx)
	if err != nil {
		return nil, problem(http.StatusFailedDependency, CodeCloud, "the cloud was not seen, so nothing was planned: %v", err)
	}
	st := s.Backend.State()
	cluster := provider.ClusterOf(st, last.ENIs)
	out := []provider.Outcome{}
	switch {
	case in.Body.Direction == "to-cloud":
		steps := provider.PlanToCloud(cluster, last.Observed, in.Body.Prune)
		if !in.Body.DryRun {
			out = provider.Carry(ctx, p, steps, func(step provider.Step) string { return cloudToken(st, step) })
			s.tellSync(ctx, out)
			_, _ = s.Cloud.Refresh(ctx) // what is shown from now on is what was made; if it fails, the next poll brings it
			return out, nil
		}
		return planned(steps), nil
	case in.Body.Prune:
		return nil, fsm.Refuse(fsm.CodeParameter, "prune is for to-cloud: what the cloud does not have is not deleted here")
	case in.Body.DryRun:
		return planned(provider.PlanFromCloud(cluster, last.Observed)), nil
	}
	for i, step := range provider.PlanFromCloud(cluster, last.Observed) {
		out = append(out, s.takeOver(ctx, in.Key.Key, i, step))
	}
	return out, nil
}

// tellSync has the journal tell who changed what in the cloud: no entry of the log does.
func (s *Server) tellSync(ctx context.Context, list []provider.Outcome) {
	by := "an unknown caller"
	if w := who(ctx); w != nil {
		by = w.Principal
	}
	for _, o := range list {
		if o.Result == "done" || o.Result == "failed" {
			s.Cloud.Tell(ctx, o.HAVIP, strings.TrimSuffix(fmt.Sprintf("sync to the cloud by %s: %s: %s: %s", by, o.Text, o.Result, o.Error), ": "))
		}
	}
}

func planned(steps []provider.Step) []provider.Outcome {
	out := []provider.Outcome{}
	for _, step := range steps {
		o := provider.Outcome{Step: step, Result: "planned"}
		if step.Op == provider.OpBlocked {
			o.Result = "blocked"
		}
		out = append(out, o)
	}
	return out
}

// cloudToken is what a change of the cloud is known by there: the log's index and the change. 64 ASCII characters.
func cloudToken(st *fsm.State, step provider.Step) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %s %s", st.Cluster.ID, st.Index, step.Op, step.Address))
	return hex.EncodeToString(sum[:])
}

// takeOver does one step of a sync from the cloud, through the log as any other change.
func (s *Server) takeOver(ctx context.Context, key string, n int, step provider.Step) provider.Outcome {
	out := provider.Outcome{Step: step, Result: "done"}
	if step.Op == provider.OpBlocked {
		out.Result = "blocked"
		return out
	}
	if ctx.Err() != nil {
		out.Result = "left"
		return out
	}
	if key != "" {
		key = fmt.Sprintf("%.100s-%d", key, n)
	}
	res, err := s.commit(ctx, key, func(st *fsm.State) (fsm.Body, error) { return takenOver(st, step) })
	if err == nil && res.Refusal != nil {
		err = res.Refusal
	}
	if err != nil {
		out.Result, out.Error = "failed", plain(err)
	}
	return out
}

// takenOver is a step of PlanFromCloud as a command.
func takenOver(st *fsm.State, step provider.Step) (fsm.Body, error) {
	r := fsm.Range{Members: step.Nodes, Limit: step.Spec.Enforced}
	if len(step.Members) > 0 {
		r.Type = fsm.RangeCVM
		if step.Members[0].Type == provider.MemberENI {
			r.Type = fsm.RangeENI
		}
	}
	if step.Op == provider.OpCreate {
		return fsm.CreateHAVIP{Name: step.HAVIP, IP: step.Address, Range: r}, nil
	}
	id := step.ID
	if id == "" { // it was made by the step before
		for _, v := range st.HAVIPList() {
			if v.IP == step.Address {
				id = v.ID
			}
		}
	}
	switch step.Op {
	case provider.OpAddRange:
		r.Limit = st.HAVIPs[id].Range.Limit
		return fsm.UpdateHAVIP{ID: id, Range: &r}, nil
	case provider.OpUnbindEIP:
		return fsm.UnbindEIP{ID: id}, nil
	case provider.OpBindEIP:
		eip, err := netip.ParseAddr(step.EIP)
		return fsm.BindEIP{ID: id, EIP: eip}, err
	}
	return nil, fmt.Errorf("api: there is no step %q from the cloud", step.Op)
}

// followedByCloud commits a change of a HAVIP's EIP, and has the cloud follow it if it was done.
func (s *Server) followedByCloud(ctx context.Context, key, id string, change func(v fsm.HAVIP) fsm.Body) (fsm.Result, error) {
	var was netip.Addr
	res, err := s.commit(ctx, key, onHAVIP(ctx, key, id, func(v fsm.HAVIP) (fsm.Body, error) {
		was = v.EIP
		return change(v), nil
	}))
	if err == nil && res.Refusal == nil && s.Cloud != nil {
		if v, refusal := s.Backend.State().HAVIPNamed(id); refusal == nil {
			s.Cloud.FollowEIP(v, was)
		}
	}
	return res, err
}
