package placement_test

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// Each row makes n1/e of three nodes ineligible for h0, and says what explain tells of it.
func TestExplainTheRules(t *testing.T) {
	const minute = int64(time.Minute)
	for _, tc := range []struct {
		name             string
		given            func(p *placement.Problem)
		rule, why, needs string
		until            int64
	}{
		{"disabled", func(p *placement.Problem) { p.HAVIPs[0].Disabled = true }, "disabled", "the HAVIP is disabled", "eligible again after `havip enable h0`", 0},
		{"deleting", func(p *placement.Problem) { p.HAVIPs[0].Deleting = true }, "deleting", "being deleted", "", 0},
		{"no node", func(p *placement.Problem) { p.ENIs[1].Node = "gone" }, "no-node", "node gone is not a member", "its node joins again", 0},
		{"detached", func(p *placement.Problem) { p.ENIs[1].Detached = true }, "detached", "no longer reports", "attached again", 0},
		{"subnet", func(p *placement.Problem) { p.ENIs[1].Subnets = []string{"b"} }, "other-subnet", "in subnet b, the HAVIP is in net", "", 0},
		{"no subnet", func(p *placement.Problem) { p.ENIs[1].Subnets = nil }, "other-subnet", "in subnet none", "", 0},
		{"witness", func(p *placement.Problem) { p.Nodes[1].Role = fsm.RoleWitness }, "witness", "votes and owns nothing", "", 0},
		{"empty range", func(p *placement.Problem) { p.HAVIPs[0].Range = fsm.Range{Limit: true} }, "not-in-range", "empty and limited", "`havip range add h0", 0},
		{"range", func(p *placement.Problem) {
			p.HAVIPs[0].Range = fsm.Range{Type: fsm.RangeCVM, Members: []string{"n0"}, Limit: true}
		}, "not-in-range", "node n1 is not in the range", "`havip range add h0 n1`", 0},
		{"range of ENIs", func(p *placement.Problem) {
			p.HAVIPs[0].Range = fsm.Range{Type: fsm.RangeENI, Members: []string{"n0/e"}, Limit: true}
		}, "not-in-range", "ENI n1/e is not in the range", "`havip range add h0 n1/e`", 0},
		{"primary", func(p *placement.Problem) {
			p.ENIs[1].Primary = true
			p.HAVIPs[0].Range = fsm.Range{Type: fsm.RangeENI, Members: []string{"n1/e"}, Limit: true}
		}, "primary", "primary ENI of node n1", "of type cvm", 0},
		{"forbidden", func(p *placement.Problem) { p.HAVIPs[0].Forbid = []string{"n1/e"} }, "forbidden", "n1/e is forbidden", "no longer forbids", 0},
		{"not required", func(p *placement.Problem) { p.HAVIPs[0].Require = []string{"n0", "n2"} }, "not-required", "requires n0 or n2", "requires it, too", 0},
		{"banned", func(p *placement.Problem) { p.HAVIPs[0].Bans = []fsm.Ban{{Target: "n1"}} }, "banned", "it is banned;", "again after `havip unban h0 n1`", 0},
		{"banned for a while", func(p *placement.Problem) {
			p.HAVIPs[0].Bans = []fsm.Ban{{Target: "n1/e", Until: start + minute}}
		}, "banned", "banned for 1m0s more", "again in 1m0s, or by `havip unban h0 n1/e`", start + minute},
		{"removing", func(p *placement.Problem) { p.Nodes[1].Removing = true }, "removing", "being removed", "", 0},
		{"standby", func(p *placement.Problem) { p.Nodes[1].Standby = true }, "standby", "in standby", "again after `node activate n1`", 0},
		{"drained", func(p *placement.Problem) { p.Nodes[1].Draining = true }, "drained", "being drained", "again after `node activate n1`", 0},
		{"red", func(p *placement.Problem) { p.Nodes[1].Health, p.Nodes[1].HealthReason = fsm.HealthRed, "disk full" }, "unhealthy", "n1 is red: disk full", "yellow or green", 0},
		{"down", func(p *placement.Problem) { p.Nodes[1].Alive = false }, "no-session", "has no session", "up again", 0},
		{"leaving", func(p *placement.Problem) { p.Nodes[1].Leaving = true }, "draining", "handing over", "started again", 0},
		{"link", func(p *placement.Problem) { p.ENIs[1].Up = false }, "link-down", "link is down", "link is up", 0},
		{"failures", func(p *placement.Problem) {
			p.HAVIPs[0].Fails = map[string]placement.Fails{"n1": {Count: 4, Ends: start + minute}}
		}, "failures", "failed 4 times on node n1 (limit 3)", "again in 11m0s", start + 11*minute},
		{"pause", func(p *placement.Problem) {
			p.HAVIPs[0].GaveUp = map[string]fsm.GaveUp{"n1/e": {At: start - minute, Until: start + minute, Reason: "no carrier"}}
		}, "gave-up", "1m0s ago and pauses for 2m0s: no carrier", "again in 1m0s", start + minute},
		{"ENI full", func(p *placement.Problem) { p.Limits.PerENI = 1; p.HAVIPs[1].Owner = "n1/e" }, "eni-full", "owns 1 HAVIPs, the limit per ENI is 1", "another HAVIP leaves n1/e", 0},
		{"node full", func(p *placement.Problem) { p.Limits.PerNode = 1; p.HAVIPs[1].Owner = "n1/e" }, "node-full", "node n1 owns 1 HAVIPs, the limit per node is 1", "leaves node n1", 0},
		{"capacity", func(p *placement.Problem) {
			p.Nodes[1].Capacity, p.HAVIPs[0].Weight, p.HAVIPs[1].Owner = ptr(3), ptr(3), "n1/e"
		}, "capacity", "node n1 carries 1 of 3, the HAVIP weighs 3", "less is on node n1", 0},
		{"apart", func(p *placement.Problem) { group(p, fsm.Apart, 0, 1); p.HAVIPs[1].Owner = "n1/e" }, "apart", "group g0 holds it apart from h1 on n1/e", "g0 is soft, or h1 on n1/e moves", 0},
		{"together", func(p *placement.Problem) { group(p, fsm.Together, 0, 1); p.HAVIPs[1].Owner = "n2/e" }, "together", "group g0 holds it together with h1 on n2/e", "g0 is soft", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := small(3, []int{0, 0})
			tc.given(&p)
			d, found := placement.ExplainOne(p, "h0")
			if !found || d.To == "n1/e" {
				t.Fatalf("it goes to %q", d.To)
			}
			c := d.Candidates[1]
			if c.Eligible || c.Rule != tc.rule || !strings.Contains(c.Why, tc.why) || !strings.Contains(c.Needs, tc.needs) || (tc.needs == "") != (c.Needs == "") || c.Until != tc.until {
				t.Errorf("%+v", c)
			}
			if w := d.Words(); tc.rule != "other-subnet" && !strings.Contains(w, "n1/e: not eligible: "+c.Why) {
				t.Error(w)
			}
		})
	}
}

// Each row is why n1/e loses, and what it would need.
func TestExplainTheLosers(t *testing.T) {
	owned := func(p *placement.Problem) { p.HAVIPs[0].Owner = "n0/e" }
	prefers := func(p *placement.Problem, failback string) {
		owned(p)
		p.HAVIPs[0].Prefer, p.HAVIPs[0].Failback = map[string]int{"n1": 10}, failback
	}
	for _, tc := range []struct {
		name, to, needs, reason string
		given                   func(p *placement.Problem)
	}{
		{"an owner", "n0/e", "comes in when n0/e may no longer own it, or by `havip move h0 --to n1/e` (failback is never)", "n0/e owns it and may keep it", owned},
		{"stickiness", "n0/e", "would win with a score of 20 or more (has 10, the owner 0, stickiness 20)", "may keep it", func(p *placement.Problem) {
			prefers(p, "immediate")
			p.HAVIPs[0].Stickiness = ptr(20)
		}},
		{"a delay", "n0/e", "wins in 4m0s, when its session is 5m old", "n1/e is preferred (score 10 against 0) once its session is 5m old", func(p *placement.Problem) {
			prefers(p, "5m")
			p.Nodes[1].Since = start - int64(time.Minute)
		}},
		{"a window", "n0/e", "wins in 1h46m40s, when its window 00:00-01:00 opens", "once the window 00:00-01:00 opens", func(p *placement.Problem) { prefers(p, "00:00-01:00") }},
		{"a fault", "n0/e", "would win only without its fault: gateway", "only one eligible without a fault", func(p *placement.Problem) { p.ENIs[1].Fault = "gateway" }},
		{"flapping", "n0/e", "would win only if node n1 were not flapping", "steadier than node n1, which is flapping", func(p *placement.Problem) { p.Nodes[1].Flapping = true }},
		{"yellow", "n0/e", "would win only if node n1 were not yellow", "steadier than node n1, which is yellow", func(p *placement.Problem) { p.Nodes[1].Health = fsm.HealthYellow }},
		{"a soft group", "n0/e", "would go against its groups", "goes against its groups less (0, next is n1/e with 1)", func(p *placement.Problem) {
			group(p, fsm.Apart, 0, 1)
			p.Groups[0].Hard, p.HAVIPs[1].Owner = false, "n1/e"
		}},
		{"score", "n0/e", "would win with a score of 7 or more (has 2): `havip update h0 --prefer n1/e=SCORE`", "preferred (score 7, next is n1/e with 2)", func(p *placement.Problem) {
			p.Nodes[0].Score, p.HAVIPs[0].Prefer = 3, map[string]int{"n0": 4, "n1/e": 2}
		}},
		{"owned it last", "n0/e", "if n0/e had not owned it last", "n0/e owned it last", func(p *placement.Problem) { p.HAVIPs[0].Last = "n0/e" }},
		{"load", "n0/e", "if node n1 carried less than node n0 (1 against 0)", "node n0 owns fewer HAVIPs (0, next is n1 with 1)", func(p *placement.Problem) { p.HAVIPs[1].Owner = "n1/e" }},
		{"weight", "n0/e", "(7 against 0)", "node n0 carries less (weight 0, next is n1 with 7)", func(p *placement.Problem) {
			p.HAVIPs[1].Owner, p.HAVIPs[1].Weight = "n1/e", ptr(7)
		}},
		{"its id", "n0/e", "equal but for its id", "n0/e comes first among 2 that are equal", func(p *placement.Problem) { p.HAVIPs = p.HAVIPs[:1] }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := small(2, []int{0, 0})
			tc.given(&p)
			d, _ := placement.ExplainOne(p, "h0")
			if c := d.Candidates[1]; d.To != tc.to || !c.Eligible || !strings.Contains(c.Needs, tc.needs) || d.RunnerUp != "n1/e" || !strings.Contains(d.Change, tc.needs) {
				t.Errorf("to %s, next %q, change %q: %+v", d.To, d.RunnerUp, d.Change, c)
			}
			if !strings.Contains(d.Reason, tc.reason) {
				t.Error(d.Reason)
			}
			if w := d.Words(); !strings.Contains(w, "n1/e: next; ") {
				t.Error(w)
			}
		})
	}
}

func TestWords(t *testing.T) {
	p := small(3, []int{0, 4})
	p.HAVIPs[0].Owner, p.HAVIPs[0].Prefer, p.Nodes[0].Score, p.Nodes[2].Standby = "n1/e", map[string]int{"n1": 3, "n1/e": -1}, 5, true
	p.ENIs = append(p.ENIs, placement.ENI{ID: "n0/f", Node: "n0", Subnets: []string{"b"}, Up: true})
	d, _ := placement.ExplainOne(p, "h0")
	want := "HAVIP h0 (h0) belongs to n1/e: n1/e owns it and may keep it.\n" +
		"  n0/e: next; score 5 (score of node n0 +5); beside it 1 HAVIPs on the node, 1 on the ENI; comes in when n1/e may no longer own it, or by `havip move h0 --to n0/e` (failback is never)\n" +
		"  n1/e: owns it; score 2 (prefer n1 +3, prefer n1/e -1); beside it 0 HAVIPs on the node, 0 on the ENI\n" +
		"  n2/e: not eligible: node n2 is in standby; `node activate n2`; eligible again after `node activate n2`\n" +
		"  1 ENIs are in other subnets.\n"
	if got := d.Words(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What explain says about time comes true: at Until the rule no longer stands against the
// ENI, and a nanosecond before it does.
func TestUntilComesTrue(t *testing.T) {
	seen := 0
	rapid.Check(t, func(t *rapid.T) {
		w := drawnPolicy(t)
		for _, d := range w.compute() {
			for _, c := range d.Candidates {
				if c.Until == 0 {
					continue
				}
				seen++
				rule := func(at int64) string {
					o := w.state.Ineligible(w.state.HAVIPs[d.HAVIP], w.state.ENIs[c.ENI], at)
					if o == nil {
						return ""
					}
					return o.Rule
				}
				if before, then := rule(c.Until-1), rule(c.Until); before != c.Rule || then == c.Rule {
					t.Fatalf("%s on %s: %s until %d, but %q just before and %q then", d.Name, c.ENI, c.Rule, c.Until, before, then)
				}
			}
		}
	})
	if seen == 0 {
		t.Error("no rule ended by itself: the test has tried nothing")
	}
}

// A candidate that is told a score wins with that score, and loses with one less.
func TestScoresComeTrue(t *testing.T) {
	tried := 0
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 6))
		p := drawProblem(r, 4, 1)
		p.Limits, p.Even = fsm.Limits{}, false
		v := &p.HAVIPs[0]
		d, _ := placement.ExplainOne(p, v.ID)
		for _, c := range d.Candidates {
			if c.NeedsScore == nil {
				continue
			}
			tried++
			for by, wins := range map[int]bool{0: true, -1: false} {
				q := p
				q.HAVIPs = slices.Clone(p.HAVIPs)
				q.HAVIPs[0].Prefer = map[string]int{}
				for k, s := range v.Prefer {
					q.HAVIPs[0].Prefer[k] = s
				}
				q.HAVIPs[0].Prefer[c.ENI] += *c.NeedsScore + by - c.Score
				if got := placement.Solve(q)[0].To; (got == c.ENI) != wins && (wins || c.Score < *c.NeedsScore) {
					t.Fatalf("with a score of %d, %s: to %s\n%s\n%s", *c.NeedsScore+by, c.Words(d), got, d.Words(), show(p))
				}
			}
		}
	})
	if tried == 0 && !testing.Short() { // a short run draws too few
		t.Error("no candidate was told a score: the test has tried nothing")
	}
}

// The journal's line is JSON that fits, whatever the names are.
func TestDetailFits(t *testing.T) {
	p := small(60, []int{0})
	for i := range p.ENIs {
		p.ENIs[i].ID = strings.Repeat(`"\x`, i%40) + p.ENIs[i].ID
	}
	d, _ := placement.ExplainOne(p, "h0")
	var got struct {
		Cause string
		ENIs  []struct{ ENI string } `json:"enis"`
		Left  int                    `json:"left_out"`
	}
	raw := d.Detail()
	if err := json.Unmarshal([]byte(raw), &got); err != nil || len(raw) > fsm.MaxDetail || got.Cause != "placed" {
		t.Fatalf("%d bytes, %v: %s", len(raw), err, raw)
	}
	if len(got.ENIs) == 0 || got.ENIs[0].ENI != d.To || len(got.ENIs)+got.Left != 60 {
		t.Errorf("%s", raw)
	}
	if (placement.Decision{}).Words() == "" || !reflect.DeepEqual(placement.Explain(placement.Problem{}), []placement.Decision{}) {
		t.Error("nothing to say is said wrongly")
	}
}
