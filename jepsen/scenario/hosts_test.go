package scenario

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"havip-cluster/jepsen/history"
	"havip-cluster/jepsen/netns"
)

// Hosts as they are: other programs' addresses, devices, routes, rules and eBPF programs. Each test
// is one thing that was seen, and a variant of its kind.

// heard is how long a host has to notice what happened to it and to say so.
const heard = 20 * time.Second

// at runs a shell's line on a host and gives what it wrote.
func (b *Bed) at(h *netns.Host, line string) (string, error) {
	cmd := h.Command("/bin/sh", "-c", line)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Start(cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s: %s: %w: %s", h.Name, line, err, out.String())
	}
	return out.String(), nil
}

// sh is at on a node, and must succeed.
func (b *Bed) sh(node int, lines ...string) string {
	b.t.Helper()
	all := ""
	for _, line := range lines {
		out, err := b.at(b.Lab.Node(node), line)
		b.must(err)
		all += out
	}
	return all
}

// says waits until status or the events, as some node gives them, have a line with all the words.
func (b *Bed) says(words ...string) bool {
	b.t.Helper()
	for end := time.Now().Add(heard); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		for i := range b.Lab.Nodes() {
			for _, command := range []string{"status", "events"} {
				out, err := b.Cluster.CLI(i+1, command)
				if command == "status" {
					out = problems(out)
				}
				if err == nil && hasLine(string(out), words...) {
					return true
				}
			}
		}
	}
	return false
}

// problems are the lines of status that complain of something: the rest names nodes and fences anyway.
func problems(status []byte) (lines []byte) {
	for line := range bytes.Lines(status) {
		if bytes.HasPrefix(line, []byte("!")) {
			lines = append(lines, line...)
		}
	}
	return lines
}

// tells demands says.
func (b *Bed) tells(words ...string) {
	b.t.Helper()
	if !b.says(words...) {
		b.t.Errorf("neither status nor events have a line with %q", words)
	}
}

// remedy runs the command that status at a node prints for a problem with these words, and demands
// that the problem goes.
func (b *Bed) remedy(node int, words ...string) {
	b.t.Helper()
	problem := func() string {
		out, err := b.Cluster.CLI(node, "status")
		b.must(err)
		for line := range strings.Lines(string(problems(out))) {
			if hasLine(line, words...) && strings.Count(line, "`") == 2 {
				return line
			}
		}
		return ""
	}
	line := ""
	b.Eventually("a problem with a command", func() bool { line = problem(); return line != "" })
	b.sh(node, strings.Split(line, "`")[1])
	b.Eventually("the end of: "+line, func() bool { return problem() == "" })
}

// hasLine reports whether one line has all the words, in any case.
func hasLine(text string, words ...string) bool {
	for line := range strings.Lines(strings.ToLower(text)) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, strings.ToLower(w))
		}
		if all {
			return true
		}
	}
	return false
}

// notGreen demands that some node's status is yellow or red before long.
func (b *Bed) notGreen(while string) {
	b.t.Helper()
	for end := time.Now().Add(heard); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		for i := range b.Lab.Nodes() {
			if out, err := b.Cluster.CLI(i+1, "status"); err == nil && !hasLine(string(out), "health", "green") {
				return
			}
		}
	}
	b.t.Errorf("status stays GREEN while %s", while)
}

// of is a Bed whose instruments look at another HAVIP.
func (b *Bed) of(ip netip.Addr) *Bed {
	other := *b
	other.HAVIP = ip
	return &other
}

// reaches reports whether a host gets an answer from an address within some time, and keeps
// asking for that long.
func (b *Bed) reaches(from *netns.Host, ip netip.Addr, within time.Duration) (ok bool, node string) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	p, err := b.Lab.Probe(ctx, from, ip, port, 10*time.Millisecond)
	b.must(err)
	defer p.Stop()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		_, probes := p.History()
		for _, probe := range probes {
			if probe.Answered != 0 {
				return true, probe.Node
			}
		}
	}
	return false, ""
}

// busyLog changes the log twice a second until the test ends or stop is called.
func (b *Bed) busyLog() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-time.After(500 * time.Millisecond):
			}
			_, _ = b.Cluster.CLI(1, "havip", "update", "web", "--priority", fmt.Sprint(i%9))
		}
	}()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			close(done)
			<-ended
		}
	}
	b.t.Cleanup(stop)
	return stop
}

// N1: a new HAVIP's address is on a standby already. While the log changes all the time, the standby
// must still be silent before anybody else speaks.
func TestHostHasANewAddressAlready(t *testing.T) {
	long(t)
	beside(t)
	for _, c := range []struct{ name, prepare, own string }{
		{"on lo", "ip addr add 10.77.0.101/32 dev lo", ""},
		// On a bridge it is an own address of that host, which is reason enough to refuse.
		{"variant: on a bridge", "ip link add br7 type bridge && ip addr add 10.77.0.101/32 dev br7 && ip link set br7 up", "node-2/br7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := NewBed(t, 3)
			b.sh(2, c.prepare)
			b.busyLog()
			time.Sleep(3 * time.Second)
			second := b.of(b.Lab.Address(101))
			if c.own != "" {
				b.refused(1, 1, c.own, "havip", "create", "second", "--ip", "10.77.0.101", "--range", "cvm:node-1")
				return
			}
			m := second.Watch(func() {
				b.CLI(1, "havip", "create", "second", "--ip", "10.77.0.101", "--range", "cvm:node-1")
				_, err := b.Cluster.WaitOwned("second", ownedWait)
				b.must(err)
				time.Sleep(6 * time.Second)
			})
			noDual(t, m)
		})
	}
}

// N1, variant: the standby that has the address has no session, so it need not guard it. It is found
// out as anybody else who has it.
func TestHostWithoutASessionHasANewAddress(t *testing.T) {
	long(t)
	beside(t)
	b := NewBed(t, 3)
	b.Place(1)
	b.sh(2, "ip addr add 10.77.0.101/32 dev lo")
	b.must(b.Cluster.Kill(2, syscall.SIGKILL))
	b.Eventually("the end of its session", func() bool { return b.session(2) == 0 })
	m := b.of(b.Lab.Address(101)).Watch(func() {
		b.CLI(1, "havip", "create", "second", "--ip", "10.77.0.101", "--range", "cvm:node-1")
		b.tells("10.77.0.101", "in use", "node-2")
	})
	noDual(t, m)
}

// A10: an address that a node itself needs is no HAVIP, and nothing that is a HAVIP becomes a node's.
func TestHostNeedsTheAddressItself(t *testing.T) {
	beside(t)
	t.Run("a host joins with a HAVIP's address", func(t *testing.T) {
		b := newBed(t, 3, 2)
		own := b.Lab.Node(3).IP(0)
		if _, err := b.Cluster.CLI(1, "havip", "create", "taken", "--ip", own.String(), "--disabled", "--force"); err != nil {
			t.Logf("refused at creation: %v", err)
			return
		}
		added, err := b.Cluster.CLI(1, "node", "add", "node-3", "-o", "json")
		b.must(err)
		_, token, _ := strings.Cut(string(added), `"token": "`)
		token, _, _ = strings.Cut(token, `"`)
		if token == "" {
			_, token, _ = strings.Cut(string(added), `"token":"`)
			token, _, _ = strings.Cut(token, `"`)
		}
		_, err = b.Cluster.CLI(3, "join", "--node", "node-3", "--advertise", own.String(), "--token", token, b.Lab.Node(1).IP(0).String()+":7400")
		if err == nil {
			t.Fatal("a host joined with the address of a HAVIP")
		}
		if !hasLine(err.Error(), "taken") && !hasLine(err.Error(), own.String()) {
			t.Errorf("the refusal names neither the HAVIP nor the address: %v", err)
		}
	})
	t.Run("a HAVIP with a node's address", func(t *testing.T) {
		b := NewBed(t, 3)
		b.refused(1, 1, "node-3", "havip", "create", "taken", "--ip", b.Lab.Node(3).IP(0).String())
	})
	t.Run("variant: a HAVIP with the address of another NIC of a node", func(t *testing.T) {
		b := NewBed(t, 3)
		second := netip.MustParsePrefix("10.78.0.12/24")
		b.must(b.Lab.Node(2).Cable("eth1", "lan2", second))
		b.Eventually("the subnet", func() bool { return contains(b.CLI(1, "subnet", "list"), "10.78.0.0/24") })
		b.refused(1, 1, second.Addr().String(), "havip", "create", "taken", "--ip", second.Addr().String())
	})
}

// N6: a HAVIP's address in another form on a node that does not own it.
func TestHostHasTheAddressInAnotherForm(t *testing.T) {
	long(t)
	beside(t)
	for _, c := range []struct{ name, form string }{{"/16 on a standby", "/16"}, {"variant: /25 with a label", "/25 label eth0:9"}} {
		t.Run(c.name, func(t *testing.T) {
			b := NewBed(t, 3)
			other := b.other(b.Owner())
			m := b.Watch(func() {
				b.sh(other, "ip addr add "+b.HAVIP.String()+c.form+" dev eth0")
				time.Sleep(2 * time.Second)
			})
			noDual(t, m)
			b.tells(b.HAVIP.String(), b.Cluster.NodeName(other))
			if b.has(other) { // it was left: somebody must be told
				b.notGreen("a node has the HAVIP's address in a form that the agent does not remove")
				b.remedy(other, b.HAVIP.String())
				if b.has(other) {
					t.Error("the command of status does not remove it")
				}
			}
		})
	}
}

// N7: a live host outside the cluster has the address already.
func TestHostOutsideHasTheAddress(t *testing.T) {
	beside(t)
	const mac = "02:77:00:01:01:00" // of the client
	t.Run("at creation", func(t *testing.T) {
		b := NewBed(t, 3)
		_, err := b.at(b.Lab.Client(), "ip addr add 10.77.0.102/24 dev eth0")
		b.must(err)
		_, err = b.Cluster.CLI(1, "havip", "create", "used", "--ip", "10.77.0.102", "--no-range-limit")
		switch {
		case err != nil && !hasLine(err.Error(), mac):
			t.Errorf("refused without the MAC address of the other host: %v", err)
		case err == nil:
			b.tells("10.77.0.102", mac)
			time.Sleep(time.Second)
			if b.of(b.Lab.Address(102)).has(1) || b.of(b.Lab.Address(102)).has(2) || b.of(b.Lab.Address(102)).has(3) {
				t.Error("the address is in use, and a node took it all the same")
			}
		}
		if _, err := b.Cluster.CLI(1, "havip", "create", "forced", "--ip", "10.77.0.102", "--no-range-limit", "--force"); err != nil {
			_, err = b.Cluster.CLI(1, "havip", "update", "used", "--force")
			if err != nil {
				t.Errorf("no way to take it all the same: %v", err)
			}
		}
	})
	t.Run("variant: while the HAVIP was disabled", func(t *testing.T) {
		b := NewBed(t, 3)
		b.CLI(1, "havip", "disable", "web")
		b.Eventually("it is nowhere", func() bool { return !b.has(1) && !b.has(2) && !b.has(3) })
		_, err := b.at(b.Lab.Client(), "ip addr add "+b.HAVIP.String()+"/24 dev eth0")
		b.must(err)
		if _, err := b.Cluster.CLI(1, "havip", "enable", "web"); err == nil {
			b.tells(b.HAVIP.String(), mac)
		} else if !hasLine(err.Error(), mac) {
			t.Errorf("refused without the MAC address of the other host: %v", err)
		}
	})
}

// A31: a real server of LVS-DR has the HAVIP on lo: traffic that a director sends to its MAC address
// passes, ARP stays silent.
func TestHostIsARealServer(t *testing.T) {
	long(t)
	beside(t)
	const flag = "--direct-server-return"
	b := NewBed(t, 3)
	b.Place(1)
	if _, err := b.Cluster.CLI(1, "havip", "update", "web", flag, "node-2"); err != nil {
		docs, _ := b.at(b.Lab.Node(1), "cat ../../docs/*.md")
		if !hasLine(docs, "direct server return") && !hasLine(docs, "LVS-DR") && !hasLine(docs, "lvs", "lo") {
			t.Errorf("neither a setting (%v) nor a word in the docs", err)
		}
		return
	}
	b.sh(2, "ip addr add "+b.HAVIP.String()+"/32 dev lo")
	b.sh(3, "ip addr add "+b.HAVIP.String()+"/32 dev lo") // variant: it is not named, and stays silent
	time.Sleep(2 * time.Second)
	observer, err := b.Lab.Observe(t.Context(), []netip.Addr{b.HAVIP}, port, 0)
	b.must(err)
	time.Sleep(time.Second)
	observer.Stop()
	_, answers := observer.History()
	seen := map[string]int{}
	for _, a := range answers {
		seen[a.Node+" "+a.Channel]++
	}
	if seen["node-2 "+history.UDP] == 0 || seen["node-2 "+history.ARP] != 0 || seen["node-3 "+history.UDP]+seen["node-3 "+history.ARP] != 0 {
		t.Errorf("answers: %v; want datagrams and no ARP of node-2, nothing of node-3", seen)
	}
}

// A06: somebody answers ARP for a node's own address: a warning, no reason to stay away.
func TestHostsAddressIsAnsweredFor(t *testing.T) {
	beside(t)
	start := func(t *testing.T, b *Bed, node int, begin func()) {
		t.Helper()
		b.must(b.Lab.Client().Do(func() error { return answerARP(t, b.Lab.Node(node).IP(0), b.Lab.Node(node).MAC(0)) }))
		begin()
		b.Eventually("node-"+fmt.Sprint(node)+" takes part", func() bool { return b.session(node) != 0 })
		text, err := os.ReadFile(b.Cluster.LogPath(node))
		b.must(err)
		if !hasLine(string(text), "level=warn", b.Lab.Node(node).IP(0).String()) && !b.says(b.Lab.Node(node).IP(0).String(), "answer") {
			t.Error("no warning that another host answers for the node's address")
		}
	}
	t.Run("a node joins", func(t *testing.T) {
		b := newBed(t, 3, 2)
		start(t, b, 3, func() { b.must(b.Cluster.Join(3, "voter")) })
	})
	t.Run("variant: a node is started again", func(t *testing.T) {
		b := NewBed(t, 3)
		b.must(b.Cluster.Stop(2))
		start(t, b, 2, func() { b.must(b.Cluster.Start(2)) })
	})
}
