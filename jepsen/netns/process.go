package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"havip-cluster/testbed"
)

// A node runs two processes: the guard, which Start started, and its child, the agent.

// process is one that is nobody's child here.
type process struct {
	handle *os.Process   // stays with it, whoever gets its number later
	gone   chan struct{} // closed when it has exited
}

func openProcess(pid int) (*process, error) {
	handle, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("netns: process %d: %w", pid, err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("netns: process %d: %w", pid, err)
	}
	p := &process{handle: handle, gone: make(chan struct{})}
	go func() { testbed.AwaitExit(fd); close(p.gone) }() // ends with the process
	return p, nil
}

// GuardPID is the process that Start started at node i.
func (c *Cluster) GuardPID(i int) (int, error) {
	a, err := c.agent(i)
	if err != nil {
		return 0, err
	}
	if a.ended() {
		return 0, fmt.Errorf("netns: guard of %s: %w", c.NodeName(i), os.ErrProcessDone)
	}
	if pid := a.guard(); pid != 0 {
		return pid, nil
	}
	return 0, fmt.Errorf("netns: guard of %s: not started yet", c.NodeName(i))
}

// AgentPID is the agent proper at node i: the guard's only child.
func (c *Cluster) AgentPID(i int) (int, error) {
	guard, err := c.GuardPID(i)
	if err != nil {
		return 0, err
	}
	children, err := Children(guard)
	if err != nil || len(children) == 0 {
		return 0, errors.Join(err, fmt.Errorf("netns: guard of %s has no child", c.NodeName(i)))
	}
	return children[0], nil
}

// Children are the child processes of a process. Its threads have children each (proc_pid_children(5)).
func Children(pid int) (children []int, err error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("netns: %s: %w", list, err)
			}
			children = append(children, child)
		}
	}
	return children, nil
}

// openAgent is the agent proper at node i; nil if the process that Start started has no child.
func (c *Cluster) openAgent(i int) *process {
	pid, err := c.AgentPID(i)
	if err != nil {
		return nil
	}
	p, err := openProcess(pid)
	if err != nil {
		return nil
	}
	return p
}

// Kill sends a signal to node i. SIGKILL, SIGSTOP and SIGCONT meet guard and agent together, as they
// meet a process group; after SIGKILL it waits until both are gone. Any other goes to the guard
// alone, as from a service manager.
func (c *Cluster) Kill(i int, sig syscall.Signal) error {
	a, err := c.agent(i)
	if err != nil {
		return err
	}
	if sig != syscall.SIGKILL && sig != syscall.SIGSTOP && sig != syscall.SIGCONT {
		err = a.cmd.Process.Signal(sig)
	} else if a.ended() {
		err = os.ErrProcessDone
	} else {
		err = c.killBoth(i, a, sig)
	}
	if err != nil {
		return fmt.Errorf("netns: signal to %s: %w", c.NodeName(i), err)
	}
	return nil
}

func (c *Cluster) killBoth(i int, a *agent, sig syscall.Signal) error {
	var child *process
	if sig == syscall.SIGKILL {
		child = c.openAgent(i)
	}
	guard := a.guard()
	if guard == 0 {
		return os.ErrProcessDone
	}
	if err := unix.Kill(-guard, sig); err != nil { // Start, or runc, made it the leader of a group
		return err
	}
	if sig == syscall.SIGKILL {
		<-a.done
		if child != nil {
			<-child.gone
		}
	}
	return nil
}

// KillAgent kills the agent proper at node i with SIGKILL and waits until it is dead. Its guard goes on.
func (c *Cluster) KillAgent(i int) error {
	pid, err := c.AgentPID(i)
	if err != nil {
		return err
	}
	p, err := openProcess(pid)
	if err != nil {
		return err
	}
	if err := p.handle.Kill(); err != nil {
		return fmt.Errorf("netns: agent of %s: %w", c.NodeName(i), err)
	}
	<-p.gone
	return nil
}

// KillGuard kills the guard at node i with SIGKILL. The channel is closed when the agent has ended,
// which it does by itself.
func (c *Cluster) KillGuard(i int) (agentGone <-chan struct{}, err error) {
	a, err := c.agent(i)
	if err != nil {
		return nil, err
	}
	child := c.openAgent(i)
	if child == nil {
		return nil, fmt.Errorf("netns: guard of %s has no child", c.NodeName(i))
	}
	c.mu.Lock()
	a.left = child
	c.mu.Unlock()
	if err := unix.Kill(a.guard(), unix.SIGKILL); err != nil {
		return nil, fmt.Errorf("netns: guard of %s: %w", c.NodeName(i), err)
	}
	<-a.done
	return child.gone, nil
}

// killLeft kills an agent that has outlived its guard.
func (c *Cluster) killLeft(i int) {
	a, err := c.agent(i)
	if err != nil {
		return
	}
	c.mu.Lock()
	left := a.left
	c.mu.Unlock()
	if left == nil {
		return
	}
	if err := left.handle.Kill(); err == nil || errors.Is(err, os.ErrProcessDone) {
		<-left.gone
	}
}

// AwaitEnd waits until neither guard nor agent of node i is left, at most stopWait.
func (c *Cluster) AwaitEnd(i int) error {
	return c.wait("end of "+c.NodeName(i), stopWait, func() error {
		if !c.Gone(i) {
			return fmt.Errorf("%s still runs", c.NodeName(i))
		}
		return nil
	})
}

// Gone reports whether neither guard nor agent of node i is left.
func (c *Cluster) Gone(i int) bool {
	a, err := c.agent(i)
	if err != nil {
		return true
	}
	c.mu.Lock()
	left := a.left
	c.mu.Unlock()
	if left != nil {
		select {
		case <-left.gone:
		default:
			return false
		}
	}
	return a.ended()
}
