package scenario

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"havip-cluster/jepsen/netns"
)

const (
	// questionsPerSecond is what client and responders, in one process on two cores, carry beside three
	// nodes: with more addresses a round takes longer.
	questionsPerSecond = 20_000
	// A fault is watched at some of the addresses, each asked so often that its gap shows: a round of
	// all of them would be added to what is measured. Those of a host that is lost are many, because
	// the last of all counts.
	sampled     = 20
	sampleRound = 5 * time.Millisecond
	lossSampled = 250
	lossRound   = 20 * time.Millisecond
	roundMin    = 10 * time.Millisecond
	sizeStart   = 512 // the first HAVIP is subnet + 512
	sizeSettle  = 3 * time.Minute
	neighbours  = "/proc/sys/net/ipv4/neigh/default/gc_thresh"
)

// size is HAVIP_SIZE.
func size(t *testing.T) int {
	t.Helper()
	text := os.Getenv("HAVIP_SIZE")
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 16_000 {
		t.Fatalf("HAVIP_SIZE=%s: want 1 to 16000", text)
	}
	return n
}

// onlyMeasured: sizes need a machine of their own.
func onlyMeasured(t *testing.T) {
	t.Helper()
	if !measuring() || os.Getenv("HAVIP_SIZE") == "" {
		t.Skip("with HAVIP_MEASURE=1 and HAVIP_SIZE=1000, as `make measure-sizes` does")
	}
}

// sizes is a lab with n addresses, and a client that asks for all of them.
type sizes struct {
	*Bed
	list  []netip.Addr
	swarm *netns.Swarm
	asked int // addresses that it asks for
	runs  []sizeRun
}

// sizeRun is one fault: how long until the last address was served again, and the longest gap.
type sizeRun struct {
	fault     string
	last, gap time.Duration
}

// summary prints what all runs of each fault came to.
func (s *sizes) summary() {
	var faults []string
	last, gaps := map[string][]time.Duration{}, map[string][]time.Duration{}
	for _, r := range s.runs {
		if last[r.fault] == nil {
			faults = append(faults, r.fault)
		}
		last[r.fault], gaps[r.fault] = append(last[r.fault], r.last), append(gaps[r.fault], r.gap)
	}
	for _, f := range faults {
		l, g := slices.Sorted(slices.Values(last[f])), slices.Sorted(slices.Values(gaps[f]))
		n := len(l)
		s.t.Logf("%s, %d HAVIPs: runs %d, all served again after p50 %s, max %s; longest gap p50 %s, max %s", f, len(s.list), n,
			l[n/2].Round(time.Millisecond), l[n-1].Round(time.Millisecond), g[n/2].Round(time.Millisecond), g[n-1].Round(time.Millisecond))
	}
}

func newSizes(t *testing.T) *sizes {
	t.Helper()
	onlyMeasured(t)
	n := size(t)
	roomForNeighbours(t, 4*n)
	b := unformedIn(t, netns.Options{Nodes: 3, Subnet: netip.MustParsePrefix("10.80.0.0/16")})
	return &sizes{Bed: b, list: b.Lab.Sequence(sizeStart, n)}
}

// roomForNeighbours raises the machine's limit of its neighbour cache until the test ends.
func roomForNeighbours(t *testing.T, n int) {
	t.Helper()
	for _, i := range []string{"3", "2", "1"} {
		old, err := os.ReadFile(neighbours + i)
		if err != nil {
			t.Fatal(err)
		}
		if have, err := strconv.Atoi(strings.TrimSpace(string(old))); err != nil || have >= n {
			continue
		}
		if err := os.WriteFile(neighbours+i, []byte(strconv.Itoa(n)), 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.WriteFile(neighbours+i, old, 0) })
	}
}

// half is the one of nodes 2 and 3 that should own the i-th address.
func half(i int) int { return 2 + i%2 }

// formAll makes the cluster, and all HAVIPs by one file, half of them on each of two nodes.
func (s *sizes) formAll() {
	s.t.Helper()
	b := s.Bed
	b.must(b.Cluster.Bootstrap())
	b.must(b.Cluster.Join(2, "voter"))
	b.must(b.Cluster.Join(3, "voter"))
	b.WaitVoters(3)
	b.WaitSessions(3)
	b.Eventually("the ENIs", func() bool { return strings.Count(string(b.CLI(1, "eni", "list")), "/eth0") >= 3 })
	var file strings.Builder
	file.WriteString("version: 1\nhavips:\n")
	for i, ip := range s.list {
		fmt.Fprintf(&file, "  - {name: h%05d, ip: %s, subnet: net-10.80.0.0-16, prefer: {node-%d: 100}, stickiness: 0, failback: immediate}\n", i, ip, half(i))
	}
	path := filepath.Join(b.Cluster.Dir, "all.yaml")
	b.must(os.WriteFile(path, []byte(file.String()), 0o600))
	start := time.Now()
	if _, err := b.Cluster.CLI(1, "apply", "-f", path, "--timeout", "3m"); err != nil {
		b.t.Fatal(err)
	}
	b.t.Logf("apply of %d HAVIPs took %s", len(s.list), time.Since(start).Round(time.Millisecond))
}

// ask starts the client, and waits until every address answers.
func (s *sizes) ask() {
	s.t.Helper()
	for _, h := range s.Lab.Nodes() {
		_, err := h.Respond(port)
		s.must(err)
	}
	s.askFor(s.list, s.round())
}

// round is the time in which each address is asked once.
func (s *sizes) round() time.Duration {
	return max(roundMin, time.Duration(len(s.list))*time.Second/questionsPerSecond)
}

// askFor has the client ask for these from now on.
func (s *sizes) askFor(list []netip.Addr, round time.Duration) {
	s.t.Helper()
	if s.swarm != nil {
		s.swarm.Stop()
	}
	var err error
	s.swarm, err = s.Lab.Swarm(s.t.Context(), s.Lab.Client(), list, port, round)
	s.must(err)
	s.asked = len(list)
	s.t.Cleanup(s.swarm.Stop)
	s.allServed()
}

// sample is about n of the addresses, as many of each node, spread over all.
func (s *sizes) sample(n int) []netip.Addr {
	step := max(len(s.list)/n, 1) | 1 // odd: owners take turns
	var out []netip.Addr
	for i := 0; i < len(s.list); i += step {
		out = append(out, s.list[i])
	}
	return out
}

func (s *sizes) allServed() {
	s.t.Helper()
	start := time.Now()
	for end := start.Add(sizeSettle); ; time.Sleep(100 * time.Millisecond) {
		r := s.swarm.Report(0)
		if r.Dark == 0 {
			if took := time.Since(start).Round(100 * time.Millisecond); took > 0 {
				s.t.Logf("all %d addresses answered after %s, by %v", s.asked, took, r.By)
			}
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%d of %d addresses have no answer after %s: %s", r.Dark, s.asked, sizeSettle, r)
		}
	}
}

// measure takes the report of one fault, when all that it hit is served again.
func (s *sizes) measure(name string, fault, mend func()) netns.SwarmReport {
	s.t.Helper()
	s.swarm.Reset()
	file := strings.ReplaceAll(name, " ", "-")
	stop := s.profiles(file)
	at := s.Lab.Now()
	fault()
	time.Sleep(2 * time.Second)
	stop()
	s.left(2)
	s.allServed()
	r := s.swarm.Report(at)
	s.t.Logf("%s, %d HAVIPs, %d of them asked: %s", name, len(s.list), s.asked, r)
	s.runs = append(s.runs, sizeRun{name, r.Last, r.Quantile(1)})
	s.timelines(file)
	mend()
	s.allServed()
	time.Sleep(5 * time.Second)
	s.allServed()
	return r
}

// left waits until a node, which the fault has hit, answers for nothing any more: a hand-over of thousands takes seconds.
func (s *sizes) left(node int) {
	s.t.Helper()
	name := s.Cluster.NodeName(node)
	for end := time.Now().Add(sizeSettle); s.swarm.Report(0).By[name] > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s still answers after %s: %s", name, sizeSettle, s.swarm.Report(0))
		}
	}
}

// budget of a host's loss: the lease, and what FIELD and DESIGN give the size beside it.
func (s *sizes) budget() time.Duration {
	if len(s.list) > 1000 {
		return Lease + 400*time.Millisecond
	}
	return Lease + 100*time.Millisecond
}

// wants reports whether HAVIP_FAULTS, a list with commas, has a fault; without it all are played.
func (s *sizes) wants(fault string) bool {
	list := os.Getenv("HAVIP_FAULTS")
	return list == "" || slices.Contains(strings.Split(list, ","), fault)
}

// Half of many HAVIPs are on a host that is lost; then on one that is told to stop.
func TestSize(t *testing.T) {
	s := newSizes(t)
	s.formAll()
	s.ask()
	cut := func(node int) (func(), func()) {
		return func() { s.must(s.Lab.Node(node).SetLink(0, false)) },
			func() {
				s.must(s.Lab.Node(node).SetLink(0, true))
				s.WaitSessions(3)
				s.CLI(1, "havip", "clear-failures", "--all") // one that loses its session again and again gets nothing for a wish
				s.spread(node)
			}
	}
	for range Runs(1) {
		if s.wants("host loss") {
			s.leads(1)
			s.askFor(s.sample(lossSampled), lossRound)
			fault, mend := cut(2)
			if r := s.measure("host loss", fault, mend); r.Last > s.budget()+lossRound {
				timely(t, "the last address was served again after %s, the budget is %s", r.Last, s.budget())
			}
		}
		if s.wants("leader loss") {
			s.leads(2)
			s.askFor(s.sample(lossSampled), lossRound)
			fault, mend := cut(2)
			if r := s.measure("host loss, it leads", fault, mend); r.Last > s.budget()+Lease+lossRound {
				timely(t, "the last address was served again after %s, the budget is %s", r.Last, s.budget()+Lease)
			}
		}
		if s.wants("SIGTERM") {
			s.askFor(s.sample(sampled), sampleRound)
			r := s.measure("SIGTERM", func() { s.must(s.Cluster.Kill(2, syscall.SIGTERM)) }, func() { s.restart(2); s.spread(2) })
			if r.Quantile(1) > 20*time.Millisecond+sampleRound || r.Last > 500*time.Millisecond+sampleRound {
				timely(t, "a planned hand-over: the longest gap is %s, the last address was served again after %s", r.Quantile(1), r.Last)
			}
		}
		s.askFor(s.list, s.round()) // all of them answer
	}
	s.summary()
	s.reads()
}

// leads has a node lead: it takes the others' leadership away by restarting them.
func (s *sizes) leads(node int) {
	s.t.Helper()
	for range attempts {
		leader := s.Leader()
		if leader == node {
			return
		}
		s.must(s.Cluster.Stop(leader))
		s.restart(leader)
		s.spread(leader)
		s.allServed()
	}
	s.t.Logf("node-%d does not lead", node)
}

// spread waits until a node has its half back, which it wants by its score.
func (s *sizes) spread(node int) {
	s.t.Helper()
	if node == 1 {
		return
	}
	name := s.Cluster.NodeName(node)
	for end := time.Now().Add(sizeSettle); ; time.Sleep(200 * time.Millisecond) {
		r := s.swarm.Report(0)
		if r.By[name] >= s.asked/2 {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s did not get its half back within %s: %s", name, sizeSettle, r)
		}
	}
}

// vrrp is the configuration of one node: two instances, each with half of the addresses. Only the
// first of them is in the advertisements, as the manual advises for many.
func (s *sizes) vrrp(node int) string {
	var text strings.Builder
	fmt.Fprintf(&text, "global_defs {\n  router_id node-%d\n  vrrp_version 3\n  vrrp_priority -15\n}\n", node)
	for instance := range 2 {
		priority := 100 - 10*node
		if half(instance) == node {
			priority = 150
		}
		var own []netip.Addr
		for i, ip := range s.list {
			if half(i) == half(instance) {
				own = append(own, ip)
			}
		}
		fmt.Fprintf(&text, "vrrp_instance half%d {\n  state BACKUP\n  interface eth0\n  virtual_router_id %d\n  priority %d\n  advert_int 0.1\n  virtual_ipaddress {\n    %s/32 dev eth0\n  }\n  virtual_ipaddress_excluded {\n",
			instance, 51+instance, priority, own[0])
		for _, ip := range own[1:] {
			fmt.Fprintf(&text, "    %s/32 dev eth0\n", ip)
		}
		text.WriteString("  }\n}\n")
	}
	return text.String()
}

// The same with Keepalived, for comparison: advertisements every 0.1 s.
func TestSizeOfKeepalived(t *testing.T) {
	s := newSizes(t)
	path, err := exec.LookPath("keepalived")
	s.must(err)
	for i, h := range s.Lab.Nodes() {
		name := filepath.Join(s.Cluster.Dir, h.Name)
		s.must(os.WriteFile(name+".conf", []byte(s.vrrp(i+1)), 0o600))
		log, err := os.Create(name + ".log")
		s.must(err)
		cmd := h.Command(path, "--dont-fork", "--vrrp", "--log-console", "--no-syslog", "--use-file", name+".conf", "--pid", name+".pid", "--vrrp_pid", name+".vrrp.pid")
		cmd.Stdout, cmd.Stderr = log, log
		s.must(h.Start(cmd))
		_ = log.Close()
		t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() })
	}
	s.ask()
	for range Runs(1) {
		s.measure("Keepalived, host loss", func() { s.must(s.Lab.Node(2).SetLink(0, false)) }, func() { s.must(s.Lab.Node(2).SetLink(0, true)) })
	}
	s.summary()
}
