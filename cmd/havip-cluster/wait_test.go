package main

import (
	"strings"
	"testing"
	"time"

	"havip-cluster/api"
)

// TestWait: `wait` returns when it is so, and says what is missing when the time is over.
func TestWait(t *testing.T) {
	place := func(state, node string) []api.Placement {
		p := api.Placement{ID: "havip-1", Name: "web", State: state, Reason: "no ENI is eligible"}
		if node != "" {
			p.Node, p.ENI = &node, ptr(node+"/eth0")
		}
		return []api.Placement{p}
	}
	node := func(n api.Node) api.Node { n.Name = "node-1"; return n }
	gone := api.Problem{Status: 503, Code: "NoLeader", Detail: "no leader is known"}
	missing := api.Problem{Status: 404, Code: "ResourceNotFound", Detail: "there is no such thing"}
	yellow := api.Status{Health: api.HealthYellow, Problems: []string{"2 voters"}}
	const placement, nodes, status = "GET /v1/placement", "GET /v1/nodes/node-1", "GET /v1/status"
	for _, row := range []struct {
		name    string
		path    string
		answers []any
		args    string
		code    int
		say     string
	}{
		{"served at once", placement, []any{place("AVAILABLE", "node-1")}, "havip web --owned", 0, "HAVIP web is served"},
		{"served later", placement, []any{place("UNBIND", ""), place("PENDING", "node-1"), place("AVAILABLE", "node-1")}, "havip web --owned", 0, "HAVIP web is served"},
		{"owned, and not served", placement, []any{place("PENDING", "node-1")}, "havip web --owned", 1, "node-1/eth0 owns it and has not said yet that it serves"},
		{"no owner", placement, []any{place("UNBIND", "")}, "havip web --owned", 1, "it has no owner: no ENI is eligible"},
		{"on the node", placement, []any{place("AVAILABLE", "node-2"), place("AVAILABLE", "node-1")}, "havip web --on node-1", 0, "served on node-1"},
		{"on the ENI", placement, []any{place("AVAILABLE", "node-1")}, "havip web --on node-1/eth0", 0, "served on node-1/eth0"},
		{"elsewhere", placement, []any{place("AVAILABLE", "node-2")}, "havip web --on node-1", 1, "node-2/eth0 owns it"},
		{"without an owner", placement, []any{place("AVAILABLE", "node-2"), place("UNBIND", "")}, "havip web --unowned", 0, "without an owner"},
		{"no such HAVIP", placement, []any{missing}, "havip web --owned", 4, "there is no such thing"},
		{"the leader comes back", placement, []any{gone, gone, place("AVAILABLE", "node-1")}, "havip web --owned", 0, "served"},
		{"the leader does not", placement, []any{gone}, "havip web --owned", 1, "no leader is known"},
		{"alive", nodes, []any{node(api.Node{Status: "lost"}), node(api.Node{Status: "alive"}), node(api.Node{Status: "alive", Session: 7})}, "node node-1 --alive", 0, "node node-1 is alive"},
		{"a witness has no session", nodes, []any{node(api.Node{Status: "alive", Role: "witness"})}, "node node-1 --alive", 0, "alive"},
		{"lost", nodes, []any{node(api.Node{Status: "lost"})}, "node node-1 --alive", 1, "it is lost"},
		{"drained", nodes, []any{node(api.Node{Draining: true, HAVIPs: 2}), node(api.Node{Draining: true})}, "node node-1 --drained", 0, "drained"},
		{"in standby", nodes, []any{node(api.Node{Standby: true})}, "node node-1 --drained", 0, "drained"},
		{"still owns", nodes, []any{node(api.Node{Draining: true, HAVIPs: 2})}, "node node-1 --drained", 1, "it still owns 2 HAVIPs"},
		{"nobody drains it", nodes, []any{node(api.Node{})}, "node node-1 --drained", 1, "havip-cluster node drain node-1"},
		{"healthy", status, []any{yellow, api.Status{Health: api.HealthGreen}}, "cluster --healthy", 0, "the cluster is healthy"},
		{"not healthy", status, []any{yellow}, "cluster --healthy", 1, "its health is yellow: 2 voters"},
		{"nothing asked", placement, nil, "havip web", 2, "needs one of --owned, --on, --unowned"},
		{"two things asked", placement, nil, "havip web --owned --unowned", 2, "needs one of"},
		{"asked not to", placement, nil, "havip web --owned=false", 2, "waits for nothing"},
		{"no place", placement, nil, "havip web --on=", 2, "waits for nothing"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var code int
			var out, errs string
			for _, timeout := range []string{"600ms", "6s", "6s"} { // on a busy host the shortest may be over before an answer is there
				agent := &scripted{answers: map[string][]any{row.path: row.answers}}
				args := append([]string{"wait", "--timeout", timeout}, strings.Fields(row.args)...)
				if code, out, errs = agent.run(t, args...); code == row.code && strings.Contains(out+errs, row.say) {
					return
				}
			}
			t.Errorf("exit code %d, want %d; it says %q, want %q", code, row.code, out+errs, row.say)
		})
	}
}

// TestStatusExitCode: for scripts and monitors that look at nothing else.
func TestStatusExitCode(t *testing.T) {
	for health, want := range map[string]int{api.HealthGreen: 0, api.HealthYellow: 5, api.HealthRed: 6} {
		agent := &scripted{answers: map[string][]any{"GET /v1/status": {api.Status{Health: health}}}}
		if code, out, errs := agent.run(t, "status", "--exit-code"); code != want || errs != "" || !strings.Contains(out, strings.ToUpper(health)) {
			t.Errorf("%s: exit code %d, want %d: %s%s", health, code, want, out, errs)
		}
		if code, _, _ := agent.run(t, "status"); code != 0 {
			t.Errorf("%s without the flag: exit code %d", health, code)
		}
	}
}

// TestEventFilters: by kind, node and time, together.
func TestEventFilters(t *testing.T) {
	events := []api.Event{
		{Index: 1, At: day(1), Kind: "placed", HAVIP: "web", Node: "n1", Text: "first"},
		{Index: 2, At: day(2), Kind: "placed", HAVIP: "web", Node: "n2", Text: "second"},
		{Index: 3, At: day(3), Kind: "fault", HAVIP: "web", Node: "n2", Text: "third"},
	}
	for args, want := range map[string]string{
		"":                             "first second third",
		"--kind placed":                "first second",
		"--kind placed,fault":          "first second third",
		"--node n2":                    "second third",
		"--node n2 --kind placed":      "second",
		"--since 2026-01-02T00:00:00Z": "second third",
		"--since 1h":                   "",
		"--kind nothing":               "",
	} {
		agent := &scripted{answers: map[string][]any{"GET /v1/events": {events}}}
		code, out, _ := agent.run(t, append([]string{"events"}, strings.Fields(args)...)...)
		var got []string
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			got = append(got, f[len(f)-1])
		}
		if code != 0 || strings.Join(got, " ") != want {
			t.Errorf("events %s: exit code %d, %q, want %q", args, code, got, want)
		}
	}
	agent := &scripted{}
	if code, _, errs := agent.run(t, "events", "--since", "yesterday"); code != 2 || !strings.Contains(errs, "yesterday") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// TestNamesAndHeaders: what scripts read.
func TestNamesAndHeaders(t *testing.T) {
	one, two := api.Placement{Name: "web"}, api.Placement{Name: "db\x1b[31m"}
	agent := &scripted{answers: map[string][]any{"GET /v1/placement": {[]api.Placement{one, two}}}}
	if code, out, _ := agent.run(t, "placement", "-o", "name"); code != 0 || out != "web\ndb [31m\n" {
		t.Errorf("%d: %q", code, out)
	}
	if code, out, _ := agent.run(t, "placement", "--no-headers"); code != 0 || strings.Contains(out, "NAME") || !strings.HasPrefix(out, "web") {
		t.Errorf("%d: %q", code, out)
	}
	if code, _, errs := agent.run(t, "status", "-o", "name"); code != 2 || !strings.Contains(errs, "is for lists") {
		t.Errorf("%d: %s", code, errs)
	}
	agent = &scripted{answers: map[string][]any{"GET /v1/nodes": {[]api.Node{{Name: "n1"}}}}}
	if code, out, _ := agent.run(t, "node", "ls", "-o", "name"); code != 0 || out != "n1\n" {
		t.Errorf("%d: %q", code, out)
	}
	if code, out, _ := agent.run(t, "--version"); code != 0 || strings.TrimSpace(out) != programVersion() {
		t.Errorf("%d: %q", code, out)
	}
}

func day(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
