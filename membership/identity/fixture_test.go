package identity

import (
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	clusterA = "c-00000000000000aa"
	clusterB = "c-00000000000000bb"
	nodeA    = "n-0000000000000001"
	nodeB    = "n-0000000000000002"
)

var (
	addrA = netip.MustParseAddr("192.0.2.1")
	addrB = netip.MustParseAddr("192.0.2.2")
)

// wantError fails unless err wraps target and its text has the fragment.
func wantError(t *testing.T, err, target error, fragment string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error is not %q: %v", target, err)
	}
	if !strings.Contains(err.Error(), fragment) {
		t.Fatalf("error does not say %q: %v", fragment, err)
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func settings() Settings {
	return Settings{Name: "node-1", Advertise: addrA, Ports: DefaultPorts, Profile: ProfileLAN}
}

func newSpec(t *testing.T) Spec {
	t.Helper()
	return must[Spec](t)(NewCluster(settings(), time.Now()))
}

// tempDir is t.TempDir with a path short enough for the socket.
func tempDir(t *testing.T) string {
	t.Helper()
	dir := must[string](t)(os.MkdirTemp("", "id"))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(tempDir(t), "data")
	check(t, Create(dir, newSpec(t)))
	return dir
}

// member makes the identity of one more node of ca's cluster, with a certificate issued at.
func member(t *testing.T, ca *CA, nodeID, name string, addr netip.Addr, at time.Time) (Spec, *Identity) {
	t.Helper()
	s := Spec{CACert: ca.CertPEM(), GossipKey: NewGossipKey(), Settings: settings()}
	s.ClusterID, s.NodeID, s.Name, s.Advertise = ClusterOf(ca.Cert), nodeID, name, addr
	s.Role, s.Lease, s.Created = RoleAgent, 500*time.Millisecond, at
	csr, key, err := NewCSR()
	check(t, err)
	s.Key = key
	s.Cert = must[[]byte](t)(SignCSR(ca, csr, nodeID, name, addr, at))
	return s, must[*Identity](t)(assemble(s, at, strict))
}

func newCA(t *testing.T, clusterID string) *CA {
	t.Helper()
	return must[*CA](t)(NewCA(clusterID, time.Now()))
}

// snapshot reads a whole directory: path → mode and content.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	check(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info := must[fs.FileInfo](t)(entry.Info())
		tree[path] = info.Mode().String()
		if info.Mode().IsRegular() {
			tree[path] += "\n" + string(must[[]byte](t)(os.ReadFile(path)))
		}
		return nil
	}))
	return tree
}

func wantUnchanged(t *testing.T, dir string, before map[string]string) {
	t.Helper()
	if after := snapshot(t, dir); !maps.Equal(before, after) {
		t.Fatalf("the directory changed:\nbefore %v\nafter  %v", before, after)
	}
}
