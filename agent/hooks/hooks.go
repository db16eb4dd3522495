// Package hooks runs the operator's programs when a HAVIP comes, goes or cannot be served.
package hooks

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"havip-cluster/failover/owner"
	"havip-cluster/internal/rootonly"
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

func (c Commands) of(kind owner.ChangeKind) []string {
	switch kind {
	case owner.Acquired:
		return c.OnAcquire
	case owner.Released:
		return c.OnRelease
	case owner.Faulted:
		return c.OnFault
	}
	return nil
}

// find returns what to run for a HAVIP, nothing if there is no hook, and for how long at most.
func (c Config) find(havip string, kind owner.ChangeKind) (command []string, timeout time.Duration) {
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
	for _, kind := range []owner.ChangeKind{owner.Acquired, owner.Released, owner.Faulted} {
		command := c.of(kind)
		if len(command) == 0 {
			continue
		}
		if _, err := rootonly.Program(command[0]); err != nil {
			return fmt.Errorf("%s: on-%s: %w", where, kind, err)
		}
	}
	return nil
}
