package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Environment is what an agent sees of its machine besides the network.
type Environment string

// The environments, from the most to the least open.
const (
	// InHost is the mount namespace of this process: files and mounts are shared with all.
	InHost Environment = "host"
	// InUnshare is a mount namespace of its own, as of unshare -m: a copy, in which what is
	// mounted later ends with the last process.
	InUnshare Environment = "unshare-m"
	// InNetnsExec is that of ip netns exec: a mount namespace of its own with a new /sys,
	// without a bpffs and control groups below it.
	InNetnsExec Environment = "netns-exec"
	// InRunc is a container of runc(8) with the host's network: a read-only root, no bpffs, and
	// of the capabilities those of the unit file. It needs root.
	InRunc Environment = "runc"
	// InImage is a container of runc(8) from Cluster.Image, as its compose file says; only agents
	// run there. It needs root.
	InImage Environment = "image"
	// InRoot is a root file system of the node's own (Cluster.Roots), for agents with the restrictions of
	// the unit that is installed there. It needs root.
	InRoot Environment = "root"
	// InUnit has the restrictions of the unit file (Cluster.Unit), rebuilt without systemd:
	// mounts, capabilities, system call filter. It needs root.
	InUnit Environment = "unit"
)

// Environments are all of them that run any program.
func Environments() []Environment {
	return []Environment{InHost, InNetnsExec, InUnshare, InRunc, InUnit}
}

const (
	enterEnv = "HAVIP_ENTER" // an entry, as JSON: this process is only the way to a command
	// enteredWait bounds the way of runc into its container.
	enteredWait = 60 * time.Second
)

// reenters: this program, started once more, comes to enter.
var reenters atomic.Bool

// entry is a command and what is to be done before it replaces this process.
type entry struct {
	Kind    Environment
	Path    string // of the command, absolute
	Argv    []string
	Keep    []string // folders that stay visible, whatever is mounted over them
	Write   []string // those of Keep that can be written to
	Sandbox *Sandbox // InUnit, and agents InRoot
	Root    string   // InRoot
}

// wrap makes a command of the binary run in an environment. id names a container; it is unique
// in the machine.
func (c *Cluster) wrap(cmd *exec.Cmd, i int, in Environment) error {
	if in == InHost || in == "" {
		return nil
	}
	path, err := filepath.Abs(cmd.Path)
	if err != nil {
		return fmt.Errorf("netns: %w", err)
	}
	e := entry{Kind: in, Path: path, Argv: cmd.Args, Keep: []string{filepath.Dir(path), filepath.Dir(c.Binary), c.Dir}, Write: []string{c.DataDir(i)}}
	if in == InUnit || in == InRunc {
		unit, err := ReadUnit(c.Unit)
		if err != nil {
			return err
		}
		e.Sandbox = unit
		if err := os.MkdirAll(c.DataDir(i), 0o700); err != nil {
			return fmt.Errorf("netns: %w", err)
		}
	}
	if in == InRoot {
		if err := c.wrapRoot(cmd, i, &e); err != nil {
			return err
		}
	}
	if in == InImage {
		if c.Image == nil {
			return errors.New("netns: no image")
		}
		if err := os.MkdirAll(c.DataDir(i), 0o700); err != nil {
			return fmt.Errorf("netns: %w", err)
		}
	}
	if in == InRunc || in == InImage {
		return c.wrapRunc(cmd, i, e)
	}
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, enterEnv+"="+string(text))
	if !reenters.Load() {
		return fmt.Errorf("netns: environment %s needs a program that has called Isolate", in)
	}
	cmd.Path, cmd.Args = "/proc/self/exe", os.Args
	cmd.SysProcAttr.Unshareflags |= syscall.CLONE_NEWNS
	return nil
}

// In is CLI in an environment, with a mount namespace of its own unless that is InHost.
func (c *Cluster) In(in Environment, i int, args ...string) ([]byte, error) {
	return c.within(in, i, c.command(i, args...), args)
}

// RunIn runs any program at node i in an environment and returns its stdout. One that ends with
// another code than 0 is a *CLIError.
func (c *Cluster) RunIn(in Environment, i int, name string, args ...string) ([]byte, error) {
	cmd := c.Lab.Node(i).Command(name, args...)
	cmd.Env = os.Environ()
	return c.within(in, i, cmd, append([]string{name}, args...))
}

func (c *Cluster) within(in Environment, i int, cmd *exec.Cmd, args []string) ([]byte, error) {
	c.mu.Lock()
	err := c.wrap(cmd, i, in)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return c.output(i, cmd, args)
}

// guard is the process at node i that agents run under: the one that Start started, or its only
// child where that is runc. Zero while there is none.
func (a *agent) guard() int {
	if a.pidFile == "" {
		return a.cmd.Process.Pid
	}
	text, err := os.ReadFile(a.pidFile)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// awaitGuard waits for runc's container.
func (a *agent) awaitGuard() error {
	for end := time.Now().Add(enteredWait); a.guard() == 0; time.Sleep(pollEvery) {
		if a.ended() || time.Now().After(end) {
			return fmt.Errorf("%w: no container after %v", ErrTimeout, enteredWait)
		}
	}
	return nil
}
