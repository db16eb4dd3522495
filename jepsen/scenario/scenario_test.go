package scenario

import (
	"fmt"
	"os"
	"testing"
	"time"

	"havip-cluster/jepsen/netns"
)

func TestMain(m *testing.M) {
	if targets := os.Getenv(crowdTargets); targets != "" {
		os.Exit(runCrowd(targets))
	}
	code, done, err := netns.Isolate()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if done {
		os.Exit(code)
	}
	netns.RaisePriority()
	os.Exit(m.Run())
}

// noDual is the only acceptable value.
func noDual(t *testing.T, m Measured) {
	t.Helper()
	if m.Dual.Certain > 0 {
		t.Errorf("two nodes answered for the HAVIP during %s: %+v", m.Dual.Certain, m.Dual.Overlaps)
	}
}

// measuring: this run is on a quiet machine, and times count.
func measuring() bool { return os.Getenv("HAVIP_MEASURE") != "" }

// beside lets a test run at the same time as others: its hosts wait most of the time. Not while
// times are measured.
func beside(t *testing.T) {
	t.Helper()
	if !measuring() {
		t.Parallel()
	}
}

// long is a test that the short run leaves out; `make scenarios` has it.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() && !measuring() {
		t.Skip("left out of the short run")
	}
}

// timely is for what holds while the machine gives the processes their time: a failure in
// a measuring run, a line of the log elsewhere, where a lease may be lost to a busy host.
func timely(t *testing.T, format string, args ...any) {
	t.Helper()
	if measuring() {
		t.Errorf(format, args...)
		return
	}
	t.Logf(format, args...)
}

// report prints a series and, in a measuring run, holds it to its budget.
func report(t *testing.T, s *Series, budget time.Duration) {
	t.Helper()
	t.Log(s)
	if s.Quantile(1) > budget {
		timely(t, "%s: the longest gap is %s, the budget %s; steal %s", s.Name, s.Quantile(1), budget, s.Of)
	}
}

// middleOf is how many runs a series needs to have a middle: of two it is the longer one, and the first move to each
// node takes twice as long as those after it.
const middleOf = 5

// median holds a series to a budget for its middle, in a measuring run, if it has one.
func median(t *testing.T, s *Series, budget time.Duration) {
	t.Helper()
	switch middle := s.Quantile(0.5); {
	case len(s.Gaps) < middleOf:
		t.Logf("%s: %d runs have no middle, it is not held to %s", s.Name, len(s.Gaps), budget)
	case middle > budget:
		timely(t, "%s: the middle gap is %s, the budget %s; steal %s", s.Name, middle, budget, s.Of)
	}
}

// other is a node that is none of the given ones.
func (b *Bed) other(not ...int) int {
	for i := range b.Lab.Nodes() {
		ok := true
		for _, n := range not {
			ok = ok && n != i+1
		}
		if ok {
			return i + 1
		}
	}
	b.t.Fatal("no other node")
	return 0
}

// cut takes the link of a node away until the HAVIP has a new owner, and gives it back.
func (b *Bed) cut(node int) Measured {
	b.t.Helper()
	m := b.Watch(func() {
		b.must(b.Lab.Node(node).SetLink(0, false))
		b.NewOwner(b.other(node), node)
		time.Sleep(settleTime)
	})
	b.must(b.Lab.Node(node).SetLink(0, true))
	b.WaitSessions(len(b.Lab.Nodes()))
	if m.Gap < Lease/2 {
		b.t.Logf("cut of node %d cost only %s: it owned the HAVIP no more\n%s\n%s", node, m.Gap,
			b.CLI(b.other(node), "events"), b.CLI(b.other(node), "failovers", "web"))
	}
	return m
}

func TestHostLossOfAnOrdinaryOwner(t *testing.T) {
	beside(t)
	for nodes, runs := range map[int]int{3: Runs(3), 5: Runs(1)} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			b := NewBed(t, nodes)
			s := &Series{Name: fmt.Sprintf("host loss, owner is not the leader, %d nodes", nodes)}
			for range runs {
				b.Place(b.other(b.Leader()))
				m := b.cut(b.Owner())
				noDual(t, m)
				s.Add(m)
			}
			report(t, s, Lease*12/10)
		})
	}
}

func TestHostLossOfALeadingOwner(t *testing.T) {
	beside(t)
	for nodes, runs := range map[int]int{3: Runs(3), 5: Runs(1)} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			b := NewBed(t, nodes)
			s := &Series{Name: fmt.Sprintf("host loss, owner is the leader, %d nodes", nodes)}
			for range runs {
				b.Place(b.Leader())
				m := b.cut(b.Owner())
				noDual(t, m)
				s.Add(m)
			}
			report(t, s, 3*Lease)
		})
	}
}
