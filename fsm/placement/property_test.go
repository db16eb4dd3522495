package placement_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// drawn is a state after a random life: every kind of obstacle, owners that may stay and
// owners that may not, pauses, delays and claims that drain.
func drawn(t *rapid.T) *world { return lived(t, actions) }

// drawnPolicy is drawn with every rule about several HAVIPs, too.
func drawnPolicy(t *rapid.T) *world {
	all := maps.Clone(actions)
	maps.Copy(all, policyActions)
	return lived(t, all)
}

func lived(t *rapid.T, actions map[string]func(t *rapid.T, w *world)) *world {
	w := cluster(t, rapid.IntRange(1, 4).Draw(t, "nodes"))
	if w.slow = rapid.IntRange(1, 3).Draw(t, "fences") == 3; w.slow {
		actions = maps.Clone(actions)
		actions["guard"] = func(t *rapid.T, w *world) {
			sess := one(t, "session", append(w.state.SessionList(), fsm.Session{}))
			w.try(fsm.ReportGuarded{Node: sess.Node, Session: sess.Number, Index: w.state.Index})
		}
		actions["guard all"] = func(_ *rapid.T, w *world) { w.guarded() }
		actions["late"] = func(t *rapid.T, w *world) {
			if len(w.state.HAVIPs) < 6 {
				w.try(drawHAVIP(t, w, int(w.state.Index)))
			}
		}
		actions["own address"] = func(t *rapid.T, w *world) { ownAddress(t, w) }
	}
	for i := range rapid.IntRange(1, 6).Draw(t, "havips") {
		w.try(drawHAVIP(t, w, i))
	}
	for range rapid.IntRange(0, 30).Draw(t, "steps") {
		w.at += int64(rapid.IntRange(0, 4).Draw(t, "seconds")) * int64(time.Second)
		actions[rapid.SampledFrom(slices.Sorted(maps.Keys(actions))).Draw(t, "action")](t, w)
	}
	return w
}

// ownAddress gives an ENI the address of a HAVIP, or takes it away again.
func ownAddress(t *rapid.T, w *world) {
	of, v := w.state.ENIs[anyENI(t, w)], anyHAVIP(t, w)
	var enis []fsm.ENI
	for _, e := range w.state.ENIList() {
		if e.Node != of.Node || e.Detached {
			continue
		}
		e.Prefixes = e.Prefixes[:1]
		if e.ID == of.ID && rapid.Bool().Draw(t, "has it") {
			e.Prefixes = append(slices.Clone(e.Prefixes), netip.PrefixFrom(v.IP, v.IP.BitLen()))
		}
		enis = append(enis, e)
	}
	w.try(fsm.ReportENIs{Node: of.Node, ENIs: enis})
}

func one[T any](t *rapid.T, what string, from []T) T { return rapid.SampledFrom(from).Draw(t, what) }

func anyNode(t *rapid.T, w *world) string {
	return w.state.Nodes[one(t, "node", slices.Sorted(maps.Keys(w.state.Nodes)))].Name
}

func anyENI(t *rapid.T, w *world) string {
	return one(t, "eni", slices.Sorted(maps.Keys(w.state.ENIs)))
}

func anyHAVIP(t *rapid.T, w *world) fsm.HAVIP {
	return w.state.HAVIPs[one(t, "havip", slices.Sorted(maps.Keys(w.state.HAVIPs)))]
}

func anyFlag(t *rapid.T) *bool { return ptr(rapid.Bool().Draw(t, "flag")) }

func anyScores(t *rapid.T, w *world) map[string]int {
	m := map[string]int{}
	for range rapid.IntRange(0, 3).Draw(t, "scores") {
		who := anyNode(t, w)
		if rapid.Bool().Draw(t, "of an ENI") {
			who = anyENI(t, w)
		}
		m[who] = rapid.IntRange(-3, 3).Draw(t, "score")
	}
	return m
}

func anyRange(t *rapid.T, w *world) fsm.Range {
	r := fsm.Range{Type: one(t, "type", []fsm.RangeType{fsm.RangeCVM, fsm.RangeENI}), Limit: rapid.Bool().Draw(t, "limit")}
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		if r.Type == fsm.RangeCVM {
			r.Members = append(r.Members, anyNode(t, w))
		} else {
			r.Members = append(r.Members, strings.Replace(anyENI(t, w), "eth0", "eth1", 1))
		}
	}
	slices.Sort(r.Members)
	r.Members = slices.Compact(r.Members)
	return r
}

func anyFailback(t *rapid.T) string {
	return one(t, "failback", []string{"never", "immediate", "3s", "10s"})
}

func drawHAVIP(t *rapid.T, w *world, i int) fsm.CreateHAVIP {
	return fsm.CreateHAVIP{
		Name: fmt.Sprint("h", i), Subnet: "net", Spec: fsm.Spec{Failback: anyFailback(t), Priority: rapid.IntRange(-1, 1).Draw(t, "priority"), Prefer: anyScores(t, w)}, Range: anyRange(t, w),
	}
}

// actions change a world; what is refused is refused.
var actions = map[string]func(t *rapid.T, w *world){
	"carry out": func(_ *rapid.T, w *world) { w.carryOut() },
	"down":      func(t *rapid.T, w *world) { w.try(fsm.CloseSession{Session: w.session(anyNode(t, w))}) },
	"hand over": func(t *rapid.T, w *world) {
		n := anyNode(t, w)
		w.try(fsm.DrainSession{Node: "n-" + n, Session: w.session(n)})
	},
	"fault":       func(t *rapid.T, w *world) { w.fault(anyNode(t, w), one(t, "fault", []string{"", "gateway"})) },
	"link":        func(t *rapid.T, w *world) { w.link(anyNode(t, w), *anyFlag(t)) },
	"maintenance": func(t *rapid.T, w *world) { w.node(anyNode(t, w), fsm.UpdateNode{Maintenance: anyFlag(t)}) },
	"open": func(t *rapid.T, w *world) {
		n := anyNode(t, w)
		w.try(fsm.OpenSession{Node: "n-" + n, Last: w.session(n), Attempt: "a"})
	},
	"place": func(t *rapid.T, w *world) {
		v, e := anyHAVIP(t, w), w.state.ENIs[anyENI(t, w)]
		w.try(fsm.Place{Assignments: []fsm.Assignment{{HAVIP: v.ID, FromEpoch: v.Epoch, Node: e.Node, Session: w.state.Nodes[e.Node].LastSession, ENI: e.ID}}})
	},
	"fail": func(t *rapid.T, w *world) {
		if v := anyHAVIP(t, w); v.Owner != nil {
			w.must(fsm.Release{Claims: []fsm.ReleasedClaim{{HAVIP: v.ID, Epoch: v.Owner.Epoch, Session: v.Owner.Session, Failure: "drawn"}}})
		}
	},
	"primary":  func(t *rapid.T, w *world) { w.must(fsm.SetENI{ID: anyENI(t, w), Primary: anyFlag(t)}) },
	"removing": func(t *rapid.T, w *world) { w.node(anyNode(t, w), fsm.UpdateNode{Removing: anyFlag(t)}) },
	"settle":   func(_ *rapid.T, w *world) { w.settle() },
	"standby":  func(t *rapid.T, w *world) { w.node(anyNode(t, w), fsm.UpdateNode{Standby: anyFlag(t)}) },
	"update": func(t *rapid.T, w *world) {
		b := fsm.UpdateHAVIP{ID: anyHAVIP(t, w).ID}
		switch rapid.IntRange(0, 4).Draw(t, "field") {
		case 0:
			b.Bans = &[]string{anyNode(t, w), anyENI(t, w)}
		case 1:
			b.Prefer = ptr(anyScores(t, w))
		case 2:
			b.Range = ptr(anyRange(t, w))
		case 3:
			b.Enabled = anyFlag(t)
		case 4:
			b.Failback = ptr(anyFailback(t))
		}
		w.try(b)
	},
}

// The same input gives the same answer, also on a replica that was restored from a snapshot.
func TestSameInputSameAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawnPolicy(t)
		want := w.compute()
		raw, err := w.state.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		restored, err := fsm.ReadSnapshot(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(w.compute(), want) || !reflect.DeepEqual(restored.Explain(w.at), want) {
			t.Fatal("asked again, it answers differently")
		}
		if now, err := w.state.Snapshot(); err != nil || !bytes.Equal(now, raw) {
			t.Fatal("Compute changed the state")
		}
	})
}

// Computing again after carrying the answer out changes nothing, and neither do the
// releases that follow.
func TestCarriedOutItIsStable(t *testing.T) {
	moved := 0
	rapid.Check(t, func(t *rapid.T) {
		w := drawnPolicy(t)
		before := w.compute()
		moved += len(w.moves(before))
		w.carryOut() // which fails if any of it is refused
		for _, when := range []string{"at once", "after the releases"} {
			for i, d := range w.compute() {
				if d.Moves || d.To != before[i].To {
					t.Fatalf("%s, %s goes on from %q to %q: %s\nfirst: %s", when, d.Name, before[i].To, d.To, d.Reason, before[i].Reason)
				}
			}
			if when == "at once" && !slices.ContainsFunc(w.state.HAVIPList(), func(v fsm.HAVIP) bool { return len(v.Draining) >= fsm.MaxDraining }) {
				w.settle()
			}
		}
	})
	if moved == 0 {
		t.Error("nothing ever moved: the test has tried nothing")
	}
}

// The state shown to the placement as a whole (State.Problem) and one ENI at a time
// (State.Ineligible, which Apply asks) say the same, word for word, and Apply does what they
// say: each candidate is tried. Limits and groups come on top: Apply does
// not know them, so that the order of the moves in one entry does not matter.
func TestAgreesWithApply(t *testing.T) {
	eligible, not := 0, 0
	several := []string{"eni-full", "node-full", "capacity", "apart", "together"}
	rapid.Check(t, func(t *rapid.T) {
		w := drawnPolicy(t)
		for _, d := range w.compute() {
			for _, c := range d.Candidates {
				e, v := w.state.ENIs[c.ENI], w.state.HAVIPs[d.HAVIP]
				fork := *w
				res := fork.try(fsm.Place{Assignments: []fsm.Assignment{{
					HAVIP: d.HAVIP, FromEpoch: v.Epoch, Node: e.Node, Session: w.state.Nodes[e.Node].LastSession, ENI: c.ENI,
				}}})
				alone := c.Eligible || slices.Contains(several, c.Rule)
				if c.Present && len(w.state.Unguarded(v)) > 0 { // it stays, and is not made anew
					if c.Rule == "unguarded" || res.Refusal == nil {
						t.Fatalf("%s waits for a fence on %s, its owner's: %q, and Apply says %v", d.Name, c.ENI, c.Why, res.Refusal)
					}
					continue
				}
				if len(v.Draining) < fsm.MaxDraining && alone != (res.Refusal == nil) {
					t.Fatalf("%s on %s: eligible %v (%s), but Apply says %v", d.Name, c.ENI, c.Eligible, c.Why, res.Refusal)
				}
				if why := w.state.Ineligible(v, e, w.at); (why == nil) != alone || (why != nil && (why.Rule != c.Rule || why.Text != c.Why)) {
					t.Fatalf("%s on %s: %s: %q, but the state machine says %+v", d.Name, c.ENI, c.Rule, c.Why, why)
				}
				if c.Eligible {
					eligible++
				} else {
					not++
				}
				if c.Eligible != (c.Rule == "") || c.Eligible != (c.Why == "") {
					t.Fatalf("%s on %s: eligible %v, but %q: %q", d.Name, c.ENI, c.Eligible, c.Rule, c.Why)
				}
			}
		}
	})
	if eligible == 0 || not == 0 {
		t.Errorf("%d eligible, %d not: the test has tried nothing", eligible, not)
	}
}

// nodeOf is the node of a HAVIP's owner; the zero Node without one.
func nodeOf(s *fsm.State, v fsm.HAVIP) fsm.Node {
	if v.Owner == nil {
		return fsm.Node{}
	}
	return s.Nodes[v.Owner.Node]
}

// Each decision is one that a careful reader of the candidates would make.
func TestDecisionsFollowTheGoals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawn(t)
		for _, d := range w.compute() {
			v := w.state.HAVIPs[d.HAVIP]
			if n := nodeOf(w.state, v); v.Owner != nil && n.Maintenance && !n.Removing { // a removal ends it
				if d.Moves || d.To != v.Owner.ENI {
					t.Fatalf("%s leaves a node in maintenance: %s", d.Name, d.Reason)
				}
				continue
			}
			best := obviousBest(w, v, d.Candidates)
			if d.To != best {
				t.Fatalf("%s goes to %q (%s), want %q\n%+v", d.Name, d.To, d.Reason, best, d.Candidates)
			}
			if d.Moves != (d.To != ownerOf(v)) || d.Reason == "" {
				t.Fatalf("%s, owned by %q, goes to %q: moves %v: %s", d.Name, ownerOf(v), d.To, d.Moves, d.Reason)
			}
		}
	})
}

func ownerOf(v fsm.HAVIP) string {
	if v.Owner == nil {
		return ""
	}
	return v.Owner.ENI
}

// obviousBest is the choice again, goal after goal, as the documentation tells it.
func obviousBest(w *world, v fsm.HAVIP, candidates []placement.Candidate) string {
	left := slices.DeleteFunc(slices.Clone(candidates), func(c placement.Candidate) bool { return !c.Eligible })
	if sound := slices.DeleteFunc(slices.Clone(left), func(c placement.Candidate) bool { return c.Fault != "" }); len(sound) > 0 {
		left = sound
	}
	present := slices.IndexFunc(left, func(c placement.Candidate) bool { return c.Present })
	if present >= 0 {
		owner := left[present]
		left = slices.DeleteFunc(left, func(c placement.Candidate) bool { return c.Score <= owner.Score || !mayTakeBack(w, v, c) })
		if len(left) == 0 {
			return owner.ENI
		}
	}
	for _, goal := range []func(c placement.Candidate) int{
		func(c placement.Candidate) int { return -c.Score },
		func(c placement.Candidate) int {
			if v.Owner == nil && v.Last == c.ENI {
				return 0
			}
			return 1
		},
		func(c placement.Candidate) int { return c.OnNode },
		func(c placement.Candidate) int { return c.OnENI },
	} {
		if len(left) == 0 {
			return ""
		}
		least := goal(slices.MinFunc(left, func(a, b placement.Candidate) int { return goal(a) - goal(b) }))
		left = slices.DeleteFunc(left, func(c placement.Candidate) bool { return goal(c) > least })
	}
	return left[0].ENI // candidates are in the order of their ids
}

// mayTakeBack says whether a preferred candidate may take the HAVIP from its owner.
func mayTakeBack(w *world, v fsm.HAVIP, c placement.Candidate) bool {
	switch v.Failback {
	case "never":
		return false
	case "immediate":
		return true
	}
	delay, _ := time.ParseDuration(v.Failback)
	sess, _ := w.state.SessionOf(w.state.ENIs[c.ENI].Node)
	return w.at-sess.Opened >= int64(delay)
}
