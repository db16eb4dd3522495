package main

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/membership/identity"
)

// The guard is not seen: the agent's one sentence, the agent's exit code.
func TestGuardPassesTheEndOn(t *testing.T) {
	spec, err := identity.NewCluster(identity.Settings{
		Name: "n1", Advertise: netip.MustParseAddr("127.0.0.1"), Ports: identity.DefaultPorts, Profile: identity.ProfileLAN,
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "d")
	if err := identity.Create(dir, spec); err != nil {
		t.Fatal(err)
	}
	unlock, err := identity.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"", "--no-guard", "--cleanup"} {
		args := slices.DeleteFunc([]string{"havip-cluster", "agent", flag, "--data-dir", dir}, func(s string) bool { return s == "" })
		cmd := &exec.Cmd{Path: self, Args: args}
		out, err := cmd.CombinedOutput()
		exit, _ := errors.AsType[*exec.ExitError](err)
		if exit == nil || exit.ExitCode() != 1 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "is held by") {
			t.Errorf("agent %s: %v: %s", flag, err, out)
		}
	}
}
