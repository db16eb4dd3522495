package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"havip-cluster/api"
	"havip-cluster/fsm/placement"
	"havip-cluster/manifest"
	"havip-cluster/membership/identity"
)

var update = flag.Bool("update", false, "write the golden files anew; commit the difference only if it is understood")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"havip-cluster": main})
}

// TestScript runs testdata/script: what a person types, and what comes back.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("TOKEN_N3", token(t, "n3", time.Hour))
			e.Setenv("TOKEN_N4_OLD", token(t, "n4", -time.Hour))
			// A script is UTF-8, so it cannot hold a file that is not.
			return os.WriteFile(filepath.Join(e.WorkDir, "latin1.yaml"), []byte("version: 1\nhavips:\n  - {name: caf\xe9, ip: 10.77.0.9}\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": exitCode},
	})
}

// exitCode is `code N command...`: the command must end with exit code N.
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func token(t *testing.T, node string, ttl time.Duration) string {
	t.Helper()
	tok, err := identity.NewToken(identity.NewClusterID(), strings.Repeat("ab", 32), node, identity.RoleVoter, time.Now().Add(ttl))
	if err != nil {
		t.Fatal(err)
	}
	return tok.Text()
}

var at = time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.UTC)

func ptr[T any](v T) *T { return &v }

// answers is what the agent in these tests says, whatever it is asked to do.
func answers() map[string]any {
	owned := api.Placement{
		ID: "havip-1a2b3c4d", Name: "web", IP: "10.77.0.100", Subnet: "s1", State: api.StateAvailable, ENI: ptr("node-1/eth0"), Node: ptr("node-1"),
		Session: 12, Epoch: 3, Since: at, Index: 40, Reason: "node-1/eth0 is the only one eligible",
	}
	free := api.Placement{ID: "havip-5e6f7a8b", Name: "evil\x1b[2J\nname", IP: "10.77.0.101", Subnet: "s1", State: api.StateUnbind, Since: at, Index: 40, Reason: "new"}
	web := api.HAVIP{
		Placement: owned, VPC: "vpc-default", Range: api.Range{Type: "cvm", Members: []string{"node-1", "node-2"}, Limit: true}, View: api.View{Failback: "never", Prefer: map[string]int{"node-1": 100, "node-2": -5}, Enabled: true, Require: []string{"node-1", "node-2"}, Forbid: []string{"node-2/eth1"}, Stickiness: 100, Weight: 2, FailLimit: 3, Managed: true}, Bans: []string{"node-3"}, Draining: []string{}, Created: at,
		BanEnds: map[string]time.Time{"node-3": at.Add(time.Hour)}, Fails: map[string]int{"node-2": 1}, EIP: ptr("203.0.113.7"),
		GaveUp: map[string]api.GaveUp{"node-2/eth0": {Until: at.Add(time.Minute), Reason: "the address did not come up"}}, Groups: []string{"fronts"}, Warnings: []string{},
	}
	off := api.HAVIP{Placement: free, VPC: "vpc-default", Range: api.Range{Members: []string{}}, View: api.View{Failback: "5m", Prefer: map[string]int{}, Require: []string{}, Forbid: []string{}, Stickiness: 1, Weight: 1, Maintenance: true}, Bans: []string{}, Draining: []string{}, Created: at,
		BanEnds: map[string]time.Time{}, Fails: map[string]int{},
		GaveUp: map[string]api.GaveUp{}, Groups: []string{}, Warnings: []string{"it is not managed"}}
	nodes := []api.Node{
		{Name: "node-1", ID: "n-1", Role: "voter", Address: "10.0.0.1", Status: "alive", Leader: true, Session: 12, LeaseRemainingMS: 432, Version: "v1.0.0", HAVIPs: 1, Health: "green", Score: -5, Capacity: ptr(10), Carries: 2, APIPort: 7400, RaftPort: 7401, GossipPort: 7402, Suffrage: "voter", Joined: at},
		{Name: "node-2", ID: "n-2", Role: "witness", Address: "10.0.0.2", Status: "lost", Standby: true, Maintenance: true, Draining: true, Flapping: true, Flaps: 3, Health: "yellow", HealthReason: "gateway silent", APIPort: 7400, RaftPort: 7401, GossipPort: 7402, Joined: at},
	}
	cluster := api.Cluster{ID: "c-0123456789abcdef", Profile: "lan", LeaseMS: 500, LeaseMaxMS: 3000, Leader: ptr("node-1"), Nodes: 2, Voters: 2, HAVIPs: 2, Index: 40,
		Limits: api.Limits{PerENI: 5}, Rebalance: "even", Level: 2, Revision: 17, CAHolders: 3, CAHeldBy: []string{"node-1"},
		Provider: api.Provider{Name: "tencent", HAVIPsPerVPC: 10, HAVIPsPerENI: 5, RangeMembers: 10, AnnounceIntervalMS: 5000, QuarantineMS: 60000}}
	subnet := api.Subnet{Name: "s1", VPC: "vpc-default", CIDR: "10.77.0.0/24", Gateway: ptr("10.77.0.1"), Reserved: []string{"10.77.0.9"}, HAVIPs: 2}
	eni := api.ENI{ID: "node-1/eth0", Node: "node-1", Device: "eth0", MAC: "02:00:00:00:00:01", Subnet: ptr("s1"), Addresses: []string{"10.77.0.11/24"}, Primary: true, Up: true, SetPrimary: ptr(true), HAVIPs: []string{"web"}}
	group := api.Group{Name: "fronts", Kind: "apart", Hard: true, HAVIPs: []string{"db", "web"}, Kept: true}
	applied := api.Applied{Changed: true, Revision: 17, Index: 41, Warnings: []string{}, Changes: []manifest.Change{
		{Kind: "havip", Name: "web", Op: "change", Field: "priority", Old: "0", New: "7"}, {Kind: "havip", Name: "new", Op: "add", New: "{ip: 10.77.0.120}"},
	}}
	return map[string]any{
		"/v1/placement": []api.Placement{owned, free}, "/v1/havips": []api.HAVIP{web, off}, "/v1/havips/web": web, "/v1/havips/web/move": web, "/v1/havips/web/bans": web, "/v1/havips/" + web.ID: web, "/v1/failures": api.Done{Index: 9},
		"/v1/havips/web/explain": api.Explanation{Index: 40, Decision: placement.Decision{
			HAVIP: owned.ID, Name: "web", To: "node-1/eth0", Reason: owned.Reason, Candidates: []placement.Candidate{
				{ENI: "node-1/eth0", Node: "node-1", Eligible: true, Present: true, Score: 100},
				{ENI: "node-2/eth0", Node: "node-2", Rule: "standby", Why: "node node-2 is in standby; `node activate node-2`", OnNode: 1, Needs: "eligible again after `node activate node-2`"},
			}, Change: "node-2/eth0 is eligible again after `node activate node-2`",
		}},
		"/v1/nodes": nodes, "/v1/nodes/node-1": nodes[0], "/v1/cluster": cluster, "/v1/subnets": []api.Subnet{subnet}, "/v1/subnets/s1": subnet,
		"/v1/enis": []api.ENI{eni}, "/v1/enis/node-1/eth0": eni,
		"/v1/status": api.Status{
			Cluster: cluster, Health: api.HealthRed, Problems: []string{"node node-2 is lost", "HAVIP db has no owner: new"}, Owned: 1, Members: nodes,
			Local: api.LocalView{Node: "node-1", Version: "v1.0.0", Fence: "ebpf", Session: 12, LeaseRemainingMS: 432, Observed: []api.Observation{}, LogBytes: 65536},
		},
		"/v1/events":    []api.Event{{Index: 7, At: at, Kind: "placed", HAVIP: "web", Text: "HAVIP web goes to node-1/eth0"}},
		"/v1/failovers": []api.Failover{{HAVIP: "web", Epoch: 3, From: "node-2/eth0", To: "node-1/eth0", At: at, TotalUS: 451200, Steps: []api.FailoverStep{{What: "last renewal", AfterUS: 0}, {What: "announced", AfterUS: 451200}}}},
		"/v1/groups":    []api.Group{group}, "/v1/groups/fronts": group, "/v1/havips/db/explain": api.Explanation{
			Index: 33, At: at, Epoch: 2, Past: true, LeftOut: 2, Decision: placement.Decision{
				HAVIP: free.ID, Name: "db", From: "node-1/eth0", To: "node-2/eth0", Cause: placement.Forced, Reason: "node node-2 owns fewer HAVIPs", RunnerUp: "node-3/eth0",
				Candidates: []placement.Candidate{
					{ENI: "node-1/eth0", Rule: "standby", OnNode: 3}, {ENI: "node-2/eth0", Eligible: true}, {ENI: "node-3/eth0", Eligible: true, Score: -5, OnNode: 1},
				},
			}},
		"/v1/plan": api.Plan{Index: 40, Result: placement.Result{
			Moves:    []placement.Move{{HAVIP: "web", From: ptr("node-1/eth0"), To: ptr("node-2/eth0"), Reason: "node-2/eth0 is the only one eligible"}},
			Unplaced: []placement.Unplaced{{HAVIP: "db", Reason: "no ENI is eligible"}}, Owners: map[string]*string{"web": ptr("node-2/eth0"), "db": nil},
		}, NMinusOne: []placement.Loss{{Node: "node-2", Owns: 1, Unplaced: []placement.Unplaced{{HAVIP: "web", Reason: "nobody is left"}}}}},
		"/v1/revisions":             []api.Revision{{Number: 16, Index: 30, At: at, Note: "as it was before revision 17"}, {Number: 17, Index: 31, At: at, By: "node-1", Note: "web.yaml", Present: true}},
		"/v1/revisions/16/rollback": applied, "/v1/apply": applied,
		"/v1/access-tokens": []api.AccessToken{
			{Name: "ci", Role: "operator", Group: "fronts", Expires: ptr(at.Add(time.Hour)), Created: at, By: "root@node-1"},
			{Name: "old", Role: "viewer", Expires: ptr(at), Created: at, By: "token:ci", Expired: true}, {Name: "scrape", Role: "viewer", Created: at},
		},
		"/v1/audit": []api.AuditEntry{
			{At: at, Principal: "token:ci", Role: "operator", Source: "10.0.0.9 via node-2", Request: "move-havip", Object: "web", Key: "k", Outcome: "done", Index: 41},
			{At: at, Principal: "nobody", Source: "10.0.0.9", Request: "apply", Outcome: "refused", Code: "AuthFailure", Detail: "the peer presented no certificate", Times: 3},
		},
		"/v1/tokens": api.Token{Node: "node-3", Role: "voter", Token: "havip1.T", Expires: at, Command: "havip-cluster join --node node-3 --advertise IP --token-file - 10.0.0.1:7400"},
	}
}

// agentWith serves fixed answers on the socket of a data directory.
func agentWith(t *testing.T, answers map[string]any) (dir string) {
	t.Helper()
	dir = t.TempDir()
	l, err := api.ListenLocal(identity.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, ok := answers[r.URL.Path]
		if !ok {
			v = api.Problem{Status: 404, Code: "ResourceNotFound", Detail: "no HAVIP is called \"nope\""}
		}
		if stale, ok := answers["stale"]; ok && r.URL.Query().Get("consistency") == "stale" {
			v = stale
		}
		if p, ok := v.(api.Problem); ok {
			w.WriteHeader(p.Status)
		}
		_ = json.NewEncoder(w).Encode(v)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return dir
}

// TestGolden compares what the verbs print with testdata/golden.
func TestGolden(t *testing.T) {
	dir := agentWith(t, answers())
	for _, name := range []string{
		"placement", "placement -o json", "placement -o yaml", "havip list", "havip show web", "havip show web -o json", "havip move web --to node-2",
		"explain web", "node list", "node list -o json", "node show node-1", "node add node-3", "node add node-3 -o json", "subnet list", "subnet show s1",
		"eni list", "eni show node-1/eth0", "status", "events", "failovers web", "failovers -o json", "cluster show", "cluster show -o json",
		"placement -o wide", "havip list -o wide", "node list -o wide", "eni list -o wide", "havip list -o name", "havip ls --no-headers",
		"node list -o jsonpath={.[?(@.status==\"lost\")].name}", "havip show web -o jsonpath={.node}:{.range.members[*]}", "group list", "group show fronts", "explain web -o json", "explain db --epoch 2", "plan --down node-1 --n-1", "plan --down node-1 -o json", "revisions", "revisions -o json",
		"apply -f testdata/web.yaml --dry-run", "apply -f testdata/web.yaml", "apply -f testdata/web.yaml -o json", "rollback 16",
		"havip ban web node-2 --for 1h", "havip rename web www", "token list", "token list -o json", "audit --since 100000h", "audit -o json", "havip clear-failures --all node-1",
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(append(strings.Fields(name), "--data-dir", dir), &stdout, &stderr); code != 0 {
				t.Fatalf("exit code %d: %s", code, &stderr)
			}
			file := filepath.Join("testdata", "golden", strings.NewReplacer(" ", "_", "/", "_", "testdata_", "", "{", "", "}", "", "\"", "", "?", "", "*", "", ":", "_", "(", "", ")", "", "[", "", "]", "", "@", "").Replace(name)+".txt")
			if *update {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, stdout.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if stdout.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", &stdout, want)
			}
		})
	}
}

// TestEmpty: an empty list leaves stdout empty and hints at what to do; as JSON it is [].
func TestEmpty(t *testing.T) {
	dir := agentWith(t, map[string]any{"/v1/havips": []int{}, "/v1/placement": []int{}, "/v1/subnets": []int{}, "/v1/enis": []int{}, "/v1/events": []int{}, "/v1/failovers": []int{}, "/v1/access-tokens": []int{}})
	for _, name := range []string{"token list", "havip list", "placement", "subnet list", "eni list", "events", "failovers"} {
		var stdout, stderr bytes.Buffer
		run(append(strings.Fields(name), "--data-dir", dir), &stdout, &stderr)
		if stdout.Len() > 0 || !strings.HasPrefix(stderr.String(), "No ") {
			t.Errorf("%s: %q %q", name, &stdout, &stderr)
		}
		stdout.Reset()
		run(append(strings.Fields(name), "--data-dir", dir, "-o", "json"), &stdout, &stderr)
		if stdout.String() != "[]\n" {
			t.Errorf("%s -o json: %q", name, &stdout)
		}
	}
}

// TestExitCodes: what a refusal becomes.
func TestExitCodes(t *testing.T) {
	dir := agentWith(t, map[string]any{
		"/v1/subnets": api.Problem{Status: 409, Code: "ResourceInUse", Detail: "10.0.0.0/24 overlaps subnet s1"},
		"/v1/cluster": api.Problem{Status: 503, Code: "NoLeader", Detail: "no leader is known"},
		"/v1/status":  api.Problem{Status: 503, Code: "NoLeader", Detail: "no leader is known"},
	})
	for _, row := range []struct {
		line, says string
		code       int
	}{
		{"havip show nope", `Error: no HAVIP is called "nope" [ResourceNotFound]`, 4},
		{"subnet create s --cidr 10.0.0.0/24", "Error: 10.0.0.0/24 overlaps subnet s1 [ResourceInUse]", 1},
		{"cluster show --timeout 300ms", "no leader is known [NoLeader]", 3},
		{"status --timeout 300ms", "no leader is known [NoLeader]", 3},
		{"havip move", "needs HAVIP", 2},
	} {
		var code int
		var stdout, stderr bytes.Buffer
		for _, timeout := range []string{"300ms", "3s", "6s"} { // on a busy host the shortest may be over before an answer is there
			stdout.Reset()
			stderr.Reset()
			code = run(append(strings.Fields(strings.Replace(row.line, "300ms", timeout, 1)), "--data-dir", dir), &stdout, &stderr)
			if code == row.code && strings.Contains(stderr.String(), row.says) {
				break
			}
		}
		if code != row.code || !strings.Contains(stderr.String(), row.says) || stdout.Len() > 0 {
			t.Errorf("%s: %d %q %q", row.line, code, &stdout, &stderr)
		}
	}
}

// TestStatusWithoutLeader: what the node knows is printed all the same.
func TestStatusWithoutLeader(t *testing.T) {
	known, ok := answers()["/v1/status"].(api.Status)
	if !ok {
		t.Fatalf("%T", answers()["/v1/status"])
	}
	heard := int64(61_400)
	known.Leader, known.Local.HeardMS = nil, &heard
	dir := agentWith(t, map[string]any{
		"stale":      known,
		"/v1/status": api.Problem{Status: 503, Code: "NoLeader", Detail: "no leader is known"},
	})
	var code int
	var stdout, stderr bytes.Buffer
	for _, timeout := range []string{"300ms", "3s", "3s"} { // on a busy host the shortest may be over before an answer is there
		stdout.Reset()
		stderr.Reset()
		if code = run([]string{"status", "--data-dir", dir, "--timeout", timeout}, &stdout, &stderr); stdout.Len() > 0 {
			break
		}
	}
	if code != 3 || !strings.Contains(stdout.String(), "1 had an owner when this node last heard a leader, 1m1s ago; who serves now it cannot know") || !strings.Contains(stdout.String(), "node-2") || !strings.Contains(stderr.String(), "no leader answers") {
		t.Errorf("%d %q %q", code, &stdout, &stderr)
	}
}
