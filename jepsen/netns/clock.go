package netns

import (
	"os"
	"os/exec"
	"strconv"
)

// ShiftClock makes the next agents of node i live in a time namespace of their own, in which
// CLOCK_MONOTONIC and CLOCK_BOOTTIME are ahead by some seconds (0: none), as on a host that was booted
// earlier. So a time of one node that another one takes for its own is noticed. The wall clock
// has no namespaces.
//
// eBPF programs see the machine's clock; the agent notices the difference and uses nftables. It
// needs unshare(1) of util-linux 2.36, and Linux 5.18, which lets exec enter the namespace.
func (c *Cluster) ShiftClock(i int, seconds int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shifted[i] = seconds
}

// agentCommand is the command of Start. Called with mu held.
func (c *Cluster) agentCommand(i int) *exec.Cmd {
	args := append([]string{"agent"}, c.AgentArgs...)
	if start, err := c.startOf(i); c.root(i) != "" && err == nil {
		cmd := c.Lab.Node(i).Command(start[0], append(start[1:], c.AgentArgs...)...)
		cmd.Path, cmd.Err = start[0], nil // it is looked for inside
		cmd.Env = append(os.Environ(), c.Env...)
		return cmd
	}
	seconds := c.shifted[i]
	if seconds == 0 {
		return c.command(i, args...)
	}
	offset := strconv.FormatInt(seconds, 10)
	args = append([]string{"--time", "--boottime", offset, "--monotonic", offset, "--", c.Binary, "--data-dir", c.DataDir(i)}, args...)
	cmd := c.Lab.Node(i).Command("unshare", args...)
	cmd.Env = append(os.Environ(), c.Env...)
	return cmd
}
