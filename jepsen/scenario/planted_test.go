package scenario

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"havip-cluster/jepsen/mutants/planted"
	"havip-cluster/jepsen/netns"
)

// attempts is how often a planted bug is given the chance to show itself: a busy machine
// can lose a lease where the test wants it to run.
const attempts = 5

// mutants builds the binary with the planted bugs of this file, each of them off.
var mutants = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "havip-bin-")
	if err != nil {
		return "", err
	}
	overlay, err := planted.Overlay(dir, "handoff-early", "fence-not-shut", "lease-send-time-deadline", "fence-stale-timeout")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "havip-cluster")
	cmd := exec.Command("go", "build", "-overlay", overlay, "-o", path, "havip-cluster/cmd/havip-cluster")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
})

// mutantBed is an unformed Bed of the binary with planted bugs.
func mutantBed(t *testing.T, nodes int) *Bed {
	t.Helper()
	path, err := mutants()
	if err != nil {
		t.Fatal(err)
	}
	b := unformed(t, nodes)
	b.Cluster.Binary = path
	return b
}

// sick starts a node again with an environment of its own, and gives it the HAVIP.
func (b *Bed) sick(node int, env ...string) {
	b.t.Helper()
	b.must(b.Cluster.Stop(node))
	b.Cluster.Env = env
	b.restart(node)
	b.Cluster.Env = nil
	b.Place(node)
}

// twoOwners repeats a fault until the observer has seen two owners, at most n times.
func (b *Bed) twoOwners(n int, fault func() Measured) (certain time.Duration) {
	for range n {
		if certain = fault().Dual.Certain; certain > 0 {
			break
		}
	}
	return certain
}

// The instruments must see two owners when there are two: the real binary, built with
// planted bugs, is caught by the observer.
func TestObserverSeesPlantedBugs(t *testing.T) {
	long(t)
	beside(t)
	move := func(b *Bed) (from, to int) {
		from = b.Owner()
		to = b.other(from)
		b.CLI(to, "havip", "move", "web", "--to", b.Cluster.NodeName(to))
		b.NewOwner(to, from)
		time.Sleep(Lease)
		return from, to
	}
	for _, bug := range []struct {
		mutant string
		fault  func(b *Bed)
	}{
		{"handoff-early", func(b *Bed) { move(b) }},
		{"fence-not-shut", func(b *Bed) {
			from, _ := move(b)
			b.stubborn(from, Lease)
		}},
	} {
		for _, planted := range []bool{true, false} {
			b := mutantBed(t, 3)
			if planted {
				b.Cluster.Env = []string{"HAVIP_MUTANT=" + bug.mutant}
			}
			b.form(3)
			if m := b.Watch(func() { bug.fault(b) }); planted != (m.Dual.Certain > 0) {
				t.Errorf("%s planted %t: the observer saw two owners for %s", bug.mutant, planted, m.Dual.Certain)
			}
		}
	}
}

// stubborn is another program at a node, which for that long adds the HAVIP there each time
// that the agent has removed it.
func (b *Bed) stubborn(node int, d time.Duration) {
	b.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
		b.must(b.Lab.Node(node).Do(func() error {
			if err := netlink.AddrAdd(eth0(), hostAddr(b.HAVIP)); !errors.Is(err, syscall.EEXIST) {
				return err
			}
			return nil
		}))
	}
}

// The acknowledgements of the last renewals lie in the owner's socket while it is stopped.
// Counted from their receipt, its deadline is later than what the voters promised.
func TestObserverSeesRenewalFromReceiptTime(t *testing.T) {
	long(t)
	beside(t)
	for _, planted := range []bool{true, false} {
		b := mutantBed(t, 3)
		b.form(3)
		fault := func() Measured {
			b.WaitSessions(3)
			b.Place(b.other(b.Leader()))
			owner := b.Owner()
			if planted {
				b.sick(owner, "HAVIP_MUTANT=lease-send-time-deadline")
			}
			m := b.Watch(func() { b.lateAcks(owner) })
			b.must(b.Lab.Heal())
			return m
		}
		n := attempts
		if !planted {
			n = 2
		}
		certain := b.twoOwners(n, fault)
		t.Logf("planted %t: the observer saw two owners for %s", planted, certain)
		if planted != (certain > 0) {
			t.Errorf("planted %t: the observer saw two owners for %s", planted, certain)
		}
	}
}

// lateAcks has the owner's renewals wait at the stopped voters, then their answers at the
// stopped owner, which is cut off before it continues.
func (b *Bed) lateAcks(owner int) {
	b.t.Helper()
	signal := func(sig syscall.Signal, nodes ...int) {
		for _, i := range nodes {
			b.must(b.Cluster.Kill(i, sig))
		}
	}
	first := b.other(owner)
	second := b.other(owner, first)
	signal(syscall.SIGSTOP, first, second)
	time.Sleep(Lease * 6 / 25) // one renewal at least, no election
	signal(syscall.SIGSTOP, owner)
	signal(syscall.SIGCONT, first, second)
	time.Sleep(Lease * 2 / 5) // the owner's lease still runs
	b.cutOff(owner)
	signal(syscall.SIGCONT, owner)
	b.NewOwner(first, owner)
	time.Sleep(Lease)
}

// The nftables fence hands the kernel a timeout, not a time. The owner is held up between
// computing it and the call; then nothing of it is left that could correct the kernel.
func TestObserverSeesStaleTimeout(t *testing.T) {
	long(t)
	beside(t)
	for _, planted := range []bool{true, false} {
		b := mutantBed(t, 3)
		b.Cluster.Binary = withoutBPF(t, b.Cluster.Binary)
		b.form(3)
		fault := func() Measured {
			b.WaitSessions(3)
			b.Place(b.other(b.Leader()))
			owner := b.Owner()
			env := []string{"HAVIP_MUTANT_PAUSE=fence-renew=60ms", "HAVIP_MUTANT_UNPROVED=1"}
			if planted {
				env = append(env, "HAVIP_MUTANT=fence-stale-timeout")
			}
			b.sick(owner, env...)
			m := b.Watch(func() {
				b.cutOff(owner)
				time.Sleep(Lease * 16 / 25) // the last renewal has reached the kernel, and its lease still runs
				b.must(b.Cluster.Kill(owner, syscall.SIGKILL))
				b.NewOwner(b.other(owner), owner)
				time.Sleep(Lease)
			})
			b.must(b.Lab.Heal())
			b.restart(owner)
			return m
		}
		n := attempts
		if !planted {
			n = 2
		}
		certain := b.twoOwners(n, fault)
		t.Logf("planted %t: the observer saw two owners for %s", planted, certain)
		if planted != (certain > 0) {
			t.Errorf("planted %t: the observer saw two owners for %s", planted, certain)
		}
	}
}

// The same bug, and the proof of the fence is not spared: it lets no such agent serve.
func TestProofSeesStaleTimeout(t *testing.T) {
	long(t)
	beside(t)
	b := mutantBed(t, 1)
	b.Cluster.Binary = withoutBPF(t, b.Cluster.Binary)
	b.Cluster.Env = []string{"HAVIP_MUTANT_PAUSE=fence-renew=60ms", "HAVIP_MUTANT=fence-stale-timeout"}
	err := b.Cluster.Bootstrap()
	if err == nil || !strings.Contains(b.logged(1), "a frame passed after the deadline") {
		t.Errorf("the agent starts with a fence that opens too late: %v\n%s", err, b.logged(1))
	}
}

// A fence that goes away with its processes lets frames through after the deadline: the
// count on the wire can fail.
func TestWireSeesAFenceThatVanishes(t *testing.T) {
	beside(t)
	b := NewBed(t, 3)
	for again := 1; ; again++ { // the old owner's address lives on for about a second: a busy host may look away for as long
		b.Place(b.other(b.Leader()))
		owner := b.Owner()
		m, said, _, _ := b.killAll(owner, func() {
			b.must(netns.Unfence(b.Lab.Node(owner), 0))
		})
		t.Log(said)
		if said.after > 0 && m.Dual.Certain > 0 {
			break
		}
		if again == attempts {
			t.Errorf("a fence that vanished was not noticed: %s, two owners for %s", said, m.Dual.Certain)
			break
		}
		b.restart(owner)
	}
}
