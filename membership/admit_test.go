package membership

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

func applicant(t *testing.T, c *cluster, name string) Applicant {
	t.Helper()
	id, secret := c.token(name, identity.RoleVoter, time.Hour)
	csr, _, err := identity.NewCSR()
	check(t, err)
	return Applicant{TokenID: id, Secret: secret, Name: name, Advertise: loopback, Ports: settings(t, name).Ports, CSR: csr}
}

func TestAdmit(t *testing.T) {
	c := startCluster(t, 1)
	leader := c.leader()
	a := applicant(t, c, "node-2")
	got, err := Admit(soon(t), leader.node, leader.id, a, nil)
	check(t, err)
	cert := must[*x509.Certificate](t)(identity.ParseCert("the new node's", got.Cert))
	if cert.Subject.CommonName != got.Node.ID || identity.ClusterOf(cert) != leader.id.ClusterID || got.Lease != testLease || len(got.CAKey) == 0 {
		t.Errorf("certificate of %s in %s, lease %s, CA key of %d bytes", cert.Subject.CommonName, identity.ClusterOf(cert), got.Lease, len(got.CAKey))
	}
	if n := leader.node.State().Nodes[got.Node.ID]; n.Name != "node-2" || n.Role != fsm.RoleVoter {
		t.Errorf("member %+v", n)
	}
	t.Run("the same request again is the same node", func(t *testing.T) {
		again, err := Admit(soon(t), leader.node, leader.id, a, nil)
		check(t, err)
		if again.Node.ID != got.Node.ID || len(leader.node.State().Nodes) != 2 {
			t.Errorf("node %s, want %s; %d members", again.Node.ID, got.Node.ID, len(leader.node.State().Nodes))
		}
	})
	t.Run("another key with the same token is refused", func(t *testing.T) {
		b := a
		var err error
		b.CSR, _, err = identity.NewCSR()
		check(t, err)
		_, err = Admit(soon(t), leader.node, leader.id, b, nil)
		wantRefusal(t, err, fsm.CodeTokenRefused, "used already")
	})
}

func TestAdmitRefuses(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	leader := c.leader()
	good := applicant(t, c, "node-2")
	hour, secret := c.token("node-3", identity.RoleVoter, 5*time.Second)
	time.Sleep(5*time.Second + 100*time.Millisecond)
	for _, tc := range []struct {
		name   string
		change func(*Applicant)
		code   fsm.Code
		says   string
	}{
		{"an unknown token", func(a *Applicant) { a.TokenID = "t-nothing" }, fsm.CodeTokenRefused, "unknown here"},
		{"a wrong secret", func(a *Applicant) { a.Secret[0]++ }, fsm.CodeTokenRefused, "secret"},
		{"another name", func(a *Applicant) { a.Name = "node-9" }, fsm.CodeTokenRefused, "is for node node-2"},
		{"an expired token", func(a *Applicant) { a.TokenID, a.Secret, a.Name = hour, secret, "node-3" }, fsm.CodeTokenRefused, "expired"},
		{"no request", func(a *Applicant) { a.CSR = nil }, fsm.CodeMalformed, "not PEM"},
		{"garbage for a request", func(a *Applicant) {
			a.CSR = []byte("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")
		}, fsm.CodeMalformed, "cannot be used"},
		{"a request that somebody changed", func(a *Applicant) { a.CSR = []byte(strings.Replace(string(a.CSR), "M", "N", 1)) }, fsm.CodeMalformed, ""},
		{"an address that means nothing elsewhere", func(a *Applicant) { a.Advertise = netip.IPv4Unspecified() }, fsm.CodeParameter, "0.0.0.0"},
		{"a port used twice", func(a *Applicant) { a.Ports.Raft = a.Ports.API }, fsm.CodeParameter, "port"},
		{"a name that no certificate can have", func(a *Applicant) { a.Name = "node-2." }, fsm.CodeParameter, "node-2."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := good
			a.CSR = append([]byte(nil), good.CSR...)
			tc.change(&a)
			before := len(leader.node.State().Nodes)
			_, err := Admit(soon(t), leader.node, leader.id, a, nil)
			wantRefusal(t, err, tc.code, tc.says)
			s := leader.node.State()
			if len(s.Nodes) != before || s.Tokens[good.TokenID].NodeID != "" {
				t.Error("the refusal changed something")
			}
		})
	}
	t.Run("no CA key", func(t *testing.T) {
		spec := leader.spec
		spec.CAKey = nil
		_, err := Admit(soon(t), leader.node, must[*identity.Identity](t)(identity.Assemble(spec, time.Now())), good, nil)
		wantRefusal(t, err, fsm.CodeNotReady, "CA key")
	})
	t.Run("no CA key, and a holder that does not answer", func(t *testing.T) {
		spec := leader.spec
		spec.CAKey = nil
		id := must[*identity.Identity](t)(identity.Assemble(spec, time.Now()))
		a := applicant(t, c, "node-4")
		deaf := func(context.Context, fsm.Node, []byte) ([]byte, error) {
			return nil, fsm.Refuse(fsm.CodeNotReady, "deaf")
		}
		_, err := Admit(soon(t), leader.node, id, a, deaf)
		wantRefusal(t, err, fsm.CodeNotReady, "deaf")
		// The same request again, and the holder answers: the node gets its certificate, and no key.
		got, err := Admit(soon(t), leader.node, id, a, func(ctx context.Context, n fsm.Node, csr []byte) ([]byte, error) {
			return Sign(ctx, leader.node, leader.id, n.ID, csr)
		})
		if err != nil || len(got.Cert) == 0 || got.CAKey != nil || got.Node.HoldsCA {
			t.Errorf("%+v, %v", got, err)
		}
		_, err = Sign(soon(t), leader.node, leader.id, got.Node.ID, applicant(t, c, "node-5").CSR)
		wantRefusal(t, err, fsm.CodeUnsupported, "not that of node node-4")
	})
	t.Run("an address of its own host", func(t *testing.T) {
		far := must[*identity.Identity](t)(identity.Assemble(leader.spec, time.Now()))
		far.Advertise = netip.MustParseAddr("192.0.2.1")
		_, err := Admit(soon(t), leader.node, far, good, nil)
		wantRefusal(t, err, fsm.CodeParameter, "127.0.0.1")
		if leader.node.State().Tokens[good.TokenID].NodeID != "" {
			t.Error("the token is used up")
		}
	})
	// After all that the token still works.
	if _, err := Admit(soon(t), leader.node, leader.id, good, nil); err != nil {
		t.Error(err)
	}
}

func TestAdmitNeedsTheLeader(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	a := applicant(t, c, "node-3")
	f := c.followers()[0]
	if _, err := Admit(soon(t), f.node, f.id, a, nil); !errors.Is(err, ErrNotLeader) {
		t.Errorf("got %v", err)
	}
}
