package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	catalogue "havip-cluster/jepsen/faults"
	"havip-cluster/jepsen/history"
)

// planted are results as a run would have them, with one fault of ours twice as long as it may be.
func planted() *results {
	one := func(c kind, fault string, gaps ...float64) row {
		return row{Contender: c.name, Voters: 3, HAVIPs: 1, Fault: fault, GapsMS: gaps}
	}
	many := one(lease150, hostLoss, 200)
	many.HAVIPs = 100
	return &results{Set: "quick", Runs: 3, Kernel: "6.1", Cores: 2, Keepalived: "Keepalived v2.2.7",
		Rows: []row{
			one(vrrpTuned, hostLoss, 300, 310, 320), one(lease150, hostLoss, 160, 150, 170), many,
			one(lease150, cleanStop, 90, 80, 85), one(lease150, plannedMove, 0, 2, 1),
		},
		Costs: []Cost{{Contender: vrrpTuned.name, Voters: 3, HAVIPs: 1, CPU: 0.4}, {Contender: lease150.name, Voters: 3, HAVIPs: 1, CPU: 5}},
	}
}

func TestTable(t *testing.T) {
	r := planted()
	r.Gates = judge(r)
	text := r.page()
	for _, want := range []string{
		"| host loss | Keepalived, 100 ms | 3 | 1 | 3 | 310.0 | 320.0 | 0.0 | 0.0 | 0 | 0 |\n| host loss | havip-cluster, lease 150 ms | 3 | 1 | 3 | 160.0 | 170.0 |",
		"| havip-cluster, lease 150 ms | 3 | 1 | 5.0 |",
		"(gaps.svg)", "(sizes.svg)", "(cost.svg)",
		"| 0.52 | 0.80 | yes |", "| 0.53 | 0.30 | **no** |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// A gate that fails, and a run without any gate, fail the command.
func TestGates(t *testing.T) {
	r := planted()
	if passed(judge(r)) {
		t.Error("a clean stop that takes half of a host's loss passed")
	}
	r.Rows = slices.DeleteFunc(r.Rows, func(w row) bool { return w.Fault == cleanStop })
	if list := judge(r); !passed(list) {
		t.Errorf("%+v", list)
	}
	r.Rows[1].TwoMS = 4
	if passed(judge(r)) {
		t.Error("two owners passed")
	}
	r.Rows[1].TwoMS = 0
	r.Rows = append(r.Rows, row{Contender: lease150.name, Voters: 3, HAVIPs: 1, Fault: busyLoops, GapsMS: []float64{1}, Changes: 1})
	if passed(judge(r)) {
		t.Error("a change of the owner under load passed")
	}
	r.Rows = r.Rows[:len(r.Rows)-1]
	busy := func(k kind, all int) row {
		return row{Contender: k.name, Voters: 3, HAVIPs: 1, Fault: busyLoops, GapsMS: []float64{1}, Changes: 1, AllChange: all}
	}
	for i, rt := range []int{2, 1} { // Keepalived's changes, against two of ours
		one := *r
		one.Rows = append(slices.Clone(r.Rows), busy(vrrpRealTime, rt), busy(lease10, 2))
		if passed(judge(&one)) != (i == 0) {
			t.Errorf("two changes against %d: %+v", rt, judge(&one))
		}
	}
	if passed(nil) {
		t.Error("a run that measured nothing passed")
	}
}

// What is written is read again as it was, and each plot is well-formed XML.
func TestWritten(t *testing.T) {
	dir, r := t.TempDir(), planted()
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	again, err := read(filepath.Join(dir, "results.json"))
	if err != nil || again.page() != r.page() {
		t.Errorf("%v, %+v", err, again)
	}
	for _, name := range []string{"gaps.svg", "sizes.svg", "cost.svg"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		d := xml.NewDecoder(bytes.NewReader(text))
		for err == nil {
			_, err = d.Token()
		}
		if !errors.Is(err, io.EOF) || !bytes.Contains(text, []byte("<svg")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := read(filepath.Join(dir, "absent.json")); err == nil {
		t.Error("an absent file was read")
	}
}

// The published page is what its own results give.
func TestPublished(t *testing.T) {
	const dir = "../../docs/bench/"
	r, err := read(dir + "results.json")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(dir + "README.md"); err != nil || string(text) != r.page() {
		t.Errorf("docs/bench/README.md is not what results.json gives (%v): run `go run ./jepsen/cmd bench -draw docs/bench/results.json -out docs/bench`", err)
	}
}

// Each scene's faults are there, and no two lines of a table have one name.
func TestSets(t *testing.T) {
	for name, set := range sets {
		seen := map[string]bool{}
		for _, s := range set() {
			if s.contender.make == nil || s.voters < 3 || s.havips < 1 || len(s.faults) == 0 && !s.cost {
				t.Errorf("%s: %+v", name, s)
			}
			for _, f := range s.faults {
				if found, ok := faultCalled(f); !ok || found.strike == nil {
					t.Errorf("%s: %s: no fault %q", name, s, f)
				}
				if line := s.String() + f; seen[line] {
					t.Errorf("%s: %s twice", name, line)
				} else {
					seen[line] = true
				}
			}
		}
	}
	for _, g := range ratios {
		for _, f := range []string{g.fault, g.peerFault} {
			if _, ok := faultCalled(f); !ok {
				t.Errorf("a gate about %q", f)
			}
		}
	}
}

func TestChanges(t *testing.T) {
	probe := func(node string) history.Probe {
		if node == "" {
			return history.Probe{}
		}
		return history.Probe{Answered: 1, Node: node}
	}
	var probes []history.Probe
	for _, n := range []string{"", "a", "a", "", "a", "b", "", "", "a"} {
		probes = append(probes, probe(n))
	}
	if n := changes(probes); n != 2 {
		t.Errorf("%d changes, want 2", n)
	}
}

func TestQuantile(t *testing.T) {
	w := row{GapsMS: []float64{9, 3, 4}}
	if w.quantile(0.5) != 4 || w.quantile(1) != 9 || (row{}).quantile(0.5) != 0 {
		t.Errorf("%v %v", w.quantile(0.5), w.quantile(1))
	}
}

// worked is the processor time that this process had so far.
func worked(t *testing.T) time.Duration {
	t.Helper()
	var cpu unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &cpu); err != nil {
		t.Fatal(err)
	}
	return time.Duration(cpu.Nano())
}

// What a process used is counted from the kernel's own files.
func TestUsed(t *testing.T) {
	var before, now used
	if err := before.process(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	for end := worked(t) + 50*time.Millisecond; worked(t) < end; { // on a busy host that takes longer
	}
	if err := now.process(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	c := now.since(before, time.Second)
	if c.CPU < 1 || c.CPU > 100 || c.RSS < 1 || c.PSS > c.RSS {
		t.Errorf("%+v", c)
	}
}

func TestKeepalivedConfig(t *testing.T) {
	single := []netip.Addr{netip.MustParseAddr("10.77.0.100")}
	many := append(slices.Clone(single), netip.MustParseAddr("10.77.0.101"), netip.MustParseAddr("10.77.0.102"))
	seen := map[string]bool{}
	for node := 1; node <= 3; node++ {
		text := vrrpSettings{version: 3, advert: "0.1"}.config(node, "eth0", single)
		for _, want := range []string{"state BACKUP", "nopreempt", "10.77.0.100/32 dev eth0", "advert_int 0.1\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		_, priority, _ := strings.Cut(text, "\n  priority ")
		priority, _, _ = strings.Cut(priority, "\n")
		if seen[priority] {
			t.Errorf("two nodes have priority %s", priority)
		}
		seen[priority] = true
		halves := vrrpSettings{version: 3, advert: "0.1"}.config(node, "eth0", many)
		if strings.Count(halves, "priority 150") > 1 || (node > 1) != strings.Contains(halves, "priority 150") || strings.Count(halves, "/32 dev eth0") != 3 {
			t.Errorf("node %d:\n%s", node, halves)
		}
	}
}

// The bench plays what the catalogue says, and nothing else.
func TestTheCatalogueIsPlayed(t *testing.T) {
	var listed, played []string
	for _, f := range catalogue.Catalogue {
		listed = append(listed, f.Bench...)
	}
	for _, f := range faults {
		played = append(played, f.name)
	}
	slices.Sort(listed)
	slices.Sort(played)
	if !slices.Equal(listed, played) {
		t.Errorf("listed %q\nplayed %q", listed, played)
	}
}
