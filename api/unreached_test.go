package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a node says that it does not reach is a warning with the way out; what it says of nodes that
// are no members is not shown; many are counted.
func TestUnreachedInStatus(t *testing.T) {
	w := newWorld(t)
	status := func() Status {
		t.Helper()
		got, err := w.local(0).Status(t.Context(), false)
		must(t, err)
		return got
	}
	unreached := func(s Status) (out []string) {
		for _, p := range s.Problems {
			if strings.Contains(p, "reach") || strings.Contains(p, "ports") {
				out = append(out, p)
			}
		}
		return out
	}
	if got := status(); len(got.Unreached) != 0 || got.Unreached == nil || len(unreached(got)) != 0 {
		t.Errorf("nothing is blocked: %v", got.Problems)
	}
	nodes := w.nodes[0].State().NodeList()
	one, two := nodes[0], nodes[1]
	since := time.Now().Add(-12 * time.Second)
	n := w.nodes[0]
	n.unreached = map[string][]Door{two.ID: {
		{Node: one.ID, Use: "raft", Why: "timed out", Since: since},
		{Node: one.ID, Use: "lease", UDP: true, Why: "no answer", Since: since},
		{Node: "n-gone", Use: "api", Why: "timed out", Since: since},
	}}
	got := status()
	age := time.Duration(0) // 12 s, and what a busy host took until it was asked
	if len(got.Unreached) > 0 {
		age = (time.Duration(got.Unreached[0].ForMS) * time.Millisecond).Round(time.Second)
	}
	want := []string{
		fmt.Sprintf("node %s does not reach node %s at %d/tcp (raft): timed out for %s; open %d/tcp of %s for %s in the firewalls between them", two.Name, one.Name, one.RaftPort, age, one.RaftPort, one.Address, two.Address),
		fmt.Sprintf("node %s does not reach node %s at %d/udp (lease): no answer for %s; so no lease is kept through it; open %d/udp between %s and %s, both ways", two.Name, one.Name, one.LeasePort, age, one.LeasePort, two.Address, one.Address),
	}
	if lines := unreached(got); !slices.Equal(lines, want) || got.Health != HealthYellow {
		t.Errorf("%s:\n%s\nwant\n%s", got.Health, strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	u := got.Unreached
	if len(u) != 2 || u[0].From != two.Name || u[0].To != one.Name || u[0].Port != one.RaftPort || u[0].Protocol != "tcp" || u[0].Use != "raft" || u[0].Why != "timed out" || u[0].ForMS < 12_000 || age > time.Minute || u[1].Protocol != "udp" {
		t.Errorf("unreached: %+v", u)
	}
	var many []Door
	for range unreachedMax + 100 {
		many = append(many, Door{Node: one.ID, Use: "api", Why: "timed out", Since: since})
	}
	n.unreached, n.moreUnreached = map[string][]Door{two.ID: many}, 7
	got = status()
	lines := unreached(got)
	if len(got.Unreached) != unreachedMax || len(lines) != problemsOfAKind+2 {
		t.Fatalf("%d listed, %d lines", len(got.Unreached), len(lines))
	}
	if more := fmt.Sprintf("and %d more ports", 100+7*len(nodes)); !strings.Contains(lines[len(lines)-1], more) {
		t.Errorf("%q, want %q", lines[len(lines)-1], more)
	}
}
