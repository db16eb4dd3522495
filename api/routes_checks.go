package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// CheckSpec is a new check. What is absent has its default.
type CheckSpec struct {
	Name        string   `json:"name"`
	Type        string   `json:"type" enum:"tcp,http,exec,process,file,ping,arp,systemd"`
	Target      string   `json:"target" doc:"HOST:PORT, a URL, the name of a program, a process or pidfile:PATH, a path, an address, a unit"`
	Interval    string   `json:"interval,omitempty" doc:"Absent: 2s"`
	Timeout     string   `json:"timeout,omitempty" doc:"Absent: 1s, or the interval where that is shorter"`
	Rise        int      `json:"rise,omitempty" doc:"Good runs in a row until it passes; absent: 2"`
	Fall        int      `json:"fall,omitempty" doc:"Bad runs in a row until it fails; absent: 3"`
	Grace       string   `json:"grace,omitempty" doc:"For how long after its start bad runs say nothing"`
	Effect      string   `json:"effect,omitempty" doc:"bar (absent), or a score below 0 such as -50"`
	Nodes       []string `json:"nodes,omitempty" doc:"Those that run it; absent: all but witnesses"`
	HAVIPs      []string `json:"havips,omitempty" doc:"Those that it is about, names or ids; absent: all"`
	WhenAllFail string   `json:"when_all_fail,omitempty" enum:"keep,drop" doc:"Where it fails everywhere: keep (absent) the last good place, or drop the owner"`
	Status      string   `json:"status,omitempty" doc:"Of type http: good statuses; absent: 200-399"`
	Body        string   `json:"body,omitempty" doc:"Of type http: text that the answer has to hold"`
	Headers     []string `json:"headers,omitempty" doc:"Of type http: sent, as Name: value"`
	SNI         string   `json:"sni,omitempty" doc:"Of type http: the TLS server name"`
	Verify      bool     `json:"verify,omitempty" doc:"Of type http: the certificate has to be one that the node trusts"`
	Content     string   `json:"content,omitempty" doc:"Of type file: text that it has to hold"`
	MaxAge      string   `json:"max_age,omitempty" doc:"Of type file: how long ago it may have been written"`
}

// CheckChange changes what is not null.
type CheckChange struct {
	Type        *string   `json:"type,omitempty"`
	Target      *string   `json:"target,omitempty"`
	Interval    *string   `json:"interval,omitempty"`
	Timeout     *string   `json:"timeout,omitempty"`
	Rise        *int      `json:"rise,omitempty"`
	Fall        *int      `json:"fall,omitempty"`
	Grace       *string   `json:"grace,omitempty"`
	Effect      *string   `json:"effect,omitempty"`
	Nodes       *[]string `json:"nodes,omitempty"`
	HAVIPs      *[]string `json:"havips,omitempty"`
	WhenAllFail *string   `json:"when_all_fail,omitempty"`
	Status      *string   `json:"status,omitempty"`
	Body        *string   `json:"body,omitempty"`
	Headers     *[]string `json:"headers,omitempty"`
	SNI         *string   `json:"sni,omitempty"`
	Verify      *bool     `json:"verify,omitempty"`
	Content     *string   `json:"content,omitempty"`
	MaxAge      *string   `json:"max_age,omitempty"`
}

// Check is a check of a service with what it says.
type Check struct {
	CheckSpec
	Revision   uint64 `json:"revision" doc:"Log index of its definition"`
	Passing    int    `json:"passing" doc:"Nodes with a session that run it, by what it says of them"`
	Failing    int    `json:"failing"`
	Unknown    int    `json:"unknown"`
	Everywhere bool   `json:"fails_everywhere"`
}

// CheckResult is what a check says of one node.
type CheckResult struct {
	Check  string `json:"check"`
	Node   string `json:"node"`
	State  string `json:"state" enum:"passing,failing,unknown"`
	Output string `json:"output" doc:"Of the run that made the state; of the last one for the node that answers"`
	// Since is when the state was reported.
	Since *time.Time `json:"since" doc:"Since when it is so; null: it has never been reported"`
	AgeMS *int64     `json:"age_ms" doc:"For how long"`
	Says  string     `json:"says,omitempty" doc:"What a failing check means beside what it says of other nodes"`
	// RanMS is known to the node itself alone.
	RanMS  *int64 `json:"ran_ms,omitempty" doc:"How long ago it ran last; only of the node that answers"`
	TookMS *int64 `json:"took_ms,omitempty" doc:"How long that run took"`
}

type checkCreate struct {
	Key
	Body CheckSpec
}

type checkChange struct {
	Key
	Name string `path:"name"`
	Body CheckChange
}

type resultsQuery struct {
	Consistency
	Node  string `query:"node" doc:"Name or id; absent: all"`
	Check string `query:"check" doc:"Absent: all"`
}

func (s *Server) checkRoutes() {
	read(s, "/v1/checks", "list-checks", "All checks of services", func(st *fsm.State, _ *Consistency) ([]Check, error) {
		out, unique := []Check{}, uniqueNames(st)
		for _, k := range st.CheckList() {
			out = append(out, checkView(st, k, unique))
		}
		return out, nil
	})
	read(s, "/v1/checks/{name}", "show-check", "One check", func(st *fsm.State, in *namePath) (Check, error) { return showCheck(st, in.Name) })
	read(s, "/v1/check-results", "list-check-results", "What the checks say of each node", s.checkResults)
	create(s, "/v1/checks", "create-check", "Check a service on each node, and place HAVIPs by what it says",
		func(ctx context.Context, in *checkCreate) (fsm.Result, error) {
			return s.commit(ctx, in.Key.Key, func(st *fsm.State) (fsm.Body, error) {
				k, refusal := in.Body.file().State()
				if refusal != nil {
					return nil, refusal
				}
				k.HAVIPs = idsOf(st, k.HAVIPs)
				return fsm.CreateCheck{Check: k}, nil
			})
		}, func(st *fsm.State, in *checkCreate, _ fsm.Result) (Check, error) { return showCheck(st, in.Body.Name) })
	write(s, http.MethodPatch, "/v1/checks/{name}", "update-check", "Change a check; it begins anew",
		func(ctx context.Context, in *checkChange) (fsm.Result, error) {
			return s.commit(ctx, in.Key.Key, func(st *fsm.State) (fsm.Body, error) { return changedCheck(st, in.Name, in.Body) })
		}, func(st *fsm.State, in *checkChange, _ fsm.Result) (Check, error) { return showCheck(st, in.Name) })
	write(s, http.MethodDelete, "/v1/checks/{name}", "delete-check", "Delete a check and what it said",
		func(ctx context.Context, in *nameChange) (fsm.Result, error) {
			return s.commit(ctx, in.Key.Key, one(fsm.DeleteCheck{Name: in.Name}))
		}, done)
}

// file is a spec in the form of a file, which knows the defaults and reads the texts.
func (b CheckSpec) file() manifest.Check {
	c := manifest.NewCheck(b.Name)
	c.Type, c.Target, c.Timeout, c.Grace, c.Nodes, c.HAVIPs, c.WhenAllFail = b.Type, b.Target, b.Timeout, b.Grace, b.Nodes, b.HAVIPs, b.WhenAllFail
	c.Status, c.Body, c.Headers, c.SNI, c.Verify, c.Content, c.MaxAge = b.Status, b.Body, b.Headers, b.SNI, b.Verify, b.Content, b.MaxAge
	if b.Interval != "" {
		c.Interval = b.Interval
	}
	if b.Rise != 0 {
		c.Rise = b.Rise
	}
	if b.Fall != 0 {
		c.Fall = b.Fall
	}
	if b.Effect != "" {
		c.Effect = manifest.Effect(b.Effect)
	}
	return c
}

func specOf(c manifest.Check) CheckSpec {
	return CheckSpec{
		Name: c.Name, Type: c.Type, Target: c.Target, Interval: c.Interval, Timeout: c.Timeout, Rise: c.Rise, Fall: c.Fall, Grace: c.Grace, Effect: string(c.Effect),
		Nodes: c.Nodes, HAVIPs: c.HAVIPs, WhenAllFail: c.WhenAllFail, Status: c.Status, Body: c.Body, Headers: c.Headers, SNI: c.SNI, Verify: c.Verify, Content: c.Content, MaxAge: c.MaxAge,
	}
}

// changedCheck is the present definition with a change in it, tied to that definition.
func changedCheck(st *fsm.State, name string, b CheckChange) (fsm.Body, error) {
	old, refusal := checkNamed(st, name)
	if refusal != nil {
		return nil, refusal
	}
	spec := specOf(manifest.FromCheck(old, old.HAVIPs))
	set := func(to *string, from *string) {
		if from != nil {
			*to = *from
		}
	}
	for _, f := range []struct{ to, from *string }{
		{&spec.Type, b.Type}, {&spec.Target, b.Target}, {&spec.Interval, b.Interval}, {&spec.Timeout, b.Timeout}, {&spec.Grace, b.Grace}, {&spec.Effect, b.Effect},
		{&spec.WhenAllFail, b.WhenAllFail}, {&spec.Status, b.Status}, {&spec.Body, b.Body}, {&spec.SNI, b.SNI}, {&spec.Content, b.Content}, {&spec.MaxAge, b.MaxAge},
	} {
		set(f.to, f.from)
	}
	for _, f := range []struct{ to, from *[]string }{{&spec.Nodes, b.Nodes}, {&spec.HAVIPs, b.HAVIPs}, {&spec.Headers, b.Headers}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	for _, f := range []struct{ to, from *int }{{&spec.Rise, b.Rise}, {&spec.Fall, b.Fall}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if b.Verify != nil {
		spec.Verify = *b.Verify
	}
	k, refusal := spec.file().State()
	if refusal != nil {
		return nil, refusal
	}
	k.HAVIPs = idsOf(st, k.HAVIPs)
	return fsm.UpdateCheck{Check: k, Expected: old.Revision}, nil
}

// idsOf names HAVIPs by their ids; what is none stays, and is refused by the log.
func idsOf(st *fsm.State, names []string) []string {
	var out []string
	for _, name := range names {
		if v, refusal := st.HAVIPNamed(name); refusal == nil {
			name = v.ID
		}
		out = append(out, name)
	}
	return out
}

func checkNamed(st *fsm.State, name string) (fsm.Check, *fsm.Refusal) {
	k, there := st.Checks[name]
	if !there {
		return k, fsm.Refuse(fsm.CodeNotFound, "no check is called %q; `check list` shows those there are", name)
	}
	return k, nil
}

func showCheck(st *fsm.State, name string) (Check, error) {
	k, refusal := checkNamed(st, name)
	if refusal != nil {
		return Check{}, refusal
	}
	return checkView(st, k, uniqueNames(st)), nil
}

func checkView(st *fsm.State, k fsm.Check, unique map[string]bool) Check {
	var about []string
	for _, id := range k.HAVIPs {
		if v := st.HAVIPs[id]; unique[v.Name] {
			id = v.Name
		}
		about = append(about, id)
	}
	slices.Sort(about)
	sum := st.SumCheck(k)
	return Check{
		CheckSpec: specOf(manifest.FromCheck(k, about)), Revision: k.Revision,
		Passing: sum.Passing, Failing: sum.Failing, Unknown: sum.Unknown, Everywhere: sum.Runs > 0 && sum.Failing == sum.Runs,
	}
}

func (s *Server) checkResults(st *fsm.State, in *resultsQuery) ([]CheckResult, error) {
	if in.Check != "" {
		if _, refusal := checkNamed(st, in.Check); refusal != nil {
			return nil, refusal
		}
	}
	only := ""
	if in.Node != "" {
		n, ok := st.NodeNamed(in.Node)
		if !ok {
			return nil, fsm.Refuse(fsm.CodeNotFound, "no node is called %q; `node list` shows those there are", in.Node)
		}
		only = n.ID
	}
	out, now, own := []CheckResult{}, time.Now(), s.Backend.Local().Checks
	for _, k := range st.CheckList() {
		if in.Check != "" && in.Check != k.Name {
			continue
		}
		for _, n := range st.NodeList() {
			if !k.RunsOn(n) || only != "" && only != n.ID {
				continue
			}
			r := checkResult(st, k, n, now)
			if n.ID == s.Backend.Self() {
				r.ownView(k, own, now)
			}
			out = append(out, r)
		}
	}
	return out, nil
}

func checkResult(st *fsm.State, k fsm.Check, n fsm.Node, now time.Time) CheckResult {
	state, r := st.ResultOf(k, n)
	out := CheckResult{Check: k.Name, Node: n.Name, State: string(state), Output: r.Output, Says: st.DiagnoseCheck(k, n)}
	if r.Since != 0 && r.Revision == k.Revision {
		since := wall(r.Since)
		age := max(0, now.Sub(since).Milliseconds())
		out.Since, out.AgeMS = &since, &age
	}
	if _, open := st.SessionOf(n.ID); !open {
		out.Says = "node " + n.Name + " has no session: this is what it said last"
	}
	return out
}

// ownView adds what this node knows of its own run.
func (r *CheckResult) ownView(k fsm.Check, own []LocalCheck, now time.Time) {
	for _, l := range own {
		if l.Check != k.Name || l.Revision != k.Revision || l.Ran.IsZero() {
			continue
		}
		ran, took := now.Sub(l.Ran).Milliseconds(), l.Took.Milliseconds()
		r.RanMS, r.TookMS = &ran, &took
		if l.Output != "" {
			r.Output = l.Output
		}
	}
}

// ofHAVIP are the results of the checks of one HAVIP that do not pass.
func ofHAVIP(st *fsm.State, havip string, now time.Time) []CheckResult {
	out := []CheckResult{}
	for _, k := range st.CheckList() {
		if len(k.HAVIPs) > 0 && !slices.Contains(k.HAVIPs, havip) {
			continue
		}
		for _, n := range st.NodeList() {
			if state, _ := st.ResultOf(k, n); k.RunsOn(n) && state != fsm.CheckPassing {
				out = append(out, checkResult(st, k, n, now))
			}
		}
	}
	return out
}

// failingOn are the names of the checks that fail on a node.
func failingOn(st *fsm.State, n fsm.Node) []string {
	var out []string
	for _, k := range st.CheckList() {
		if state, _ := st.ResultOf(k, n); state == fsm.CheckFailing && k.RunsOn(n) {
			out = append(out, k.Name)
		}
	}
	return out
}

// checks tells what fails, and first what fails everywhere.
func (h *health) checks(st *fsm.State) {
	for _, k := range st.CheckList() {
		sum := st.SumCheck(k)
		switch {
		case sum.Failing == 0:
		case sum.Failing == sum.Runs && k.Bars() && k.Drop:
			h.many("check", HealthRed, "check %s fails on every node that runs it: its HAVIPs have no owner (when-all-fail is drop); `check results`", k.Name)
		case sum.Failing == sum.Runs && k.Bars():
			h.many("check", HealthRed, "check %s fails on every node that runs it: its HAVIPs stay where they are, and nobody serves well; `check results`", k.Name)
		default:
			h.many("check", HealthYellow, "check %s fails on %d of %d nodes; `check results`", k.Name, sum.Failing, sum.Runs)
		}
	}
	h.rest("check", HealthYellow, "%d more checks fail; `check results`")
}
