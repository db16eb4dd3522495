package scenario

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	checkPort     = 8099
	checkInterval = 200 * time.Millisecond
	checkFall     = 3
)

// service is a program on one host that takes connections until it is killed.
type service struct{ listener net.Listener }

func (b *Bed) serve(node int) *service {
	b.t.Helper()
	var l net.Listener
	b.must(b.Lab.Nodes()[node-1].Do(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", checkPort))
		return err
	}))
	s := &service{l}
	b.t.Cleanup(s.kill)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	return s
}

func (s *service) kill() { _ = s.listener.Close() }

// checkSays waits until a check is in a state on a number of nodes.
func (b *Bed) checkSays(check, state string, nodes int) {
	b.t.Helper()
	b.Eventually(fmt.Sprintf("check %s is %s on %d nodes", check, state, nodes), func() bool {
		out, err := b.Cluster.CLI(1, "check", "results", check, "-o", "json")
		var list []struct{ State string }
		if err != nil || json.Unmarshal(out, &list) != nil {
			return false
		}
		n := 0
		for _, r := range list {
			if r.State == state {
				n++
			}
		}
		return n == nodes
	})
}

// TestChecks: a service that is killed on the owner moves the HAVIP within interval and fall; one
// that is dead everywhere leaves it where it was, with an event; checks that hang, fork, flood and
// eat hold up nothing else.
func TestChecks(t *testing.T) {
	long(t)
	b := unformed(t, 3)
	programs, err := os.MkdirTemp("/tmp", "havip-checks-")
	b.must(err)
	t.Cleanup(func() { _ = os.RemoveAll(programs) })
	b.must(os.Chmod(programs, 0o755))
	bad := map[string]string{
		"hangs": "trap '' TERM; sleep 1000", "forks": "i=0; while [ $i -lt 20 ]; do sleep 1000 & i=$((i+1)); done; setsid sleep 1000 & wait",
		"floods": "exec cat /dev/zero", "eats": `a=x; while :; do a="$a$a"; done`,
	}
	for name, body := range bad {
		b.must(os.WriteFile(filepath.Join(programs, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755))
		b.must(os.Chmod(filepath.Join(programs, name), 0o755))
	}
	config := filepath.Join(b.Cluster.Dir, "agent.yaml")
	b.must(os.WriteFile(config, fmt.Appendf(nil, "checks: {directory: %s}\n", programs), 0o600))
	b.Cluster.AgentArgs = append(b.Cluster.AgentArgs, "--config", config)
	b.form(3)
	services := map[int]*service{}
	for i := 1; i <= 3; i++ {
		services[i] = b.serve(i)
	}
	b.CLI(1, "check", "create", "web-up", "--type", "tcp", "--target", fmt.Sprintf("127.0.0.1:%d", checkPort), "--interval", checkInterval.String(), "--timeout", "100ms",
		"--rise", "1", "--fall", strconv.Itoa(checkFall), "--havips", "web")
	b.checkSays("web-up", "passing", 3)

	for name := range bad {
		b.CLI(1, "check", "create", name, "--type", "exec", "--target", name, "--interval", "2s", "--timeout", "300ms", "--fall", "1", "--effect", "-1")
		b.checkSays(name, "failing", 3)
	}
	owner, session := b.Owner(), b.openSessions()
	m := b.Watch(func() { time.Sleep(4 * time.Second) })
	noDual(t, m)
	t.Logf("beside checks that misbehave: longest gap %s, owner %d before and %d after", m.Gap, owner, b.Owner())
	// On a machine that others use as well a lease may run out for other reasons.
	if after := b.openSessions(); measuring() && (b.Owner() != owner || after != session) {
		t.Errorf("beside checks that misbehave the owner went from %d to %d, sessions from %s to %s", owner, b.Owner(), session, after)
	}
	b.checkSays("web-up", "passing", 3)
	for name := range bad {
		b.CLI(1, "check", "delete", name)
	}

	var found time.Duration
	m = b.Watch(func() {
		begin := time.Now()
		services[owner].kill()
		b.NewOwner(owner%3+1, owner)
		found = time.Since(begin)
	})
	noDual(t, m)
	t.Logf("service killed: another owner after %s, at most %s and a margin of %s; gap %s", found, checkFall*checkInterval, found-checkFall*checkInterval, m.Gap)

	second := b.Owner()
	m = b.Watch(func() {
		for _, s := range services {
			s.kill()
		}
		b.checkSays("web-up", "failing", 3)
	})
	noDual(t, m)
	last := b.Owner()
	b.Eventually("the event of a check that fails everywhere", func() bool {
		return contains(b.CLI(1, "events", "--kind", "check-everywhere"), "fails on every node that runs it")
	})
	if m := b.Watch(func() { time.Sleep(time.Second) }); m.Lost > 0 || b.Owner() != last {
		t.Errorf("dead everywhere: %d probes lost, owner %d after %d (%d before)", m.Lost, b.Owner(), last, second)
	}
	if out := b.CLI(1, "explain", "web"); !contains(out, "the service is down everywhere, no node is to blame") {
		t.Errorf("explain does not say that it is down everywhere:\n%s", out)
	}
	back := last%3 + 1
	b.serve(back)
	b.Eventually("it goes where the service is back", func() bool { return b.Owner() == back })
}

// openSessions are the present sessions of all nodes, as text.
func (b *Bed) openSessions() string {
	b.t.Helper()
	nodes, err := b.Cluster.Nodes()
	b.must(err)
	var out []string
	for _, n := range nodes {
		out = append(out, fmt.Sprint(n.Name, " ", n.Session))
	}
	return strings.Join(out, ", ")
}

// TestManyChecks states what 500 checks of each node cost.
func TestManyChecks(t *testing.T) {
	long(t)
	const many = 500
	b := NewBed(t, 3)
	for i := 1; i <= 3; i++ {
		b.serve(i)
	}
	var text strings.Builder
	text.WriteString("version: 1\nchecks:\n")
	for i := range many {
		fmt.Fprintf(&text, "  - {name: c%03d, type: tcp, target: \"127.0.0.1:%d\", interval: 2s, timeout: 1s, havips: [web]}\n", i, checkPort)
	}
	file := filepath.Join(b.Cluster.Dir, "checks.yaml")
	b.must(os.WriteFile(file, []byte(text.String()), 0o600))
	before := b.agentCPU(2, 10*time.Second)
	b.CLI(1, "apply", "-f", file)
	b.checkSays("c499", "passing", 3)
	time.Sleep(5 * time.Second)
	index := b.CLI(1, "status", "-o", "json")
	cpu := b.agentCPU(2, 10*time.Second)
	t.Logf("%d checks of a node each 2 s: %.1f %% of a core, %.1f %% without", many, 100*cpu, 100*before)
	if len(index) == 0 {
		t.Error("no status")
	}
}

// agentCPU is the share of one core that the agent of a node takes.
func (b *Bed) agentCPU(node int, d time.Duration) float64 {
	b.t.Helper()
	pid, err := b.Cluster.AgentPID(node)
	b.must(err)
	ticks := func() float64 {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		b.must(err)
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+2:]))
		user, err := strconv.ParseFloat(fields[11], 64)
		b.must(err)
		system, err := strconv.ParseFloat(fields[12], 64)
		b.must(err)
		return user + system
	}
	begin := ticks()
	time.Sleep(d)
	return (ticks() - begin) / 100 / d.Seconds()
}
