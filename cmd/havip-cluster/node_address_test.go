package main

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"

	"havip-cluster/api"
	"havip-cluster/membership/identity"
)

// `node set --address --local` changes the data directory of this host's node alone, while its agent is
// stopped, and to an address that the host has.
func TestMoveHere(t *testing.T) {
	dir := t.TempDir() + "/data"
	typed := func(args string) (int, string) {
		var stdout, stderr bytes.Buffer
		code := run(append(strings.Fields(args), "--data-dir", dir), &stdout, &stderr)
		return code, stdout.String() + stderr.String()
	}
	if code, said := typed("node set n1 --address 203.0.113.200 --local"); code != 1 || !strings.Contains(said, "no state in") {
		t.Errorf("without a data directory: %d %q", code, said)
	}
	if code, said := typed("bootstrap --node n1 --advertise 203.0.113.100"); code != 0 {
		t.Fatal(said)
	}
	for args, want := range map[string]struct {
		code int
		says string
	}{
		"node set n2 --address 203.0.113.200 --local":                 {1, "is the data directory of node n1, not of n2"},
		"node set n1 --address 203.0.113.200 --local":                 {1, "no interface of this host has 203.0.113.200"},
		"node set n1 --local":                                         {2, "--local goes with --address"},
		"node set n1 --address here --local":                          {2, `"here" is not an address`},
		"node set n1 --address 0.0.0.0":                               {2, "is not an address at which"},
		"node set n1 --address 203.0.113.200 --score 3":               {2, "--address is set by itself"},
		"node set n1 --score 3 --local":                               {2, "--local goes with --address"},
		"node set n1 --address 203.0.113.200 --health red --local":    {2, "--address is set by itself"},
		"node set n1 --address 203.0.113.200 --capacity none --local": {2, "--address is set by itself"},
	} {
		if code, said := typed(args); code != want.code || !strings.Contains(said, want.says) {
			t.Errorf("%s: %d %q, want %d with %q", args, code, said, want.code, want.says)
		}
	}
	here := ownAddress(t)
	l, err := api.ListenLocal(identity.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	if code, said := typed("node set n1 --address " + here.String() + " --local"); code != 1 || !strings.Contains(said, "runs here; stop it first") {
		t.Errorf("beside its agent: %d %q", code, said)
	}
	_ = l.Close()
	if code, said := typed("node set n1 --address " + here.String() + " --local"); code != 0 || !strings.Contains(said, "node n1 is at "+here.String()+" from its next start on") {
		t.Errorf("%d %q", code, said)
	}
	if s, err := identity.LoadSettings(dir); err != nil || s.Advertise != here || s.Was != netip.MustParseAddr("203.0.113.100") {
		t.Errorf("%+v, %v", s, err)
	}
}

// ownAddress is an address of this host at which others could reach it; loopback where there is no other.
func ownAddress(t *testing.T) netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && identity.CheckAdvertise(p.Addr()) == nil {
			return p.Addr()
		}
	}
	t.Skip("this host has no address at all")
	return netip.Addr{}
}

// Typed twice, or with the address that it has: nothing was changed, and no next step is named that would stop it.
func TestSetTheSameAddress(t *testing.T) {
	for session, want := range map[uint64]string{
		8: "node n1 has this address, and its agent runs there: nothing was changed\n",
		0: "Next: at host n1, `havip-cluster node set n1 --address 10.9.0.1 --local`, then start its agent\n",
	} {
		dir := agentWith(t, map[string]any{"/v1/nodes/n1": api.Node{Name: "n1", Address: "10.9.0.1", Session: session}})
		var stdout, stderr bytes.Buffer
		if code := run([]string{"node", "set", "n1", "--address", "10.9.0.1", "--data-dir", dir}, &stdout, &stderr); code != 0 || stderr.String() != want {
			t.Errorf("session %d: %d %q, want %q", session, code, &stderr, want)
		}
	}
}
