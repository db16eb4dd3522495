package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// givers answers with who called.
type givers struct{ st *fsm.State }

func (g *givers) SignRenewal(st *fsm.State, caller, claimed string, csr []byte) ([]byte, error) {
	g.st = st
	return []byte(caller + " " + claimed + " " + string(csr)), nil
}
func (g *givers) GossipKey(_ *fsm.State, caller, id string) ([]byte, error) {
	return []byte(caller + " " + id), nil
}
func (g *givers) CAKey(_ *fsm.State, caller, id string) ([]byte, error) {
	return nil, fsm.Refuse(fsm.CodeUnsupported, "%s gets no %s", caller, id)
}

// reported lets node i tell of its keys.
func (w *world) reported(t *testing.T, i int, change func(r *fsm.KeyReport)) {
	t.Helper()
	id := w.nodes[i].id
	leaf := id.Leaf()
	r := fsm.KeyReport{
		Cert: identity.Fingerprint(leaf), Issuer: identity.Fingerprint(id.Issuer()), From: leaf.NotBefore.Unix(), Until: leaf.NotAfter.Unix(),
		Trusts: id.AnchorIDs(), Holds: id.HeldIDs(), Gossip: id.GossipIDs(),
	}
	if change != nil {
		change(&r)
	}
	if res := w.log.apply(t, fsm.ReportKeys{Node: id.NodeID, Report: r}, ""); res.Refusal != nil {
		t.Fatal(res.Refusal)
	}
}

// withKeys brings the keys of node 1 into the state.
func (w *world) withKeys(t *testing.T) {
	t.Helper()
	id := w.nodes[0].id
	ca := fsm.CA{ID: identity.Fingerprint(id.Issuer()), Cert: string(identity.CertPEM(id.Issuer()))}
	for _, b := range []fsm.OfferKey{
		{What: fsm.KeyOfCA, Node: id.NodeID, ID: ca.ID, CA: ca}, {What: fsm.KeyOfGossip, Node: id.NodeID, ID: id.GossipIDs()[0]},
	} {
		if res := w.log.apply(t, b, ""); res.Refusal != nil {
			t.Fatal(res.Refusal)
		}
	}
	w.reported(t, 0, nil)
}

func TestKeysAreListedAndRotated(t *testing.T) {
	w := newWorld(t)
	c := w.local(1)
	_, err := c.RotateKeys(t.Context(), KeyRotation{What: "gossip"})
	wantProblem(t, err, http.StatusServiceUnavailable, string(fsm.CodeNotReady))
	w.withKeys(t)
	rows, err := c.Keys(t.Context())
	must(t, err)
	var kinds []string
	for _, k := range rows {
		kinds = append(kinds, k.What+" "+k.State)
	}
	if want := []string{"ca ok", "gossip ok", "certificate ok", "certificate unknown"}; !slices.Equal(kinds, want) {
		t.Fatalf("got %v, want %v", kinds, want)
	}
	if ca, cert := rows[0], rows[2]; len(ca.Holders) != 1 || ca.Holders[0] != "node-1" || cert.Node != "node-1" || cert.Issuer != ca.ID || *cert.DaysLeft < 700 {
		t.Errorf("%+v", rows)
	}
	text, err := json.Marshal(rows)
	must(t, err)
	for _, word := range []string{`"what"`, `"node"`, `"id"`, `"not_before"`, `"not_after"`, `"days_left"`, `"holders"`, `"state"`} {
		if !strings.Contains(string(text), word) {
			t.Errorf("no %s in %s", word, text)
		}
	}

	rows, err = c.RotateKeys(t.Context(), KeyRotation{What: "ca"})
	must(t, err)
	if rows[0].Phase != "make" {
		t.Errorf("after rotate: %+v", rows[0])
	}
	rows, err = c.RotateKeys(t.Context(), KeyRotation{What: "node", Node: "node-1"})
	must(t, err)
	if rows[2].State != "due" {
		t.Errorf("after rotate: %+v", rows[2])
	}
	for _, bad := range []KeyRotation{{What: "gossip", Force: true}, {What: "ca", Force: true}, {What: "node", Node: "nobody"}, {What: "ca", Node: "node-1"}} {
		if _, err := c.RotateKeys(t.Context(), bad); err == nil {
			t.Errorf("done: %+v", bad)
		}
	}
}

// Warnings 60, 30 and 7 days before, and once it has ended.
func TestStatusWarnsOfCertificates(t *testing.T) {
	w := newWorld(t)
	w.withKeys(t)
	status := func() string {
		s, err := w.local(0).Status(t.Context(), false)
		must(t, err)
		if s.Health == HealthGreen {
			return ""
		}
		return strings.Join(s.Problems, "\n")
	}
	if strings.Contains(status(), "certificate") {
		t.Errorf("a fresh one: %s", status())
	}
	for days, want := range map[int]string{61: "", 59: "ends at", 6: "ends at", -1: "ended at"} {
		w.reported(t, 0, func(r *fsm.KeyReport) {
			r.Until = time.Now().AddDate(0, 0, days).Unix()
			r.From = time.Now().AddDate(-2, 0, days).Unix()
		})
		got := status()
		if want == "" && strings.Contains(got, "certificate") || !strings.Contains(got, want) {
			t.Errorf("%d days: %q", days, got)
		}
	}
	_, err := w.local(0).RotateKeys(t.Context(), KeyRotation{What: "gossip"})
	must(t, err)
	later := w.log.now()
	h := &health{&Status{}, map[string]int{}}
	h.keys(later, time.Unix(0, later.Cluster.Keys.Rotation(fsm.KeyOfGossip).Since).Add(2*time.Minute))
	if !strings.Contains(strings.Join(h.out.Problems, "\n"), "the key of gossip has been in phase make for 2m0s") {
		t.Errorf("a rotation that waits: %v", h.out.Problems)
	}
}

// What a member gets about keys depends on the certificate that it shows, not on what it says.
func TestKeysAreGivenByCertificate(t *testing.T) {
	w := newWorld(t)
	g := &givers{}
	w.servers[0].Keys = g
	c := NewClient(w.addrs[0], w.nodes[1].id.ClientTLS())
	self := w.nodes[1].id.NodeID
	cert, err := c.Renew(t.Context(), "n-other", []byte("csr"))
	must(t, err)
	if string(cert) != self+" n-other csr" || g.st == nil {
		t.Errorf("signed for %q", cert)
	}
	key, err := c.GossipKey(t.Context(), "aa")
	must(t, err)
	if string(key) != self+" aa" {
		t.Errorf("given to %q", key)
	}
	_, err = c.CAKey(t.Context(), "bb")
	wantProblem(t, err, http.StatusConflict, string(fsm.CodeUnsupported))
	_, err = w.local(0).GossipKey(t.Context(), "aa") // root has no certificate to be given by
	wantProblem(t, err, http.StatusForbidden, string(fsm.CodeDenied))
}

// A certificate that has ended, within its grace, opens what its renewal needs and nothing else,
// and not even that once its node has a newer one.
func TestAnEndedCertificateOpensItsRenewal(t *testing.T) {
	w := newWorld(t)
	w.servers[0].Keys = &givers{}
	id := w.nodes[1].id
	csr, key, err := identity.NewCSR()
	must(t, err)
	old, err := identity.SignCSRFor(id.Authority(), csr, id.NodeID, id.Name, id.Advertise, time.Now().Add(-time.Hour), 30*time.Minute)
	must(t, err)
	spec := identity.Spec{Settings: id.Settings, CACert: identity.CertPEM(id.Issuer()), Cert: old, Key: key, GossipKey: identity.NewGossipKey()}
	ended, err := identity.Assemble(spec, time.Now())
	must(t, err)
	c := NewClient(w.addrs[0], ended.ClientTLS())
	_, err = c.Renew(t.Context(), id.NodeID, []byte("csr"))
	must(t, err)
	_, err = c.Nodes(context.Background())
	wantProblem(t, err, http.StatusForbidden, CodeAuth)
	w.reported(t, 1, nil)
	_, err = c.Renew(t.Context(), id.NodeID, []byte("csr"))
	wantProblem(t, err, http.StatusForbidden, CodeAuth)
}
