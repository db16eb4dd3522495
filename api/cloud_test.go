package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/jepsen/fakecloud"
	"havip-cluster/provider"
	"havip-cluster/provider/observer"
	"havip-cluster/provider/tencent"
)

// testCloud is a node's provider on a fake cloud.
type testCloud struct {
	*observer.Observer
	p    provider.Provider
	eips []string // what FollowEIP was told
	told []string
}

func (c *testCloud) Provider() (provider.Provider, provider.Config) {
	return c.p, provider.Config{Kind: c.p.Kind(), Settle: time.Millisecond}
}
func (c *testCloud) Tell(_ context.Context, havip, text string) {
	c.told = append(c.told, havip+": "+text)
}
func (c *testCloud) FollowEIP(v fsm.HAVIP, was netip.Addr) {
	c.eips = append(c.eips, fmt.Sprintf("%s has %s, had %s", v.Name, v.EIP, was))
}

// inCloud gives node 0, which leads, a provider on a fake cloud with the two nodes as instances.
func inCloud(t *testing.T, w *world) (*testCloud, *fakecloud.Cloud) {
	t.Helper()
	c := fakecloud.Config{SecretKey: "hush-hush-secret", EIPs: []string{"198.51.100.7"}, Subnets: []fakecloud.Subnet{{ID: "subnet-a", CIDR: netip.MustParsePrefix("10.77.0.0/24")}}}
	for i := 1; i <= 2; i++ {
		c.ENIs = append(c.ENIs, fakecloud.ENI{ID: fmt.Sprintf("eni-c%d", i), MAC: fmt.Sprintf("02:00:00:00:00:0%d", i), Subnet: "subnet-a", Instance: fmt.Sprintf("ins-%d", i), Primary: true})
	}
	cloud := fakecloud.New(c)
	server := httptest.NewServer(cloud.Handler("ins-1"))
	t.Cleanup(server.Close)
	t.Setenv("TENCENTCLOUD_SECRET_ID", "AKIDfake")
	t.Setenv("TENCENTCLOUD_SECRET_KEY", "hush-hush-secret")
	p, err := tencent.New(provider.Tencent{Endpoint: server.URL, Metadata: server.URL})
	must(t, err)
	tc := &testCloud{p: p}
	tc.Observer = observer.New(observer.Config{
		Provider: tc.Provider, State: w.nodes[0].State, Leading: func() bool { return true }, Node: w.nodes[0].id.NodeID, Log: slog.New(slog.DiscardHandler),
		Report: func(context.Context, fsm.ReportEvent) error { return nil },
	})
	w.servers[0].Cloud = tc
	return tc, cloud
}

// show asks node i over its socket and decodes what it says.
func show[T any](t *testing.T, w *world, i int, method, path, body string) (v T, text string) {
	t.Helper()
	resp, raw := w.ask(t, i, method, path, body)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, raw)
	}
	must(t, json.Unmarshal(raw, &v))
	return v, string(raw)
}

// Without a provider every verb says so, with the way out.
func TestNoProvider(t *testing.T) {
	w := newWorld(t)
	for _, r := range []string{"GET /v1/provider", "POST /v1/provider/test", "GET /v1/observed", "GET /v1/observed/web", "POST /v1/provider/sync"} {
		method, path, _ := strings.Cut(r, " ")
		for i := range w.nodes {
			resp, text := w.ask(t, i, method, path, `{"direction": "to-cloud"}`)
			if resp.StatusCode != http.StatusConflict || !strings.Contains(string(text), CodeNoProvider) || !strings.Contains(string(text), "kind: tencent") {
				t.Errorf("%s at node %d: %d %s", r, i, resp.StatusCode, text)
			}
		}
	}
}

// The way of a HAVIP into a cloud and out of one: seen, planned, made, and seen again, at any node.
func TestSync(t *testing.T) {
	w := newWorld(t)
	tc, cloud := inCloud(t, w)
	_, err := w.local(0).CreateHAVIP(t.Context(), HAVIPSpec{Name: "web", IP: "10.77.0.100", Range: &RangeSpec{Type: "cvm", Members: []string{"node-1", "node-2"}}})
	must(t, err)
	codes := func() (codes []string) {
		v, _ := show[ProviderView](t, w, 1, http.MethodGet, "/v1/provider", "")
		for _, d := range v.Drift {
			codes = append(codes, string(d.Code))
		}
		return codes
	}
	if got := codes(); !slices.Equal(got, []string{"vip-missing"}) {
		t.Fatalf("before: %v", got)
	}
	const sync = "/v1/provider/sync"
	if plan, _ := show[[]provider.Outcome](t, w, 1, http.MethodPost, sync, `{"direction": "to-cloud", "dry_run": true}`); len(plan) != 1 || plan[0].Result != "planned" || len(cloud.HAVIPs()) != 0 {
		t.Fatalf("a dry run: %+v", plan)
	}
	done, _ := show[[]provider.Outcome](t, w, 1, http.MethodPost, sync, `{"direction": "to-cloud"}`)
	if v := cloud.HAVIPs(); len(done) != 1 || done[0].Result != "done" || len(v) != 1 || !v[0].CheckAssociate || len(v[0].HaVipAssociationSet) != 2 {
		t.Fatalf("%+v, %+v", done, v)
	}
	if got := codes(); len(got) != 0 {
		t.Errorf("after it: %v", got)
	}
	if len(tc.told) != 1 || !strings.Contains(tc.told[0], "web: sync to the cloud by ") || !strings.HasSuffix(tc.told[0], ": done") {
		t.Errorf("the journal is told %q", tc.told)
	}
	if taken, why := cloud.Announce("02:00:00:00:00:02", netip.MustParseAddr("10.77.0.100")); !taken {
		t.Fatal(why)
	}
	_, err = tc.Refresh(t.Context())
	must(t, err)
	o, _ := show[ObservedHAVIP](t, w, 1, http.MethodGet, "/v1/observed/web", "")
	if o.Seen == nil || o.Seen.ENI != "eni-c2" || o.Seen.Node == nil || *o.Seen.Node != "node-2" || o.Desired.Range.Type != "cvm" {
		t.Errorf("%+v", o)
	}
	resp, text := w.ask(t, 1, http.MethodPost, sync, `{"direction": "from-cloud", "prune": true}`)
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("prune from the cloud: %d %s", resp.StatusCode, text)
	}
}

// What only the cloud has comes into the log, with its range and its EIP.
func TestSyncFromCloud(t *testing.T) {
	w := newWorld(t)
	_, cloud := inCloud(t, w)
	client := w.servers[0].Cloud.(*testCloud).p.(*tencent.Client)
	made, err := client.Create(t.Context(), provider.Spec{
		Name: "api", Address: netip.MustParseAddr("10.77.0.101"), VPC: "vpc-fake0001", Subnet: "subnet-a", Enforced: true, Range: []provider.Member{{Type: "CVM", ID: "ins-2"}},
	}, "t")
	must(t, err)
	must(t, client.BindEIP(t.Context(), made.ID, netip.MustParseAddr("198.51.100.7"), "t"))
	done, text := show[[]provider.Outcome](t, w, 1, http.MethodPost, "/v1/provider/sync", `{"direction": "from-cloud"}`)
	for _, o := range done {
		if o.Result != "done" {
			t.Errorf("%s", text)
		}
	}
	v, err := w.local(0).HAVIP(t.Context(), "api")
	must(t, err)
	if len(done) != 2 || v.IP != "10.77.0.101" || v.EIP == nil || *v.EIP != "198.51.100.7" || !slices.Equal(v.Range.Members, []string{"node-2"}) || !v.Range.Limit {
		t.Errorf("%+v; %s", v, text)
	}
	if n := len(cloud.HAVIPs()); n != 1 {
		t.Errorf("%d HAVIPs in the cloud", n)
	}
}

// EIPs go to the cloud after the log has them, and only if it took them.
func TestEIPIsFollowed(t *testing.T) {
	w := newWorld(t)
	tc, _ := inCloud(t, w)
	_, err := w.local(0).CreateHAVIP(t.Context(), HAVIPSpec{Name: "web", IP: "10.77.0.100"})
	must(t, err)
	_, _ = w.ask(t, 1, http.MethodPost, "/v1/havips/web/eip", `{"eip": "198.51.100.7"}`)
	_, _ = w.ask(t, 1, http.MethodPost, "/v1/havips/web/eip", `{"eip": "198.51.100.8"}`) // refused: it has one
	_, _ = w.ask(t, 1, http.MethodDelete, "/v1/havips/web/eip", "")
	if want := []string{"web has 198.51.100.7, had invalid IP", "web has invalid IP, had 198.51.100.7"}; !slices.Equal(tc.eips, want) {
		t.Errorf("%v, want %v", tc.eips, want)
	}
}

// A cloud that is down colours the status, at the leader and there alone, and nothing else; its credentials are shown
// nowhere.
func TestCloudDown(t *testing.T) {
	w := newWorld(t)
	tc, cloud := inCloud(t, w)
	all := ""
	ask := func(method, path string) string {
		_, text := w.ask(t, 0, method, path, "")
		all += string(text)
		return string(text)
	}
	ask(http.MethodPost, "/v1/provider/test")
	ask(http.MethodGet, "/v1/provider")
	cloud.SetFault(fakecloud.Fault{Signature: true})
	if _, err := tc.Refresh(t.Context()); err == nil {
		t.Fatal("a wrong signature is taken")
	} else {
		all += err.Error()
	}
	if s := ask(http.MethodGet, "/v1/status"); !strings.Contains(s, "the cloud (tencent) has not been seen since") {
		t.Error(s)
	}
	if s := ask(http.MethodPost, "/v1/provider/test"); !strings.Contains(s, CodeCloud) || !strings.Contains(s, "AuthFailure.SignatureFailure") {
		t.Error(s)
	}
	if s := ask(http.MethodGet, "/v1/provider"); !strings.Contains(s, `"failing_since"`) {
		t.Error(s)
	}
	if strings.Contains(all, "hush-hush") {
		t.Errorf("the secret is shown: %s", all)
	}
}

// An ENI may be named by what the cloud calls it.
func TestCloudNames(t *testing.T) {
	w := newWorld(t)
	node := w.nodes[1].id.NodeID
	eni := w.log.state.ENIList()[1]
	eni.Cloud = fsm.CloudENI{ID: "eni-c2", Instance: "ins-2", Subnet: "subnet-a"}
	if res := w.log.apply(t, fsm.ReportENIs{Node: node, ENIs: []fsm.ENI{{Device: eni.Device, MAC: eni.MAC, Primary: true, Up: true, Prefixes: eni.Prefixes, Cloud: eni.Cloud}}}, ""); res.Refusal != nil {
		t.Fatal(res.Refusal)
	}
	e, _ := show[ENI](t, w, 0, http.MethodGet, "/v1/enis/eni-c2", "")
	if e.ID != eni.ID || e.CloudID != "eni-c2" || e.CloudInstance != "ins-2" {
		t.Errorf("%+v", e)
	}
	_, err := w.local(0).CreateHAVIP(t.Context(), HAVIPSpec{Name: "web", IP: "10.77.0.100"})
	must(t, err)
	_, _ = w.ask(t, 0, http.MethodPost, "/v1/havips/web/bans", `{"add": ["eni-c2"]}`)
	if v, err := w.local(0).HAVIP(t.Context(), "web"); err != nil || !slices.Equal(v.Bans, []string{eni.ID}) {
		t.Errorf("%v, %v", v.Bans, err)
	}
}

// An EIP that comes or goes by a file is carried to no cloud by itself: the summary says so, with the command, and that
// command does it.
func TestApplyWithEIP(t *testing.T) {
	w := newWorld(t)
	tc, cloud := inCloud(t, w)
	apply := func(query, eip string) Applied {
		t.Helper()
		v, _ := show[Applied](t, w, 1, http.MethodPost, "/v1/apply"+query, "version: 1\nhavips:\n- {name: web, ip: 10.77.0.100, range: {type: cvm, members: [node-1, node-2]}"+eip+"}")
		return v
	}
	warned := func(a Applied, has ...string) {
		t.Helper()
		text := strings.Join(a.Warnings, "\n")
		for _, part := range has {
			if !strings.Contains(text, part) {
				t.Errorf("the warnings do not say %q: %q", part, text)
			}
		}
		if len(has) == 0 && strings.Contains(text, "EIP") {
			t.Errorf("warned of an EIP that does not change: %q", text)
		}
	}
	warned(apply("", ""))
	_, _ = show[[]provider.Outcome](t, w, 1, http.MethodPost, "/v1/provider/sync", `{"direction": "to-cloud"}`)
	warned(apply("?dry_run=true", ", eip: 198.51.100.7"), "web", "provider sync --to-cloud")
	warned(apply("", ", eip: 198.51.100.7"), "web", "provider sync --to-cloud")
	warned(apply("", ", eip: 198.51.100.7"))
	if v := cloud.HAVIPs(); v[0].AddressIp != "" || len(tc.eips) != 0 {
		t.Errorf("the cloud was changed by a file: %+v, %v", v, tc.eips)
	}
	_, err := tc.Refresh(t.Context())
	must(t, err)
	if d := tc.Drift(); len(d) != 1 || d[0].Code != provider.EIPDiffers || !strings.Contains(d[0].Command, "--to-cloud") {
		t.Errorf("what status says of it: %+v", d)
	}
	_, _ = show[[]provider.Outcome](t, w, 1, http.MethodPost, "/v1/provider/sync", `{"direction": "to-cloud"}`)
	if v := cloud.HAVIPs(); v[0].AddressIp != "198.51.100.7" {
		t.Errorf("after the sync: %+v", v)
	}
	warned(apply("", ""), "web", "--prune")
}
