package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// containerFolders are those of the machine that a container sees, read-only: what a shell and a
// program with shared libraries need.
var containerFolders = []string{"/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"}

type (
	object = map[string]any
	mount  struct {
		Destination string   `json:"destination"`
		Type        string   `json:"type,omitempty"`
		Source      string   `json:"source"`
		Options     []string `json:"options,omitempty"`
	}
)

// wrapRunc writes a bundle for e and makes cmd run it.
func (c *Cluster) wrapRunc(cmd *exec.Cmd, i int, e entry) error {
	runc, err := exec.LookPath("runc")
	if err != nil {
		return fmt.Errorf("netns: runc is needed (package runc): %w", err)
	}
	bundle := c.DataDir(i) + ".runc"
	root := filepath.Join(bundle, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return fmt.Errorf("netns: bundle: %w", err)
	}
	pidFile := filepath.Join(bundle, "pid")
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("netns: bundle: %w", err)
	}
	// The network namespace is known by this process's descriptor alone.
	network := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), c.Lab.Node(i).Namespace())
	var config object
	if e.Kind == InImage {
		config, err = c.Image.container(c.DataDir(i), network, c.AgentArgs)
	} else if e.Sandbox.Capabilities, err = held(e.Sandbox.Capabilities); err == nil {
		config = container(e, cmd.Env, network)
	}
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o600); err != nil {
		return fmt.Errorf("netns: bundle: %w", err)
	}
	c.containers++
	id := fmt.Sprintf("havip-%d-%d-%d", os.Getpid(), i, c.containers)
	cmd.Path = runc
	cmd.Args = []string{runc, "--root", filepath.Join(bundle, "state"), "run", "--bundle", bundle, "--pid-file", pidFile, id}
	return nil
}

// container is the configuration of the OCI runtime specification, version 1.0.2: the host's
// network and processes, a read-only root, no bpffs.
func container(e entry, env []string, network string) object {
	mounts := []mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev"}},
	}
	for _, folder := range containerFolders {
		if _, err := os.Stat(folder); err == nil {
			mounts = append(mounts, mount{Destination: folder, Source: folder, Options: []string{"rbind", "ro"}})
		}
	}
	for _, folder := range e.Keep {
		mounts = append(mounts, mount{Destination: folder, Source: folder, Options: []string{"bind", "ro"}})
	}
	for _, folder := range e.Write {
		mounts = append(mounts, mount{Destination: folder, Source: folder, Options: []string{"bind", "rw"}})
	}
	caps := e.Sandbox.Capabilities
	return object{
		"ociVersion": "1.0.2",
		"process": object{
			"user": object{"uid": 0, "gid": 0}, "cwd": "/", "args": append([]string{e.Path}, e.Argv[1:]...), "env": env,
			"capabilities":    object{"bounding": caps, "effective": caps, "permitted": caps},
			"noNewPrivileges": true, "oomScoreAdj": 0,
		},
		"root":   object{"path": "root", "readonly": true},
		"mounts": mounts,
		"linux": object{
			"namespaces": []object{{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network", "path": network}},
		},
	}
}

// held are those of the named capabilities that this process has: runc fails to give others.
func held(names []string) (list []string, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, fmt.Errorf("netns: capabilities: %w", err)
	}
	for _, name := range names {
		n := capabilityNumber(name)
		if n < 0 {
			return nil, fmt.Errorf("netns: capability %q is not known", name)
		}
		if data[n/32].Permitted&(1<<(n%32)) != 0 {
			list = append(list, name)
		}
	}
	return list, nil
}
