package identity

import (
	"net/netip"
	"strings"
	"testing"
)

func TestNewIDsAreWellFormedAndDiffer(t *testing.T) {
	if a, b := NewClusterID(), NewClusterID(); CheckClusterID(a) != nil || a == b {
		t.Fatalf("cluster ids %q, %q", a, b)
	}
	if a, b := NewNodeID(), NewNodeID(); CheckNodeID(a) != nil || a == b {
		t.Fatalf("node ids %q, %q", a, b)
	}
}

func TestCheckID(t *testing.T) {
	for _, id := range []string{"", "c-", nodeA, "c-00000000000000a", clusterA + "0", "c-00000000000000AA", "c-00000000000000g0"} {
		wantError(t, CheckClusterID(id), ErrInvalid, `is not "c-" and 16 hex digits`)
	}
}

func TestCheckNodeName(t *testing.T) {
	for _, name := range []string{"a", "node-1", "1.example.com", strings.Repeat("x", 63)} {
		check(t, CheckNodeName(name))
	}
	for name, fragment := range map[string]string{
		"":                      `node name "" is empty`,
		strings.Repeat("x", 64): "has 64 characters",
		"Node":                  `contains 'N'`,
		"a_b":                   `contains '_'`,
		"a/../b":                `contains '/'`,
		"ä":                     `contains 'ä'`,
		"a b":                   `contains ' '`,
		"-a":                    "has a '-' at the start or end of a part",
		"a-.b":                  "has a '-' at the start or end of a part",
		".a":                    "starts or ends with a dot",
		"a.":                    "starts or ends with a dot",
		"a..b":                  "two in a row",
	} {
		wantError(t, CheckNodeName(name), ErrInvalid, fragment)
	}
}

func TestCheckAdvertise(t *testing.T) {
	for _, addr := range []string{"192.0.2.1", "127.0.0.1", "::1", "2001:db8::1", "fd00::1"} {
		check(t, CheckAdvertise(netip.MustParseAddr(addr)))
	}
	wantError(t, CheckAdvertise(netip.Addr{}), ErrInvalid, "advertise address is missing")
	for addr, fragment := range map[string]string{
		"0.0.0.0":          "0.0.0.0 means any address",
		"::":               ":: means any address",
		"224.0.0.1":        "multicast",
		"ff02::1":          "multicast",
		"255.255.255.255":  "broadcast",
		"::ffff:192.0.2.1": "write 192.0.2.1",
		"fe80::1":          "link-local",
		"fe80::1%eth0":     "link-local",
	} {
		wantError(t, CheckAdvertise(netip.MustParseAddr(addr)), ErrInvalid, fragment)
	}
}

func TestPortsCheck(t *testing.T) {
	check(t, DefaultPorts.Check())
	check(t, Ports{1, 65535, 2, 0}.Check())
	for ports, fragment := range map[Ports]string{
		{0, 2, 3, 4}:     "api port 0 is not in 1..65535",
		{1, 65536, 3, 4}: "raft port 65536",
		{1, 2, -1, 4}:    "gossip port -1",
		{1, 1, 3, 4}:     "ports api 1, raft 1 and gossip 3 must differ",
		{1, 2, 1, 4}:     "must differ",
		{1, 2, 2, 4}:     "must differ",
		{1, 2, 3, 3}:     "lease port 3 must differ from api 1, raft 2 and gossip 3",
		{1, 2, 3, 65536}: "lease port 65536",
	} {
		wantError(t, ports.Check(), ErrInvalid, fragment)
	}
}

func TestParseRole(t *testing.T) {
	for _, role := range roles {
		if got := must[Role](t)(ParseRole(string(role))); got != role {
			t.Fatalf("role %q became %q", role, got)
		}
	}
	_, err := ParseRole("Voter")
	wantError(t, err, ErrInvalid, `role "Voter": choose voter, witness or agent`)
}
