package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"havip-cluster/api"
	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// cluster answers the routes of checks as the log would: with Apply, on one state.
type cluster struct {
	t     *testing.T
	state *fsm.State
}

func (c *cluster) apply(body fsm.Body) {
	c.t.Helper()
	cmd, err := fsm.NewCommand(1, "", "", body)
	if err != nil {
		c.t.Fatal(err)
	}
	next, res, err := fsm.Apply(c.state, c.state.Index+1, cmd)
	if err != nil || res.Refusal != nil {
		c.t.Fatalf("%T: %v, %v", body, err, res.Refusal)
	}
	c.state = next
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := filepath.Base(r.URL.Path)
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			c.t.Error(err)
		}
	}
	view := func(k fsm.Check) api.Check {
		m := manifest.FromCheck(k, k.HAVIPs)
		return api.Check{CheckSpec: api.CheckSpec{Name: m.Name, Type: m.Type, Target: m.Target, Effect: string(m.Effect), Interval: m.Interval, WhenAllFail: m.WhenAllFail}}
	}
	switch {
	case r.Method == http.MethodPost:
		var spec api.CheckSpec
		if err := json.NewDecoder(r.Body).Decode(&spec); err != nil {
			c.t.Error(err)
		}
		m := manifest.NewCheck(spec.Name)
		m.Type, m.Target, m.Timeout, m.HAVIPs, m.WhenAllFail, m.Status, m.SNI, m.Content, m.MaxAge = spec.Type, spec.Target, spec.Timeout, spec.HAVIPs, spec.WhenAllFail, spec.Status, spec.SNI, spec.Content, spec.MaxAge
		if spec.Interval != "" {
			m.Interval = spec.Interval
		}
		if spec.Effect != "" {
			m.Effect = manifest.Effect(spec.Effect)
		}
		k, refusal := m.State()
		if refusal != nil {
			c.t.Errorf("%s: %s", spec.Name, refusal.Message)
		}
		c.apply(fsm.CreateCheck{Check: k})
		answer(view(c.state.Checks[spec.Name]))
	case r.Method == http.MethodPatch:
		var change api.CheckChange
		if err := json.NewDecoder(r.Body).Decode(&change); err != nil || change == (api.CheckChange{}) {
			c.t.Errorf("%s changes nothing: %v", name, err)
		}
		answer(view(c.state.Checks[name]))
	case r.Method == http.MethodDelete:
		c.apply(fsm.DeleteCheck{Name: name})
		answer(api.Done{Object: name})
	case name == "checks":
		out := []api.Check{}
		for _, k := range c.state.CheckList() {
			out = append(out, view(k))
		}
		answer(out)
	case name == "check-results":
		age := int64(3000)
		answer([]api.CheckResult{{Check: "web-up", Node: "node-1", State: "failing", Output: "refused", AgeMS: &age, Says: "the service is down everywhere"}})
	case name == "explain":
		answer(api.Explanation{Checks: []api.CheckResult{{Check: "web-up", Node: "node-1", State: "failing", Says: "the service is down everywhere"}}})
	default:
		answer(view(c.state.Checks[name]))
	}
}

// TestChecksGuide types what docs/checks.md shows.
func TestChecksGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/checks.md")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, state: fsm.New()}
	c.apply(fsm.InitCluster{ID: "c-1", Profile: "lan", Lease: 500_000_000, Node: fsm.Node{
		ID: "n-1", Name: "node-1", Address: "10.77.0.11", Role: fsm.RoleVoter, APIPort: 7400, RaftPort: 7401, GossipPort: 7402, Version: fsm.VersionWithLevel("test"),
	}})
	c.apply(fsm.ReportENIs{Node: "n-1", ENIs: []fsm.ENI{{Device: "eth0", MAC: "02:00:00:00:00:01", Up: true, Primary: true, Prefixes: prefixes("10.77.0.11/24")}}})
	c.apply(fsm.CreateHAVIP{Name: "web", IP: address("10.77.0.100")})
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: c} //nolint:gosec // of this test
	go func() { _ = server.Serve(l) }()
	defer func() { _ = server.Shutdown(context.Background()) }()
	typed := 0
	for line := range strings.Lines(string(text)) {
		command, is := strings.CutPrefix(strings.TrimSpace(line), "havip-cluster ")
		if !is || !strings.HasPrefix(line, "    ") {
			continue
		}
		var stdout, stderr bytes.Buffer
		if code := run(append([]string{"--address", "unix:" + socket}, strings.Fields(command)...), &stdout, &stderr); code != 0 {
			t.Errorf("%s: exit code %d\n%s", command, code, stderr.String())
		}
		if strings.HasPrefix(command, "explain") && !strings.Contains(stdout.String(), "Check web-up is failing on node node-1: the service is down everywhere.") {
			t.Errorf("%s: %s", command, stdout.String())
		}
		if strings.HasPrefix(command, "check results") && !strings.Contains(stdout.String(), "3s") {
			t.Errorf("%s shows no age: %s", command, stdout.String())
		}
		typed++
	}
	if typed < 15 {
		t.Errorf("only %d commands were typed", typed)
	}
	if k := c.state.Checks["chk-haproxy"]; k.Score != -20 || k.Type != fsm.CheckExec {
		t.Errorf("%+v", k)
	}
	for _, words := range [][]string{{"check", "create", "x"}, {"check", "create", "x", "--type", "tcp"}, {"check", "update", "x"}} {
		if code := run(append([]string{"--address", "unix:" + socket}, words...), &bytes.Buffer{}, &bytes.Buffer{}); code != 2 {
			t.Errorf("%v: exit code %d", words, code)
		}
	}
}

func address(text string) netip.Addr { return netip.MustParseAddr(text) }

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}
