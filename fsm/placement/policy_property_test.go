package placement_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// policyActions change what level 2 of the commands knows.
var policyActions = map[string]func(t *rapid.T, w *world){
	"ban for a while": func(t *rapid.T, w *world) {
		w.try(fsm.BanHAVIP{ID: anyHAVIP(t, w).ID, Target: anyNode(t, w), For: time.Duration(rapid.IntRange(0, 5).Draw(t, "s")) * time.Second})
	},
	"capacity": func(t *rapid.T, w *world) {
		w.node(anyNode(t, w), fsm.UpdateNode{Capacity: ptr(rapid.IntRange(0, 5).Draw(t, "capacity")), Score: ptr(rapid.IntRange(-3, 3).Draw(t, "score"))})
	},
	"cluster": func(t *rapid.T, w *world) {
		b := fsm.SetCluster{Limits: &fsm.Limits{PerENI: rapid.IntRange(0, 3).Draw(t, "per ENI"), PerNode: rapid.IntRange(0, 3).Draw(t, "per node")}}
		if rapid.IntRange(0, 5).Draw(t, "maintenance") == 0 {
			b.Maintenance = anyFlag(t)
		}
		b.Rebalance = ptr(one(t, "rebalance", []string{"never", "even"}))
		w.must(b)
	},
	"drain": func(t *rapid.T, w *world) { w.try(fsm.DrainNode{ID: "n-" + anyNode(t, w)}) },
	"group": func(t *rapid.T, w *world) {
		g := fsm.Group{
			Name: fmt.Sprint("g", len(w.state.Groups)), Kind: one(t, "kind", []fsm.GroupKind{fsm.Apart, fsm.Together}), Hard: *anyFlag(t),
		}
		for range rapid.IntRange(2, 4).Draw(t, "members") {
			if id := anyHAVIP(t, w).ID; !slices.Contains(g.HAVIPs, id) {
				g.HAVIPs = append(g.HAVIPs, id)
			}
		}
		slices.Sort(g.HAVIPs)
		w.try(fsm.CreateGroup{Group: g})
	},
	"health": func(t *rapid.T, w *world) {
		w.try(fsm.ReportHealth{Node: "n-" + anyNode(t, w), Health: one(t, "health", []fsm.Health{fsm.HealthGreen, fsm.HealthYellow, fsm.HealthRed}), Reason: "drawn"})
	},
	"policy": func(t *rapid.T, w *world) {
		b := fsm.UpdateHAVIP{ID: anyHAVIP(t, w).ID}
		switch rapid.IntRange(0, 5).Draw(t, "field") {
		case 0:
			b.Weight = ptr(rapid.IntRange(0, 3).Draw(t, "weight"))
		case 1:
			b.Stickiness = ptr(rapid.IntRange(0, 3).Draw(t, "stickiness"))
		case 2:
			b.Managed = anyFlag(t)
		case 3:
			b.Maintenance = anyFlag(t)
		case 4:
			b.Forbid = &[]string{anyENI(t, w)}
		case 5:
			b.Failback, b.FailLimit = ptr("03:00-23:00"), ptr(rapid.IntRange(0, 2).Draw(t, "fail limit"))
		}
		w.try(b)
	},
}

// A cluster's state is a problem like any other: it gets the best arrangement there is.
func TestStatesAgainstTheExhaustiveOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawnPolicy(t).state.Problem(start + int64(time.Minute))
		if len(p.HAVIPs) <= 4 && len(p.Nodes) <= 3 {
			compare(t, p)
		}
	})
}

// What the leader puts into the log is what explain says, move for move.
func TestMovesAreWhatIsExplained(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawnPolicy(t)
		var want []fsm.Assignment
		for _, d := range w.compute() {
			one, found := w.state.ExplainOne(w.at, d.HAVIP)
			if !found || !reflect.DeepEqual(one, d) {
				t.Fatalf("asked alone: %+v\namong all: %+v", one, d)
			}
			if d.Moves {
				want = append(want, w.state.Assignment(d))
			}
		}
		if got := w.state.Moves(w.at, nil); !reflect.DeepEqual(got, want) {
			t.Fatalf("moves %+v\nexplained %+v", got, want)
		}
	})
}

// The order of the lists does not matter, and the input is left alone.
func TestPermuted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		p := drawProblem(r, 5, 12)
		before := show(p)
		want := placement.Explain(p)
		if show(p) != before {
			t.Fatal("the problem was changed")
		}
		for range 3 {
			q := p
			q.Nodes, q.ENIs, q.HAVIPs, q.Groups = slices.Clone(p.Nodes), slices.Clone(p.ENIs), slices.Clone(p.HAVIPs), slices.Clone(p.Groups)
			r.Shuffle(len(q.Nodes), func(i, k int) { q.Nodes[i], q.Nodes[k] = q.Nodes[k], q.Nodes[i] })
			r.Shuffle(len(q.ENIs), func(i, k int) { q.ENIs[i], q.ENIs[k] = q.ENIs[k], q.ENIs[i] })
			r.Shuffle(len(q.HAVIPs), func(i, k int) { q.HAVIPs[i], q.HAVIPs[k] = q.HAVIPs[k], q.HAVIPs[i] })
			r.Shuffle(len(q.Groups), func(i, k int) { q.Groups[i], q.Groups[k] = q.Groups[k], q.Groups[i] })
			if got := placement.Explain(q); !reflect.DeepEqual(got, want) {
				t.Fatalf("in another order it decides\n%+v\nnot\n%+v", got, want)
			}
		}
	})
}

// Problems that are too large to enumerate: the hard rules hold, and asked again nothing moves.
func TestLargerProblems(t *testing.T) {
	r := rand.New(rand.NewPCG(firstSeed(t), 3))
	for range 1500 {
		p := drawProblem(r, 8, 40)
		p.Limits.PerENI, p.Limits.PerNode = p.Limits.PerENI*2, p.Limits.PerNode*3
		checkRules(t, p)
	}
}

// TestAnswersStay: asked again when it has been carried out, an answer changes nothing; also where little
// forbids and much is wished, which is where one wish opens the way for another.
func TestAnswersStay(t *testing.T) {
	r := rand.New(rand.NewPCG(firstSeed(t), 4))
	for i := range *problems {
		p := drawOpen(r, 1+r.IntN(4), 1+r.IntN(7))
		if i%50 == 0 {
			p = drawOpen(r, 5, 40)
		}
		for _, x := range placement.Solve(placement.Settled(p)) {
			if x.Moves {
				t.Fatalf("asked again, %s moves on from %q to %q: %s: %s\n%s", x.HAVIP, x.From, x.To, x.Cause, x.Reason, show(p))
			}
		}
	}
}

// checkRules holds an answer against the rules, and asks again.
func checkRules(t fatal, p placement.Problem) {
	t.Helper()
	d := newDumb(p)
	at := make([]string, len(p.HAVIPs))
	for _, x := range placement.Solve(p) {
		i := slices.IndexFunc(p.HAVIPs, func(v placement.HAVIP) bool { return v.ID == x.HAVIP })
		at[i] = x.To
		if d.frozen[i] && x.To != p.HAVIPs[i].Owner {
			t.Fatalf("%s is frozen and goes from %q to %q\n%s", x.HAVIP, p.HAVIPs[i].Owner, x.To, show(p))
		}
		if !d.frozen[i] && x.To != "" && !slices.Contains(d.can[i], x.To) {
			t.Fatalf("%s goes to %s, which may not own it\n%s", x.HAVIP, x.To, show(p))
		}
	}
	if rule := d.breaks(at); rule != "" {
		t.Fatalf("%v breaks %s\n%s", at, rule, show(p))
	}
	for _, x := range placement.Solve(placement.Settled(p)) {
		if x.Moves {
			t.Fatalf("asked again, %s moves on from %q to %q: %s: %s\n%s", x.HAVIP, x.From, x.To, x.Cause, x.Reason, show(p))
		}
	}
}

// Without groups, and with one weight, as many are placed as a maximum matching has. Kuhn's
// algorithm is the second opinion: it is exact for any size.
func TestAsManyAsAMaximumMatching(t *testing.T) {
	short := 0
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 4))
		nodes := 2 + r.IntN(10)
		perNode := 1 + r.IntN(6)
		forbid := make([]int, 1+r.IntN(nodes*perNode+3))
		for i := range forbid {
			for k := range nodes {
				if r.IntN(4) > 0 {
					forbid[i] |= 1 << k
				}
			}
		}
		p := small(nodes, forbid)
		p.Limits.PerNode = perNode
		for i := range p.HAVIPs {
			p.HAVIPs[i].Priority = r.IntN(3)
			if r.IntN(2) == 0 {
				p.HAVIPs[i].Owner = p.ENIs[r.IntN(nodes)].ID
			}
		}
		levels := []int{2, 1, 0}
		for i := range levels {
			placed := 0
			for _, d := range placement.Solve(p) {
				k := slices.IndexFunc(p.HAVIPs, func(v placement.HAVIP) bool { return v.ID == d.HAVIP })
				placed += bit(d.To != "" && slices.Contains(levels[:i+1], p.HAVIPs[k].Priority))
			}
			// The best for the highest priorities is what they could have without the others.
			if want := matching(p, forbid, levels[:i+1]); placed != want {
				t.Fatalf("%d of priority %v placed, %d are possible\n%s", placed, levels[:i+1], want, show(p))
			}
		}
		if matching(p, forbid, levels) < len(forbid) {
			short++
		}
	})
	if short == 0 {
		t.Error("there was always room: the test has tried nothing")
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// matching is the size of a maximum matching of the HAVIPs of some priorities to places.
func matching(p placement.Problem, forbid, levels []int) int {
	places := len(p.Nodes) * p.Limits.PerNode
	taken := make([]int, places)
	for i := range taken {
		taken[i] = -1
	}
	var seen []bool
	var seat func(h int) bool
	seat = func(h int) bool {
		for k := range places {
			if seen[k] || forbid[h]&(1<<(k/p.Limits.PerNode)) != 0 {
				continue
			}
			seen[k] = true
			if taken[k] < 0 || seat(taken[k]) {
				taken[k] = h
				return true
			}
		}
		return false
	}
	size := 0
	for h := range p.HAVIPs {
		seen = make([]bool, places)
		if slices.Contains(levels, p.HAVIPs[h].Priority) && seat(h) {
			size++
		}
	}
	return size
}

// Nothing that anybody writes down makes it fail.
func TestGarbage(t *testing.T) {
	r := rand.New(rand.NewPCG(firstSeed(t), 5))
	words := []string{"", "n0", "n1", "n0/e0", "n1/e0", "h0", "h1", "net", "*", "\xff\xfe", "-1", "99999999999999999999h"}
	word := func() string { return words[r.IntN(len(words))] }
	number := func() int { return []int{0, 1, -1, 1 << 40, -1 << 62, 1<<63 - 1, -1 << 63}[r.IntN(7)] }
	for range 5000 {
		p := placement.Problem{Now: int64(number()), Even: r.IntN(2) == 0, Limits: fsm.Limits{PerENI: number(), PerNode: number()}}
		for range r.IntN(4) {
			p.Nodes = append(p.Nodes, placement.Node{Name: word(), Alive: r.IntN(3) > 0, Since: int64(number()), Score: number(), Health: fsm.Health(word()), Capacity: ptr(number())})
		}
		for range r.IntN(5) {
			p.ENIs = append(p.ENIs, placement.ENI{ID: word(), Node: word(), Subnets: []string{word(), word()}, Up: true, Fault: word()})
		}
		for range r.IntN(6) {
			p.HAVIPs = append(p.HAVIPs, placement.HAVIP{
				ID: word(), Name: word(), Subnet: word(), Owner: word(), Last: word(), Spec: placement.Spec{Prefer: map[string]int{word(): number(), word(): number()}, Priority: number(), Weight: ptr(number()), Stickiness: ptr(number()), FailLimit: ptr(number()), Failback: word(), Unmanaged: r.IntN(4) == 0}, Draining: number(),
				Range:  fsm.Range{Type: fsm.RangeType(word()), Members: []string{word()}, Limit: r.IntN(2) == 0},
				GaveUp: map[string]fsm.GaveUp{word(): {Until: int64(number()), At: int64(number())}}, Bans: []fsm.Ban{{Target: word(), Until: int64(number())}},
				Fails: map[string]placement.Fails{word(): {Count: number(), Ends: int64(number())}},
			})
		}
		for range r.IntN(4) {
			p.Groups = append(p.Groups, placement.Group{Name: word(), Kind: []fsm.GroupKind{fsm.Apart, fsm.Together, "x"}[r.IntN(3)], Hard: r.IntN(2) == 0, HAVIPs: []string{word(), word(), word()}})
		}
		placement.Explain(p)
		placement.NMinusOne(p)
		_ = placement.PlanBetween(p, placement.Settled(p))
	}
}
