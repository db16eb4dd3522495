package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"havip-cluster/testbed/labtest"
)

// fakeBinary stands in for havip-cluster: it notes each call in $CALLS, with its namespace, and
// answers as the documented interface says. Files in $WORLD decide about leader and owner.
const fakeBinary = `#!/bin/sh
dir=$2; shift 2
echo "$(readlink /proc/self/ns/net) $*" >>"$CALLS"
case "$1 $2" in
bootstrap*|join*) mkdir "$dir" ;;
agent*)
	[ -e "$WORLD/stubborn" ] && trap '' TERM || trap 'echo bye >&2; exit 0' TERM
	echo "agent of $dir" >&2 # after the trap: whoever reads it may send a signal
	touch "$WORLD/ready"
	[ -e "$WORLD/guarded" ] && { trap - TERM; sleep 1000 & wait $!; exit 7; }
	while :; do sleep 0.02; done ;;
"node add") echo '{"node":"'"$3"'","role":"voter","token":"secret","command":"x"}' ;;
"node list") [ -e "$WORLD/ready" ] || { echo 'no agent' >&2; exit 3; }
	echo '[{"name":"node-1","role":"voter","status":"alive","leader":false,"havips":["web"]},
	{"name":"node-2","role":"voter","status":"alive","leader":true,"havips":[],"news":1}]' ;;
placement*) cat "$WORLD/placement" ;;
status*) echo '{}' ;;
garbage*) echo '{' ;;
*) echo "unknown verb $1" >&2; exit 2 ;;
esac
`

func newFakeCluster(t *testing.T) (c *Cluster, world string, calls func() []string) {
	t.Helper()
	l, dir := newLab(t, Options{Nodes: 2}), t.TempDir()
	binary := filepath.Join(dir, "fake")
	labtest.Must(t, os.WriteFile(binary, []byte(fakeBinary), 0o700))
	c = NewCluster(l, binary, dir)
	c.Env = []string{"CALLS=" + filepath.Join(dir, "calls"), "WORLD=" + dir}
	c.LogOnFailure(t)
	return c, dir, func() []string {
		text := labtest.Try(t, func() ([]byte, error) { return os.ReadFile(filepath.Join(dir, "calls")) })
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
}

func TestClusterForms(t *testing.T) {
	c, world, calls := newFakeCluster(t)
	labtest.Must(t, c.Bootstrap())
	labtest.Must(t, c.JoinAll())
	eventually(t, "the second agent does not start", func() bool { return strings.Contains(c.Tail(2), "agent of") })
	hosts := namespaces(t, append([]*Host{c.Lab.Switch()}, c.Lab.Nodes()...)...) // 0 is the switch
	var seen []string
	for _, call := range calls() {
		in, args, _ := strings.Cut(call, " ")
		at := slices.Index(hosts, in)
		if seen = append(seen, strings.Repeat("@", at)+args); at < 1 || at > 2 {
			t.Errorf("%q ran outside the nodes", call)
		}
	}
	for _, want := range []string{
		"@bootstrap --node node-1 --advertise 10.77.0.11 --profile lan", "@agent", "@node add node-2 --role voter -o json",
		"@@join --node node-2 --advertise 10.77.0.12 --token secret 10.77.0.11:7400", "@@agent", "@node list -o json",
	} {
		if !slices.Contains(seen, want) {
			t.Errorf("no call %q in %q", want, seen)
		}
	}
	if leader := labtest.Try(t, c.Leader); leader != 2 {
		t.Errorf("leader %d", leader)
	}
	labtest.Must(t, os.WriteFile(filepath.Join(world, "placement"), []byte(`[{"name":"web","state":"UNBIND","node":null,"epoch":1}]`), 0o600))
	if _, err := c.WaitOwned("web", 50*time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Errorf("without an owner: %v", err)
	}
	labtest.Must(t, os.WriteFile(filepath.Join(world, "placement"), []byte(`[{"name":"web","state":"AVAILABLE","node":"node-2","epoch":2}]`), 0o600))
	if owner := labtest.Try(t, func() (int, error) { return c.WaitOwned("web", long) }); owner != 2 {
		t.Errorf("owner %d", owner)
	}
	labtest.Must(t, c.Kill(2, syscall.SIGKILL))
	if _, err := c.WaitOwned("web", 50*time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Errorf("a dead owner counts: %v", err)
	}
}

func TestClusterSignals(t *testing.T) {
	c, world, _ := newFakeCluster(t)
	if err := c.Kill(1, syscall.SIGTERM); err == nil {
		t.Error("signal to an agent that never was")
	}
	labtest.Must(t, c.Start(1))
	eventually(t, "the agent does not start", func() bool { return strings.Contains(c.Tail(1), "agent of") })
	if err := c.Start(1); err == nil {
		t.Error("a second agent on one node")
	}
	labtest.Must(t, c.Kill(1, syscall.SIGSTOP))
	if !c.Running(1) {
		t.Error("a stopped agent counts as dead")
	}
	labtest.Must(t, c.Kill(1, syscall.SIGCONT))
	labtest.Must(t, c.Restart(1))
	eventually(t, "no second agent", func() bool { return strings.Count(c.Tail(1), "agent of") == 2 })
	if !strings.Contains(c.Tail(1), "bye") {
		t.Errorf("no orderly end in the log %q", c.Tail(1))
	}
	labtest.Must(t, c.Kill(1, syscall.SIGKILL))
	if c.Running(1) {
		t.Error("alive after SIGKILL")
	}
	labtest.Must(t, c.Stop(1)) // nothing to stop
	labtest.Must(t, os.WriteFile(filepath.Join(world, "stubborn"), nil, 0o600))
	labtest.Must(t, c.Start(1))
	labtest.Must(t, c.Close())
	if c.Running(1) {
		t.Error("alive after Close")
	}
}

func TestClusterGuards(t *testing.T) {
	c, world, _ := newFakeCluster(t)
	labtest.Must(t, os.WriteFile(filepath.Join(world, "guarded"), nil, 0o600))
	agent := func() int {
		t.Helper()
		pid := 0
		labtest.Must(t, c.Start(1))
		eventually(t, "no agent below the guard", func() bool {
			pid, _ = c.AgentPID(1)
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			return string(name) == "sleep\n"
		})
		return pid
	}
	lives := func(pid int) bool { // an orphan may stay a zombie: whoever adopts it is slow
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && !strings.Contains(string(stat), ") Z ")
	}
	pid := agent()
	labtest.Must(t, c.Kill(1, syscall.SIGKILL))
	if lives(pid) || c.Running(1) {
		t.Error("SIGKILL did not meet both")
	}
	pid = agent()
	labtest.Must(t, c.KillAgent(1))
	eventually(t, "the guard does not notice", func() bool { return !c.Running(1) })
	if lives(pid) {
		t.Error("the agent was not killed")
	}
	if _, err := c.GuardPID(1); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("pid of a guard that is gone: %v", err)
	}
	pid = agent()
	gone := labtest.Try(t, func() (<-chan struct{}, error) { return c.KillGuard(1) })
	if c.Running(1) || !lives(pid) {
		t.Error("not only the guard was killed")
	}
	labtest.Must(t, c.Close())
	<-gone
	if lives(pid) {
		t.Error("an agent without a guard is alive after Close")
	}
}

func TestCLIErrors(t *testing.T) {
	c, _, _ := newFakeCluster(t)
	var failed *CLIError
	if _, err := c.CLI(2, "nonsense"); !errors.As(err, &failed) || failed.Code != 2 || !strings.Contains(err.Error(), "unknown verb nonsense") {
		t.Errorf("error %v", err)
	}
	if err := c.query(1, &struct{}{}, "garbage"); err == nil || !strings.Contains(err.Error(), "garbage") {
		t.Errorf("broken JSON: %v", err)
	}
	c.Binary = "/nonexistent"
	if _, err := c.CLI(1, "status"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing binary: %v", err)
	}
	if _, err := c.Placement(); err == nil {
		t.Error("placement without an agent")
	}
}
