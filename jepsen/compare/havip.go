package compare

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"havip-cluster/jepsen/netns"
)

// havip is a cluster of agents of the tree's own binary.
type havip struct {
	*netns.Cluster
	address netip.Addr
}

// buildBinary is done once, in a folder that outlives the contenders.
var buildBinary = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "havip-compare-bin-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "havip-cluster")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "havip-cluster/cmd/havip-cluster")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w: %s", err, out)
	}
	return os.ReadFile(path)
})

func newHAVIP(profile string) func(*netns.Lab, netip.Addr, string) (contender, error) {
	return func(l *netns.Lab, address netip.Addr, dir string) (contender, error) {
		binary, err := buildBinary()
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, "havip-cluster")
		if err := os.WriteFile(path, binary, 0o700); err != nil {
			return nil, err
		}
		c := netns.NewCluster(l, path, dir)
		c.Profile = profile
		return &havip{Cluster: c, address: address}, nil
	}
}

func (h *havip) Start() error {
	if err := h.Bootstrap(); err != nil {
		return err
	}
	if err := h.JoinAll(); err != nil {
		return err
	}
	_, err := h.CLI(1, "havip", "create", "web", "--ip", h.address.String(), "--no-range-limit")
	return err
}

// Owner is what the log says, once every node votes and has a session.
func (h *havip) Owner() (int, error) {
	voters, err := h.Voters()
	if err != nil {
		return 0, err
	}
	if voters < nodes {
		return 0, fmt.Errorf("%d of %d voters", voters, nodes)
	}
	list, err := h.Nodes()
	if err != nil {
		return 0, err
	}
	for _, n := range list {
		if n.Session == 0 || n.Status != "alive" {
			return 0, fmt.Errorf("%s has no session", n.Name)
		}
	}
	placement, err := h.Placement()
	if err != nil {
		return 0, err
	}
	for _, p := range placement {
		for i := 1; i <= nodes; i++ {
			if p.Owner() == h.NodeName(i) {
				return i, nil
			}
		}
	}
	return 0, fmt.Errorf("%s has no owner", h.address)
}

func (h *havip) Restart(node int) error { return h.Cluster.Start(node) }

func (h *havip) Signal(node int, sig syscall.Signal) error { return h.Kill(node, sig) }

func (h *havip) Tail() string {
	var all strings.Builder
	for i := 1; i <= nodes; i++ {
		fmt.Fprintf(&all, "--- %s\n%s\n", h.NodeName(i), h.Cluster.Tail(i))
	}
	return all.String()
}
