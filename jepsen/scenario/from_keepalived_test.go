package scenario

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"havip-cluster/jepsen/checker"
	"havip-cluster/jepsen/netns"
)

const (
	guide       = "../../docs/from-keepalived.md"
	commandWait = 30 * time.Second // one command of the guide
	daemonWait  = 10 * time.Second // of Keepalived: SIGTERM to exit
	disturbance = 20 * time.Millisecond
	silenced    = 2 * time.Second // of a Keepalived that came back and announces itself
)

// The hosts of the guide. Those with Keepalived come first.
const (
	lb1, lb2, third = 1, 2, 3
	client          = 0
)

// move is the test bed in the middle of the guide.
type move struct {
	*Bed
	dir     string
	daemons map[int]*exec.Cmd // Keepalived, by host
	ended   map[int]chan error
}

// newMove starts Keepalived as the guide has it; lb1 is master.
func newMove(t *testing.T) *move {
	t.Helper()
	for _, tool := range [][2]string{{"keepalived", "keepalived"}, {"arping", "iputils-arping"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			t.Fatalf("this test needs %s: apt-get install %s (`make jepsen-short` does): %v", tool[0], tool[1], err)
		}
	}
	m := &move{Bed: unformed(t, 3), dir: t.TempDir(), daemons: map[int]*exec.Cmd{}, ended: map[int]chan error{}}
	config, _ := guideBlock(t)
	for i, name := range map[int]string{lb1: "lb1", lb2: "lb2", third: "w"} {
		m.Lab.Node(i).Name = name
		_, err := m.Lab.Node(i).Respond(port)
		m.must(err)
	}
	m.write("lb1/etc/keepalived/keepalived.conf", config, 0o600)
	m.write("lb2/etc/keepalived/keepalived.conf", strings.NewReplacer("router_id lb1", "router_id lb2", "priority 150", "priority 100").Replace(config), 0o600)
	for i := range 4 {
		name := m.host(i).Name
		m.write(name+"/bin/scp", fmt.Sprintf("#!/bin/sh\nexec cp \"%s/${1%%%%:*}${1#*:}\" \"$2\"\n", m.dir), 0o700)
		if i != client {
			m.write(name+"/bin/havip-cluster", fmt.Sprintf("#!/bin/sh\nexec %s --data-dir %s \"$@\"\n", m.Cluster.Binary, m.Cluster.DataDir(i)), 0o700)
		}
	}
	for _, i := range []int{lb1, lb2} {
		m.startKeepalived(i)
	}
	t.Cleanup(func() {
		for _, i := range []int{lb1, lb2} {
			if text, err := os.ReadFile(filepath.Join(m.dir, m.host(i).Name, "log")); err == nil && t.Failed() {
				t.Logf("Keepalived at %s:\n%s", m.host(i).Name, text)
			}
		}
		for i := range m.daemons {
			_ = m.endKeepalived(i, syscall.SIGKILL)
		}
	})
	m.Eventually("Keepalived at lb1 is master", func() bool { return m.has(lb1) })
	return m
}

func (m *move) host(i int) *netns.Host {
	if i == client {
		return m.Lab.Client()
	}
	return m.Lab.Node(i)
}

func (m *move) write(path, text string, mode os.FileMode) {
	m.t.Helper()
	path = filepath.Join(m.dir, path)
	m.must(os.MkdirAll(filepath.Dir(path), 0o700))
	m.must(os.WriteFile(path, []byte(text), mode))
}

func (m *move) has(i int) bool { return m.sh(i, "ip -o address show to "+m.HAVIP.String()).out != "" }

func (m *move) startKeepalived(i int) {
	m.t.Helper()
	at := func(name string) string { return filepath.Join(m.dir, m.host(i).Name, name) }
	cmd := m.host(i).Command("keepalived", "--dont-fork", "--vrrp", "--log-console", "--no-syslog",
		"--use-file", at("etc/keepalived/keepalived.conf"), "--pid", at("pid"), "--vrrp_pid", at("vrrp.pid"))
	log, err := os.OpenFile(at("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	m.must(err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	m.must(m.host(i).Start(cmd))
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	m.daemons[i], m.ended[i] = cmd, ended
}

// endKeepalived sends a signal to both of its processes, and waits for the end.
func (m *move) endKeepalived(i int, sig syscall.Signal) error {
	cmd := m.daemons[i]
	if cmd == nil {
		return fmt.Errorf("no Keepalived runs at %s", m.host(i).Name)
	}
	pid := cmd.Process.Pid
	if sig == syscall.SIGKILL {
		pid = -pid
	}
	if err := syscall.Kill(pid, sig); err != nil {
		return err
	}
	select {
	case <-m.ended[i]:
		delete(m.daemons, i)
		for _, file := range []string{"pid", "vrrp.pid"} { // as systemd does: numbers come again
			if err := os.Remove(filepath.Join(m.dir, m.host(i).Name, file)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	case <-time.After(daemonWait):
		return fmt.Errorf("Keepalived at %s has not ended within %s", m.host(i).Name, daemonWait)
	}
}

// joins carries out what `node add` printed, at the node, and pastes the token.
func (m *move) joins(i int) func(answer) {
	return func(a answer) {
		m.t.Helper()
		_, command, found := strings.Cut(a.out, "COMMAND")
		command, _, _ = strings.Cut(strings.TrimSpace(command), "\n")
		typed := strings.Replace(command, "--advertise IP ", "--advertise "+m.host(i).IP(0).String()+" ", 1)
		_, token, told := strings.Cut(a.out, "TOKEN")
		token, _, _ = strings.Cut(strings.TrimSpace(token), "\n")
		if !found || !told || typed == command {
			m.t.Fatalf("no token and no join command with --advertise IP in:\n%s", a.out)
		}
		m.run(guideStep{command: "echo " + token + " | " + typed, hosts: []int{i}, check: says()})
		m.run(guideStep{command: "systemctl enable --now havip-cluster", hosts: []int{i}, check: says()})
	}
}

// steps is the guide. Its commands must be those of the file, in that order.
func (m *move) steps(marks map[string]time.Duration) []guideStep {
	first, pair, nodes := []int{lb1}, []int{lb2, lb1}, []int{lb1, lb2, third}
	mark := func(name string) func() { return func() { marks[name] = time.Duration(m.Lab.Now()) } }
	done := func(name string) func(answer) { return func(answer) { mark(name)() } }
	free := guideStep{command: "ip -o address show to 10.77.0.100", check: saysNothing}
	return []guideStep{
		{command: "scp lb1:/etc/keepalived/keepalived.conf lb1.conf", hosts: first, check: says()},
		{command: "scp lb2:/etc/keepalived/keepalived.conf lb2.conf", hosts: first, check: says()},
		{command: "havip-cluster import keepalived --check lb1.conf lb2.conf", hosts: first, check: says("HAVIP web on lb1, lb2")},
		{command: "havip-cluster import keepalived lb1.conf lb2.conf > havips.yaml", hosts: first, check: says("HAVIP web on lb1, lb2")},
		{command: "havip-cluster verify havips.yaml", hosts: first, check: says("havips.yaml: ok, 1 HAVIP")},
		{command: "havip-cluster bootstrap --node lb1 --advertise 10.77.0.11", hosts: first, check: says("lb1")},
		{command: "systemctl enable --now havip-cluster", hosts: first, check: says()},
		{command: "havip-cluster node add lb2", hosts: first, check: says(), until: true, after: m.joins(lb2)},
		{command: "havip-cluster node add w --role witness", hosts: first, check: says(), until: true, after: m.joins(third)},
		{command: "havip-cluster node list", hosts: first, until: true, check: func(a answer) error {
			nodes, err := m.Cluster.Nodes()
			for _, n := range nodes {
				if witness := n.Name == m.host(third).Name; n.Status != "alive" || (n.Session == 0) != witness {
					err = fmt.Errorf("%s is %s with session %d", n.Name, n.Status, n.Session)
				}
			}
			if len(nodes) != 3 {
				err = fmt.Errorf("%d nodes", len(nodes))
			}
			return errors.Join(err, says("lb1", "lb2", "w")(a))
		}},
		{command: "havip-cluster eni list", hosts: first, check: says("lb1/eth0", "lb2/eth0"), until: true},
		{command: "havip-cluster export > now.yaml", hosts: first, check: saysNothing},
		{command: "sed 's|, 10.77.0.100/24||' now.yaml > stopped.yaml", hosts: first, check: saysNothing},
		{command: "havip-cluster plan --offline stopped.yaml -f havips.yaml", hosts: first, check: says("web", "lb1/eth0")},
		{command: "havip-cluster apply -f havips.yaml --dry-run", hosts: first, check: refused("10.77.0.100 is used by ENI lb1/eth0")},
		{command: "systemctl disable --now keepalived", hosts: pair, check: says(), before: mark("stop")},
		{command: "systemctl is-active keepalived", hosts: pair, check: func(a answer) error {
			if a.code != 3 || a.out != "inactive\n" {
				return errors.New("it is active")
			}
			return nil
		}},
		{command: free.command, hosts: pair, check: free.check},
		{command: "arping -c 3 -I eth0 10.77.0.100", hosts: []int{third, client}, check: func(a answer) error {
			if !strings.Contains(a.out, "Received 0 response(s)") {
				return errors.New("somebody answers")
			}
			return nil
		}},
		{command: "havip-cluster apply -f havips.yaml", hosts: first, check: says("revision 1"), before: mark("apply"), after: done("applied")},
		{command: "havip-cluster placement", hosts: first, check: says("AVAILABLE", "lb1/eth0"), until: true, after: done("owned")},
		{command: "havip-cluster explain web", hosts: first, check: says("lb1/eth0"), until: true},
		{command: "arping -c 3 -I eth0 10.77.0.100", hosts: []int{third, client}, check: m.oneAnswers(lb1), until: true},
		{command: free.command, hosts: nodes, check: m.onlyOwner(), until: true},
		{command: "havip-cluster havip move web --to lb2", hosts: first, check: says(), after: func(answer) { m.ownedBy(lb2) }},
		{command: "havip-cluster havip move web --to lb1", hosts: first, check: says(), after: func(answer) { m.ownedBy(lb1); m.comesBack(); mark("back")() }},
		{command: "havip-cluster havip disable web", hosts: first, check: says()},
		{command: "havip-cluster placement", hosts: first, check: says("UNBIND"), until: true},
		{command: free.command, hosts: nodes, check: free.check, until: true},
		{command: "systemctl disable --now havip-cluster", hosts: []int{third, lb2, lb1}, check: says()},
		{command: "systemctl enable --now keepalived", hosts: []int{lb1, lb2}, check: says()},
	}
}

func (m *move) ownedBy(i int) {
	m.t.Helper()
	m.Eventually("owner "+m.host(i).Name, func() bool {
		list, err := m.Cluster.Placement()
		return err == nil && len(list) == 1 && list[0].Owner() == m.host(i).Name && m.has(i)
	})
	time.Sleep(2 * settleTime)
}

// oneAnswers: three questions, at least three answers, all from one ENI.
func (m *move) oneAnswers(i int) func(answer) error {
	return func(a answer) error {
		macs := map[string]bool{}
		for line := range strings.Lines(a.out) {
			if _, rest, ok := strings.Cut(line, "["); ok && strings.Contains(line, "reply from") {
				mac, _, _ := strings.Cut(rest, "]")
				macs[strings.ToLower(mac)] = true
			}
		}
		if want := m.host(i).MAC(0).String(); a.code != 0 || len(macs) != 1 || !macs[want] {
			return fmt.Errorf("%v answered, want %s alone", macs, want)
		}
		return nil
	}
}

// onlyOwner is for the command at each node in turn, the owner lb1 first.
func (m *move) onlyOwner() func(answer) error {
	n := 0
	return func(a answer) error {
		if n++; (a.out != "") != (n == lb1) {
			return fmt.Errorf("at %s", m.host(n).Name)
		}
		return nil
	}
}

// comesBack starts a forgotten Keepalived beside the agent of a node that owns nothing. It
// takes itself for the master; the fence keeps it silent.
func (m *move) comesBack() {
	m.t.Helper()
	m.startKeepalived(lb2)
	m.Eventually("Keepalived puts the address on lb2 again", func() bool { return m.has(lb2) })
	time.Sleep(silenced)
	m.must(m.endKeepalived(lb2, syscall.SIGTERM))
}

// judge looks at what the client saw, by the phases of the guide.
func (m *move) judge(prober *netns.Prober, marks map[string]time.Duration) {
	m.t.Helper()
	_, probes := prober.History()
	answered := map[string]int{}
	for _, p := range probes {
		if sent := time.Duration(p.Sent); p.Answered != 0 && sent < marks["stop"] {
			answered[p.Node]++
		}
	}
	if len(answered) != 1 || answered["lb1"] == 0 {
		m.t.Errorf("before Keepalived was stopped lb1 should answer alone: %v", answered)
	}
	longest := map[string]checker.Gap{}
	for _, g := range prober.Gaps(2 * time.Millisecond) {
		phase := "Keepalived"
		switch {
		case g.Start >= marks["back"]:
			phase = "going back"
		case g.Start >= marks["owned"]:
			phase = "two moves, and a Keepalived that comes back"
		case g.End > marks["stop"]:
			phase = "the gap"
		}
		if g.Duration > longest[phase].Duration {
			longest[phase] = g
		}
	}
	gap := longest["the gap"]
	if gap.Open || gap.FromNode != "lb1" || gap.ToNode != "lb1" || gap.Duration == 0 {
		m.t.Errorf("the gap is %+v", gap)
	}
	if back := longest["going back"]; back.Open || back.ToNode != "lb1" || back.Duration == 0 {
		m.t.Errorf("going back: %+v", back)
	}
	m.t.Logf("from Keepalived: dual-owner 0; gap %s, of it %s after `apply` was typed; Keepalived before %s; moves %s; going back %s",
		gap.Duration.Round(time.Millisecond), (gap.End - marks["apply"]).Round(100*time.Microsecond), longest["Keepalived"].Duration,
		longest["two moves, and a Keepalived that comes back"].Duration, longest["going back"].Duration.Round(time.Millisecond))
	for _, phase := range []string{"Keepalived", "two moves, and a Keepalived that comes back"} {
		if d := longest[phase].Duration; d > disturbance {
			timely(m.t, "%s: a gap of %s", phase, d)
		}
	}
}

// A person who knows Keepalived does what docs/from-keepalived.md says, command by command.
func TestFromKeepalived(t *testing.T) {
	beside(t)
	newMove(t).follow(nil)
}

// The same with a master that was killed before, and whose address is still there: step 6
// notices it, and so does the cluster.
func TestFromKeepalivedKilled(t *testing.T) {
	long(t)
	beside(t)
	m := newMove(t)
	m.follow(func(steps []guideStep) []guideStep {
		stop := slices.IndexFunc(steps, func(s guideStep) bool { return s.command == "systemctl disable --now keepalived" })
		mark := steps[stop].before
		steps[stop].before = func() {
			mark()
			m.must(m.endKeepalived(lb2, syscall.SIGTERM))
			m.must(m.endKeepalived(lb1, syscall.SIGKILL))
		}
		steps[stop].check = refused("no Keepalived runs")
		left := guideStep{command: steps[stop+2].command, hosts: []int{lb1}, check: says("10.77.0.100/24")}
		early := guideStep{command: "havip-cluster apply -f havips.yaml", hosts: []int{lb1}, check: refused("10.77.0.100 is used by ENI lb1/eth0")}
		remove := guideStep{command: "ip address del 10.77.0.100/24 dev eth0", hosts: []int{lb1}, check: saysNothing}
		return slices.Insert(steps, stop+2, left, early, remove)
	})
}
