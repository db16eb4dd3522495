package placement_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// Each row is a situation of the one HAVIP web among three nodes, and what should be.
func TestWhereOneHAVIPGoes(t *testing.T) {
	limited := func(t fsm.RangeType, members ...string) fsm.UpdateHAVIP {
		return fsm.UpdateHAVIP{Range: &fsm.Range{Type: t, Members: members, Limit: true}}
	}
	prefer := func(scores map[string]int) fsm.UpdateHAVIP {
		return fsm.UpdateHAVIP{Change: fsm.Change{Prefer: &scores}}
	}
	for _, tc := range []struct {
		name   string
		given  func(w *world)
		to     string
		moves  bool
		reason string
	}{
		{"nothing said", nil, "n1/eth0", true, "n1/eth0 comes first among 6 that are equal"},

		{"only what its range permits", func(w *world) { w.update("web", limited(fsm.RangeCVM, "n3")) },
			"n3/eth0", true, "n3/eth0 comes first among 2 that are equal"},
		{"only the ENI of its range", func(w *world) { w.update("web", limited(fsm.RangeENI, "n2/eth1")) },
			"n2/eth1", true, "n2/eth1 is the only one eligible"},
		{"a range that is not enforced", func(w *world) {
			b := limited(fsm.RangeCVM, "n3")
			b.Range.Limit = false
			w.update("web", b)
		}, "n1/eth0", true, "comes first"},
		{"an empty limited range", func(w *world) { w.update("web", fsm.UpdateHAVIP{Range: &fsm.Range{Limit: true}}) },
			"", false, "no ENI is eligible: n1/eth0: the range is empty and limited"},
		{"the one that is up", func(w *world) { w.link("n1", false); w.link("n2", false) },
			"n3/eth0", true, "n3/eth0 comes first among 2"},
		{"no link anywhere", func(w *world) { w.link("n1", false); w.link("n2", false); w.link("n3", false) },
			"", false, "n3/eth1: the link is down"},
		{"only its own subnet", func(w *world) {
			w.must(fsm.CreateSubnet{Subnet: fsm.Subnet{Name: "b", CIDR: netip.MustParsePrefix("10.9.0.0/24")}})
			for _, id := range []string{"n1/eth0", "n1/eth1", "n2/eth0", "n2/eth1", "n3/eth0"} {
				w.must(fsm.SetENI{ID: id, Subnet: ptr("b")})
			}
		}, "n3/eth1", true, "n3/eth1 is the only one eligible"},
		{"no ENI in its subnet", func(w *world) {
			w.must(fsm.CreateSubnet{Subnet: fsm.Subnet{Name: "b", CIDR: netip.MustParsePrefix("10.9.0.0/24")}})
			for _, e := range w.state.ENIList() {
				w.must(fsm.SetENI{ID: e.ID, Subnet: ptr("b")})
			}
		}, "", false, "no ENI is in the HAVIP's subnet"},
		{"nobody in standby", func(w *world) { w.node("n1", fsm.UpdateNode{Standby: ptr(true)}) }, "n2/eth0", true, "comes first among 4"},
		{"nobody being removed", func(w *world) { w.node("n1", fsm.UpdateNode{Removing: ptr(true)}) }, "n2/eth0", true, "comes first among 4"},
		{"nobody without a session", func(w *world) { w.down("n1") }, "n2/eth0", true, "comes first among 4"},
		{"nobody who is handing over", func(w *world) { w.must(fsm.DrainSession{Node: "n-n1", Session: w.session("n1")}) },
			"n2/eth0", true, "comes first among 4"},
		{"nobody banned", func(w *world) { w.update("web", fsm.UpdateHAVIP{Bans: &[]string{"n1", "n2/eth0"}}) },
			"n2/eth1", true, "comes first among 3"},
		{"a disabled one", func(w *world) { w.update("web", fsm.UpdateHAVIP{Change: fsm.Change{Enabled: ptr(false)}}) },
			"", false, "the HAVIP is disabled"},

		{"the owner stays", func(w *world) { w.put("web", "n3/eth1") }, "n3/eth1", false, "n3/eth1 owns it and may keep it"},
		{"an owner in standby goes", func(w *world) { w.put("web", "n3/eth1"); w.node("n3", fsm.UpdateNode{Standby: ptr(true)}) },
			"n1/eth0", true, "comes first"},
		{"a banned owner goes", func(w *world) { w.put("web", "n1/eth0"); w.update("web", fsm.UpdateHAVIP{Bans: &[]string{"n1/eth0"}}) },
			"n1/eth1", true, "n1/eth1 comes first"},
		{"an owner that lost its link goes", func(w *world) { w.put("web", "n1/eth0"); w.link("n1", false) }, "n2/eth0", true, "comes first"},
		{"with nowhere to go, an owner that may not keep it loses it", func(w *world) {
			w.put("web", "n1/eth0")
			w.link("n1", false)
			w.node("n2", fsm.UpdateNode{Standby: ptr(true)})
			w.down("n3")
		}, "", true, "n2/eth0: node n2 is in standby"},

		{"the preferred one", func(w *world) { w.update("web", prefer(map[string]int{"n2": 10, "n3/eth0": 9})) },
			"n2/eth0", true, "n2/eth0 is preferred (score 10, next is n3/eth0 with 9)"},
		{"the scores of node and ENI add up", func(w *world) { w.update("web", prefer(map[string]int{"n2": 10, "n2/eth1": 1, "n3": -1})) },
			"n2/eth1", true, "n2/eth1 is preferred (score 11, next is n2/eth0 with 10)"},
		{"what is avoided comes last, but is better than nothing", func(w *world) {
			w.update("web", prefer(map[string]int{"n3": -fsm.ScoreLimit, "n3/eth1": -5}))
			w.down("n1")
			w.down("n2")
		}, "n3/eth0", true, "n3/eth0 is preferred (score -1000000, next is n3/eth1 with -1000005)"},
		{"a preference does not move an owner", func(w *world) { w.put("web", "n1/eth0"); w.update("web", prefer(map[string]int{"n2": 10})) },
			"n1/eth0", false, "owns it and may keep it"},

		{"failback immediate moves it", func(w *world) {
			w.put("web", "n1/eth0")
			b := prefer(map[string]int{"n2": 10})
			b.Failback = ptr("immediate")
			w.update("web", b)
		}, "n2/eth0", true, "n2/eth0 is preferred (score 10, next is n1/eth0 with 0)"},
		{"failback needs a better score", func(w *world) {
			w.put("web", "n1/eth1")
			b := prefer(map[string]int{"n2": 10, "n1": 10})
			b.Failback = ptr("immediate")
			w.update("web", b)
		}, "n1/eth1", false, "owns it and may keep it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := cluster(t, 3)
			w.havip(fsm.CreateHAVIP{Name: "web"})
			if tc.given != nil {
				tc.given(w)
			}
			d := w.decision("web")
			if d.To != tc.to || d.Moves != tc.moves || !strings.Contains(d.Reason, tc.reason) {
				t.Errorf("to %q, moves %v: %s\nwant %q, %v: %s", d.To, d.Moves, d.Reason, tc.to, tc.moves, tc.reason)
			}
			w.carryOut()
			if again := w.decision("web"); again.Moves {
				t.Errorf("carried out, it moves on to %q: %s", again.To, again.Reason)
			}
		})
	}
}

// A witness votes and owns nothing, even with an ENI and a session.
func TestWitnessGetsNothing(t *testing.T) {
	w := cluster(t, 1)
	w.join(fsm.Node{ID: "n-n2", Name: "n2", Address: "192.0.2.2", APIPort: 1, RaftPort: 2, GossipPort: 3, Version: fsm.VersionWithLevel("test")}, fsm.RoleWitness)
	w.link("n2", true)
	w.open("n2")
	w.havip(fsm.CreateHAVIP{Name: "web", Spec: fsm.Spec{Prefer: map[string]int{"n2": 100}}})
	d := w.decision("web")
	if d.To != "n1/eth0" {
		t.Errorf("it goes to %s", d.To)
	}
	for _, c := range d.Candidates {
		if c.Node == "n2" && (c.Eligible || c.Rule != "witness" || !strings.Contains(c.Why, "votes and owns nothing")) {
			t.Errorf("%+v", c)
		}
	}
}

// An ENI that failed is not asked again until its pause is over; the clock decides.
func TestPauseAfterAFailure(t *testing.T) {
	w := cluster(t, 1)
	w.havip(fsm.CreateHAVIP{Name: "web", Range: fsm.Range{Type: fsm.RangeENI, Members: []string{"n1/eth1"}, Limit: true}})
	w.put("web", "n1/eth1")
	w.must(fsm.Release{Claims: []fsm.ReleasedClaim{{HAVIP: w.get("web").ID, Epoch: 1, Session: w.session("n1"), Failure: "no carrier"}}})
	w.at += int64(fsm.GiveUpPause) - 1
	if d := w.decision("web"); d.To != "" || d.Moves || !strings.Contains(d.Reason, "n1/eth1: it failed there 10s ago and pauses for 10s: no carrier") {
		t.Errorf("during the pause: %+v", d)
	}
	w.at++
	if d := w.decision("web"); d.To != "n1/eth1" || !d.Moves {
		t.Errorf("after the pause: to %q, %s", d.To, d.Reason)
	}
}

// With a delay, a preferred node gets the HAVIP back once its session is as old.
func TestFailbackAfterADelay(t *testing.T) {
	w := cluster(t, 3)
	w.havip(fsm.CreateHAVIP{Name: "web", Spec: fsm.Spec{Prefer: map[string]int{"n1": 10, "n2": 5}, Failback: "5m"}})
	w.put("web", "n1/eth0")
	w.at += int64(time.Hour)
	w.down("n1")
	w.carryOut()
	w.open("n1")
	d := w.decision("web")
	if d.To != "n2/eth0" || d.Moves || d.Reason != "n2/eth0 owns it; n1/eth0 is preferred (score 10 against 5) once its session is 5m old" {
		t.Errorf("n1 is back: to %s, %s", d.To, d.Reason)
	}
	w.at += int64(5*time.Minute) - 1
	if d := w.decision("web"); d.Moves {
		t.Errorf("too early: to %s, %s", d.To, d.Reason)
	}
	w.at++
	if d := w.decision("web"); d.To != "n1/eth0" || !d.Moves || d.Reason != "n1/eth0 is preferred (score 10, next is n2/eth0 with 5)" {
		t.Errorf("after 5m: to %s, %s", d.To, d.Reason)
	}
	w.carryOut()
	w.settle()
	if w.owners() != "web=n1/eth0" {
		t.Error(w.owners())
	}
}

// Nobody waits for a delay while the HAVIP has no owner: another move would follow.
func TestNoDelayWithoutAnOwner(t *testing.T) {
	w := cluster(t, 2)
	w.havip(fsm.CreateHAVIP{Name: "web", Spec: fsm.Spec{Prefer: map[string]int{"n1": 10}, Failback: "5m"}})
	w.at += int64(time.Hour)
	w.open("n1") // just back, while n2 has been up for an hour
	if d := w.decision("web"); d.To != "n1/eth0" {
		t.Errorf("to %s: %s", d.To, d.Reason)
	}
	w.put("web", "n2/eth0")
	w.link("n2", false) // its owner may not keep it either
	if d := w.decision("web"); d.To != "n1/eth0" {
		t.Errorf("to %s: %s", d.To, d.Reason)
	}
}

func TestNeverFailback(t *testing.T) {
	w := cluster(t, 2)
	w.havip(fsm.CreateHAVIP{Name: "web", Spec: fsm.Spec{Prefer: map[string]int{"n1": 10}}})
	w.put("web", "n2/eth0")
	w.at += int64(1000 * time.Hour)
	if d := w.decision("web"); d.Moves {
		t.Errorf("to %s: %s", d.To, d.Reason)
	}
}

// HAVIPs are spread over the nodes, and within a node over its ENIs.
func TestEvenSpread(t *testing.T) {
	w := cluster(t, 3)
	for i := range 7 {
		w.havip(fsm.CreateHAVIP{Name: fmt.Sprint("h", i)})
	}
	w.carryOut()
	want := "h0=n1/eth0 h1=n2/eth0 h2=n3/eth0 h3=n1/eth1 h4=n2/eth1 h5=n3/eth1 h6=n1/eth0"
	if w.owners() != want {
		t.Errorf("%s\nwant %s", w.owners(), want)
	}
	// Those of a dead node go to the emptiest of the others; nothing else moves.
	w.down("n1")
	w.carryOut()
	want = "h0=n2/eth0 h1=n2/eth0 h2=n3/eth0 h3=n3/eth0 h4=n2/eth1 h5=n3/eth1 h6=n2/eth1"
	if w.owners() != want {
		t.Errorf("%s\nwant %s", w.owners(), want)
	}
	// An empty node that is back gets what is new, and takes nothing away.
	w.open("n1")
	w.havip(fsm.CreateHAVIP{Name: "h7"})
	d := w.decision("h7")
	if d.To != "n1/eth0" || d.Reason != "node n1 owns fewer HAVIPs (0, next is n3 with 3)" {
		t.Errorf("h7 goes to %s: %s", d.To, d.Reason)
	}
	if len(w.moves(w.compute())) != 1 {
		t.Errorf("%v", w.moves(w.compute()))
	}
}

func TestReasonOfTheEmptierENI(t *testing.T) {
	w := cluster(t, 1)
	w.havip(fsm.CreateHAVIP{Name: "a"})
	w.havip(fsm.CreateHAVIP{Name: "b"})
	w.put("a", "n1/eth0")
	if d := w.decision("b"); d.Reason != "n1/eth1 owns fewer HAVIPs (0, next is n1/eth0 with 1)" {
		t.Error(d.Reason)
	}
}

// The HAVIP of higher priority chooses first, and is named first.
func TestPriority(t *testing.T) {
	w := cluster(t, 2)
	w.havip(fsm.CreateHAVIP{Name: "a"})
	w.havip(fsm.CreateHAVIP{Name: "b", Spec: fsm.Spec{Priority: 5}})
	w.havip(fsm.CreateHAVIP{Name: "c", Spec: fsm.Spec{Priority: -1}})
	var got []string
	for _, d := range w.compute() {
		got = append(got, d.Name+"="+d.To)
	}
	if s := strings.Join(got, " "); s != "b=n1/eth0 a=n2/eth0 c=n1/eth1" {
		t.Error(s)
	}
}

// In maintenance, what a node owns stays, whatever happens to the node
// short of its death or its removal.
func TestMaintenance(t *testing.T) {
	for _, tc := range []struct {
		name  string
		given func(w *world)
	}{
		{"standby", func(w *world) { w.node("n1", fsm.UpdateNode{Standby: ptr(true)}) }},
		{"link down", func(w *world) { w.link("n1", false) }},
		{"banned", func(w *world) { w.update("web", fsm.UpdateHAVIP{Bans: &[]string{"n1"}}) }},
		{"preference elsewhere", func(w *world) {
			w.update("web", fsm.UpdateHAVIP{Change: fsm.Change{Prefer: &map[string]int{"n2": 1}, Failback: ptr("immediate")}})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := cluster(t, 2)
			w.havip(fsm.CreateHAVIP{Name: "web"})
			w.put("web", "n1/eth0")
			w.node("n1", fsm.UpdateNode{Maintenance: ptr(true)})
			tc.given(w)
			if d := w.decision("web"); d.Moves || d.To != "n1/eth0" || !strings.Contains(d.Reason, "maintenance: it stays") {
				t.Errorf("to %q: %s", d.To, d.Reason)
			}
			w.node("n1", fsm.UpdateNode{Maintenance: ptr(false)})
			if d := w.decision("web"); d.To != "n2/eth0" {
				t.Errorf("after the maintenance: to %q: %s", d.To, d.Reason)
			}
		})
	}
	for name, end := range map[string]func(w *world){
		"the owner died":       func(w *world) { w.down("n1") },
		"the owner is removed": func(w *world) { w.node("n1", fsm.UpdateNode{Removing: ptr(true)}) },
	} {
		w := cluster(t, 2)
		w.havip(fsm.CreateHAVIP{Name: "web"})
		w.put("web", "n1/eth0")
		w.node("n1", fsm.UpdateNode{Maintenance: ptr(true)})
		end(w)
		if d := w.decision("web"); d.To != "n2/eth0" {
			t.Errorf("%s: to %q: %s", name, d.To, d.Reason)
		}
	}
}

// What stays because of maintenance is counted where it is.
func TestFrozenHAVIPsCount(t *testing.T) {
	w := cluster(t, 2)
	w.havip(fsm.CreateHAVIP{Name: "web"})
	w.put("web", "n1/eth0")
	w.node("n1", fsm.UpdateNode{Maintenance: ptr(true)})
	w.update("web", fsm.UpdateHAVIP{Bans: &[]string{"n1"}})
	w.havip(fsm.CreateHAVIP{Name: "api"})
	if d := w.decision("api"); d.To != "n2/eth0" {
		t.Errorf("to %s: %s", d.To, d.Reason)
	}
}

// When too many earlier owners still have to release it, nothing is decided that Apply
// would refuse.
func TestTooManyDraining(t *testing.T) {
	w := cluster(t, 2)
	w.havip(fsm.CreateHAVIP{Name: "web", Spec: fsm.Spec{Failback: "immediate"}})
	for i := range fsm.MaxDraining + 1 {
		w.update("web", fsm.UpdateHAVIP{Change: fsm.Change{Prefer: &map[string]int{[]string{"n1", "n2"}[i%2]: 1}}})
		w.carryOut()
	}
	w.update("web", fsm.UpdateHAVIP{Change: fsm.Change{Prefer: &map[string]int{"n2": 1}}})
	if d := w.decision("web"); d.Moves || d.To != "n1/eth0" || !strings.Contains(d.Reason, "32 earlier owners") {
		t.Errorf("to %s, moves %v: %s", d.To, d.Moves, d.Reason)
	}
	w.settle()
	if d := w.decision("web"); !d.Moves || d.To != "n2/eth0" {
		t.Errorf("all released: to %s: %s", d.To, d.Reason)
	}
}

// A reason in the log is bounded; that of `explain` is whole.
func TestLongReasons(t *testing.T) {
	w := cluster(t, 9)
	w.havip(fsm.CreateHAVIP{Name: "web"})
	w.put("web", "n1/eth0")
	for i := 1; i <= 9; i++ {
		w.link(fmt.Sprint("n", i), false)
	}
	d := w.decision("web")
	if !strings.HasSuffix(d.Reason, "n9/eth1: the link is down") {
		t.Error(d.Reason)
	}
	if n := len(w.state.Assignment(d).Reason); !d.Moves || n != fsm.MaxReason {
		t.Errorf("moves %v, a reason of %d bytes in the log", d.Moves, n)
	}
	w.carryOut()
}

func TestCandidates(t *testing.T) {
	w := cluster(t, 2)
	w.havip(fsm.CreateHAVIP{Name: "web", Spec: fsm.Spec{Prefer: map[string]int{"n1": 3, "n1/eth1": 4}}})
	w.havip(fsm.CreateHAVIP{Name: "api"})
	w.put("web", "n1/eth1")
	w.put("api", "n1/eth0")
	w.link("n2", false)
	want := []placement.Candidate{
		{ENI: "n1/eth0", Node: "n1", Eligible: true, Score: 3, OnNode: 1, OnENI: 1},
		{ENI: "n1/eth1", Node: "n1", Eligible: true, Score: 7, OnNode: 1, OnENI: 0, Present: true},
		{ENI: "n2/eth0", Node: "n2", Rule: "link-down", Why: "the link is down"},
		{ENI: "n2/eth1", Node: "n2", Rule: "link-down", Why: "the link is down"},
	}
	got := w.decision("web").Candidates
	if len(got) != len(want) {
		t.Fatalf("%d candidates", len(got))
	}
	for i, c := range got {
		line := fmt.Sprintf("%s %s %v %q %q %v %d %d %d", c.ENI, c.Node, c.Eligible, c.Rule, c.Why, c.Present, c.Score, c.OnNode, c.OnENI)
		m := want[i]
		if w := fmt.Sprintf("%s %s %v %q %q %v %d %d %d", m.ENI, m.Node, m.Eligible, m.Rule, m.Why, m.Present, m.Score, m.OnNode, m.OnENI); line != w {
			t.Errorf("%s\nwant %s", line, w)
		}
	}
}

func TestNothingToDecide(t *testing.T) {
	if d := fsm.New().Explain(0); len(d) != 0 {
		t.Errorf("%v", d)
	}
}
