package agent

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"havip-cluster/membership/identity"
)

// dataDir makes the data directory of a cluster's first node, on the loopback, without a log yet.
func dataDir(t *testing.T) (string, *identity.Identity) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	spec, err := identity.NewCluster(identity.Settings{
		Name: "n1", Advertise: netip.MustParseAddr("127.0.0.1"), Ports: identity.DefaultPorts, Profile: identity.ProfileLAN, Lease: 500 * time.Millisecond,
	}, time.Now())
	if err == nil {
		err = identity.Create(dir, spec)
	}
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, id
}
