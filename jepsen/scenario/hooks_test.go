package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hookSleep is how long a hook takes: far longer than a move may.
const hookSleep = 2 * time.Second

// TestHooks: a move and a stop run the hooks of both sides, with what they are promised,
// and no client notices how slow they are. One that fails is in everybody's events.
func TestHooks(t *testing.T) {
	beside(t)
	b := unformed(t, 3)
	said, config := filepath.Join(b.Cluster.Dir, "said"), filepath.Join(b.Cluster.Dir, "agent.yaml")
	hook := filepath.Join(b.Cluster.Dir, "hook")
	b.must(os.WriteFile(hook, fmt.Appendf(nil, `#!/bin/sh
sleep %.0f
echo "$1 $HAVIP_NAME $HAVIP_IP $HAVIP_ENI $HAVIP_EPOCH nice $(nice) oom $(cat /proc/self/oom_score_adj)" >> %s
[ "$1" = acquire ]
`, hookSleep.Seconds(), said), 0o755))
	hooks := func(suffix string) {
		b.must(os.WriteFile(config, fmt.Appendf(nil, "hooks: {on-acquire: [%[1]s, acquire%[2]s], on-release: [%[1]s, release%[2]s]}\n", hook, suffix), 0o600))
	}
	hooks("")
	b.Cluster.AgentArgs = append(b.Cluster.AgentArgs, "--config", config)
	b.form(3)
	lines := func() []string {
		raw, err := os.ReadFile(said)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(raw)), "\n")
	}
	heard := func(what string, node, epoch int) {
		t.Helper()
		line := fmt.Sprintf("%s web %s %s/eth0 %d nice 0 oom 0", what, b.HAVIP, b.Cluster.NodeName(node), epoch)
		b.Eventually(line, func() bool { return slices.Contains(lines(), line) })
	}

	first := b.Owner()
	heard("acquire", first, 1)
	second := first%3 + 1
	m := b.Watch(func() {
		b.CLI(second, "havip", "move", "web", "--to", b.Cluster.NodeName(second))
		b.NewOwner(second, first)
	})
	noDual(t, m)
	if m.Gap-m.Still >= hookSleep {
		t.Errorf("the move waited for its hooks: a gap of %s", m.Gap)
	}
	heard("release", first, 1)
	heard("acquire", second, 2)
	b.Eventually("the failed hook is an event", func() bool {
		return contains(b.CLI(second, "events", "--havip", "web"), "hook-failed: on-release")
	})

	b.Eventually("the agent's threads have their priority", func() bool { return b.slow(second) == 0 })

	hooks("-anew")
	b.signalAgent(second, syscall.SIGHUP)
	b.Eventually("the configuration is read again", func() bool {
		raw, err := os.ReadFile(b.Cluster.LogPath(second))
		return err == nil && contains(raw, "read again")
	})
	b.must(b.Cluster.Stop(second))
	heard("release-anew", second, 2) // the agent has waited for it
	third := b.NewOwner(first, second)
	heard("acquire", third, 3)
	if got := lines(); len(got) != 5 {
		t.Errorf("hooks ran %d times:\n%s", len(got), strings.Join(got, "\n"))
	}
}

// slow counts the threads of an agent with less than its priority. The main thread does not
// count: once a hook was started from it, the runtime never uses it again.
func (b *Bed) slow(node int) (n int) {
	b.t.Helper()
	pid, err := b.Cluster.AgentPID(node)
	b.must(err)
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	b.must(err)
	for _, task := range tasks {
		id, err := strconv.Atoi(filepath.Base(task))
		b.must(err)
		raised, err := unix.Getpriority(unix.PRIO_PROCESS, id)
		if id != pid && err == nil && raised != 20+15 {
			n++
		}
	}
	return n
}
