package console

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"havip-cluster/api"
	"havip-cluster/fsm"
)

// A HAVIP's life by forms alone: what a browser without scripts sends.
func TestFormsOfAHAVIP(t *testing.T) {
	l := newLab(t)
	b := l.login("boss", fsm.RightAdmin)
	a := b.post("/console/havips/new", url.Values{"name": {"web"}, "vpc": {"vpc-default"}, "subnet": {"net-10.77.0.0-24"}, "mode": {"manual"}, "ip": {"10.77.0.1"}, "range_type": {"cvm"}, "cvm": {"node-1", "node-2"}, "limit": {"yes"}})
	if a.status != http.StatusBadRequest || !strings.Contains(a.text, "InvalidParameterValue.Reserved") || !strings.Contains(a.text, `value="10.77.0.1"`) || !strings.Contains(a.text, `value="node-2" checked`) {
		t.Errorf("a reserved address: %d\n%s", a.status, plainText(a.text))
	}
	a = b.post("/console/havips/new", url.Values{"name": {"web"}, "subnet": {"net-10.77.0.0-24"}, "mode": {"manual"}, "range_type": {"cvm"}})
	if a.status != http.StatusBadRequest || !strings.Contains(plainText(a.text), "10.77.0.2 to 10.77.0.254") {
		t.Errorf("no address: %d %s", a.status, plainText(a.text))
	}
	form := url.Values{"key": {"k1"}, "name": {"web"}, "subnet": {"net-10.77.0.0-24"}, "mode": {"auto"}, "ip": {"ignored"}, "range_type": {"eni"}, "eni": {"node-1/eth1", "node-2/eth1"}, "cvm": {"node-1"}, "limit": {"yes"}}
	a = b.post("/console/havips/new", form)
	if a.status != http.StatusSeeOther || !strings.HasPrefix(a.location, "/console/havips/havip-") || !strings.HasSuffix(a.location, "?did=created") {
		t.Fatalf("created: %d %s %s", a.status, a.location, plainText(a.text))
	}
	if again := b.post("/console/havips/new", form); again.location != a.location || len(l.now().HAVIPs) != 1 {
		t.Errorf("the same form sent twice: %s, %d HAVIPs", again.location, len(l.now().HAVIPs))
	}
	id := strings.TrimSuffix(strings.TrimPrefix(a.location, "/console/havips/"), "?did=created")
	v := func() fsm.HAVIP { return l.now().HAVIPs[id] }
	if r := v().Range; r.Type != fsm.RangeENI || len(r.Members) != 2 || !r.Limit {
		t.Errorf("its range is %+v", r)
	}
	l.place()
	if page := b.get(a.location); !strings.Contains(page.text, "It was created.") {
		t.Error("the page does not say that it was created")
	}
	at := "/console/havips/" + id
	for _, step := range []struct {
		path string
		form url.Values
		done func() bool
	}{
		{"/eip", url.Values{"eip": {"203.0.113.9"}}, func() bool { return v().EIP == netip.MustParseAddr("203.0.113.9") }},
		{"/eip/unbind", nil, func() bool { return !v().EIP.IsValid() }},
		{"/move", url.Values{"to": {"node-2/eth1"}}, func() bool { return v().Owner.ENI == "node-2/eth1" }},
		{"/disable", nil, func() bool { return v().Disabled }},
		{"/enable", nil, func() bool { return !v().Disabled }},
		{"/edit", editForm(map[string]string{"priority": "9", "prefer": "node-1=5\nnode-2/eth1=-3", "description": "front"}), func() bool {
			return v().Priority == 9 && v().Prefer["node-1"] == 5 && v().Prefer["node-2/eth1"] == -3 && v().Description == "front" && len(v().Range.Members) == 2
		}},
		{"/failures", nil, func() bool { return true }},
	} {
		if a := b.post(at+step.path, step.form); a.status != http.StatusSeeOther || !step.done() {
			t.Errorf("%s: %d %s, %+v", step.path, a.status, plainText(a.text), v())
		}
	}
	if a := b.post(at+"/delete", nil); a.status != http.StatusBadRequest || len(l.now().HAVIPs) != 1 {
		t.Errorf("deleted without being sure: %d", a.status)
	}
	if a := b.post(at+"/delete", url.Values{"sure": {"yes"}, "release": {"yes"}}); a.location != "/console/havips?did=deleted" {
		t.Errorf("delete: %d %s", a.status, plainText(a.text))
	}
}

// editForm is the form of the HAVIP above with some fields changed.
func editForm(with map[string]string) url.Values {
	f := url.Values{"name": {"web"}, "range_type": {"eni"}, "eni": {"node-1/eth1", "node-2/eth1"}, "limit": {"yes"}, "failback": {"never"}, "priority": {"0"}, "weight": {"1"}, "stickiness": {"1"}, "fail_limit": {"3"}, "managed": {"yes"}}
	for k, v := range with {
		f.Set(k, v)
	}
	return f
}

// Every other form does what it says.
func TestForms(t *testing.T) {
	l := newLab(t)
	for i, name := range []string{"web", "db"} {
		l.havip(fsm.CreateHAVIP{Name: name, IP: netip.AddrFrom4([4]byte{10, 77, 0, byte(100 + i)})})
	}
	b := l.login("boss", fsm.RightAdmin)
	node := func() fsm.Node { n, _ := l.now().NodeNamed("node-2"); return n }
	for _, step := range []struct {
		path string
		form url.Values
		done func() bool
	}{
		{"/groups", url.Values{"name": {"g"}, "kind": {"apart"}, "havips": {"web, db"}, "soft": {"yes"}}, func() bool { return len(l.now().Groups) == 1 }},
		{"/groups/g/delete", nil, func() bool { return len(l.now().Groups) == 0 }},
		{"/subnets", url.Values{"name": {"more"}, "cidr": {"192.0.2.0/24"}, "reserved": {"192.0.2.9 192.0.2.10"}}, func() bool { return len(l.now().Subnets["more"].Reserved) == 2 }},
		{"/subnets/more/delete", nil, func() bool { _, has := l.now().Subnets["more"]; return !has }},
		{"/checks", url.Values{"name": {"c"}, "type": {"tcp"}, "target": {"127.0.0.1:80"}, "rise": {"4"}, "effect": {"-7"}, "havips": {"web"}}, func() bool { return len(l.now().CheckList()) == 1 }},
		{"/checks/c/delete", nil, func() bool { return len(l.now().CheckList()) == 0 }},
		{"/webhooks", url.Values{"name": {"w"}, "url": {"https://hooks.example/x"}, "events": {"placed"}}, func() bool { return len(l.now().WebhookList()) == 1 }},
		{"/webhooks/w/delete", nil, func() bool { return len(l.now().WebhookList()) == 0 }},
		{"/nodes/node-2/standby", nil, func() bool { return node().Standby }},
		{"/nodes/node-2/activate", nil, func() bool { return !node().Standby }},
		{"/nodes/node-2/maintenance", url.Values{"on": {"yes"}}, func() bool { return node().Maintenance }},
		{"/nodes/node-2/maintenance", url.Values{"on": {"no"}}, func() bool { return !node().Maintenance }},
		{"/nodes/node-2/settings", url.Values{"capacity": {"40"}, "score": {"-3"}}, func() bool { return node().Score == -3 && *node().Capacity == 40 }},
		{"/nodes/node-2/settings", url.Values{"capacity": {""}, "score": {"-3"}}, func() bool { return node().Score == -3 && node().Capacity == nil }},
		{"/enis/node-2%2Feth1", url.Values{"subnet": {""}, "primary": {"yes"}}, func() bool {
			return *l.now().ENIs["node-2/eth1"].SetPrimary && l.now().ENIs["node-2/eth1"].SetSubnet == ""
		}},
		{"/nodes/node-2/drain", url.Values{"deadline": {"5m"}}, func() bool { return node().Draining }},
		{"/cluster", url.Values{"form": {"maintenance"}, "on": {"yes"}}, func() bool { return l.now().Cluster.Maintenance }},
		{"/cluster", url.Values{"form": {"maintenance"}, "on": {"no"}}, func() bool { return !l.now().Cluster.Maintenance }},
		{"/cluster", rulesForm(map[string]string{"per_eni": "7", "snapshot_every": "2h", "snapshot_keep": "3"}), func() bool { return l.now().Cluster.Limits.PerENI == 7 && l.now().Cluster.Snapshots.Keep == 3 }},
		{"/cluster", url.Values{"form": {"lease"}, "lease": {"700ms"}, "force": {"yes"}}, func() bool { return l.now().Cluster.Lease.Milliseconds() == 700 }},
		{"/tokens/boss/revoke", nil, func() bool { return len(l.now().CredentialList()) == 0 }},
	} {
		if a := b.post("/console"+step.path, step.form); a.status != http.StatusSeeOther || !strings.Contains(a.location, "did=") || !step.done() {
			t.Errorf("%s %v: %d %s\n%s", step.path, step.form, a.status, a.location, plainText(a.text))
		}
	}
	if a := b.get("/console/"); a.location != "/console/login" {
		t.Errorf("a revoked token still opens pages: %d", a.status)
	}
}

func rulesForm(with map[string]string) url.Values {
	f := url.Values{"form": {"rules"}, "per_eni": {"0"}, "per_node": {"0"}, "ca_holders": {"3"}, "snapshot_keep": {"0"}, "rebalance": {"never"}, "provider": {"lan"}}
	for k, v := range with {
		f.Set(k, v)
	}
	return f
}

// What somebody typed wrong is said with its value, and nothing is done.
func TestFormsThatAreWrong(t *testing.T) {
	l := newLab(t)
	id := l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100")})
	b := l.login("boss", fsm.RightAdmin)
	before := l.now().Cluster.Revision
	for _, step := range []struct {
		path string
		form url.Values
		says string
	}{
		{"/cluster", url.Values{"form": {"lease"}, "lease": {"soon"}}, `the lease "soon"`},
		{"/cluster", rulesForm(map[string]string{"per_eni": "many"}), `per_eni "many"`},
		{"/cluster", rulesForm(map[string]string{"certificate_life": "long"}), `certificate_life "long"`},
		{"/nodes/node-1/drain", url.Values{"deadline": {"never"}}, `deadline "never"`},
		{"/nodes/node-1/settings", url.Values{"capacity": {"much"}, "score": {"0"}}, `capacity "much"`},
		{"/nodes/node-1/settings", url.Values{"capacity": {""}, "score": {"0"}}, "Nothing is otherwise"},
		{"/nodes/node-1/remove", url.Values{"sure": {"node-2"}}, "so that it is this one"},
		{"/enis/node-1%2Feth1", url.Values{"subnet": {""}, "primary": {"perhaps"}}, `not "perhaps"`},
		{"/enis/node-1%2Feth1", url.Values{"subnet": {""}, "primary": {"no"}}, "Nothing is otherwise"},
		{"/checks", url.Values{"name": {"c"}, "rise": {"x"}}, `rise "x"`},
		{"/tokens", url.Values{"name": {"t"}, "role": {"viewer"}, "ttl": {"1s"}}, `the life "1s"`},
		{"/keys/rotate", url.Values{"what": {"ca"}}, "Say that you are sure"},
		{"/havips/" + id + "/edit", editForm(map[string]string{"prefer": "node-1"}), `"node-1" is not a preference`},
		{"/havips/" + id + "/edit", editForm(map[string]string{"weight": "heavy"}), `weight "heavy"`},
		{"/groups", url.Values{"name": {"g"}, "kind": {"apart"}, "havips": {"web"}}, "InvalidParameterValue"},
		{"/subnets", url.Values{"name": {"s"}, "cidr": {"10.0.0.999/8"}}, "10.0.0.999/8"},
	} {
		a := b.post("/console"+step.path, step.form)
		if a.status < 400 || a.status > 499 || !strings.Contains(strings.ReplaceAll(a.text, "&#34;", `"`), step.says) {
			t.Errorf("%s %v: %d\n%s", step.path, step.form, a.status, plainText(a.text))
		}
	}
	if got := l.now().Cluster.Revision; got != before {
		t.Errorf("revision %d became %d", before, got)
	}
	if a := b.post("/console/groups", url.Values{"name": {strings.Repeat("x", formMax)}}); a.status != http.StatusBadRequest {
		t.Errorf("a form that is too long: %d", a.status)
	}
}

// A page offers, and the API does, what the role of its user is enough for.
func TestRights(t *testing.T) {
	l := newLab(t)
	id := l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100")})
	at := "/havips/" + id
	for _, row := range []struct {
		right fsm.Right
		path  string
		form  url.Values
		may   bool
	}{
		{fsm.RightViewer, at + "/disable", nil, false}, {fsm.RightOperator, at + "/disable", nil, true}, {fsm.RightOperator, at + "/enable", nil, true},
		{fsm.RightViewer, at + "/move", url.Values{"to": {"node-2"}}, false}, {fsm.RightOperator, at + "/move", url.Values{"to": {"node-2"}}, true},
		{fsm.RightOperator, at + "/delete", url.Values{"sure": {"yes"}, "release": {"yes"}}, false},
		{fsm.RightOperator, at + "/eip", url.Values{"eip": {"203.0.113.9"}}, false},
		{fsm.RightOperator, "/havips/new", url.Values{"name": {"x"}, "mode": {"auto"}}, false},
		{fsm.RightViewer, "/nodes/node-1/standby", nil, false}, {fsm.RightOperator, "/nodes/node-1/standby", nil, true}, {fsm.RightOperator, "/nodes/node-1/activate", nil, true},
		{fsm.RightOperator, "/tokens", url.Values{"name": {"mine"}, "role": {"admin"}}, false},
		{fsm.RightOperator, "/cluster", url.Values{"form": {"lease"}, "lease": {"900ms"}}, false},
		{fsm.RightOperator, "/keys/rotate", url.Values{"what": {"gossip"}, "sure": {"yes"}}, false},
		{fsm.RightViewer, "/groups", url.Values{"name": {"g"}, "kind": {"apart"}, "havips": {"web db"}}, false},
	} {
		b := l.login(fmt.Sprintf("%s-%d", row.right, l.now().Index), row.right)
		a := b.post("/console"+row.path, row.form)
		if row.may != (a.status == http.StatusSeeOther) || !row.may && (a.status != http.StatusForbidden || !strings.Contains(a.text, string(fsm.CodeDenied))) {
			t.Errorf("%s: POST %s: %d %s", row.right, row.path, a.status, plainText(a.text))
		}
	}
	for right, offers := range map[fsm.Right]map[string]bool{
		fsm.RightViewer:   {"/disable": false, "/delete": false, "/edit": false},
		fsm.RightOperator: {"/disable": true, "/delete": false, "/edit": false},
		fsm.RightAdmin:    {"/disable": true, "/delete": true, "/edit": true},
	} {
		b := l.login("look-"+string(right), right)
		text := b.get("/console" + at).text
		for what, shown := range offers {
			if strings.Contains(text, at+what) != shown {
				t.Errorf("%s is offered to a %s: %t", what, right, !shown)
			}
		}
	}
	// Who did it is on the API's own record, with the address of the browser.
	found := false
	for _, a := range l.now().Audit {
		found = found || strings.HasPrefix(a.Caller.Principal, "token:operator-") && a.Caller.Source == "192.0.2.7" && a.Caller.Request == "disable-havip"
	}
	if !found {
		t.Errorf("the record does not say who disabled it: %+v", l.now().Audit)
	}
}

// A token of a group may change what the group has, and is offered no more of the rest.
func TestGroupToken(t *testing.T) {
	l := newLab(t)
	web, other := l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100")}), l.havip(fsm.CreateHAVIP{Name: "api", IP: netip.MustParseAddr("10.77.0.101")})
	db := l.havip(fsm.CreateHAVIP{Name: "db", IP: netip.MustParseAddr("10.77.0.102")})
	if res := l.apply(nil, fsm.CreateGroup{Group: fsm.Group{Name: "g", Kind: "apart", HAVIPs: []string{web, db}}}, ""); res.Refusal != nil {
		t.Fatal(res.Refusal)
	}
	b := &browser{lab: l, source: "192.0.2.7"}
	b.post("/console/login", url.Values{"token": {l.token("of-g", fsm.RightAdmin, "g")}})
	if a := b.post("/console/havips/"+web+"/disable", nil); a.status != http.StatusSeeOther {
		t.Errorf("its own HAVIP: %d %s", a.status, plainText(a.text))
	}
	if a := b.post("/console/havips/"+other+"/disable", nil); a.status != http.StatusForbidden {
		t.Errorf("another one's HAVIP: %d %s", a.status, plainText(a.text))
	}
	if a := b.get("/console/havips"); strings.Contains(a.text, "/havips/new") || !strings.Contains(plainText(a.text), "admin, group g") {
		t.Error("it is offered to create a HAVIP, or not told what it is")
	}
}

// An answer of a newer API, with fields and words that this console does not know, is shown all the same; one
// that is none of ours is said to be so.
func TestNewerAPI(t *testing.T) {
	answers := map[string]string{
		"/v1/self":   `{"principal":"root@node-1","role":"admin","node":"node-1","version":"v9","new":{"a":[1]}}`,
		"/v1/havips": `[{"id":"havip-1","name":"web","ip":"10.0.0.9","state":"MIGRATING","eni":"e","node":"n","enabled":true,"managed":true,"future":true}]`,
		"/v1/nodes":  `[{"name":"n","id":"1","status":"hibernating","role":"oracle"}]`, "/v1/subnets": `[]`,
		"/v1/events": `[{"index":5,"at":"2026-11-29T01:00:00Z","kind":"entirely-new","text":"something"}]`, "/v1/groups": `<html>`,
	}
	c := New(Config{Base: "/b", Own: true, API: roundTrip(func(r *http.Request) (*http.Response, error) {
		text, ok := answers[r.URL.Path]
		if !ok {
			return nil, errors.New("refused")
		}
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))}, nil
	})})
	b := ownBrowser(t, c)
	for path, says := range map[string]string{"/havips": "web", "/events": "entirely-new", "/groups": "not one that this console knows", "/keys": "the agent does not answer"} {
		if a := b.get("/b" + path); !strings.Contains(a.text, says) {
			t.Errorf("%s: %d %s", path, a.status, plainText(a.text))
		}
	}
	if got := topicsOf("entirely-new"); len(got) != len(everyTopic) {
		t.Errorf("a kind that is not known changes %q", got)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Without a majority pages show what the node knows, say so, and changes are refused.
func TestWithoutMajority(t *testing.T) {
	l := newLab(t)
	l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100")})
	b := l.login("boss", fsm.RightAdmin)
	l.mu.Lock()
	l.lost = true
	l.mu.Unlock()
	a := b.get("/console/havips")
	if a.status != http.StatusOK || !strings.Contains(a.text, ">web<") || !strings.Contains(a.text, "No majority of the voters answers") {
		t.Errorf("%d %s", a.status, plainText(a.text))
	}
	if a := b.get("/console/"); !strings.Contains(a.text, "no leader is known") {
		t.Errorf("the overview: %d %s", a.status, plainText(a.text))
	}
}

// A problem of the API is shown as it is.
func TestProblems(t *testing.T) {
	p := problemOf(http.StatusConflict, []byte(`{"code":"ResourceInUse","detail":"taken","errors":[{"location":"body.ip","message":"no"}]}`))
	if p.Code != "ResourceInUse" || p.Status != http.StatusConflict || len(p.Errors) != 1 {
		t.Errorf("%+v", p)
	}
	if p := problemOf(http.StatusBadGateway, bytes.Repeat([]byte("x"), 1000)); p.Code != api.CodeInternal || len(p.Detail) > 300 {
		t.Errorf("%+v", p)
	}
}
