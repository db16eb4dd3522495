package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"havip-cluster/jepsen/netns"
)

// havip is a cluster of agents of the tree's own binary.
type havip struct {
	*netns.Cluster
	lease   string
	address netip.Addr // the first
}

// refusal is a configuration that the contender does not take.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }

// buildBinary is done once, in a folder that outlives the contenders.
var buildBinary = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "havip-bench-bin-")
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

func newHAVIP(lease string) func(*netns.Lab, string) (contender, error) {
	return func(l *netns.Lab, dir string) (contender, error) {
		binary, err := buildBinary()
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, "havip-cluster")
		if err := os.WriteFile(path, binary, 0o700); err != nil {
			return nil, err
		}
		return &havip{Cluster: netns.NewCluster(l, path, dir), lease: lease}, nil
	}
}

// leaseChange is how long the longer lease may still be in force after `cluster set`.
const leaseChange = 3 * time.Second

// Start forms the cluster, sets its lease whatever this machine keeps, since that is what is measured,
// and makes the addresses.
func (h *havip) Start(havips []netip.Addr) error {
	h.address = havips[0]
	if err := h.Bootstrap(); err != nil {
		return err
	}
	for i := 2; i <= len(h.Lab.Nodes()); i++ {
		role := "voter"
		if i > votersMax {
			role = "agent"
		}
		if err := h.Join(i, role); err != nil {
			return err
		}
	}
	if _, err := h.CLI(1, "cluster", "set", "lease="+h.lease, "--force"); err != nil {
		if failed := (*netns.CLIError)(nil); errors.As(err, &failed) && strings.Contains(failed.Stderr, "InvalidParameterValue") {
			return &refusal{strings.TrimSpace(failed.Stderr)}
		}
		return err
	}
	time.Sleep(leaseChange)
	if len(havips) == 1 {
		_, err := h.CLI(1, "havip", "create", "h00000", "--ip", h.address.String(), "--no-range-limit")
		return err
	}
	var file strings.Builder
	file.WriteString("version: 1\nhavips:\n")
	for i, ip := range havips {
		fmt.Fprintf(&file, "  - {name: h%05d, ip: %s, prefer: {%s: 100}, stickiness: 0, failback: immediate}\n", i, ip, h.NodeName(home(i)))
	}
	path := filepath.Join(h.Dir, "all.yaml")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		return err
	}
	_, err := h.CLI(1, "apply", "-f", path, "--timeout", "3m")
	return err
}

// votersMax is how many nodes of a cluster vote.
const votersMax = 5

// Owner is what the log says, once every node votes, as far as there is a vote for it, and has a session.
func (h *havip) Owner() (int, error) {
	nodes := len(h.Lab.Nodes())
	voters, err := h.Voters()
	if err != nil {
		return 0, err
	}
	if voters < min(nodes, votersMax) {
		return 0, fmt.Errorf("%d of %d voters", voters, nodes)
	}
	list, err := h.Nodes()
	if err != nil {
		return 0, err
	}
	for _, n := range list {
		if n.Session == 0 {
			return 0, fmt.Errorf("%s has no session", n.Name)
		}
	}
	placement, err := h.Placement()
	if err != nil {
		return 0, err
	}
	for _, p := range placement {
		for i := 1; i <= nodes; i++ {
			if p.IP == h.address.String() && p.Owner() == h.NodeName(i) {
				return i, nil
			}
		}
	}
	return 0, fmt.Errorf("%s has no owner", h.address)
}

func (h *havip) Lead() (int, error) { return h.Leader() }

func (h *havip) Move(to int) error {
	_, err := h.CLI(to, "havip", "move", "h00000", "--to", h.NodeName(to))
	return err
}

func (h *havip) Restart(node int) error { return h.Cluster.Start(node) }

func (h *havip) Signal(node int, sig syscall.Signal) error { return h.Kill(node, sig) }

// Processes are the guard and the agent.
func (h *havip) Processes(node int) ([]int, error) {
	guard, err := h.GuardPID(node)
	if err != nil {
		return nil, err
	}
	agent, err := h.AgentPID(node)
	return []int{guard, agent}, err
}

func (h *havip) Tail() string {
	var all strings.Builder
	for i := range h.Lab.Nodes() {
		fmt.Fprintf(&all, "--- %s\n%s\n", h.NodeName(i+1), h.Cluster.Tail(i+1))
	}
	return all.String()
}
