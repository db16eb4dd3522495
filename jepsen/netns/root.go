package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// What a package puts into a root.
const (
	rootProgram = "/usr/bin/havip-cluster"
	rootUnit    = "/usr/lib/systemd/system/havip-cluster.service"
	rootData    = "/var/lib/havip-cluster"
)

// root is the file system of node i's own, "" without one.
func (c *Cluster) root(i int) string {
	if i <= len(c.Roots) {
		return c.Roots[i-1]
	}
	return ""
}

// startOf are the words of ExecStart in the unit that is installed in node i's root: what the service manager would start.
func (c *Cluster) startOf(i int) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(c.root(i), rootUnit))
	if err != nil {
		return nil, fmt.Errorf("netns: %s has no unit: %w", c.NodeName(i), err)
	}
	for line := range strings.Lines(string(text)) {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart="); ok {
			return strings.Fields(command), nil
		}
	}
	return nil, fmt.Errorf("netns: the unit of %s starts nothing", c.NodeName(i))
}

// InsideRoot runs a program of node i's root there, in the node's network, and returns its stdout.
func (c *Cluster) InsideRoot(i int, name string, args ...string) ([]byte, error) {
	cmd := c.Lab.Node(i).Command(name, args...)
	cmd.Path, cmd.Err, cmd.Env = name, nil, os.Environ() // it is looked for inside
	return c.within(InRoot, i, cmd, append([]string{name}, args...))
}

// wrapRoot completes the entry of a command in node i's root. An agent is given what the installed unit takes from it.
func (c *Cluster) wrapRoot(cmd *exec.Cmd, i int, e *entry) (err error) {
	e.Root, e.Path, e.Keep, e.Write = c.root(i), cmd.Path, nil, nil
	if e.Root == "" {
		return fmt.Errorf("netns: %s has no root", c.NodeName(i))
	}
	start, err := c.startOf(i)
	if err != nil || len(cmd.Args) < len(start) || strings.Join(cmd.Args[:len(start)], " ") != strings.Join(start, " ") {
		return nil // no agent; a root without a unit has none to start
	}
	e.Write = []string{rootData}
	e.Sandbox, err = ReadUnit(filepath.Join(e.Root, rootUnit))
	return err
}

// enterRoot makes a folder the root of this process, in a mount namespace of its own, with the machine's processes and
// devices and its network's /sys.
func enterRoot(root string) error {
	errs := []error{unix.Mount(root, root, "", unix.MS_BIND|unix.MS_REC, "")}
	for path, kind := range map[string]string{"proc": "proc", "sys": "sysfs"} {
		errs = append(errs, unix.Mount("havip-"+path, filepath.Join(root, path), kind, 0, ""))
	}
	errs = append(errs, unix.Mount("/dev", filepath.Join(root, "dev"), "", unix.MS_BIND|unix.MS_REC, ""))
	errs = append(errs, unix.Chdir(root), unix.Chroot("."), unix.Chdir("/"))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("netns: root %s: %w", root, err)
	}
	return nil
}
