package placement_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// Each row is a situation among three nodes with one ENI each, as "HAVIP=owner"; forbid has
// a bit for each node that may not own it. want is who owns what then, with the cause of
// each change.
func TestArrangements(t *testing.T) {
	even := func(p *placement.Problem) {
		p.Even = true
		for i := range p.HAVIPs {
			p.HAVIPs[i].Stickiness = ptr(0)
		}
	}
	for _, tc := range []struct {
		name   string
		forbid []int
		given  func(p *placement.Problem)
		want   string
	}{
		{"one steps aside for another that has no other place", []int{0, 6},
			func(p *placement.Problem) { p.Limits.PerNode = 1; owners(p, 0, -1) }, "h0=n1/e(room) h1=n0/e(placed)"},
		{"a chain of three", []int{0, 4, 6},
			func(p *placement.Problem) { p.Limits.PerENI = 1; owners(p, 1, 0, -1) }, "h0=n2/e(room) h1=n1/e(room) h2=n0/e(placed)"},
		{"where nobody fits, the least important goes without", []int{6, 6, 6},
			func(p *placement.Problem) {
				p.Limits.PerNode = 2
				owners(p, 0, 0, -1)
				p.HAVIPs[2].Priority = 1
			}, "h2=n0/e(placed) h0=n0/e(stays) h1=-(lost)"},
		{"the least important goes, though it takes one move more", []int{4, 5, 6},
			func(p *placement.Problem) {
				p.Limits.PerNode = 1
				owners(p, 0, 1, -1)
				p.HAVIPs[0].Priority, p.HAVIPs[2].Priority = 1, 2
			}, "h2=n0/e(placed) h0=n1/e(room) h1=-(lost)"},
		{"nobody is evicted for an equal", []int{6, 6, 6},
			func(p *placement.Problem) { p.Limits.PerNode = 2; owners(p, -1, 0, 0) }, "h0=-(stays) h1=n0/e(stays) h2=n0/e(stays)"},
		{"a capacity that has become too small", []int{0, 0, 0},
			func(p *placement.Problem) { p.Nodes[0].Capacity = ptr(1); owners(p, 0, 0, 0) }, "h0=n0/e(stays) h1=n1/e(forced) h2=n2/e(forced)"},
		{"heavy ones are packed", []int{4, 4, 4},
			func(p *placement.Problem) {
				p.Nodes[0].Capacity, p.Nodes[1].Capacity = ptr(4), ptr(3)
				p.HAVIPs[0].Weight, p.HAVIPs[1].Weight, p.HAVIPs[2].Weight = ptr(2), ptr(2), ptr(3)
				owners(p, 0, 1, -1)
			}, "h0=n0/e(stays) h1=n0/e(room) h2=n1/e(placed)"},
		{"apart", []int{0, 0, 0},
			func(p *placement.Problem) { group(p, fsm.Apart, 0, 1, 2); owners(p, 0, 0, 0) }, "h0=n0/e(stays) h1=n1/e(forced) h2=n2/e(forced)"},
		{"rather nowhere than against a hard group", []int{6, 6},
			func(p *placement.Problem) { group(p, fsm.Apart, 0, 1); owners(p, 0, 0) }, "h0=n0/e(stays) h1=-(lost)"},
		{"a soft group moves nobody", []int{0, 0},
			func(p *placement.Problem) {
				group(p, fsm.Apart, 0, 1)
				p.Groups[0].Hard = false
				owners(p, 0, 0)
			}, "h0=n0/e(stays) h1=n0/e(stays)"},
		{"a soft group comes before the score", []int{0, 0},
			func(p *placement.Problem) {
				group(p, fsm.Together, 0, 1)
				p.Groups[0].Hard = false
				p.HAVIPs[1].Prefer = map[string]int{"n2": 100}
				owners(p, 1, -1)
			}, "h0=n1/e(stays) h1=n1/e(placed)"},
		{"together: the smaller part moves", []int{0, 0, 0},
			func(p *placement.Problem) { group(p, fsm.Together, 0, 1, 2); owners(p, 0, 2, 2) }, "h0=n2/e(forced) h1=n2/e(stays) h2=n2/e(stays)"},
		{"together: all go where all can be", []int{4, 1, 0},
			func(p *placement.Problem) { group(p, fsm.Together, 0, 1, 2); owners(p, 0, -1, 0) }, "h0=n1/e(forced) h1=n1/e(placed) h2=n1/e(forced)"},
		{"together: they fail back as one", []int{0, 0, 0},
			func(p *placement.Problem) {
				group(p, fsm.Together, 0, 1, 2)
				for i := range p.HAVIPs {
					p.HAVIPs[i].Failback = "immediate"
				}
				p.HAVIPs[1].Prefer = map[string]int{"n2": 5}
				owners(p, 0, 0, 0)
			}, "h0=n2/e(wish) h1=n2/e(wish) h2=n2/e(wish)"},
		{"together: one that never fails back holds all", []int{0, 0},
			func(p *placement.Problem) {
				group(p, fsm.Together, 0, 1)
				p.HAVIPs[0].Failback, p.HAVIPs[0].Prefer = "immediate", map[string]int{"n2": 5}
				owners(p, 0, 0)
			}, "h0=n0/e(stays) h1=n0/e(stays)"},
		{"groups in contradiction place one", []int{0, 0},
			func(p *placement.Problem) { group(p, fsm.Together, 0, 1); group(p, fsm.Apart, 0, 1); owners(p, 1, 0) }, "h0=n1/e(stays) h1=-(lost)"},
		{"an even spread moves as few as it takes", []int{0, 0, 0, 0, 0, 0},
			func(p *placement.Problem) { even(p); owners(p, 0, 0, 0, 0, 1, 1) }, "h0=n0/e(stays) h1=n0/e(stays) h2=n2/e(even) h3=n2/e(even) h4=n1/e(stays) h5=n1/e(stays)"},
		{"an even spread leaves alone what is sticky", []int{0, 0, 0},
			func(p *placement.Problem) { even(p); owners(p, 0, 0, 0); p.HAVIPs[2].Stickiness = nil }, "h0=n2/e(even) h1=n1/e(even) h2=n0/e(stays)"},
		{"an even spread costs no score", []int{0, 0, 0},
			func(p *placement.Problem) { even(p); owners(p, 0, 0, 0); p.Nodes[0].Score = 1 }, "h0=n0/e(stays) h1=n0/e(stays) h2=n0/e(stays)"},
		{"without rebalance nothing moves for the spread", []int{0, 0, 0},
			func(p *placement.Problem) { even(p); p.Even = false; owners(p, 0, 0, 0) }, "h0=n0/e(stays) h1=n0/e(stays) h2=n0/e(stays)"},
		{"a fault is worth a move of another", []int{4, 6},
			func(p *placement.Problem) {
				p.Limits.PerNode = 1
				p.ENIs[1].Fault = "gateway"
				p.HAVIPs[0].Forbid = nil
				owners(p, 0, 1)
				p.HAVIPs[1].Forbid = []string{"n2"}
			}, "h0=n2/e(room) h1=n0/e(fault)"},
		{"yellow: it keeps what it has, and gets what nobody else can have", []int{0, 0, 6},
			func(p *placement.Problem) { p.Nodes[0].Health = fsm.HealthYellow; owners(p, 0, -1, -1) }, "h0=n0/e(stays) h1=n1/e(placed) h2=n0/e(placed)"},
		{"red: it owns nothing", []int{0, 6},
			func(p *placement.Problem) { p.Nodes[0].Health = fsm.HealthRed; owners(p, 0, 0) }, "h0=n1/e(forced) h1=-(lost)"},
		{"nothing goes to a flapping node for a wish", []int{0},
			func(p *placement.Problem) {
				p.Nodes[1].Flapping, p.HAVIPs[0].Failback, p.HAVIPs[0].Prefer = true, "immediate", map[string]int{"n1": 9}
				owners(p, 0)
			}, "h0=n0/e(stays)"},
		{"inside its window it fails back", []int{0},
			func(p *placement.Problem) {
				p.HAVIPs[0].Failback, p.HAVIPs[0].Prefer = "22:00-23:00", map[string]int{"n1": 9} // start is 22:13 UTC
				owners(p, 0)
			}, "h0=n1/e(wish)"},
		{"the gain has to be worth the stickiness", []int{0},
			func(p *placement.Problem) {
				p.HAVIPs[0].Failback, p.HAVIPs[0].Prefer, p.HAVIPs[0].Stickiness = "immediate", map[string]int{"n1": 9, "n2": 10}, ptr(10)
				owners(p, 0)
			}, "h0=n2/e(wish)"},
		{"maintenance of the cluster: hands off", []int{0, 0},
			func(p *placement.Problem) { p.Maintenance = true; p.Nodes[0].Standby = true; owners(p, 0, -1) }, "h0=n0/e(frozen) h1=-(frozen)"},
		{"maintenance of a node", []int{0, 0},
			func(p *placement.Problem) { p.Nodes[0].Maintenance, p.Nodes[0].Standby = true, true; owners(p, 0, 1) }, "h0=n0/e(frozen) h1=n1/e(stays)"},
		{"maintenance of a HAVIP, and one that is not managed", []int{1, 1},
			func(p *placement.Problem) {
				p.HAVIPs[0].Maintenance, p.HAVIPs[1].Unmanaged = true, true
				owners(p, 0, 0)
			}, "h0=n0/e(frozen) h1=n0/e(frozen)"},
		{"what is frozen takes its place", []int{0, 6},
			func(p *placement.Problem) { p.Limits.PerNode = 1; p.HAVIPs[0].Unmanaged = true; owners(p, 0, -1) }, "h0=n0/e(frozen) h1=-(stays)"},
		{"an owner that nobody knows", []int{0}, func(p *placement.Problem) { p.HAVIPs[0].Owner = "gone/e" }, "h0=n0/e(forced)"},
		{"an owner that nobody knows, and nowhere to go", []int{7}, func(p *placement.Problem) { p.HAVIPs[0].Owner = "gone/e" }, "h0=-(lost)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := small(3, tc.forbid)
			tc.given(&p)
			if len(p.HAVIPs) <= 4 {
				compare(t, p)
			}
			var got []string
			for _, d := range placement.Solve(p) {
				to := d.To
				if to == "" {
					to = "-"
				}
				got = append(got, fmt.Sprintf("%s=%s(%s)", d.HAVIP, to, d.Cause))
				if d.Reason == "" || strings.Contains(d.Reason, "%!") {
					t.Errorf("%s: reason %q", d.HAVIP, d.Reason)
				}
			}
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("got\n%s\nwant\n%s", s, tc.want)
			}
		})
	}
}

// A search without result must not hide a place from one that comes later: h3 has a sound
// ENI to go to once h0 leaves the node, h2 had not.
func TestLaterOneFindsAWay(t *testing.T) {
	p := small(1, []int{0, 0, 0, 0})
	p.Limits.PerNode = 2
	p.ENIs = append(p.ENIs, placement.ENI{ID: "n0/f", Node: "n0", Subnets: []string{"net"}, Up: true, Fault: "gateway"})
	for i, other := range []string{"n0/e", "n0/f", "n0/e", "n0/f"} {
		p.HAVIPs[i].Forbid = []string{other}
	}
	compare(t, p)
	if d := placement.Solve(p); d[1].To != "n0/e" || d[3].To != "n0/e" {
		t.Errorf("%+v", d)
	}
}

func TestPlan(t *testing.T) {
	p := small(3, []int{0, 6, 0, 0})
	owners(&p, 0, 0, 1, 2)
	p.HAVIPs[3].Unmanaged = true
	for _, tc := range []struct {
		name string
		c    placement.Changes
		want string
	}{
		{"nothing", placement.Changes{}, `{"moves":[],"unplaced":[],"owners":{"h0":"n0/e","h1":"n0/e","h2":"n1/e","h3":"n2/e"}}`},
		{"node down", placement.Changes{Down: []string{"n0"}},
			`{"moves":[{"havip":"h0","from":"n0/e","to":"n1/e","reason":"n1/e comes first among 2 that are equal"}],` +
				`"unplaced":[{"havip":"h1","reason":"no ENI is eligible: n0/e: node n0 has no session: it is down, cut off, or has just started; n1/e: n1 is forbidden for HAVIP h1; n2/e: n2 is forbidden for HAVIP h1"}],` +
				`"owners":{"h0":"n1/e","h1":null,"h2":"n1/e","h3":"n2/e"}}`},
		{"standby of two nodes", placement.Changes{Standby: []string{"n1", "n2"}},
			`{"moves":[{"havip":"h2","from":"n1/e","to":"n0/e","reason":"n0/e is the only one eligible"}],"unplaced":[],"owners":{"h0":"n0/e","h1":"n0/e","h2":"n0/e","h3":"n2/e"}}`},
		{"drain", placement.Changes{Drain: []string{"n1"}},
			`{"moves":[{"havip":"h2","from":"n1/e","to":"n2/e","reason":"node n2 owns fewer HAVIPs (1, next is n0 with 2)"}],"unplaced":[],"owners":{"h0":"n0/e","h1":"n0/e","h2":"n2/e","h3":"n2/e"}}`},
		{"ENI gone", placement.Changes{ENIsGone: []string{"n1/e"}},
			`{"moves":[{"havip":"h2","from":"n1/e","to":"n2/e","reason":"node n2 owns fewer HAVIPs (1, next is n0 with 2)"}],"unplaced":[],"owners":{"h0":"n0/e","h1":"n0/e","h2":"n2/e","h3":"n2/e"}}`},
		{"a new HAVIP, a changed one, and one less", placement.Changes{Remove: []string{"h1"}, Put: []placement.HAVIP{
			{ID: "h4", Name: "new", Subnet: "net"}, {ID: "h2", Name: "h2", Subnet: "net", Owner: "n1/e", Spec: placement.Spec{Prefer: map[string]int{"n2": 1}, Failback: "immediate"}},
		}}, `{"moves":[{"havip":"h2","from":"n1/e","to":"n2/e","reason":"n2/e is preferred (score 1, next is n1/e with 0)"},{"havip":"new","from":null,"to":"n1/e","reason":"node n1 owns fewer HAVIPs (0, next is n0 with 1)"}],` +
			`"unplaced":[],"owners":{"h0":"n0/e","h2":"n2/e","h3":"n2/e","new":"n1/e"}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := show(p)
			res, err := placement.Plan(p, tc.c)
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := json.Marshal(res)
			if string(raw) != tc.want {
				t.Errorf("got\n%s\nwant\n%s", raw, tc.want)
			}
			if show(p) != before {
				t.Error("the problem was changed")
			}
		})
	}
	for _, c := range []placement.Changes{{Down: []string{"x"}}, {Up: []string{"n0/e"}}, {Standby: []string{""}}, {Drain: []string{"x"}}, {ENIsGone: []string{"n0"}}, {Remove: []string{"x"}}} {
		if _, err := placement.Plan(p, c); err == nil || !strings.Contains(err.Error(), "placement: no ") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// Up and activate undo down and standby, except for who owns what.
func TestPlanBackAgain(t *testing.T) {
	p := small(2, []int{0, 0})
	owners(&p, 0, 1)
	q, err := p.With(placement.Changes{Down: []string{"n0"}, Standby: []string{"n1"}})
	if err != nil || q.HAVIPs[0].Owner != "" || q.HAVIPs[0].Last != "n0/e" {
		t.Fatalf("%+v %v", q.HAVIPs[0], err)
	}
	res, err := placement.Plan(q, placement.Changes{Up: []string{"n0"}, Activate: []string{"n1"}})
	if err != nil || len(res.Moves) != 1 || *res.Moves[0].To != "n0/e" || res.Moves[0].Reason != "n0/e owned it last" {
		t.Errorf("%+v %v", res, err)
	}
}

// Each loss is what a plan with that node down says.
func TestNMinusOne(t *testing.T) {
	p := small(3, []int{0, 6, 0, 0, 3})
	p.Limits.PerNode = 2
	owners(&p, 0, 0, 1, -1, -1)
	p.HAVIPs[3].Disabled = true
	got, _ := json.Marshal(placement.NMinusOne(p))
	var want []string
	for i, n := range []string{"n0", "n1", "n2"} {
		res, err := placement.Plan(placement.Settled(p), placement.Changes{Down: []string{n}})
		if err != nil {
			t.Fatal(err)
		}
		res.Unplaced = slices.DeleteFunc(res.Unplaced, func(u placement.Unplaced) bool { return u.HAVIP == "h3" })
		raw, _ := json.Marshal(res.Unplaced)
		want = append(want, fmt.Sprintf(`{"node":%q,"owns":%d,"moves":%d,"unplaced":%s}`, n, []int{2, 1, 1}[i], len(res.Moves), raw))
	}
	if w := "[" + strings.Join(want, ",") + "]"; string(got) != w || !strings.Contains(w, `{"havip":"h1"`) || !strings.Contains(w, `{"havip":"h4"`) {
		t.Errorf("got\n%s\nwant\n%s", got, w)
	}
}

// Names that several HAVIPs share are told apart by their ids.
func TestPlanOfSharedNames(t *testing.T) {
	p := small(1, []int{0, 0})
	p.HAVIPs[1].Name = "h0"
	res, err := placement.Plan(p, placement.Changes{})
	if err != nil || len(res.Owners) != 2 || res.Moves[1].HAVIP != "h1" {
		t.Errorf("%+v %v", res, err)
	}
}

// However tight a large problem is, it takes no longer than it should: what a limit cuts off
// is left as it is, and the rules hold.
func TestLargeAndTight(t *testing.T) {
	p := grid(40, 2000)
	p.Limits.PerNode = 45
	for i := range p.HAVIPs {
		p.HAVIPs[i].Weight = ptr(1 + i%3)
		p.HAVIPs[i].Forbid = []string{fmt.Sprintf("n%03d", i%40), fmt.Sprintf("n%03d", i%7)}
	}
	for i := range p.Nodes {
		p.Nodes[i].Capacity = ptr(90 + i%5)
	}
	for i := range 50 {
		p.Groups = append(p.Groups, placement.Group{Name: fmt.Sprint("g", i), Kind: []fsm.GroupKind{fsm.Apart, fsm.Together}[i%2], Hard: true,
			HAVIPs: []string{p.HAVIPs[i*5].ID, p.HAVIPs[i*7+1].ID, p.HAVIPs[i*11+2].ID}})
	}
	began := time.Now()
	checkRules(t, p)
	t.Logf("two answers in %s", time.Since(began).Round(time.Millisecond))
	left := 0
	for _, d := range placement.Solve(p) {
		left += bit(d.To == "")
	}
	if left == 0 || left > 400 { // 45 on each of 40 nodes are 1800 at most
		t.Errorf("%d of 2000 are left without an owner", left)
	}
}

// The largest groups that the state machine allows, all of them at once.
func TestManyLargeGroups(t *testing.T) {
	p := grid(32, 1000)
	for i := range 60 {
		g := placement.Group{Name: fmt.Sprint("g", i), Kind: fsm.Together, Hard: i%2 == 0}
		for k := range p.HAVIPs {
			g.HAVIPs = append(g.HAVIPs, p.HAVIPs[(k*7+i)%1000].ID)
		}
		p.Groups = append(p.Groups, g)
	}
	began := time.Now()
	placed := map[string]int{}
	for _, d := range placement.Solve(p) {
		node, _, _ := strings.Cut(d.To, "/")
		placed[node]++
	}
	t.Logf("%s", time.Since(began).Round(time.Millisecond))
	if len(placed) != 1 || placed[""] > 0 {
		t.Errorf("they are on %v, all on one node is wanted", placed)
	}
}
