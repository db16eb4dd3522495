package netns

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ports and times of a cluster under test.
const (
	apiPort     = 7400
	cliWait     = 30 * time.Second // one command; then it is killed
	readyWait   = 20 * time.Second // a node's way into the cluster
	stopWait    = 20 * time.Second // SIGTERM to exit; then SIGKILL. An agent tries to hand over for 10 s
	stackWait   = 300 * time.Millisecond
	pollEvery   = 10 * time.Millisecond
	logTailSize = 8 << 10 // bytes of each agent's log that a failed test shows
)

// ErrTimeout is returned by the waiting methods of Cluster when the time has run out.
var ErrTimeout = errors.New("netns: timed out")

// ErrNoLeader is returned by Leader while no node says that it leads.
var ErrNoLeader = errors.New("netns: cluster has no leader")

// CLIError is a command of the binary that did not exit with 0.
type CLIError struct {
	Args   []string
	Code   int // exit code; -1: ended by a signal
	Stderr string
}

func (e *CLIError) Error() string {
	return fmt.Sprintf("havip-cluster %s: exit code %d: %s", strings.Join(e.Args, " "), e.Code, strings.TrimSpace(e.Stderr))
}

// Cluster runs real agents, one per node of a lab, as child processes in the nodes' namespaces.
// Nodes are numbered from 1, as in Lab, and called node-1, node-2, ...
type Cluster struct {
	Lab     *Lab
	Binary  string        // path of havip-cluster
	Dir     string        // data directories DIR/nodeN and logs DIR/nodeN.log
	Profile string        // of bootstrap; NewCluster sets lan
	Lease   time.Duration // of bootstrap; 0: that of the profile
	Env     []string      // in addition to this process's
	// AgentArgs are further flags of the agents.
	AgentArgs []string
	// Environment is that of the agents; commands run in InHost. NewCluster sets InNetnsExec.
	Environment Environment
	// Image is that of InImage.
	Image *Image
	// Roots are those of InRoot, one for each node, with the package installed: program, unit and data directory are there.
	Roots []string
	// Unit is the path of the unit file, for InUnit and InRunc.
	Unit string

	mu         sync.Mutex
	agents     map[int]*agent
	shifted    map[int]int64 // see ShiftClock
	containers int           // of runc, so far
}

// agent is the process that Start started: the guard of the agent proper, or an agent without one.
type agent struct {
	cmd     *exec.Cmd
	done    chan struct{} // closed when it has been waited for
	err     error         // of Wait; valid once done
	left    *process      // the agent that outlived its guard; nil: none
	pidFile string        // of runc: the guard is its child; "": cmd is the guard
}

// ErrRuns is returned by Start for a node whose agent has not ended.
var ErrRuns = errors.New("netns: the agent already runs")

// NewCluster describes a cluster; nothing runs yet.
func NewCluster(l *Lab, binary, dir string) *Cluster {
	return &Cluster{Lab: l, Binary: binary, Dir: dir, Profile: "lan", Environment: InNetnsExec, agents: map[int]*agent{}, shifted: map[int]int64{}}
}

// NodeName is the cluster's name of node i.
func (c *Cluster) NodeName(i int) string { return c.Lab.Node(i).Name }

// DataDir is the data directory of node i.
func (c *Cluster) DataDir(i int) string {
	if root := c.root(i); root != "" {
		return filepath.Join(root, rootData)
	}
	return filepath.Join(c.Dir, fmt.Sprintf("node%d", i))
}

// LogPath is the file with everything that the agents of node i wrote to stderr and stdout.
func (c *Cluster) LogPath(i int) string { return filepath.Join(c.Dir, fmt.Sprintf("node%d.log", i)) }

// command prepares a command of the binary at node i.
func (c *Cluster) command(i int, args ...string) *exec.Cmd {
	program := append([]string{c.Binary, "--data-dir", c.DataDir(i)}, args...)
	if root := c.root(i); root != "" { // as an operator types it there
		program = append([]string{"chroot", root, rootProgram}, args...)
	}
	cmd := c.Lab.Node(i).Command(program[0], program[1:]...)
	cmd.Env = append(os.Environ(), c.Env...)
	return cmd
}

// CLI runs a command at node i, with the node's data directory and so against its agent, and
// returns its stdout. A command that ends with another code than 0 is a *CLIError.
func (c *Cluster) CLI(i int, args ...string) ([]byte, error) {
	return c.output(i, c.command(i, args...), args)
}

func (c *Cluster) output(i int, cmd *exec.Cmd, args []string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // for pipes that a grandchild holds open
	if err := c.Lab.Node(i).Start(cmd); err != nil {
		return nil, fmt.Errorf("netns: start %s: %w", c.Binary, err)
	}
	timer := time.AfterFunc(cliWait, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return stdout.Bytes(), &CLIError{Args: args, Code: exit.ExitCode(), Stderr: stderr.String()}
	}
	return stdout.Bytes(), err
}

// query runs a command with -o json and decodes its one document into v.
func (c *Cluster) query(i int, v any, args ...string) error {
	out, err := c.CLI(i, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("netns: havip-cluster %s: %w in %q", strings.Join(args, " "), err, out)
	}
	return nil
}

// Bootstrap makes the first node, starts its agent and waits until it leads.
func (c *Cluster) Bootstrap() error {
	args := []string{"bootstrap", "--node", c.NodeName(1), "--advertise", c.Lab.Node(1).IP(0).String(), "--profile", c.Profile}
	if c.Lease > 0 {
		args = append(args, "--lease", c.Lease.String())
	}
	if _, err := c.CLI(1, args...); err != nil {
		return err
	}
	if err := c.Start(1); err != nil {
		return err
	}
	return c.wait("leader", readyWait, func() error { _, err := c.Leader(); return err })
}

// Join adds node i as role (voter, witness or agent) with a token from node 1, starts its agent and
// waits until the cluster calls it alive.
func (c *Cluster) Join(i int, role string) error { return c.JoinVia(1, i, role) }

// JoinVia is Join with the token and the first answer of another node than node 1.
func (c *Cluster) JoinVia(via, i int, role string) error {
	var added struct {
		Token string `json:"token"`
	}
	if err := c.query(via, &added, "node", "add", c.NodeName(i), "--role", role); err != nil {
		return err
	}
	peer := fmt.Sprintf("%v:%d", c.Lab.Node(via).IP(0), apiPort)
	if _, err := c.CLI(i, "join", "--node", c.NodeName(i), "--advertise", c.Lab.Node(i).IP(0).String(), "--token", added.Token, peer); err != nil {
		return err
	}
	if err := c.Start(i); err != nil {
		return err
	}
	return c.wait(c.NodeName(i)+" alive", readyWait, func() error {
		nodes, err := c.Nodes()
		for _, n := range nodes {
			if n.Name == c.NodeName(i) && n.Status == "alive" {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("nodes: %+v", nodes))
	})
}

// JoinAll adds the lab's other nodes as voters, one after the other.
func (c *Cluster) JoinAll() error {
	for i := 2; i <= len(c.Lab.Nodes()); i++ {
		if err := c.Join(i, "voter"); err != nil {
			return err
		}
	}
	return nil
}

// Start starts the agent of node i; its output is appended to the node's log. It does not wait for
// the agent to be ready.
func (c *Cluster) Start(i int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.agents[i]; a != nil && !a.ended() {
		return fmt.Errorf("%w: %s", ErrRuns, c.NodeName(i))
	}
	log, err := os.OpenFile(c.LogPath(i), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("netns: agent's log: %w", err)
	}
	defer log.Close() // the child has its own
	a := &agent{cmd: c.agentCommand(i), done: make(chan struct{})}
	if err := c.wrap(a.cmd, i, c.Environment); err != nil {
		return err
	}
	if c.Environment == InRunc || c.Environment == InImage {
		a.pidFile = filepath.Join(c.DataDir(i)+".runc", "pid")
	}
	a.cmd.Stdout, a.cmd.Stderr = log, log
	if err := c.Lab.Node(i).Start(a.cmd); err != nil {
		return fmt.Errorf("netns: agent of %s: %w", c.NodeName(i), err)
	}
	c.agents[i] = a
	go func() { a.err = a.cmd.Wait(); close(a.done) }() // ends with the process
	return a.awaitGuard()
}

func (a *agent) ended() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

func (c *Cluster) agent(i int) (*agent, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.agents[i]; a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("netns: %s has no agent", c.NodeName(i))
}

// Running reports whether the agent's guard lives, and so the agent or what the guard does after its
// death; stopped ones (SIGSTOP) count.
func (c *Cluster) Running(i int) bool {
	a, err := c.agent(i)
	return err == nil && !a.ended()
}

// Stop ends the agent of node i in an orderly way and returns what it ended with: nil for exit code 0.
// An agent that needs longer than stopWait is killed, which is an error.
func (c *Cluster) Stop(i int) error {
	a, err := c.agent(i)
	if err != nil || a.ended() {
		return err
	}
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("netns: stop %s: %w", c.NodeName(i), err)
	}
	select {
	case <-a.done:
		return a.err
	case <-time.After(stopWait):
		if pid, err := c.AgentPID(i); err == nil {
			_ = unix.Kill(pid, unix.SIGQUIT) // its stacks, into the log
			time.Sleep(stackWait)
		}
		_ = c.Kill(i, syscall.SIGKILL)
		return fmt.Errorf("%w: %s did not stop within %v of SIGTERM", ErrTimeout, c.NodeName(i), stopWait)
	}
}

// Restart stops the agent of node i if it runs, and starts it again.
func (c *Cluster) Restart(i int) error {
	if err := c.Stop(i); err != nil {
		return err
	}
	return c.Start(i)
}

// Close kills all agents and waits for them. It leaves data directories and logs.
func (c *Cluster) Close() error {
	for i := range c.Lab.Nodes() {
		c.killLeft(i + 1)
		if c.Running(i + 1) {
			if err := c.Kill(i+1, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
		}
		// A killed agent leaves its pinned fence, and so its mount, on purpose.
		_ = unix.Unmount(filepath.Join(c.DataDir(i+1), "bpf"), unix.MNT_DETACH)
	}
	return nil
}

// TB is what LogOnFailure needs of testing.TB; this package is no test and must not pull in testing.
type TB interface {
	Cleanup(func())
	Error(...any)
	Failed() bool
	Logf(string, ...any)
}

// LogOnFailure shows the end of every agent's log if the test fails, and closes the cluster when the
// test ends.
func (c *Cluster) LogOnFailure(t TB) {
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if !t.Failed() {
			return
		}
		for i := range c.Lab.Nodes() {
			t.Logf("--- %s, end of its log:\n%s", c.NodeName(i+1), c.Tail(i+1))
		}
	})
}

// Tail is the end of the log of node i's agents.
func (c *Cluster) Tail(i int) string {
	file, err := os.Open(c.LogPath(i))
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > logTailSize {
		_, _ = file.Seek(-logTailSize, io.SeekEnd)
	}
	tail, err := io.ReadAll(file)
	if err != nil {
		return err.Error()
	}
	return string(tail)
}
