package testbed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// isolatedEnv marks the process that Isolate started.
const isolatedEnv = "HAVIP_ISOLATED"

// Isolate runs this very program once more, with the same arguments, in a mount namespace
// of its own, so that whatever it and its agents mount is gone when they are. A user who
// is not root gets a user namespace as well, in which he is.
//
// In the outer process it returns done and the exit code, when the inner one has ended.
// In the inner one it returns at once, not done.
func Isolate() (code int, done bool, err error) {
	if os.Getenv(isolatedEnv) != "" {
		return 0, false, nil
	}
	self, err := os.Executable()
	if err != nil {
		return 0, false, fmt.Errorf("testbed: %w", err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), isolatedEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Unshareflags = 0
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		if os.Getuid() != 0 {
			return 0, false, fmt.Errorf("testbed: this needs root, or user namespaces for ordinary users, which this host does not allow: %w", err)
		}
		return 0, false, fmt.Errorf("testbed: %w", err)
	}
	go func() {
		for sig := range signals {
			_ = cmd.Process.Signal(sig)
		}
	}()
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), true, nil
	}
	return 0, true, err
}
