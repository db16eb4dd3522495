package main

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"havip-cluster/membership/identity"
)

// must1 fails the test on an error.
func must1[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// asleep makes the data directory of a node whose certificate ended long ago. by is a node of its
// cluster that has the CA's key, nil for the first one.
func asleep(t *testing.T, name string, by *identity.Identity) string {
	t.Helper()
	then := time.Now().AddDate(-1, 0, 0)
	settings := identity.Settings{Name: name, Advertise: netip.MustParseAddr("192.0.2.1"), Ports: identity.DefaultPorts, Profile: identity.ProfileLAN}
	spec := must1[identity.Spec](t)(identity.NewCluster(settings, then))
	ca := must1[*identity.CA](t)(identity.ParseCA(spec.CACert, spec.CAKey))
	if by != nil {
		ca = by.Authority()
		spec.ClusterID, spec.CACert, spec.CAKey = by.ClusterID, ca.CertPEM(), nil
		csr, key, err := identity.NewCSR()
		if err != nil {
			t.Fatal(err)
		}
		spec.Key = key
		spec.Cert = must1[[]byte](t)(identity.SignCSR(ca, csr, spec.NodeID, name, settings.Advertise, time.Now()))
	}
	dir := filepath.Join(t.TempDir(), "d")
	if err := identity.Create(dir, spec); err != nil {
		t.Fatal(err)
	}
	id := must1[*identity.Identity](t)(identity.Load(dir))
	csr := must1[[]byte](t)(id.RenewalCSR())
	old := must1[[]byte](t)(identity.SignCSRFor(ca, csr, id.NodeID, name, settings.Advertise, then, 24*time.Hour))
	if err := os.WriteFile(filepath.Join(dir, "node.crt"), old, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Load(dir); !errors.Is(err, identity.ErrExpired) || !strings.Contains(err.Error(), "keys renew-offline") {
		t.Fatalf("a certificate of a year ago: %v", err)
	}
	return dir
}

// Certificates that ended more than 90 days ago: a way back without a cluster.
func TestTheWayBackByFile(t *testing.T) {
	first := asleep(t, "node-1", nil)
	second := asleep(t, "node-2", must1[*identity.Identity](t)(identity.LoadEnded(first)))
	do := func(code int, says string, args ...string) []byte {
		t.Helper()
		var out, diag bytes.Buffer
		if got := run(args, &out, &diag); got != code || !strings.Contains(out.String()+diag.String(), says) {
			t.Fatalf("%v: exit %d, want %d and %q\n%s%s", args, got, code, says, out.String(), diag.String())
		}
		return out.Bytes()
	}
	file := func(name string, text []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	do(1, "has not the CA's key", "keys", "renew-offline", "--data-dir", second)
	do(0, "UNTIL", "keys", "renew-offline", "--data-dir", first)
	one := must1[*identity.Identity](t)(identity.Load(first))

	request := file("request", do(0, "csr", "keys", "request", "--data-dir", second))
	do(2, "--node node-2", "keys", "sign", request, "--data-dir", first)
	do(1, "has not the CA's key", "keys", "sign", request, "--node", "node-2", "--data-dir", second)
	do(1, "is not what", "keys", "sign", file("junk", []byte("x")), "--data-dir", first)
	answer := file("answer", do(0, "certificate", "keys", "sign", request, "--node", "node-2", "--data-dir", first))
	unlock := must1[func()](t)(identity.Lock(second))
	do(1, "is held by", "keys", "install", answer, "--data-dir", second)
	unlock()
	do(1, "is not the key of", "keys", "install", answer, "--data-dir", asleep(t, "node-2", one)) // another node of that name
	do(0, "UNTIL", "keys", "install", answer, "--data-dir", second)
	must1[*identity.Identity](t)(identity.Load(second))

	foreign := asleep(t, "node-1", nil)
	do(1, "is of cluster", "keys", "sign", request, "--node", "node-2", "--data-dir", foreign)
}

func TestKeysUsage(t *testing.T) {
	for _, args := range [][]string{
		{"keys", "rotate", "door"}, {"keys", "rotate", "ca", "--node", "n"}, {"keys", "rotate", "gossip", "--force"}, {"keys"}, {"cluster", "set", "certificate-life=1ms"},
	} {
		var out, diag bytes.Buffer
		if code := run(args, &out, &diag); code != 2 {
			t.Errorf("%v: exit %d: %s", args, code, diag.String())
		}
	}
}
