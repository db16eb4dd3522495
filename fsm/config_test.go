package fsm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// configured is an upgraded trio with three HAVIPs, a group and wishes for a node.
func configured(t testing.TB) *world {
	w := trio(t)
	w.upgrade()
	webAndAPI(w)
	rangeOf(w)
	w.place("web", "n1/eth0")
	group("fronts", Apart, "web", "api")(w)
	w.must(BindEIP{w.get("web").ID, addr("198.51.100.1")})
	w.must(UpdateNode{ID: "n-n2", Capacity: ptr(5), Score: ptr(2)})
	return w
}

func (w *world) apply(cfg Config, prune bool) string {
	w.t.Helper()
	return w.must(ApplyConfig{Config: cfg, Prune: prune, Note: "test"}).Object
}

// without drops a HAVIP from a configuration.
func (c Config) without(name string) Config {
	c.HAVIPs = slices.DeleteFunc(slices.Clone(c.HAVIPs), func(h HAVIPSpec) bool { return h.Name == name })
	return c
}

func (c Config) spec(name string) *HAVIPSpec {
	i := slices.IndexFunc(c.HAVIPs, func(h HAVIPSpec) bool { return h.Name == name })
	return &c.HAVIPs[i]
}

// What is exported and applied again changes nothing and makes no revision.
func TestConfigIsIdempotent(t *testing.T) {
	w := configured(t)
	before := snapshot(t, atIndex(w.state, 0))
	cfg := w.state.DesiredConfig()
	raw, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var again Config
	if err := decodeJSON(raw, &again); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Config{cfg, again, {}} {
		number := w.apply(c, true)
		if string(snapshot(t, atIndex(w.state, 0))) != string(before) || number != fmt.Sprint(w.state.Cluster.Revision) {
			t.Fatalf("it changed the state, or has the number %s", number)
		}
	}
	if len(w.state.Revisions) != 0 {
		t.Errorf("%d revisions", len(w.state.Revisions))
	}
}

func TestConfigChangesAndDeletes(t *testing.T) {
	w := configured(t)
	cfg := w.state.DesiredConfig().without("api")
	cfg.Groups = []Group{{Name: "pair", Kind: Together, HAVIPs: []string{"web", "new"}}}
	web := cfg.spec("web")
	web.Name, web.Priority, web.Range, web.EIP = "www", 9, inRange(RangeCVM, "n2"), addr("198.51.100.2")
	cfg.Groups[0].HAVIPs[0] = "www"
	cfg.HAVIPs = append(cfg.HAVIPs, HAVIPSpec{Name: "new", Subnet: "net", EIP: addr("198.51.100.1"), Spec: Spec{Weight: ptr(0)}})
	cfg.Nodes[1].Capacity = nil
	cfg.Subnets = append(cfg.Subnets, subnet("more", "10.7.0.0/24"))
	events := len(w.state.Events)
	w.apply(cfg, true)
	v := w.get("www")
	if v.Priority != 9 || v.Owner != nil || len(v.Draining) != 1 || v.EIP != addr("198.51.100.2") {
		t.Errorf("the owner left the range and has to release: %+v", v)
	}
	if n := w.get("new"); n.EIP != addr("198.51.100.1") || n.Takes() != 0 {
		t.Errorf("%+v", n)
	}
	if _, refusal := w.state.HAVIPNamed("api"); refusal == nil || len(w.state.Quarantine) != 1 {
		t.Error("api is still there, or its address is not in quarantine")
	}
	if len(w.state.Groups) != 1 || len(w.state.Groups["pair"].HAVIPs) != 2 || w.node("n2").Capacity != nil || w.state.Subnets["more"].Name == "" {
		t.Errorf("%v %+v", w.state.Groups, w.node("n2"))
	}
	if n := len(w.state.Events) - events; n != 1 {
		t.Errorf("%d lines in the journal for one change", n)
	}
}

// Without Prune, what the configuration does not name stays.
func TestConfigInPart(t *testing.T) {
	w := configured(t)
	w.apply(Config{HAVIPs: []HAVIPSpec{{Name: "db", IP: addr("10.0.0.102"), Spec: Spec{Priority: 3}}}, Groups: []Group{}}, false)
	if w.get("db").Priority != 3 || len(w.state.HAVIPs) != 3 || len(w.state.Groups) != 1 || *w.node("n2").Capacity != 5 {
		t.Errorf("%+v %v", w.get("db"), w.state.Groups)
	}
	w.apply(Config{Groups: []Group{}}, true)
	if len(w.state.HAVIPs) != 3 || len(w.state.Groups) != 0 {
		t.Error("an empty list says that there are none, a missing one nothing")
	}
}

// Two EIPs change places, and two names, in one configuration.
func TestConfigExchanges(t *testing.T) {
	w := configured(t)
	w.must(BindEIP{w.get("api").ID, addr("198.51.100.9")})
	cfg := w.state.DesiredConfig()
	web, api := cfg.spec("web"), cfg.spec("api")
	web.EIP, api.EIP = api.EIP, web.EIP
	web.Name, api.Name = "api", "web"
	ids := []string{web.ID, api.ID}
	w.apply(cfg, true)
	if w.get("api").ID != ids[0] || w.get("web").ID != ids[1] || w.get("api").EIP != addr("198.51.100.9") || w.get("web").EIP != addr("198.51.100.1") {
		t.Errorf("%+v\n%+v", w.get("web"), w.get("api"))
	}
}

func TestConfigSetsHealth(t *testing.T) {
	w := configured(t)
	cfg := w.state.DesiredConfig()
	cfg.Nodes[0].Health = HealthRed
	w.apply(cfg, true)
	if n := w.state.Nodes["n-n1"]; n.HealthNow() != HealthRed || n.HealthReason != "set by an operator" {
		t.Errorf("%+v", n)
	}
	w.must(ReportHealth{"n-n1", HealthRed, "disk full"})
	w.apply(w.state.DesiredConfig(), true)
	if n := w.state.Nodes["n-n1"]; n.HealthReason != "disk full" {
		t.Errorf("what stays the same keeps its reason, not %q", n.HealthReason)
	}
	cfg.Nodes[0].Health = ""
	w.apply(cfg, true)
	if n := w.state.Nodes["n-n1"]; n.HealthNow() != HealthGreen || n.HealthReason != "" {
		t.Errorf("%+v", n)
	}
}

func TestRollback(t *testing.T) {
	w := configured(t)
	first, _ := json.Marshal(w.state.DesiredConfig())
	before := w.state.Cluster.Revision
	cfg := w.state.DesiredConfig().without("db")
	cfg.spec("web").Priority = 5
	cfg.Limits = &Limits{PerNode: 3}
	w.apply(cfg, true)
	w.must(UpdateHAVIP{ID: w.get("web").ID, Change: Change{Priority: ptr(6)}}) // counts as a revision, and is not kept
	if kept := w.state.Revisions; len(kept) != 2 || kept[0].Number != before || kept[1].Number != before+1 || w.state.Cluster.Revision != before+2 {
		t.Fatalf("%d revisions, the cluster at %d", len(kept), w.state.Cluster.Revision)
	}
	w.must(Rollback{To: before, Expected: ptr(before + 2)})
	again := w.state.DesiredConfig()
	for i := range again.HAVIPs {
		if again.HAVIPs[i].Name == "db" { // made again, with a new id
			again.HAVIPs[i].ID = ""
		}
	}
	var old Config
	if err := json.Unmarshal(first, &old); err != nil {
		t.Fatal(err)
	}
	old.spec("db").ID = ""
	a, _ := json.Marshal(old)
	b, _ := json.Marshal(again)
	if string(a) != string(b) {
		t.Errorf("rolled back to\n%s\nwant\n%s", b, a)
	}
	// And forward again, to what single commands had made of it.
	w.must(Rollback{To: before + 2})
	if _, refusal := w.state.HAVIPNamed("db"); refusal == nil || w.get("web").Priority != 6 || w.state.Cluster.Limits.PerNode != 3 {
		t.Errorf("%+v", w.get("web"))
	}
	// A node that has left takes its wishes along, and a HAVIP that was deleted and made
	// again under its name is the same.
	w.must(CloseSession{Session: w.session("n3")})
	w.must(RemoveNode{"n-n3"})
	w.must(Rollback{To: before})
}

// A rollback meets a HAVIP that still waits for its owner, and says so.
func TestRollbackWaitsForARelease(t *testing.T) {
	w := configured(t)
	w.must(UnbindEIP{w.get("web").ID})
	w.must(DeleteGroup{"fronts"})
	w.apply(w.state.DesiredConfig().without("web"), true)
	w.refuses(Rollback{To: w.state.Revisions[0].Number}, CodeUnsupported, "is being deleted")
	w.releaseAll()
	w.must(Rollback{To: w.state.Revisions[0].Number})
	if w.get("web").IP != addr("10.0.0.100") {
		t.Errorf("%+v", w.get("web"))
	}
}

func TestRevisionsAreBounded(t *testing.T) {
	w := configured(t)
	for i := range 2 * MaxRevisions {
		w.apply(Config{Limits: &Limits{PerNode: i + 1}}, false)
	}
	if n := len(w.state.Revisions); n != MaxRevisions {
		t.Errorf("%d revisions", n)
	}
	s := w.state.clone()
	big := json.RawMessage(`"` + strings.Repeat("x", MaxRevisionBytes/3) + `"`)
	for i := range 5 {
		s.Cluster.Revision++
		s.keepRevision(Revision{Number: s.Cluster.Revision, Config: big, Index: uint64(i)})
	}
	if n := len(s.Revisions); n != 2 || s.Revisions[1].Number != s.Cluster.Revision {
		t.Errorf("%d large revisions", n)
	}
	if len(w.state.Revisions) != MaxRevisions {
		t.Error("the state before has lost some")
	}
}

// The largest configuration is what fits into one entry; it is applied in a time in which
// no leader is deposed, and one more byte is refused before it is proposed.
func TestLargeConfig(t *testing.T) {
	w := trio(t)
	w.upgrade()
	w.must(CreateSubnet{Subnet{Name: "big", VPC: "vpc-2", CIDR: prefix("10.128.0.0/16")}})
	var cfg Config
	for i := range 5000 {
		h := HAVIPSpec{Name: fmt.Sprintf("service-%04d", i), Subnet: "big", VPC: "vpc-2", Spec: Spec{Priority: i}}
		if i > 0 && i%100 == 0 {
			cfg.Groups = append(cfg.Groups, Group{Name: fmt.Sprint("g", i), Kind: Apart, Hard: true, HAVIPs: []string{h.Name, cfg.HAVIPs[i-1].Name}})
		}
		cfg.HAVIPs = append(cfg.HAVIPs, h)
	}
	c := w.command("", ApplyConfig{Config: cfg, Prune: true})
	entry, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // made, then found unchanged
		begin := time.Now()
		next, res, err := Apply(w.state, w.state.Index+1, c)
		if err != nil || res.Refusal != nil || len(next.HAVIPs) != 5000 {
			t.Fatalf("%v %v", err, res.Refusal)
		}
		t.Logf("%d HAVIPs, %d bytes of entry, %d bytes of revision: %s", len(next.HAVIPs), len(entry), len(next.Revisions[len(next.Revisions)-1].Config), time.Since(begin))
		w.state = next
	}
	if err := checkInvariants(w.state); err != nil {
		t.Error(err)
	}
	for i := range 9000 {
		cfg.HAVIPs = append(cfg.HAVIPs, HAVIPSpec{Name: fmt.Sprintf("service-with-a-longer-name-%04d", i), Subnet: "big"})
	}
	large := w.command("", ApplyConfig{Config: cfg})
	if refusal := w.state.Admits(large); refusal == nil || refusal.Code != CodeLevel {
		t.Errorf("an entry of %d bytes at level 2: %v", len(large.Body), refusal)
	}
	large = w.command("", ReportEvent{Text: strings.Repeat("x", MaxCommand)})
	if _, err := large.Encode(); err == nil || !strings.Contains(err.Error(), "at most 8388608 fit into one log entry; split the request") {
		t.Errorf("an entry that is too large: %v", err)
	}
}

// Single commands count revisions, those that a node or the leader gives do not.
func TestRevisionCounts(t *testing.T) {
	w := configured(t)
	for _, tc := range []struct {
		body  Body
		steps uint64
	}{
		{UpdateNode{ID: "n-n1", Standby: ptr(true)}, 1},
		{UpdateNode{ID: "n-n1", Version: ptr("v3+level.2")}, 0},
		{ReportHealth{"n-n1", HealthRed, "x"}, 0},
		{w.moved("api", "n2/eth0"), 0},
		{UpdateHAVIP{ID: w.get("db").ID, Change: Change{Priority: ptr(1)}}, 1},
		{BanHAVIP{w.get("db").ID, "n1", time.Hour}, 1},
		{RecordFailure{w.get("db").ID, "n-n1", "x"}, 0},
		{DeleteGroup{"fronts"}, 1},
		{SetLease{time.Second}, 0},
	} {
		before := w.state.Cluster.Revision
		w.must(tc.body)
		if n := w.state.Cluster.Revision - before; n != tc.steps {
			t.Errorf("%s counts %d, want %d", tc.body.kind(), n, tc.steps)
		}
	}
}

func (w *world) moved(name, eni string) Body { return Place{[]Assignment{w.to(name, eni)}} }
