package health

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"

	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
	"havip-cluster/internal/program"
	"havip-cluster/internal/rootonly"
)

// DefaultDirectory is where root puts the programs of checks of type exec.
const DefaultDirectory = "/etc/havip-cluster/checks.d"

// Programs are what checks of type exec may run on this node: the key `checks` of the agent's
// configuration. The cluster knows the names alone.
type Programs struct {
	// Directory holds the programs; "" = DefaultDirectory.
	Directory string `yaml:"directory,omitempty"`
	// Programs says, by name, what is different from the program of that name, as user nobody.
	Programs map[string]Program `yaml:"programs,omitempty"`
}

// Program is how one is run.
type Program struct {
	// Path is below the directory; "" = the name.
	Path string   `yaml:"path,omitempty"`
	Args []string `yaml:"args,omitempty"`
	// User runs it; "" = nobody.
	User string `yaml:"user,omitempty"`
}

// programOutput is how much of what a program wrote is looked at, in bytes.
const programOutput = 4096

// Check refuses a configuration that could not be run. That a program is not there yet is no
// fault of the configuration: the check says so.
func (p Programs) Check() error {
	if p.Directory != "" && !filepath.IsAbs(p.Directory) {
		return fmt.Errorf("checks: directory: %q is no absolute path", p.Directory)
	}
	for name, x := range p.Programs {
		if x.Path != "" && !filepath.IsLocal(x.Path) {
			return fmt.Errorf("checks: programs: %s: path: %q is not below the directory: put the program, or a link to it, into %s", name, x.Path, cmp.Or(p.Directory, DefaultDirectory))
		}
		if x.User != "" {
			if _, err := user.Lookup(x.User); err != nil {
				return fmt.Errorf("checks: programs: %s: user: %w", name, err)
			}
		}
	}
	return nil
}

// of is how the program of a check is run here, with its whole path.
func (p Programs) of(k fsm.Check) Program {
	if k.Type != fsm.CheckExec {
		return Program{}
	}
	x := p.Programs[k.Target]
	x.Path = filepath.Join(cmp.Or(p.Directory, DefaultDirectory), cmp.Or(x.Path, k.Target))
	return x
}

// programProbe is good when the program ends with 0.
func programProbe(p Program, places slots) Probe {
	return func(ctx context.Context) (string, error) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			return "", fmt.Errorf("%w: %d programs of other checks run at this time", ErrSkipped, cap(places))
		}
		path, err := rootonly.Program(p.Path)
		if err != nil {
			return "", err
		}
		who, err := program.Credential(p.User)
		if err != nil {
			return "", err
		}
		return execute(ctx, path, p.Args, who)
	}
}

func execute(ctx context.Context, path string, args []string, who *syscall.Credential) (string, error) {
	out, err := program.Execute(ctx, program.Run{Path: path, Args: args, User: who, Keep: programOutput, Most: limits.CheckRead})
	switch {
	case ctx.Err() != nil:
		return "it was killed, no end", ctx.Err()
	case errors.Is(err, program.ErrExit):
		return firstLine(out.Text), err
	case err != nil:
		return "", err
	}
	return firstLine(out.Text), nil
}

func firstLine(text []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
	return strings.TrimSpace(string(line))
}
