package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// guideBlock are the commands of one section of the guide, or the configuration in it.
func guideBlock(t *testing.T) (config string, commands []string) {
	t.Helper()
	text, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	var example strings.Builder
	section := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		section = section || strings.HasPrefix(line, "## ")
		indented, ok := strings.CutPrefix(line, "    ")
		switch {
		case !ok:
		case !section:
			fmt.Fprintln(&example, indented)
		default:
			command, _, _ := strings.Cut(indented, "  #")
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	return example.String(), commands
}

// answer is what a command of the guide did.
type answer struct {
	out  string // stdout and stderr
	code int
}

// says fails unless the command succeeded and its output holds all texts.
func says(texts ...string) func(answer) error {
	return func(a answer) error {
		if a.code != 0 {
			return fmt.Errorf("exit code %d", a.code)
		}
		for _, text := range texts {
			if !strings.Contains(a.out, text) {
				return fmt.Errorf("the output lacks %q", text)
			}
		}
		return nil
	}
}

func saysNothing(a answer) error {
	if a.code != 0 || strings.TrimSpace(a.out) != "" {
		return fmt.Errorf("exit code %d, and it says something", a.code)
	}
	return nil
}

// refused is a failure, not a wrong call, that gives a reason.
func refused(text string) func(answer) error {
	return func(a answer) error {
		if a.code != 1 || !strings.Contains(a.out, text) {
			return fmt.Errorf("exit code %d, want a refusal with %q", a.code, text)
		}
		return nil
	}
}

// guideStep is one command of the guide, where it is typed and what it must do there.
type guideStep struct {
	command string
	hosts   []int
	check   func(answer) error
	until   bool // repeat it until the check passes
	before  func()
	after   func(answer)
}

// sh types a line at a host's shell.
func (m *move) sh(i int, line string) answer {
	m.t.Helper()
	home := filepath.Join(m.dir, m.host(i).Name)
	cmd := m.host(i).Command("sh", "-c", line)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(home, "bin")+":"+os.Getenv("PATH"))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	m.must(m.host(i).Start(cmd))
	timer := time.AfterFunc(commandWait, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	return answer{out.String(), cmd.ProcessState.ExitCode()}
}

// systemctl does what the service manager does.
func (m *move) systemctl(i int, args string) answer {
	m.t.Helper()
	var err error
	switch args {
	case "enable --now havip-cluster":
		err = m.Cluster.Start(i)
	case "disable --now havip-cluster":
		err = m.Cluster.Stop(i)
	case "enable --now keepalived":
		m.startKeepalived(i)
	case "disable --now keepalived":
		err = m.endKeepalived(i, syscall.SIGTERM)
	case "is-active keepalived":
		if m.daemons[i] == nil {
			return answer{"inactive\n", 3}
		}
		return answer{"active\n", 0}
	default:
		m.t.Fatalf("systemctl %s: the test does not know it", args)
	}
	if err != nil {
		return answer{err.Error(), 1}
	}
	return answer{}
}

// run does one step at its hosts, one after the other.
func (m *move) run(s guideStep) {
	m.t.Helper()
	if s.before != nil {
		s.before()
	}
	for _, i := range s.hosts {
		var a answer
		do := func() error {
			if args, ok := strings.CutPrefix(s.command, "systemctl "); ok {
				a = m.systemctl(i, args)
			} else {
				a = m.sh(i, s.command)
			}
			return s.check(a)
		}
		err := do()
		for end := time.Now().Add(ownedWait); err != nil && s.until && time.Now().Before(end); err = do() {
			time.Sleep(50 * time.Millisecond)
		}
		if err != nil {
			m.t.Fatalf("%s# %s: %v; exit code %d, and it said:\n%s", m.host(i).Name, s.command, err, a.code, a.out)
		}
		m.t.Logf("%s# %s\n%s", m.host(i).Name, s.command, a.out)
		if s.after != nil {
			s.after(a)
		}
	}
}

// follow carries out the guide while a client and an observer watch all along. spoil may
// change steps.
func (m *move) follow(spoil func([]guideStep) []guideStep) {
	m.t.Helper()
	marks := map[string]time.Duration{}
	steps := m.steps(marks)
	m.sameAsGuide(steps)
	if spoil != nil {
		steps = spoil(steps)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	prober, err := m.Lab.Probe(ctx, m.Lab.Client(), m.HAVIP, port, time.Millisecond)
	m.must(err)
	observer, err := m.Lab.Observe(ctx, []netip.Addr{m.HAVIP}, port, 2*time.Millisecond)
	m.must(err)
	time.Sleep(settleTime)
	// From w and the client the master answers: later silence there means something.
	m.run(guideStep{command: "arping -c 2 -I eth0 10.77.0.100", hosts: []int{third, client}, check: m.oneAnswers(lb1)})
	for _, s := range steps {
		m.run(s)
	}
	m.Eventually("Keepalived serves again", func() bool { return m.has(lb1) })
	time.Sleep(3 * settleTime)
	prober.Stop()
	observer.Stop()
	noDual(m.t, Measured{Dual: observer.Report().Dual})
	m.judge(prober, marks)
}

// sameAsGuide: no command of the file is left out, and none is invented.
func (m *move) sameAsGuide(steps []guideStep) {
	m.t.Helper()
	_, commands := guideBlock(m.t)
	var ours []string
	for _, s := range steps {
		ours = append(ours, s.command)
	}
	if !slices.Equal(ours, commands) {
		m.t.Fatalf("%s has\n%s\nand this test\n%s", guide, strings.Join(commands, "\n"), strings.Join(ours, "\n"))
	}
}
