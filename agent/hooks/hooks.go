// Package hooks runs the operator's programs when a HAVIP comes, goes or cannot be served.
package hooks

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"havip-cluster/failover"
)

const (
	defaultTimeout = 10 * time.Second // unless the configuration says otherwise
	timeoutMin     = 100 * time.Millisecond
	timeoutMax     = 10 * time.Minute
)

// Config is the key `hooks` of the agent's configuration.
type Config struct {
	All Commands `yaml:",inline"`
	// HAVIPs has, by name, what is different for one HAVIP.
	HAVIPs map[string]Commands `yaml:"havips,omitzero"`
}

// Commands are the programs to run, with their arguments. A key that is absent is
// inherited, or no hook at all; an empty list is no hook.
type Commands struct {
	OnAcquire []string      `yaml:"on-acquire,omitzero"`
	OnRelease []string      `yaml:"on-release,omitzero"`
	OnFault   []string      `yaml:"on-fault,omitzero"`
	Timeout   time.Duration `yaml:"timeout,omitzero"`
}

func (c Commands) of(kind failover.ChangeKind) []string {
	switch kind {
	case failover.Acquired:
		return c.OnAcquire
	case failover.Released:
		return c.OnRelease
	case failover.Faulted:
		return c.OnFault
	}
	return nil
}

// find returns what to run for a HAVIP, nothing if there is no hook, and for how long at most.
func (c Config) find(havip string, kind failover.ChangeKind) (command []string, timeout time.Duration) {
	own := c.HAVIPs[havip]
	if command = own.of(kind); command == nil {
		command = c.All.of(kind)
	}
	for _, timeout = range []time.Duration{own.Timeout, c.All.Timeout, defaultTimeout} {
		if timeout != 0 {
			break
		}
	}
	return command, timeout
}

// Check refuses what could not be run, or what more than root could change.
func (c Config) Check() error {
	if err := c.All.check("hooks"); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.HAVIPs)) {
		if err := c.HAVIPs[name].check("hooks: havips: " + name); err != nil {
			return err
		}
	}
	return nil
}

func (c Commands) check(where string) error {
	if c.Timeout != 0 && (c.Timeout < timeoutMin || c.Timeout > timeoutMax) {
		return fmt.Errorf("%s: timeout: %s is not between %s and %s", where, c.Timeout, timeoutMin, timeoutMax)
	}
	for _, kind := range []failover.ChangeKind{failover.Acquired, failover.Released, failover.Faulted} {
		command := c.of(kind)
		if len(command) == 0 {
			continue
		}
		if _, err := trusted(command[0]); err != nil {
			return fmt.Errorf("%s: on-%s: %w", where, kind, err)
		}
	}
	return nil
}

// trusted returns the program that a path leads to. It runs with the agent's rights, so
// nobody but root may be able to change it or to put another one in its place.
func trusted(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q is no absolute path", path)
	}
	program, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(program)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file", program)
	case info.Mode()&0o111 == 0:
		return "", fmt.Errorf("%s is not executable: chmod 755 it", program)
	}
	for part := program; ; part = filepath.Dir(part) {
		if err := onlyRoot(part); err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		if part == "/" {
			return program, nil
		}
	}
}

// onlyRoot refuses a file or directory that others may change. In a sticky directory, such
// as /tmp, they cannot touch what is root's.
func onlyRoot(part string) error {
	info, err := os.Lstat(part)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 0 {
		return fmt.Errorf("%s is not owned by root: chown root it", part)
	}
	if info.Mode()&0o022 != 0 && info.Mode()&(fs.ModeDir|fs.ModeSticky) != fs.ModeDir|fs.ModeSticky {
		return fmt.Errorf("%s may be written by others than root: chmod go-w it", part)
	}
	return nil
}
