package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"havip-cluster/fsm"
)

// ask sends a bare request over the socket of node i.
func (w *world) ask(t testing.TB, i int, method, path, body string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, "http://local"+path, strings.NewReader(body))
	must(t, err)
	for j := 0; j+1 < len(header); j += 2 {
		req.Header.Set(header[j], header[j+1])
	}
	return roundTrip(t, w.curl(i), req)
}

func roundTrip(t testing.TB, c *http.Client, req *http.Request) (*http.Response, []byte) {
	t.Helper()
	resp, err := c.Do(req)
	must(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, answer
}

const webBody = `{"name":"web","ip":"10.77.0.100"}`

// TestEndpoints goes through every operation: what it answers and with which fields.
func TestEndpoints(t *testing.T) {
	w := newWorld(t)
	rows := []struct {
		method, path, body string
		status             int
		fields             string // of the answer, or of its first element
	}{
		{"GET", "/healthz", "", 200, "status"},
		{"GET", "/readyz", "", 200, "index leader status"},
		{"POST", "/v1/havips", webBody, 201, havipFields},
		{"GET", "/v1/havips", "", 200, havipFields},
		{"GET", "/v1/havips/web", "", 200, havipFields},
		{"GET", "/v1/placement", "", 200, placementFields},
		{"GET", "/v1/placement?havip=web&consistency=stale", "", 200, placementFields},
		{"GET", "/v1/havips/web/explain", "", 200, "at candidates cause change epoch from havip index moves name past reason runner_up to"},
		{"PATCH", "/v1/havips/web", `{"priority":5,"prefer":{"node-1":10}}`, 200, havipFields},
		{"POST", "/v1/havips/web/move", `{"to":"node-2"}`, 200, havipFields},
		{"POST", "/v1/havips/web/range", `{"type":"cvm","add":["node-1","node-2"]}`, 200, havipFields},
		{"POST", "/v1/havips/web/bans", `{"add":["node-1"]}`, 200, havipFields},
		{"POST", "/v1/havips/web/disable", "", 200, havipFields},
		{"POST", "/v1/havips/web/enable", "", 200, havipFields},
		{"GET", "/v1/events", "", 200, "at index kind text"},
		{"GET", "/v1/events?havip=web", "", 200, "at havip index kind text"},
		{"GET", "/v1/failovers", "", 200, ""},
		{"GET", "/v1/nodes", "", 200, nodeFields},
		{"GET", "/v1/nodes/node-2", "", 200, nodeFields},
		{"PATCH", "/v1/nodes/node-2", `{"standby":true}`, 200, nodeFields},
		{"PATCH", "/v1/nodes/node-2", `{"standby":false,"maintenance":true}`, 200, nodeFields},
		{"GET", "/v1/subnets", "", 200, subnetFields},
		{"POST", "/v1/subnets", `{"name":"s2","cidr":"10.78.0.0/24","gateway":"10.78.0.1","reserved":["10.78.0.9"]}`, 201, subnetFields},
		{"GET", "/v1/subnets/s2", "", 200, subnetFields},
		{"DELETE", "/v1/subnets/s2", "", 200, "index object"},
		{"GET", "/v1/enis", "", 200, eniFields},
		{"GET", "/v1/enis/node-1%2Feth0", "", 200, eniFields},
		{"PATCH", "/v1/enis/node-1%2Feth0", `{"primary":false}`, 200, eniFields},
		{"GET", "/v1/cluster", "", 200, clusterFields},
		{"PATCH", "/v1/cluster", `{"lease_ms":400}`, 200, clusterFields},
		{"GET", "/v1/status", "", 200, clusterFields + " health local members notes owned pending unowned problems unreached"},
		{"POST", "/v1/tokens", `{"node":"node-3"}`, 201, "command expires node role token"},
		{"POST", "/v1/nodes/node-2/activate", "", 200, nodeFields},
		{"PATCH", "/v1/nodes/node-2", `{"maintenance":false,"capacity":5,"score":-3}`, 200, nodeFields},
		{"PATCH", "/v1/nodes/node-2", `{"no_capacity":true}`, 200, nodeFields},
		{"PATCH", "/v1/nodes/node-2", `{"health":"yellow","health_reason":"x"}`, 200, nodeFields + " health_reason"},
		{"PATCH", "/v1/nodes/node-2", `{"health":"green"}`, 200, nodeFields},
		{"POST", "/v1/nodes/node-2/drain", `{"deadline_seconds":60}`, 200, drainFields},
		{"GET", "/v1/nodes/node-2/drain", "", 200, drainFields},
		{"POST", "/v1/nodes/node-2/activate", "", 200, nodeFields},
		{"POST", "/v1/havips/web/bans", `{"add":["node-2"],"for_seconds":60}`, 200, havipFields},
		{"POST", "/v1/havips/web/bans", `{"remove":["node-2"]}`, 200, havipFields},
		{"POST", "/v1/havips/web/eip", `{"eip":"203.0.113.7"}`, 200, havipFields},
		{"DELETE", "/v1/havips/web/eip", "", 200, havipFields},
		{"PATCH", "/v1/havips/web", `{"stickiness":100,"weight":2,"fail_limit":0,"managed":true,"maintenance":false,"require":["node-1","node-2"],"forbid":[],"failback":"02:00-04:00"}`, 200, havipFields},
		{"POST", "/v1/havips/web/range", `{"remove":["node-2"],"evict":true}`, 200, havipFields},
		{"DELETE", "/v1/failures?havip=web&node=node-2", "", 200, "index object"},
		{"DELETE", "/v1/failures", "", 200, "index object"},
		{"PATCH", "/v1/cluster", `{"per_eni":5,"rebalance":"even","provider":"lan","range_members":12,"quarantine_ms":0}`, 200, clusterFields},
		{"POST", "/v1/havips", `{"name":"db","ip":"10.77.0.101","range":{"type":"eni","members":[]},"enabled":false,"stickiness":7,"eip":"203.0.113.8"}`, 201, havipFields},
		{"POST", "/v1/groups", `{"name":"g","kind":"apart","hard":false,"havips":["web","db"]}`, 201, groupFields},
		{"GET", "/v1/groups", "", 200, groupFields},
		{"GET", "/v1/groups/g", "", 200, groupFields},
		{"GET", "/v1/export?format=json", "", 200, exportFields},
		{"POST", "/v1/plan", `{"down":["node-1"],"n_minus_one":true}`, 200, "index moves n_minus_one no_majority owners unplaced"},
		{"POST", "/v1/plan", `{"changes":"version: 1\nhavips: [{name: web, ip: 10.77.0.100, enabled: false}]"}`, 200, "index moves owners unplaced"},
		{"POST", "/v1/apply?dry_run=true", "version: 1\nrebalance: never", 200, appliedFields},
		{"POST", "/v1/apply", "version: 1\nrebalance: never", 200, appliedFields},
		{"GET", "/v1/revisions", "", 200, "at index number present note"},
		{"DELETE", "/v1/groups/g", "", 200, "index object"},
		{"DELETE", "/v1/havips/db/eip", "", 200, havipFields},
		{"DELETE", "/v1/havips/web?release=true", "", 200, "index object"},
		{"GET", "/v1/havips/web/explain?epoch=1", "", 200, "at candidates cause epoch havip index moves name past reason runner_up to"},
	}
	for _, row := range rows {
		resp, answer := w.ask(t, 0, row.method, row.path, row.body)
		if resp.StatusCode != row.status {
			t.Fatalf("%s %s: %d %s", row.method, row.path, resp.StatusCode, answer)
		}
		if strings.HasPrefix(row.path, "/v1/") && resp.Header.Get(headerIndex) == "" {
			t.Errorf("%s %s: no %s", row.method, row.path, headerIndex)
		}
		if diff := cmp.Diff(sortedWords(row.fields), fieldsOf(t, answer)); diff != "" {
			t.Errorf("%s %s: fields (-want +got)\n%s", row.method, row.path, diff)
		}
		w.log.place(t)
	}
	if resp, _ := w.ask(t, 0, "GET", "/metrics", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("metrics: %d", resp.StatusCode)
	}
}

const (
	drainFields     = "node draining running result started deadline ended total left"
	groupFields     = "name kind hard havips kept"
	exportFields    = "version revision maintenance nodes enis subnets havips groups checks webhooks limits rebalance"
	appliedFields   = "dry_run changed revision index changes warnings"
	placementFields = "id name ip subnet state eni node session epoch since index reason"
	havipFields     = placementFields + " vpc range eip failback priority prefer bans enabled waits draining created " +
		"ban_ends require forbid stickiness weight fail_limit fails gave_up managed maintenance groups warnings"
	nodeFields    = "name id role address status leader session lease_remaining_ms standby maintenance version havips api_port raft_port gossip_port suffrage joined draining score capacity carries health"
	subnetFields  = "name vpc cidr gateway reserved auto havips"
	eniFields     = "id node device mac subnet addresses gateway primary up detached set_subnet set_primary havips"
	clusterFields = "ca_holders ca_held_by id profile lease_ms lease_max_ms leader nodes voters havips index maintenance limits rebalance provider level revision"
)

// TestProblems checks status, code and the naming of value and field.
func TestProblems(t *testing.T) {
	w := newWorld(t)
	w.ask(t, 0, "POST", "/v1/havips", webBody)
	rows := []struct {
		method, path, body string
		status             int
		code, says         string
	}{
		{"GET", "/v1/havips/nope", "", 404, "ResourceNotFound", `"nope"`},
		{"GET", "/v1/placement?havip=nope", "", 404, "ResourceNotFound", `"nope"`},
		{"GET", "/v1/nodes/nope", "", 404, "ResourceNotFound", `"nope"`},
		{"DELETE", "/v1/nodes/nope", "", 404, "ResourceNotFound", `"nope"`},
		{"DELETE", "/v1/nodes/node-2", "", 409, "ResourceInUse", "session"},
		{"POST", "/v1/havips", `{"name":"x"}`, 400, "MissingParameter", "--ip"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.300"}`, 400, "InvalidParameterValue.Malformed", "10.77.0.300"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.99.0.1"}`, 400, "InvalidParameterValue.Range", "10.99.0.1"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.0"}`, 400, "InvalidParameterValue.Reserved", "10.77.0.0"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.100"}`, 409, "ResourceInUse", "web"},
		{"POST", "/v1/havips", `{"name":"` + strings.Repeat("x", 61) + `","ip":"10.77.0.9"}`, 400, "InvalidParameterValue.TooLong", "61"},
		{"POST", "/v1/havips", `{"name":5,"ip":"10.77.0.9"}`, 400, "InvalidParameterValue", "body.name (5)"},
		{"POST", "/v1/havips", `{"ip":"10.77.0.9"}`, 400, "InvalidParameterValue", "name"},
		{"POST", "/v1/havips", `{"name":"x","colour":"red"}`, 400, "InvalidParameterValue", "colour"},
		{"POST", "/v1/havips", `{"name":`, 400, "InvalidParameterValue.Malformed", "body"},
		{"POST", "/v1/havips", ``, 400, "InvalidParameterValue.Malformed", "body"},
		{"POST", "/v1/havips", `{"name":"x","ip":"10.77.0.9","range":{"type":"cvm","members":["nope"]}}`, 404, "ResourceNotFound", "nope"},
		{"POST", "/v1/havips/web/move", `{"to":"nope"}`, 404, "ResourceNotFound", "nope"},
		{"POST", "/v1/havips/web/bans", `{"add":["nope"]}`, 404, "ResourceNotFound", "nope"},
		{"PATCH", "/v1/cluster", `{"lease_ms":9}`, 400, "InvalidParameterValue.Range", "9ms"},
		{"PATCH", "/v1/cluster", `{}`, 400, "MissingParameter", "lease_ms"},
		{"POST", "/v1/tokens", `{"node":"node-2"}`, 409, "ResourceInUse", "node-2"},
		{"POST", "/v1/tokens", `{"node":"Bad Name"}`, 400, "InvalidParameterValue", "Bad Name"},
		{"POST", "/v1/tokens", `{"node":"n3","ttl_seconds":5}`, 400, "InvalidParameterValue", "ttl_seconds"},
		{"POST", "/v1/subnets", `{"name":"s","cidr":"10.0.0.1/24"}`, 400, "InvalidParameterValue.Malformed", "10.0.0.1/24"},
		{"POST", "/v1/subnets", `{"name":"s","cidr":"ten"}`, 400, "InvalidParameterValue.Malformed", "ten"},
		{"GET", "/v1/havips?consistency=maybe", "", 400, "InvalidParameterValue", "maybe"},
		{"GET", "/v1/havips?colour=red", "", 400, "InvalidParameterValue", "colour"},
		{"GET", "/v1/nothing", "", 404, "InvalidAction", "/v1/nothing"},
		{"PUT", "/v1/havips", "", 405, "InvalidAction", "GET, POST"},
		{"POST", "/v1/internal/commands", `{"kind":"x","body":{}}`, 403, "UnauthorizedOperation", "own certificate"},
		{"GET", "/v1/events?follow=true&since=x", "", 400, "InvalidParameterValue.Malformed", `"x"`},
		{"POST", "/v1/havips", `"` + strings.Repeat("x", bodyMax) + `"`, 413, "LimitExceeded", "1048576"},
		{"POST", "/v1/join", `"` + strings.Repeat("x", joinBodyMax) + `"`, 413, "LimitExceeded", "16384"},
	}
	for _, row := range rows {
		resp, answer := w.ask(t, 0, row.method, row.path, row.body)
		var p Problem
		if err := json.Unmarshal(answer, &p); err != nil {
			t.Errorf("%s %s: %v: %s", row.method, row.path, err, answer)
			continue
		}
		if resp.StatusCode != row.status || p.Status != row.status || p.Code != row.code || !strings.Contains(p.Detail, row.says) ||
			resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s %.80s: %d %s\n want %d %s with %q", row.method, row.path, row.body, resp.StatusCode, answer, row.status, row.code, row.says)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	w := newWorld(t)
	_, first := w.ask(t, 0, "POST", "/v1/havips", webBody, headerKey, "k1")
	resp, second := w.ask(t, 1, "POST", "/v1/havips", webBody, headerKey, "k1")
	if resp.StatusCode != http.StatusCreated || len(w.log.now().HAVIPs) != 1 {
		t.Fatalf("the repeat: %d, %d HAVIPs\n%s\n%s", resp.StatusCode, len(w.log.now().HAVIPs), first, second)
	}
	resp, answer := w.ask(t, 0, "POST", "/v1/havips", `{"name":"other","ip":"10.77.0.101"}`, headerKey, "k1")
	if resp.StatusCode != http.StatusConflict || !bytes.Contains(answer, []byte("IdempotentParameterMismatch")) {
		t.Fatalf("another request under the same key: %d %s", resp.StatusCode, answer)
	}
	id := w.log.now().HAVIPList()[0].ID
	for range 2 {
		if resp, answer := w.ask(t, 0, "DELETE", "/v1/havips/"+id, "", headerKey, "k2"); resp.StatusCode != http.StatusOK {
			t.Fatalf("delete: %d %s", resp.StatusCode, answer)
		}
	}
	if resp, answer := w.ask(t, 0, "GET", "/v1/havips", "", headerKey, strings.Repeat("k", 129)); resp.StatusCode != http.StatusOK {
		t.Fatalf("a read has no use for a key: %d %s", resp.StatusCode, answer)
	}
	if resp, answer := w.ask(t, 0, "POST", "/v1/havips/web/enable", "", headerKey, strings.Repeat("k", 129)); resp.StatusCode != http.StatusBadRequest {
		t.Fatalf("a key of 129 bytes: %d %s", resp.StatusCode, answer)
	}
}

// A repeat by a name that the first attempt has renamed or deleted gets the first answer. A follower that hands a
// request on repeats it so when a leader's answer is lost: it was then told that the key was another request's.
func TestRepeatByAName(t *testing.T) {
	w := newWorld(t)
	w.ask(t, 0, "POST", "/v1/havips", webBody)
	for _, row := range []struct{ method, path, body, key string }{
		{"PATCH", "/v1/havips/web", `{"name":"shop"}`, "rename"},
		{"DELETE", "/v1/havips/shop", "", "delete"},
	} {
		for _, which := range []string{"first", "second"} {
			if resp, answer := w.ask(t, 0, row.method, row.path, row.body, headerKey, row.key); resp.StatusCode/100 != 2 && !bytes.Contains(answer, []byte("has been deleted since")) {
				t.Errorf("%s, the %s time: %d %s", row.key, which, resp.StatusCode, answer)
			}
		}
	}
	if resp, answer := w.ask(t, 0, "DELETE", "/v1/havips/shop?release=true", "", headerKey, "delete"); !bytes.Contains(answer, []byte("IdempotentParameterMismatch")) {
		t.Errorf("another request under the key: %d %s", resp.StatusCode, answer)
	}
	if resp, answer := w.ask(t, 0, "DELETE", "/v1/havips/shop", "", headerKey, "new"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("one that is no repeat: %d %s", resp.StatusCode, answer)
	}
}

func TestConsistency(t *testing.T) {
	w := newWorld(t)
	w.nodes[1].freeze(w.log.now())
	w.ask(t, 0, "POST", "/v1/havips", webBody)
	if _, answer := w.ask(t, 1, "GET", "/v1/havips?consistency=stale", ""); strings.TrimSpace(string(answer)) != "[]" {
		t.Errorf("stale: %s", answer)
	}
	if _, answer := w.ask(t, 1, "GET", "/v1/havips", ""); !bytes.Contains(answer, []byte(`"web"`)) {
		t.Errorf("linearizable: %s", answer)
	}
	w.log.lead("")
	if resp, _ := w.ask(t, 1, "GET", "/v1/status?consistency=stale", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("stale without a leader: %d", resp.StatusCode)
	}
	began := time.Now()
	resp, answer := w.ask(t, 1, "GET", "/v1/havips", "")
	if resp.StatusCode != http.StatusServiceUnavailable || !bytes.Contains(answer, []byte(CodeNoLeader)) || time.Since(began) < leaderWait {
		t.Errorf("linearizable without a leader: %d %s after %s", resp.StatusCode, answer, time.Since(began))
	}
}

func TestForward(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	v, err := w.local(1).CreateHAVIP(ctx, HAVIPSpec{Name: "web", IP: "10.77.0.100"})
	must(t, err)
	if v.Name != "web" || len(w.log.now().HAVIPs) != 1 {
		t.Fatalf("%+v", v)
	}
	// A request that was forwarded once is not forwarded again.
	resp, answer := w.ask(t, 1, "POST", "/v1/havips", webBody, headerHops, "1")
	if resp.StatusCode != http.StatusServiceUnavailable || !bytes.Contains(answer, []byte(CodeNotLeader)) {
		t.Errorf("second hop: %d %s", resp.StatusCode, answer)
	}
	// Without a leader a change waits for one.
	w.log.lead("")
	time.AfterFunc(300*time.Millisecond, func() { w.log.lead(w.nodes[0].id.NodeID) })
	if resp, answer := w.ask(t, 1, "PATCH", "/v1/havips/web", `{"priority":3}`); resp.StatusCode != http.StatusOK {
		t.Errorf("with a late leader: %d %s", resp.StatusCode, answer)
	}
	// And after a change of leader it is done here.
	w.log.lead(w.nodes[1].id.NodeID)
	if resp, answer := w.ask(t, 1, "DELETE", "/v1/havips/web", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("at the new leader: %d %s", resp.StatusCode, answer)
	}
	// Refusals pass through unchanged.
	resp, answer = w.ask(t, 0, "DELETE", "/v1/havips/web", "")
	if resp.StatusCode != http.StatusNotFound || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("refusal through a follower: %d %s", resp.StatusCode, answer)
	}
}

// An address that a station outside the cluster has is refused with its MAC, unless it is forced.
func TestAddressInUse(t *testing.T) {
	w := newWorld(t)
	ctx, ip := context.Background(), netip.MustParseAddr("10.77.0.100")
	w.nodes[0].taken = map[netip.Addr]string{ip: "10.77.0.100 is in use by a station outside the cluster, MAC 02:00:00:00:00:09"}
	resp, answer := w.ask(t, 1, "POST", "/v1/havips", webBody, headerKey, "k1")
	if resp.StatusCode == http.StatusOK || !bytes.Contains(answer, []byte("02:00:00:00:00:09")) || !bytes.Contains(answer, []byte("--force")) {
		t.Fatalf("%d %s", resp.StatusCode, answer)
	}
	if len(w.log.now().HAVIPs) > 0 {
		t.Fatal("it is there all the same")
	}
	v, err := w.local(1).CreateHAVIP(ctx, HAVIPSpec{Name: "web", IP: ip.String(), Force: true})
	must(t, err)
	if !w.log.now().HAVIPs[v.ID].Free {
		t.Error("a forced address is still asked for")
	}
	if _, err = w.local(1).UpdateHAVIP(ctx, "web", HAVIPChange{Force: true}); err != nil {
		t.Error(err)
	}
}

// TestBansAtOnce: of two changes of one list at the same time, none is lost.
func TestBansAtOnce(t *testing.T) {
	w := newWorld(t)
	w.ask(t, 0, "POST", "/v1/havips", webBody)
	var group sync.WaitGroup
	for i, who := range []string{"node-1", "node-2", "node-1/eth0", "node-2/eth0"} {
		group.Go(func() {
			if _, err := w.local(i%2).ChangeBans(context.Background(), "web", BanChange{Add: []string{who}}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := w.log.now().HAVIPList()[0].Bans; len(got) != 4 {
		t.Errorf("bans %v", got)
	}
	// What is so already is no error, and no entry in the log.
	index := w.log.now().Index
	v, err := w.local(0).ChangeBans(context.Background(), "web", BanChange{Add: []string{"node-1"}})
	if err != nil || len(v.Bans) != 4 || w.log.now().Index != index {
		t.Errorf("the same ban again: %v %v, index %d after %d", v.Bans, err, w.log.now().Index, index)
	}
}

// TestLostAnswer: the connection breaks after the change was done. The client repeats it
// with the same key, and it is done once.
func TestLostAnswer(t *testing.T) {
	w := newWorld(t)
	c := w.local(0)
	c.http.Transport = &forgetful{next: c.http.Transport}
	ctx := context.Background()
	v, err := c.CreateHAVIP(ctx, HAVIPSpec{Name: "web", IP: "10.77.0.100"})
	if err != nil || len(w.log.now().HAVIPs) != 1 {
		t.Fatalf("%+v %v", v, err)
	}
	if _, err := c.UpdateHAVIP(ctx, "web", HAVIPChange{Name: &v.IP}); err != nil {
		t.Errorf("rename: %v", err)
	}
	if _, err := c.DeleteHAVIP(ctx, v.IP, false); err != nil || len(w.log.now().HAVIPs) != 0 {
		t.Errorf("delete: %v", err)
	}
}

// forgetful loses the first answer to every change.
type forgetful struct {
	next http.RoundTripper
	seen map[string]bool
}

func (f *forgetful) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := f.next.RoundTrip(r)
	key := r.Header.Get(headerKey)
	if err != nil || key == "" || f.seen[key] {
		return resp, err
	}
	f.seen = map[string]bool{key: true}
	return nil, errors.Join(io.ErrUnexpectedEOF, resp.Body.Close())
}

func TestNoLeaderForChange(t *testing.T) {
	w := newWorld(t)
	w.log.lead("")
	c := w.local(0)
	c.Timeout = 6 * time.Second
	_, err := c.CreateHAVIP(context.Background(), HAVIPSpec{Name: "web", IP: "10.77.0.100"})
	if ExitCode(err) != ExitUnreachable {
		t.Fatalf("%v", err)
	}
}

func wantProblem(t *testing.T, err error, status int, code string) {
	t.Helper()
	p, ok := errors.AsType[*Problem](err)
	if !ok || p.Status != status || p.Code != code {
		t.Errorf("got %#v, want %d %s", err, status, code)
	}
}

func TestOpenAPI(t *testing.T) {
	w := newWorld(t)
	_, answer := w.ask(t, 0, "GET", "/openapi.json", "")
	var doc struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	must(t, json.Unmarshal(answer, &doc))
	if doc.OpenAPI == "" || doc.Paths["/v1/havips/{id}"]["patch"] == nil || doc.Paths["/v1/join"]["post"] == nil {
		t.Errorf("openapi %s with %d paths", doc.OpenAPI, len(doc.Paths))
	}
	if doc.Paths["/v1/internal/commands"] != nil {
		t.Error("the internal endpoints are in the document")
	}
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	id := newIdentity(t, "node-1", 7400, nil)
	New(Config{Backend: &fakeNode{t: t, log: &fakeLog{state: fsm.New()}, id: id}, Identity: id, Registry: r})
	families, err := r.Gather()
	must(t, err)
	if len(families) == 0 {
		t.Error("nothing is registered")
	}
}
