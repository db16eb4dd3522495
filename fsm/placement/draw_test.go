package placement_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

var (
	seed     = flag.Uint64("seed", 2, "of the random problems; 0 = from the clock, and it is printed")
	problems = flag.Int("problems", 10_000, "how many random problems to try")
)

// firstSeed is what -seed says: the same problems each time, unless others are asked for.
func firstSeed(t *testing.T) uint64 {
	t.Helper()
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	t.Logf("again with -seed %d", first)
	return first
}

// fatal is what a check needs of a test or of rapid.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

// drawProblem makes a problem of at most so many nodes and HAVIPs in which every rule may
// occur. It is cheaper than drawing each choice, so that many can be tried.
func drawProblem(r *rand.Rand, nodes, havips int) placement.Problem {
	p := placement.Problem{Now: start, Even: r.IntN(4) == 0, Maintenance: r.IntN(40) == 0}
	seldom := func() bool { return r.IntN(12) == 0 }
	p.Limits = fsm.Limits{PerENI: r.IntN(4), PerNode: r.IntN(4)}
	for i := range 1 + r.IntN(nodes) {
		n := placement.Node{
			Name: fmt.Sprint("n", i), Alive: !seldom(), Since: start - int64(r.IntN(20))*int64(time.Second), Leaving: seldom(), Draining: seldom(),
			Removing: seldom(), Standby: seldom(), Maintenance: seldom(), Flapping: seldom(), Score: r.IntN(3) * r.IntN(3),
			Health: []fsm.Health{"", "", "", fsm.HealthGreen, fsm.HealthYellow, fsm.HealthRed}[r.IntN(6)],
		}
		if r.IntN(2) == 0 {
			n.Capacity = ptr(r.IntN(6))
		}
		p.Nodes = append(p.Nodes, n)
		for k := range 1 + r.IntN(2) {
			e := placement.ENI{ID: fmt.Sprint(n.Name, "/e", k), Node: n.Name, Subnets: []string{"net"}, Up: !seldom(), Detached: seldom(), Primary: k == 0}
			if r.IntN(6) == 0 {
				e.Fault = "gateway"
			}
			if seldom() {
				e.Subnets = []string{"other"}
			}
			p.ENIs = append(p.ENIs, e)
		}
	}
	for i := range 1 + r.IntN(havips) {
		p.HAVIPs = append(p.HAVIPs, drawOne(r, &p, i))
	}
	for i := range r.IntN(4) {
		g := placement.Group{Name: fmt.Sprint("g", i), Kind: []fsm.GroupKind{fsm.Apart, fsm.Together}[r.IntN(2)], Hard: r.IntN(3) > 0}
		for _, v := range p.HAVIPs {
			if r.IntN(2) == 0 {
				g.HAVIPs = append(g.HAVIPs, v.ID)
			}
		}
		p.Groups = append(p.Groups, g)
	}
	return p
}

func drawOne(r *rand.Rand, p *placement.Problem, i int) placement.HAVIP {
	seldom := func() bool { return r.IntN(12) == 0 }
	eni := func() string { return p.ENIs[r.IntN(len(p.ENIs))].ID }
	node := func() string { return p.Nodes[r.IntN(len(p.Nodes))].Name }
	v := placement.HAVIP{
		ID: fmt.Sprint("h", i), Name: fmt.Sprint("h", i), Subnet: "net", Spec: placement.Spec{Priority: r.IntN(3), Unmanaged: seldom(), Maintenance: seldom(), Disabled: seldom(), Prefer: map[string]int{}, Failback: []string{"", "never", "immediate", "10s", "00:00-23:59", "nonsense"}[r.IntN(6)]}, Deleting: seldom(),
	}
	if r.IntN(2) == 0 {
		v.Weight = ptr(r.IntN(4))
	}
	if r.IntN(2) == 0 {
		v.Stickiness = ptr(r.IntN(4))
	}
	for range r.IntN(3) {
		v.Prefer[node()] += r.IntN(9) - 4
		v.Prefer[eni()] += r.IntN(9) - 4
	}
	if r.IntN(3) > 0 {
		v.Owner = eni()
	} else if r.IntN(2) == 0 {
		v.Last = eni()
	}
	if r.IntN(4) == 0 {
		v.Forbid = append(v.Forbid, []string{eni(), node()}[r.IntN(2)])
	}
	if r.IntN(6) == 0 {
		v.Require = append(v.Require, eni(), node())
	}
	if r.IntN(6) == 0 {
		v.Bans = append(v.Bans, fsm.Ban{Target: node(), Until: []int64{0, start, start + 1}[r.IntN(3)]})
	}
	if r.IntN(6) == 0 {
		v.Fails = map[string]placement.Fails{node(): {Count: r.IntN(5)}}
	}
	if r.IntN(6) == 0 {
		v.GaveUp = map[string]fsm.GaveUp{eni(): {Until: start + int64(r.IntN(2))}}
	}
	if r.IntN(6) == 0 {
		v.Range = fsm.Range{Type: fsm.RangeCVM, Members: []string{node(), node()}, Limit: true}
	} else if r.IntN(6) == 0 {
		v.Range = fsm.Range{Type: fsm.RangeENI, Members: []string{eni(), eni()}, Limit: r.IntN(4) > 0}
	}
	if r.IntN(3) == 0 {
		v.Checked = drawChecked(r, p)
	}
	if r.IntN(20) == 0 {
		v.Draining = fsm.MaxDraining
	}
	return v
}

// drawChecked is what some checks say of some nodes.
func drawChecked(r *rand.Rand, p *placement.Problem) map[string]placement.Verdict {
	out := map[string]placement.Verdict{}
	for _, n := range p.Nodes {
		v := placement.Verdict{}
		switch r.IntN(8) {
		case 0, 1:
			v.Fault = "web fails"
		case 2:
			v.Bars = "web fails"
		case 3:
			v.Awaits = "web is not known"
		case 4:
			v.Marks = []placement.Term{{Of: "check slow", Value: -1 - r.IntN(5)}}
		default:
			continue
		}
		out[n.Name] = v
	}
	return out
}

// Many random problems, cheaply.
func TestRandomProblems(t *testing.T) {
	first := firstSeed(t)
	r := rand.New(rand.NewPCG(first, 1))
	for range *problems {
		compare(t, drawProblem(r, 3, 4))
	}
}
