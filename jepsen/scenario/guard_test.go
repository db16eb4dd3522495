package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"havip-cluster/jepsen/netns"
)

// What happens to HAVIPs when the processes of their owner die, stop or are told to end.

// restart waits for the end of a node's processes and has the node take part again.
func (b *Bed) restart(node int) {
	b.t.Helper()
	b.Eventually("the end of "+b.Cluster.NodeName(node), func() bool { return !b.Cluster.Running(node) })
	before := b.session(node)
	b.must(b.Cluster.Start(node))
	b.Eventually("a new session of "+b.Cluster.NodeName(node), func() bool {
		now := b.session(node)
		return now != 0 && now != before
	})
	time.Sleep(2 * Lease) // a voter that has just started is silent for a promise
}

// session is that of a node, as the log has it; 0 without one.
func (b *Bed) session(node int) uint64 {
	nodes, _ := b.Cluster.Nodes()
	for _, n := range nodes {
		if n.Name == b.Cluster.NodeName(node) {
			return n.Session
		}
	}
	return 0
}

// signalAgent sends a signal to the agent proper, behind its guard's back.
func (b *Bed) signalAgent(node int, sig syscall.Signal) {
	b.t.Helper()
	pid, err := b.Cluster.AgentPID(node)
	b.must(err)
	b.must(syscall.Kill(pid, sig))
}

// has reports whether the HAVIP is on an interface of a node.
func (b *Bed) has(node int) bool {
	b.t.Helper()
	var found bool
	b.must(b.Lab.Node(node).Do(func() error {
		addrs, err := net.InterfaceAddrs()
		found = slices.ContainsFunc(addrs, func(a net.Addr) bool {
			p, err := netip.ParsePrefix(a.String())
			return err == nil && p.Addr() == b.HAVIP
		})
		return err
	}))
	return found
}

// ended measures how long a node's guard lives on.
func (b *Bed) ended(node int) time.Duration {
	b.t.Helper()
	start := time.Now()
	b.Eventually("the end of "+b.Cluster.NodeName(node), func() bool { return !b.Cluster.Running(node) })
	return time.Since(start)
}

func TestDeathOfTheAgentAlone(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	die := func(s *Series, pick func(leader int) int, kill func(node int)) {
		for range Runs(3) {
			b.Place(pick(b.Leader()))
			owner := b.Owner()
			m := b.Watch(func() {
				kill(owner)
				b.NewOwner(b.other(owner), owner)
			})
			noDual(t, m)
			s.Add(m)
			b.ended(owner)
			if b.has(owner) {
				t.Errorf("%s: the address is still on node-%d", s.Name, owner)
			}
			b.restart(owner)
		}
	}
	ordinary := func(leader int) int { return b.other(leader) }
	alone := &Series{Name: "SIGKILL of the agent alone"}
	die(alone, ordinary, func(node int) { b.must(b.Cluster.KillAgent(node)) })
	report(t, alone, 100*time.Millisecond)
	median(t, alone, 50*time.Millisecond)

	crash := &Series{Name: "the agent crashes (SIGABRT)"}
	die(crash, ordinary, func(node int) { b.signalAgent(node, syscall.SIGABRT) })
	report(t, crash, 100*time.Millisecond)
	median(t, crash, 50*time.Millisecond)

	leading := &Series{Name: "SIGKILL of the agent alone, it leads"}
	die(leading, func(leader int) int { return leader }, func(node int) { b.must(b.Cluster.KillAgent(node)) })
	report(t, leading, 3*Lease)
}

// anyMoment waits for a random part of the renewal cycle.
func anyMoment() { time.Sleep(rand.N(Lease / 5)) }

// With the guard dead as well, the kernel alone keeps the promise: the address answers
// until the deadline, and not a moment longer.
func TestDeathOfAgentAndGuard(t *testing.T) {
	beside(t)
	kinds(t, func(t *testing.T, b *Bed, kind string) {
		s := &Series{Name: "SIGKILL of agent and guard, " + kind}
		for range Runs(3) {
			b.Place(b.other(b.Leader()))
			owner := b.Owner()
			m, said, killed, observer := b.killAll(owner)
			noDual(t, m)
			quiet(t, said)
			s.Add(m)
			b.silentAfter(observer, owner, killed)
			b.restart(owner)
		}
		report(t, s, Lease*12/10)
	})
}

// killAll kills agent and guard of the owner at a random moment, and tells what the
// instruments saw until there was a new owner. What comes then is done at once after.
func (b *Bed) killAll(owner int, then ...func()) (m Measured, said spoken, killed int64, observer *netns.Observer) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	observer, err := b.Lab.Observe(ctx, []netip.Addr{b.HAVIP}, port, 2*time.Millisecond)
	b.must(err)
	wire, err := b.Lab.Capture(b.Lab.Node(owner), 0)
	b.must(err)
	until := b.deadline(owner)
	m = b.Watch(func() {
		anyMoment()
		b.must(b.Cluster.Kill(owner, syscall.SIGKILL))
		killed = b.Lab.Now()
		for _, more := range then {
			more()
		}
		b.NewOwner(b.other(owner), owner)
		time.Sleep(Lease) // what a fence that stays open would say
	})
	return m, b.judge(wire, until()), killed, observer
}

// silentAfter checks that the dead owner answered until some time within a lease, and to
// no question that was asked later.
func (b *Bed) silentAfter(observer *netns.Observer, owner int, killed int64) {
	b.t.Helper()
	observer.Stop()
	_, answers := observer.History()
	var last int64
	for _, a := range answers {
		if a.Node == b.Cluster.NodeName(owner) {
			last = max(last, a.Sent)
		}
	}
	after := time.Duration(last - killed)
	b.t.Logf("the last question that the dead owner answered was asked %s after its death", after)
	if after > Lease {
		b.t.Errorf("the dead owner answered for %s, longer than the lease", after)
	}
	if after < Lease/2 {
		timely(b.t, "the dead owner fell silent after %s: something else than the kernel's deadline did that", after)
	}
}

func TestFreezeAndReturn(t *testing.T) {
	beside(t)
	kinds(t, func(t *testing.T, b *Bed, kind string) {
		s := &Series{Name: "SIGSTOP for 3 leases, then SIGCONT, " + kind}
		for range Runs(3) {
			b.Place(b.other(b.Leader()))
			owner := b.Owner()
			wire, err := b.Lab.Capture(b.Lab.Node(owner), 0)
			b.must(err)
			var deadline int64
			until := b.deadline(owner)
			m := b.Watch(func() {
				anyMoment()
				b.must(b.Cluster.Kill(owner, syscall.SIGSTOP))
				b.NewOwner(b.other(owner), owner)
				if out := b.CLI(b.other(owner), "status"); !contains(out, "node "+b.Cluster.NodeName(owner)+" is suspect") {
					timely(t, "the status of another node says nothing of the frozen one:\n%s", out)
				}
				time.Sleep(3 * Lease)
				deadline = until()
				b.must(b.Cluster.Kill(owner, syscall.SIGCONT))
				time.Sleep(2 * Lease)
			})
			noDual(t, m)
			quiet(t, b.judge(wire, deadline))
			s.Add(m)
			b.WaitSessions(3)
			if b.has(owner) {
				t.Errorf("node-%d came back with the address", owner)
			}
		}
		report(t, s, Lease*12/10)
	})
}

func TestDeathOfTheGuardAlone(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	s := &Series{Name: "SIGKILL of the guard alone"}
	for range Runs(3) {
		owner := b.Owner()
		m := b.Watch(func() {
			gone, err := b.Cluster.KillGuard(owner)
			b.must(err)
			b.NewOwner(b.other(owner), owner)
			select {
			case <-gone:
			case <-time.After(ownedWait):
				t.Fatal("the agent goes on without its guard")
			}
		})
		noDual(t, m)
		s.Add(m)
		if b.has(owner) {
			t.Errorf("the address is still on node-%d", owner)
		}
		b.restart(owner)
	}
	report(t, s, Lease*12/10) // nobody renews, and what carries the agent's messages is gone too
}

// A terminal, killall and some service managers send a signal to both processes: that is
// one request to stop, not two.
func TestSignalToTheProcessGroup(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	s := &Series{Name: "SIGTERM to agent and guard at once"}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		owner := b.Owner()
		m := b.Watch(func() {
			pid, err := b.Cluster.GuardPID(owner)
			b.must(err)
			b.must(syscall.Kill(-pid, sig))
			b.NewOwner(b.other(owner), owner)
			b.ended(owner)
		})
		noDual(t, m)
		s.Add(m)
		b.restart(owner)
	}
	report(t, s, 20*time.Millisecond)
}

// Without a leader nothing can be handed over: that takes its time, unless there is a
// second signal.
func TestSecondSignalStopsAtOnce(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	owner := b.Owner()
	m := b.Watch(func() {
		b.cutOff(owner)
		b.must(b.Cluster.Kill(owner, syscall.SIGTERM))
		time.Sleep(2 * Lease)
		if !b.Cluster.Running(owner) {
			t.Error("it stopped without trying to hand over")
		}
		b.must(b.Cluster.Kill(owner, syscall.SIGTERM))
		took := b.ended(owner)
		t.Logf("the end came %s after the second signal", took.Round(time.Millisecond))
		if took > 3*time.Second {
			timely(t, "the second signal stopped it only after %s", took)
		}
		if b.has(owner) {
			t.Error("the address is still there")
		}
		b.must(b.Lab.Heal())
	})
	noDual(t, m)
	b.restart(owner)
}

// cutOff separates a node from everybody.
func (b *Bed) cutOff(node int) {
	b.t.Helper()
	rest := b.Lab.Clients()
	for i, h := range b.Lab.Nodes() {
		if i+1 != node {
			rest = append(rest, h)
		}
	}
	b.must(b.Lab.Partition([]*netns.Host{b.Lab.Node(node)}, rest))
}

func TestStopWhileTheLeaderIsAway(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	leader := b.Leader()
	b.Place(b.other(leader))
	owner := b.Owner()
	m := b.Watch(func() {
		b.cutOff(leader)
		b.must(b.Cluster.Kill(owner, syscall.SIGTERM))
		took := b.ended(owner)
		t.Logf("the end came after %s", took.Round(time.Millisecond))
		if limit := 13 * time.Second; took > limit { // 10 s for the hand-over, 1 s for the report, and the rest
			timely(t, "the stop took %s, longer than %s", took, limit)
		}
		b.must(b.Lab.Heal())
	})
	noDual(t, m)
	b.restart(owner)
}

// On a busy host a start takes longer than the address lives, and the kernel has removed it: then there is
// nothing to see, and the test tries again.
func TestRestartCleansBeforeItSpeaks(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	time.Sleep(2 * Lease) // voters that have just started are silent for a promise
	var after string
	for range 4 {
		after = b.restartAfterKill()
		cleaned, spoke := strings.Index(after, "removed a leftover address"), strings.Index(after, "session opened")
		if cleaned >= 0 && spoke > cleaned {
			return
		}
		if cleaned >= 0 {
			break
		}
	}
	t.Errorf("the leftovers were not removed before the session opened:\n%s", after)
}

// restartAfterKill kills the owner's processes, starts it again and returns what it has logged since, up to
// its new session.
func (b *Bed) restartAfterKill() (after string) {
	b.t.Helper()
	owner := b.Owner()
	log := b.Cluster.LogPath(owner)
	before, err := os.ReadFile(log)
	b.must(err)
	m := b.Watch(func() {
		b.must(b.Cluster.Kill(owner, syscall.SIGKILL))
		if !b.has(owner) {
			b.t.Log("nothing was left to clean") // the address's life is over, or this process stood still until it was
		}
		b.must(b.Cluster.Start(owner))
		b.Eventually("a new session", func() bool {
			text, err := os.ReadFile(log)
			b.must(err)
			after = string(text[len(before):])
			return strings.Contains(after, "session opened")
		})
	})
	noDual(b.t, m)
	return after
}

func TestCleanup(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	time.Sleep(2 * Lease)
	owner := b.Owner()
	left := func() string {
		programs, err := netns.FencePrograms(b.Lab.Node(owner), 0)
		b.must(err)
		return fmt.Sprintf("address %v, fence %v", b.has(owner), len(programs) > 0)
	}
	const everything, nothing = "address true, fence true", "address false, fence false"

	var refused *netns.CLIError
	if _, err := b.Cluster.CLI(owner, "agent", "--cleanup"); !errors.As(err, &refused) || !strings.Contains(refused.Stderr, "held by") {
		t.Errorf("while an agent runs: %v", err)
	}
	if got := left(); got != everything {
		t.Errorf("after the refusal: %s", got)
	}
	for _, spoil := range []bool{false, true} {
		b.Place(owner)
		b.must(b.Cluster.Kill(owner, syscall.SIGKILL))
		got := left()
		for again := 1; again < attempts && got != everything; again++ { // a busy host may look when the address's life is over
			b.restart(owner)
			b.Place(owner)
			b.must(b.Cluster.Kill(owner, syscall.SIGKILL))
			got = left()
		}
		if got != everything {
			t.Errorf("after SIGKILL: %s", got)
		}
		identity := filepath.Join(b.Cluster.DataDir(owner), "identity.json")
		text, err := os.ReadFile(identity)
		b.must(err)
		if spoil {
			b.must(os.WriteFile(identity, []byte("{"), 0o600))
		}
		for range 2 { // the second time nothing is left
			b.CLI(owner, "agent", "--cleanup")
			if got := left(); got != nothing {
				t.Errorf("after the cleanup: %s", got)
			}
		}
		b.must(os.WriteFile(identity, text, 0o600))
		b.restart(owner)
	}
}
