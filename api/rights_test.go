package api

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// who are the principals that the tests know: how each one's requests reach a node.
type asker struct {
	name   string
	client *http.Client
	base   string
	header []string
	caller fsm.Caller // whom the leader should take it for; Right and Node count
	node   bool       // a bare certificate
	local  bool
}

// tlsClient speaks with node i over TLS; id nil: without a certificate.
func (w *world) tlsClient(t testing.TB, i int, id *identity.Identity) *http.Client {
	conf := identity.JoinTLS(w.nodes[0].id.ClusterID, identity.Fingerprint(w.nodes[0].id.Issuer()))
	if id != nil {
		conf = id.ClientTLS()
	}
	transport := &http.Transport{TLSClientConfig: conf}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// credential makes a token in the state, and returns its text.
func (w *world) credential(t testing.TB, name string, right fsm.Right, group string, expires int64) string {
	token := identity.NewAccessToken()
	res := w.log.apply(t, fsm.CreateCredential{Credential: fsm.Credential{
		ID: token.ID, Name: name, SecretHash: identity.SecretHash(token.Secret), Right: right, Group: group, Expires: expires,
	}}, "")
	if res.Refusal != nil {
		t.Fatal(res.Refusal)
	}
	return token.Text()
}

// agentNode adds a node that does not vote.
func (w *world) agentNode(t testing.TB) *identity.Identity { return w.join(t, 3, fsm.RoleAgent) }

// join adds node i, which runs nowhere.
func (w *world) join(t testing.TB, i int, role fsm.Role) *identity.Identity {
	name := fmt.Sprintf("node-%d", i)
	id := newIdentity(t, name, 7999, w.nodes[0].id)
	for _, b := range []fsm.Body{
		fsm.CreateToken{Token: fsm.Token{ID: "t" + name, SecretHash: "h", Node: name, Role: role, Expires: time.Now().Add(time.Hour).UnixNano()}},
		fsm.AddNode{Token: "t" + name, SecretHash: "h", Node: fsm.Node{
			ID: id.NodeID, Name: name, Address: fmt.Sprintf("127.0.0.%d", i), APIPort: 1, RaftPort: 2, GossipPort: 3, Version: fsm.VersionWithLevel("v1"),
		}},
	} {
		if res := w.log.apply(t, b, ""); res.Refusal != nil {
			t.Fatal(res.Refusal)
		}
	}
	return id
}

func bearerHeader(token string) []string { return []string{"Authorization", "Bearer " + token} }

// askers are everybody, at node i of a cluster of which node 0 leads.
func (w *world) askers(t testing.TB, i int) []asker {
	agent := w.agentNode(t)
	voter := w.nodes[1].id
	remote := "https://" + w.addrs[i]
	nobody := w.tlsClient(t, i, nil)
	out := []asker{
		{name: "nobody", client: nobody},
		{name: "a token that is none", client: nobody, header: bearerHeader(identity.NewAccessToken().Text())},
		{name: "basic auth", client: nobody, header: []string{"Authorization", "Basic cm9vdDpyb290"}},
		{name: "viewer", client: nobody, header: bearerHeader(w.credential(t, "v", fsm.RightViewer, "", 0)), caller: fsm.Caller{Right: fsm.RightViewer}},
		{name: "operator", client: nobody, header: bearerHeader(w.credential(t, "o", fsm.RightOperator, "", 0)), caller: fsm.Caller{Right: fsm.RightOperator}},
		{name: "admin", client: nobody, header: bearerHeader(w.credential(t, "a", fsm.RightAdmin, "", 0)), caller: fsm.Caller{Right: fsm.RightAdmin}},
		{name: "an agent's certificate", client: w.tlsClient(t, i, agent), caller: fsm.Caller{Right: fsm.RightViewer, Node: agent.NodeID}, node: true},
		{name: "a voter's certificate", client: w.tlsClient(t, i, voter), caller: fsm.Caller{Right: fsm.RightViewer, Node: voter.NodeID}, node: true},
	}
	// Last, because a new token takes the place of those that are over.
	out = append(out, asker{name: "an expired token", client: nobody, header: bearerHeader(w.expired(t))})
	for j := range out {
		out[j].base = remote
	}
	return append(out, asker{name: "root at a voter", client: w.curl(i), base: "http://local", caller: fsm.Caller{Right: fsm.RightAdmin, Node: w.nodes[i].id.NodeID}, local: true})
}

// expired makes a token that was good for a moment.
func (w *world) expired(t testing.TB) string {
	token := identity.NewAccessToken()
	for life := 20 * time.Millisecond; ; life *= 2 { // a busy host may be too late with one that ends so soon, and it is refused
		end := time.Now().Add(life)
		res := w.log.apply(t, fsm.CreateCredential{Credential: fsm.Credential{
			ID: token.ID, Name: "e", SecretHash: identity.SecretHash(token.Secret), Right: fsm.RightAdmin, Expires: end.UnixNano(),
		}}, "")
		if res.Refusal != nil && life < time.Minute {
			continue
		}
		if res.Refusal != nil {
			t.Fatal(res.Refusal)
		}
		time.Sleep(time.Until(end) + 10*time.Millisecond)
		return token.Text()
	}
}

// may is what the table says, written a second time.
func (a asker) may(r rule) bool {
	switch r.need {
	case needNothing:
		return !strings.Contains(a.name, "token") && a.name != "basic auth" || a.caller.Right != ""
	case needNode:
		return a.node
	case needLocal:
		return a.local
	}
	order := []string{"viewer", "operator", "admin"}
	have := slices.Index(order, string(a.caller.Right))
	return have >= slices.Index(order, string(r.need)) || r.own && have >= 0 && a.caller.Node != ""
}

func (a asker) send(t testing.TB, method, path, body string, header ...string) (int, Problem) {
	t.Helper()
	req, err := http.NewRequest(method, a.base+path, strings.NewReader(body))
	must(t, err)
	for _, h := range [][]string{a.header, header} {
		for j := 0; j+1 < len(h); j += 2 {
			req.Header.Set(h[j], h[j+1])
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	resp, err := a.client.Do(req.WithContext(ctx))
	if err != nil {
		t.Fatalf("%s: %s %s: %v", a.name, method, path, err)
	}
	defer resp.Body.Close()
	var p Problem
	_ = json.NewDecoder(resp.Body).Decode(&p)
	return resp.StatusCode, p
}

// denied reports whether an answer says that the caller has no right, as opposed to any other
// fault of the request.
func denied(status int, p Problem) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden && (p.Code == string(fsm.CodeDenied) || p.Code == CodeAuth)
}

// TestEveryRoute sends every route that is registered for every principal, at the leader and at
// a follower, over real TLS. A new route without a rule fails here.
func TestEveryRoute(t *testing.T) {
	for at, where := range []string{"the leader", "a follower"} {
		w := newWorld(t)
		s := w.servers[at]
		for _, pattern := range s.mux.patterns {
			if _, ok := rules[pattern]; !ok {
				t.Errorf("route %s has no rule: say in rules.go who may use it", pattern)
			}
		}
		for pattern := range rules {
			if !slices.Contains(s.mux.patterns, pattern) {
				t.Errorf("the rule of %s is of no route", pattern)
			}
		}
		for _, a := range w.askers(t, at) {
			s.logins = joinLimiter{}
			for _, pattern := range s.mux.patterns {
				method, path, _ := strings.Cut(pattern, " ")
				for _, name := range []string{"{name}", "{id}", "{number}"} {
					path = strings.ReplaceAll(path, name, map[bool]string{true: "999", false: "nothing"}[name == "{number}"])
				}
				s.logins = joinLimiter{}
				w.servers[0].logins = joinLimiter{}
				status, p := a.send(t, method, path, map[bool]string{true: "", false: "{}"}[method == "GET"])
				if may := a.may(rules[pattern]); may == denied(status, p) {
					t.Errorf("%s at %s: %s: %d %s %s, may: %t", a.name, where, pattern, status, p.Code, p.Detail, may)
				}
			}
		}
	}
}

// The docs show the table that is in force.
func TestDoorsInTheDocs(t *testing.T) {
	text, err := os.ReadFile("../docs/security.md")
	must(t, err)
	if !strings.Contains(string(text), Doors()) {
		t.Errorf("docs/security.md has another table of routes; it should hold\n%s", Doors())
	}
}

// What is in a change decides beyond its route.
func TestRightsOfChanges(t *testing.T) {
	w := newWorld(t)
	w.ask(t, 0, "POST", "/v1/havips", `{"name":"web","ip":"10.77.0.100"}`)
	w.ask(t, 0, "POST", "/v1/havips", `{"name":"db","ip":"10.77.0.101"}`)
	w.ask(t, 0, "POST", "/v1/havips", `{"name":"api","ip":"10.77.0.102"}`)
	w.ask(t, 0, "POST", "/v1/groups", `{"name":"g","kind":"apart","hard":false,"havips":["web","db"]}`)
	w.log.place(t)
	all := map[string]asker{}
	for _, a := range w.askers(t, 0) {
		all[a.name] = a
	}
	scoped := func(name string, right fsm.Right) {
		a := all["nobody"]
		a.name, a.header = name, bearerHeader(w.credential(t, strings.ReplaceAll(name, " ", "-"), right, "g", 0))
		all[name] = a
	}
	scoped("operator of g", fsm.RightOperator)
	scoped("admin of g", fsm.RightAdmin)
	for _, row := range []struct {
		who, method, path, body string
		may                     bool
	}{
		{"operator", "PATCH", "/v1/nodes/node-2", `{"standby":true}`, true},
		{"operator", "PATCH", "/v1/nodes/node-2", `{"maintenance":false}`, true},
		{"operator", "PATCH", "/v1/nodes/node-2", `{"score":5}`, false},
		{"operator", "PATCH", "/v1/nodes/node-2", `{"standby":false,"score":5}`, false},
		{"operator", "PATCH", "/v1/nodes/node-2", `{"health":"red"}`, false},
		{"operator", "PATCH", "/v1/cluster", `{"maintenance":false}`, true},
		{"operator", "PATCH", "/v1/cluster", `{"maintenance":false,"per_eni":3}`, false},
		{"operator", "PATCH", "/v1/cluster", `{"lease_ms":400}`, false},
		{"operator", "PATCH", "/v1/cluster", `{"ca_holders":5}`, false},
		{"operator", "PATCH", "/v1/havips/web", `{"maintenance":true}`, true},
		{"operator", "PATCH", "/v1/havips/web", `{"enabled":true,"maintenance":false}`, true},
		{"operator", "PATCH", "/v1/havips/web", `{"priority":9}`, false},
		{"operator", "PATCH", "/v1/havips/web", `{"enabled":true,"priority":9}`, false},
		{"operator", "PATCH", "/v1/havips/web", `{"bans":[]}`, false},
		{"operator", "POST", "/v1/havips/web/move", `{"to":"node-1"}`, true},
		{"viewer", "POST", "/v1/havips/web/move", `{"to":"node-2"}`, false},
		{"viewer", "PATCH", "/v1/nodes/node-2", `{"standby":true}`, false},
		{"operator of g", "POST", "/v1/havips/db/disable", ``, true},
		{"operator of g", "POST", "/v1/havips/db/enable", ``, true},
		{"operator of g", "POST", "/v1/havips/api/disable", ``, false},
		{"operator of g", "POST", "/v1/havips/api/move", `{"to":"node-2"}`, false},
		{"operator of g", "PATCH", "/v1/nodes/node-2", `{"standby":true}`, false},
		{"operator of g", "PATCH", "/v1/cluster", `{"maintenance":true}`, false},
		{"admin of g", "PATCH", "/v1/havips/web", `{"priority":3}`, true},
		{"admin of g", "PATCH", "/v1/havips/api", `{"priority":3}`, false},
		{"admin of g", "POST", "/v1/havips", `{"name":"more","ip":"10.77.0.110"}`, false},
		{"admin of g", "POST", "/v1/access-tokens", `{"name":"mine","role":"viewer"}`, false},
		{"admin of g", "POST", "/v1/tokens", `{"node":"node-9"}`, false},
		{"admin of g", "DELETE", "/v1/groups/g", ``, false},
		{"admin of g", "DELETE", "/v1/failures?havip=web", ``, true},
		{"admin of g", "DELETE", "/v1/failures", ``, false},
		{"admin of g", "POST", "/v1/apply", "version: 1\nhavips: [{name: api, ip: 10.77.0.102, priority: 1}]", false},
		{"admin of g", "DELETE", "/v1/nodes/node-3", ``, false},
		{"an agent's certificate", "PATCH", "/v1/nodes/node-3", `{"standby":true}`, true},
		{"an agent's certificate", "POST", "/v1/nodes/node-3/activate", ``, true},
		{"an agent's certificate", "PATCH", "/v1/nodes/node-3", `{"score":1000}`, false},
		{"an agent's certificate", "PATCH", "/v1/nodes/node-2", `{"standby":true}`, false},
		{"an agent's certificate", "POST", "/v1/nodes/node-1/drain", `{}`, false},
		{"a voter's certificate", "POST", "/v1/nodes/node-2/drain", `{}`, true},
		{"a voter's certificate", "POST", "/v1/nodes/node-1/drain", `{}`, false},
		{"root at a voter", "POST", "/v1/tokens", `{"node":"node-9"}`, true},
		{"admin", "POST", "/v1/access-tokens", `{"name":"new","role":"viewer"}`, true},
		{"admin", "DELETE", "/v1/access-tokens/new", ``, true},
	} {
		status, p := all[row.who].send(t, row.method, row.path, row.body)
		if row.may != (status < 300) || !row.may && !denied(status, p) {
			t.Errorf("%s: %s %s %s: %d %s %s", row.who, row.method, row.path, row.body, status, p.Code, p.Detail)
		}
	}
}

// A member that forwards may say that its own root asked, and no more than it may itself. One
// that does not vote is nobody's word but its own.
func TestForwardedLies(t *testing.T) {
	w := newWorld(t)
	all := map[string]asker{}
	for _, a := range w.askers(t, 0) {
		all[a.name] = a
	}
	leader, voter := w.nodes[0].id.NodeID, w.nodes[1].id.NodeID
	for _, row := range []struct {
		who, said string
		may       bool // make a HAVIP
		own       string
	}{
		{"an agent's certificate", "root", false, "node-3"},
		{"an agent's certificate", "node:" + leader, false, "node-3"},
		{"an agent's certificate", "node:" + voter, false, "node-3"},
		{"an agent's certificate", "token:a", false, "node-3"},
		{"an agent's certificate", "", false, "node-3"},
		{"a voter's certificate", "root", true, "node-2"},
		{"a voter's certificate", "node:" + leader, false, "node-1"},
		{"a voter's certificate", "", false, "node-2"},
		{"nobody", "root", false, ""},
		{"viewer", "root", false, ""},
	} {
		a, said := all[row.who], []string{headerHops, "1", headerCaller, row.said}
		status, p := a.send(t, "POST", "/v1/havips", fmt.Sprintf(`{"name":"x","ip":"10.77.0.%d"}`, 100), said...)
		if row.may != (status == 201) || !row.may && !denied(status, p) {
			t.Errorf("%s that says %q makes a HAVIP: %d %s", row.who, row.said, status, p.Detail)
		}
		for _, node := range []string{"node-1", "node-2", "node-3"} {
			status, p := a.send(t, "PATCH", "/v1/nodes/"+node, `{"maintenance":false}`, said...)
			if may := row.may || node == row.own; may != (status == 200) || !may && !denied(status, p) {
				t.Errorf("%s that says %q sets %s: %d %s", row.who, row.said, node, status, p.Detail)
			}
		}
	}
	// A voter that is not upgraded yet says nothing of its root, and is believed as it was.
	old := "v1+level.3"
	w.log.apply(t, fsm.UpdateNode{ID: voter, Version: &old}, "")
	for who, may := range map[string]bool{"a voter's certificate": true, "an agent's certificate": false} {
		if status, p := all[who].send(t, "POST", "/v1/subnets", `{"name":"s9","cidr":"10.9.0.0/24"}`, headerHops, "1"); may != (status == 201) {
			t.Errorf("%s through a program of level 3: %d %s", who, status, p.Detail)
		}
	}
	// A token travels as it is, through whomever.
	agent := all["an agent's certificate"]
	if status, p := agent.send(t, "DELETE", "/v1/havips/x", "", append([]string{headerHops, "1", headerCaller, "root"}, all["admin"].header...)...); status != 200 {
		t.Errorf("an admin's token through an agent: %d %s", status, p.Detail)
	}
}

// A certificate of a node that was removed, and the root of one that is on its way out.
func TestRemovedNodesHaveNoRights(t *testing.T) {
	w := newWorld(t)
	voter := asker{name: "voter", client: w.tlsClient(t, 0, w.nodes[1].id), base: "https://" + w.addrs[0]}
	yes := true
	w.log.apply(t, fsm.UpdateNode{ID: w.nodes[1].id.NodeID, Removing: &yes}, "")
	if status, p := voter.send(t, "POST", "/v1/havips", webBody, headerHops, "1", headerCaller, "root"); !denied(status, p) {
		t.Errorf("root of a node that is being removed: %d", status)
	}
	st := w.log.now()
	sess, _ := st.SessionOf(w.nodes[1].id.NodeID)
	w.log.apply(t, fsm.CloseSession{Session: sess.Number, Released: true}, "")
	w.log.apply(t, fsm.RemoveNode{ID: w.nodes[1].id.NodeID}, "")
	if status, p := voter.send(t, "GET", "/v1/status", ""); !denied(status, p) {
		t.Errorf("a removed node reads: %d", status)
	}
}

// A key belongs to who used it first: the same key of another principal is another request.
func TestKeysBelongToTheirPrincipal(t *testing.T) {
	w := newWorld(t)
	token := w.credential(t, "a", fsm.RightAdmin, "", 0)
	nobody := asker{client: w.tlsClient(t, 0, nil), base: "https://" + w.addrs[0], header: bearerHeader(token)}
	w.ask(t, 0, "POST", "/v1/havips", webBody, headerKey, "k")
	status, p := nobody.send(t, "POST", "/v1/havips", webBody, headerKey, "k")
	if status != 409 || p.Code != string(fsm.CodeInUse) {
		t.Errorf("the key of somebody else: %d %s; its answer belongs to who used it", status, p.Code)
	}
	status, _ = nobody.send(t, "POST", "/v1/havips", `{"name":"other","ip":"10.77.0.101"}`, headerKey, "k")
	if status != 201 {
		t.Errorf("another request of another principal under the same key: %d", status)
	}
}

// A token ends with its revocation, also in a node that has not heard of it, and in streams.
func TestRevokedTokens(t *testing.T) {
	w := newWorld(t)
	token := w.credential(t, "v", fsm.RightViewer, "", 0)
	a := asker{client: w.tlsClient(t, 1, nil), base: "https://" + w.addrs[1], header: bearerHeader(token)}
	if status, _ := a.send(t, "GET", "/v1/status", ""); status != 200 {
		t.Fatalf("before: %d", status)
	}
	req, err := http.NewRequest(http.MethodGet, a.base+"/v1/events?follow=true", nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	stream, err := a.client.Do(req)
	must(t, err)
	defer stream.Body.Close()
	w.nodes[1].freeze(w.log.now())
	w.log.apply(t, fsm.RevokeCredential{Name: "v"}, "")
	if status, _ := a.send(t, "GET", "/v1/havips", ""); status != 401 {
		t.Errorf("a node that lags serves a revoked token: %d", status)
	}
	w.nodes[1].freeze(nil)
	if status, _ := a.send(t, "GET", "/v1/havips?consistency=stale", ""); status != 401 {
		t.Errorf("stale: %d", status)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			if _, err := stream.Body.Read(buf); err != nil {
				return
			}
		}
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second): // less than followHeartbeat
		t.Error("the stream of a revoked token goes on")
	}
}

// TLS without a certificate is not enough, and a certificate of another cluster even less.
func TestForeignCertificates(t *testing.T) {
	w, other := newWorld(t), newIdentity(t, "node-9", 7998, nil)
	conf := other.ClientTLS()
	conf.VerifyConnection = nil
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
	resp, err := c.Get("https://" + w.addrs[0] + "/v1/status")
	if err == nil {
		resp.Body.Close()
		t.Errorf("a foreign certificate: %d", resp.StatusCode)
	}
	var _ *tls.Config = conf
}
