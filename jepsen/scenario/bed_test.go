package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"havip-cluster/jepsen/checker"
	"havip-cluster/jepsen/netns"
)

const (
	port       = netns.DefaultPort
	unitFile   = "../../docs/havip-cluster.service"
	ownedWait  = 20 * time.Second
	settleTime = 300 * time.Millisecond // of ordinary service before a fault
	// Lease is that of profile lan, which all scenarios use.
	Lease = 500 * time.Millisecond
)

// binary builds havip-cluster once for all tests of the process. HAVIP_BINARY names one that was built
// before, so that two builds can be measured in turn.
var binary = sync.OnceValues(func() (string, error) {
	if built := os.Getenv("HAVIP_BINARY"); built != "" {
		return built, nil
	}
	dir, err := os.MkdirTemp("", "havip-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "havip-cluster")
	args := []string{"build", "-trimpath", "-o", path, "havip-cluster/cmd/havip-cluster"}
	env := append(os.Environ(), "CGO_ENABLED=0")
	if os.Getenv("HAVIP_RACE") != "" {
		args = append([]string{"build", "-race"}, args[1:]...)
		env = append(os.Environ(), "CGO_ENABLED=1")
	}
	cmd := exec.Command("go", args...)
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return path, nil
})

// Bed is a running cluster with its client and its observer.
type Bed struct {
	t       *testing.T
	Lab     *netns.Lab
	Cluster *netns.Cluster
	HAVIP   netip.Addr
}

// NewBed forms a cluster of n nodes, all voters, and makes the HAVIP "web", owned by some
// node. It ends with the test.
func NewBed(t *testing.T, n int) *Bed { return newBed(t, n, n) }

// newBed is NewBed in a lab with more hosts than the cluster has nodes at first.
func newBed(t *testing.T, hosts, n int) *Bed {
	t.Helper()
	b := unformed(t, hosts)
	b.form(n)
	return b
}

// unformed is a lab with hosts on which nothing runs yet.
func unformed(t *testing.T, hosts int) *Bed {
	t.Helper()
	return unformedIn(t, netns.Options{Nodes: hosts})
}

// unformedIn is a lab of any shape.
func unformedIn(t *testing.T, options netns.Options) *Bed {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	lab, err := netns.New(options)
	if err != nil {
		t.Fatalf("this test needs root (or a user namespace with a network of its own): %v", err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	dir, err := os.MkdirTemp("", "havip-")
	if err != nil {
		t.Fatal(err)
	}
	b := &Bed{t: t, Lab: lab, Cluster: netns.NewCluster(lab, path, dir), HAVIP: lab.Address(100)}
	b.Cluster.Unit, b.Cluster.Lease = unitFile, Lease
	t.Cleanup(func() {
		if keep := os.Getenv("HAVIP_KEEP"); keep != "" {
			t.Logf("data and logs are kept in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if os.Getenv("HAVIP_VERBOSE") != "" {
		b.Cluster.AgentArgs = []string{"--verbose"}
	}
	b.Cluster.LogOnFailure(t)
	return b
}

// form makes a cluster of the first n hosts, and the HAVIP.
func (b *Bed) form(n int) {
	b.t.Helper()
	b.must(b.Cluster.Bootstrap())
	for i := 2; i <= n; i++ {
		b.must(b.Cluster.Join(i, "voter"))
	}
	b.WaitVoters(min(n, 5))
	b.WaitSessions(n)
	for _, h := range b.Lab.Nodes()[:n] {
		_, err := h.Respond(port)
		b.must(err)
	}
	b.CLI(1, "havip", "create", "web", "--ip", b.HAVIP.String(), "--no-range-limit")
	b.Eventually("its owner has it", func() bool { return b.has(b.Owner()) }) // it asks the neighbours first
}

func (b *Bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// CLI runs a command at node i; it must succeed.
func (b *Bed) CLI(i int, args ...string) []byte {
	b.t.Helper()
	out, err := b.Cluster.CLI(i, args...)
	b.must(err)
	return out
}

// Owner waits until the HAVIP has an owner, and returns its number.
func (b *Bed) Owner() int {
	b.t.Helper()
	i, err := b.Cluster.WaitOwned("web", ownedWait)
	b.must(err)
	return i
}

// NewOwner waits until another node than old owns the HAVIP, as node at sees it.
func (b *Bed) NewOwner(at, old int) int {
	b.t.Helper()
	var owner int
	b.Eventually("a new owner", func() bool {
		list, err := b.Cluster.PlacementAt(at, true)
		if err != nil {
			return false
		}
		for _, p := range list {
			for i := range b.Lab.Nodes() {
				if p.Name == "web" && p.Owner() == b.Cluster.NodeName(i+1) && i+1 != old {
					owner = i + 1
				}
			}
		}
		return owner != 0
	})
	return owner
}

// Leader is the number of the leader.
func (b *Bed) Leader() int {
	b.t.Helper()
	leader := 0
	b.Eventually("a leader", func() bool {
		i, err := b.Cluster.Leader()
		leader = i
		return err == nil
	})
	return leader
}

// leads waits until a node leads. Who leads instead, as after an election on a busy host, is started again.
func (b *Bed) leads(node int) {
	b.t.Helper()
	b.Eventually(b.Cluster.NodeName(node)+" to lead", func() bool {
		leader := b.Leader()
		if leader != node {
			b.must(b.Cluster.Restart(leader))
			b.WaitSessions(len(b.Lab.Nodes()))
			b.WaitVoters(len(b.Lab.Nodes()))
		}
		return leader == node
	})
}

func contains(out []byte, text string) bool { return strings.Contains(string(out), text) }

// Eventually polls until ok, and fails the test when that takes too long.
func (b *Bed) Eventually(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(ownedWait); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	b.t.Fatalf("%s: not within %s", what, ownedWait)
}

// WaitSessions waits until n nodes have a session.
func (b *Bed) WaitSessions(n int) {
	b.t.Helper()
	b.Eventually(fmt.Sprintf("%d sessions", n), func() bool {
		nodes, err := b.Cluster.Nodes()
		have := 0
		for _, x := range nodes {
			if x.Session != 0 {
				have++
			}
		}
		return err == nil && have >= n
	})
}

// WaitVoters waits until the cluster has n voters.
func (b *Bed) WaitVoters(n int) {
	b.t.Helper()
	b.Eventually(fmt.Sprintf("%d voters", n), func() bool {
		voters, err := b.Cluster.Voters()
		return err == nil && voters >= n
	})
}

// Place moves the HAVIP to a node, unless it is served there. It asks again when the HAVIP goes
// elsewhere, as it does when the node's session ends just then.
func (b *Bed) Place(node int) {
	b.t.Helper()
	if b.serves(node) {
		return
	}
	b.Eventually("the move", func() bool {
		_, _ = b.Cluster.CLI(node, "havip", "move", "web", "--to", b.Cluster.NodeName(node))
		time.Sleep(settleTime)
		return b.serves(node)
	})
	time.Sleep(2 * settleTime)
}

// serves reports whether a node owns the HAVIP by the log, has said that it serves it, and has its address. The
// log alone gives it to a node that may not know yet.
func (b *Bed) serves(node int) bool {
	b.t.Helper()
	list, err := b.Cluster.Placement()
	return err == nil && b.has(node) && slices.ContainsFunc(list, func(p netns.Placement) bool {
		return p.Name == "web" && p.State == "AVAILABLE" && p.Owner() == b.Cluster.NodeName(node)
	})
}

// Measured is what the instruments saw during one fault.
type Measured struct {
	Gap   time.Duration // the longest
	Still time.Duration // for how long this process, with the client and those who answer it, stood still
	Lost  int           // probes without an answer
	Of    machine       // time of the machine meanwhile
	Dual  checker.Dual
	After string // who answered last; empty if nobody did
}

// Watch runs the client and the observer around a fault. They start settleTime before it
// and end when it has returned.
func (b *Bed) Watch(fault func()) Measured {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	prober, err := b.Lab.Probe(ctx, b.Lab.Client(), b.HAVIP, port, time.Millisecond)
	b.must(err)
	observer, err := b.Lab.Observe(ctx, []netip.Addr{b.HAVIP}, port, 2*time.Millisecond)
	b.must(err)
	still, began := standsStill(), machineTime()
	time.Sleep(settleTime)
	fault()
	over := b.Lab.Now()
	time.Sleep(settleTime)
	answeredAfter(prober, over)
	prober.Stop()
	observer.Stop()
	m := measured(prober, 2*time.Millisecond, observer.Report().Dual)
	m.Still, m.Of = still(), machineTime().since(began)
	return m
}

// standsStill adds up, until the returned function is called, for how long this process stood still.
func standsStill() (sum func() time.Duration) {
	const turn, least = 10 * time.Millisecond, 100 * time.Millisecond
	ended, all := make(chan struct{}), make(chan time.Duration)
	go func() {
		still := time.Duration(0)
		for {
			began := time.Now()
			select {
			case <-ended:
				all <- still
				return
			case <-time.After(turn):
			}
			if late := time.Since(began) - turn; late > least {
				still += late
			}
		}
	}()
	return func() time.Duration { close(ended); return <-all }
}

// answeredAfter waits until a question that was asked after an instant is answered, as it is at once where somebody serves:
// on a busy host this process may have asked nothing for a while.
func answeredAfter(p *netns.Prober, instant int64) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		probes := p.Probes()
		for i := len(probes) - 1; i >= 0 && probes[i].Sent > instant; i-- {
			if probes[i].Answered != 0 {
				return
			}
		}
	}
}

// measured condenses what one client saw: its gaps of at least shortest, and who answered it
// last. That is not who ended the last gap: a host that stands still makes one before the
// fault, and a planned move makes none.
func measured(p *netns.Prober, shortest time.Duration, dual checker.Dual) Measured {
	m := Measured{Dual: dual, After: lastAnswer(p)}
	for _, g := range p.Gaps(shortest) {
		m.Lost += g.Lost
		m.Gap = max(m.Gap, g.Duration)
	}
	return m
}

// lastAnswer is the node that answered last; empty if none did.
func lastAnswer(p *netns.Prober) string {
	probes := p.Probes()
	for i := len(probes) - 1; i >= 0; i-- {
		if probes[i].Answered != 0 {
			return probes[i].Node
		}
	}
	return ""
}

// Runs is how often a scenario is repeated: HAVIP_RUNS, else the given number.
func Runs(n int) int {
	if v, err := strconv.Atoi(os.Getenv("HAVIP_RUNS")); err == nil && v > 0 {
		return v
	}
	return n
}

// Series is the outcome of one scenario repeated.
type Series struct {
	Name string
	Gaps []time.Duration
	Dual time.Duration
	Of   machine // time of the machine in all runs
}

// Add takes one run.
func (s *Series) Add(m Measured) {
	s.Gaps, s.Of = append(s.Gaps, m.Gap), s.Of.add(m.Of)
	s.Dual = max(s.Dual, m.Dual.Certain)
}

// Quantile is the q-th of the sorted gaps, 0..1.
func (s *Series) Quantile(q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(s.Gaps))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func (s *Series) String() string {
	return fmt.Sprintf("%-44s runs %3d   gap min %8s  p50 %8s  max %8s   dual-owner %s   steal %s", s.Name, len(s.Gaps),
		s.Quantile(0).Round(100*time.Microsecond), s.Quantile(0.5).Round(100*time.Microsecond),
		s.Quantile(1).Round(100*time.Microsecond), s.Dual, s.Of)
}
