package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// TestTLS checks who gets in with which certificate.
func TestTLS(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	member := NewClient(w.addrs[0], w.nodes[1].id.ClientTLS())
	_, err := member.Nodes(ctx)
	must(t, err)
	index, err := member.ReadIndex(ctx)
	must(t, err)
	if index != w.log.now().Index {
		t.Errorf("read index %d", index)
	}
	res, err := member.Command(ctx, fsm.DrainSession{Node: w.nodes[1].id.NodeID, Session: w.log.now().SessionList()[1].Number})
	if err != nil || res.Refusal != nil {
		t.Fatalf("own command: %v %v", err, res.Refusal)
	}
	res, err = member.Command(ctx, fsm.DrainSession{Node: w.nodes[0].id.NodeID, Session: 1})
	if err != nil || res.Refusal == nil {
		t.Fatalf("another node's command: %v %v", err, res)
	}
	if _, err := NewClient(w.addrs[1], w.nodes[0].id.ClientTLS()).ReadIndex(ctx); ExitCode(err) != ExitUnreachable {
		t.Errorf("read index of a follower: %v", err)
	}

	// Of this cluster, but no member.
	stranger := newIdentity(t, "node-9", 7999, w.nodes[0].id)
	_, err = NewClient(w.addrs[0], stranger.ClientTLS()).Nodes(ctx)
	wantProblem(t, err, 403, CodeAuth)

	// Of another cluster: either side refuses.
	foreign := newIdentity(t, "node-1", 7999, nil)
	c := NewClient(w.addrs[0], foreign.ClientTLS())
	if _, err := c.Nodes(ctx); err == nil {
		t.Error("a foreign certificate was accepted")
	}
	careless := foreign.ClientTLS()
	careless.VerifyConnection = nil
	c = NewClient(w.addrs[0], careless)
	c.Timeout = time.Second
	if _, err := c.Nodes(ctx); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a foreign certificate: %v", err)
	}

	// Without a certificate only what is open.
	bare := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for path, status := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/v1/nodes": 401, "/metrics": 401, "/openapi.json": 401, "/v1/internal/readindex": 401, "/v1/events?follow=true": 401,
	} {
		req, err := http.NewRequest(http.MethodGet, "https://"+w.addrs[0]+path, nil)
		must(t, err)
		if resp, answer := roundTrip(t, bare, req); resp.StatusCode != status {
			t.Errorf("%s without a certificate: %d %s", path, resp.StatusCode, answer)
		}
	}
}

// TestJoin lets a node in through a follower, with nothing but its token.
func TestJoin(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	tok, err := w.local(0).CreateToken(ctx, TokenSpec{Node: "node-3", Role: "agent", TTLSeconds: 60})
	must(t, err)
	token, err := identity.ParseToken(tok.Token)
	must(t, err)
	csr, key, err := identity.NewCSR()
	must(t, err)
	join := Join{Token: tok.Token, Name: "node-3", Advertise: "127.0.0.1", APIPort: 7400, RaftPort: 7401, GossipPort: 7402, CSR: string(csr)}
	c := NewClient(w.addrs[1], identity.JoinTLS(token.ClusterID, token.Fingerprint))
	c.Program = fsm.VersionWithLevel("v1.2.3")
	wrong := join
	wrong.Name = "node-4"
	_, err = c.Join(ctx, wrong)
	wantProblem(t, err, 403, "TokenRefused")
	wrong = join
	wrong.Token = strings.Replace(join.Token, join.Token[40:44], "AAAA", 1)
	_, err = c.Join(ctx, wrong)
	wantProblem(t, err, 403, "TokenRefused")
	if strings.Contains(err.Error(), join.Token[:20]) {
		t.Error("the answer repeats the token")
	}
	answer, err := c.Join(ctx, join)
	must(t, err)
	if answer.Role != "agent" || len(answer.GossipKey) != 32 || len(key) == 0 {
		t.Fatalf("%+v", answer)
	}
	for range joinFailuresMax {
		_, err = c.Join(ctx, wrong)
	}
	wantProblem(t, err, 429, CodeTooMany)
}

// FuzzJoin: whatever a stranger sends, he gets a problem, and nothing of a token is said.
func FuzzJoin(f *testing.F) {
	id := newIdentity(f, "node-1", 7400, nil)
	log := &fakeLog{state: fsm.New(), leader: id.NodeID}
	s := New(Config{Backend: &fakeNode{t: f, log: log, id: id}, Identity: id})
	f.Add([]byte(`{"token":"havip1.AAAA","name":"n","advertise":"10.0.0.1","api_port":1,"raft_port":2,"gossip_port":3,"csr":""}`))
	f.Add([]byte(`{"token":5}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/v1/join", bytes.NewReader(body))
		r.TLS = &tls.ConnectionState{}
		r.RemoteAddr = identity.NewNodeID() + ":1" // never the same twice: the limit has its own test
		s.joins = joinLimiter{}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code < 400 || w.Code == 500 || strings.Contains(w.Body.String(), "havip1.AAAA") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
