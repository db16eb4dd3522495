package fsm

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// checkPolicy is checkInvariants for what level 2 added.
func checkPolicy(s *State, bad complain) {
	checkLevel(s, bad)
	checkRotations(s, bad)
	eips := map[netip.Addr]string{}
	for _, v := range s.HAVIPs {
		checkHAVIPPolicy(s, v, bad)
		if other, taken := eips[v.EIP]; taken && v.EIP.IsValid() {
			bad("HAVIPs %s and %s share EIP %s", v.Name, other, v.EIP)
		}
		eips[v.EIP] = v.Name
	}
	for name, g := range s.Groups {
		if g.Name != name || len(g.HAVIPs) == 0 || !slices.IsSorted(g.HAVIPs) || len(slices.Compact(slices.Clone(g.HAVIPs))) != len(g.HAVIPs) {
			bad("group %+v is kept under %s", g, name)
		}
		for _, id := range g.HAVIPs {
			if _, ok := s.HAVIPs[id]; !ok {
				bad("group %s holds %s, which is not there", name, id)
			}
		}
	}
	if refusal := s.checkContradictions(); refusal != nil {
		bad("groups contradict: %s", refusal)
	}
	for key, q := range s.Quarantine {
		if q.key() != key || len(s.Quarantine) > MaxQuarantine {
			bad("quarantine of %+v is kept under %s, among %d", q, key, len(s.Quarantine))
		}
	}
	for _, n := range s.Nodes {
		if n.Draining && n.Drain.Result == DrainCancelled {
			bad("node %s: draining %t with %+v", n.Name, n.Draining, n.Drain)
		}
		if n.Capacity != nil && *n.Capacity < 0 || n.Score < -ScoreLimit || n.Score > ScoreLimit {
			bad("node %s has a capacity or score out of range", n.Name)
		}
	}
	checkRevisions(s, bad)
	if s.batch != nil {
		bad("a batch is left behind")
	}
}

func checkHAVIPPolicy(s *State, v HAVIP, bad complain) {
	for _, words := range [][]string{v.Require, v.Forbid} {
		if len(words) > MaxTargets || !slices.IsSorted(words) {
			bad("HAVIP %s: %v is not sorted or too long", v.Name, words)
		}
	}
	for _, target := range v.Require {
		if slices.Contains(v.Forbid, target) {
			bad("HAVIP %s requires and forbids %s", v.Name, target)
		}
	}
	for target := range v.BanEnds {
		if !slices.Contains(v.Bans, target) {
			bad("HAVIP %s: the ban from %s ends and is none", v.Name, target)
		}
	}
	for _, n := range []*int{v.Stickiness, v.Weight, v.FailLimit} {
		if n != nil && (*n < 0 || *n > ScoreLimit) {
			bad("HAVIP %s: %d is out of range", v.Name, *n)
		}
	}
	for node, f := range v.Fails {
		if f.Count < 1 || f.Count > maxCount || len(v.Fails) > MaxFails {
			bad("HAVIP %s: %d failures on %s, of %d nodes", v.Name, f.Count, node, len(v.Fails))
		}
	}
	if v.EIP.IsValid() && v.Deleting {
		bad("HAVIP %s is being deleted with EIP %s", v.Name, v.EIP)
	}
	if _, refusal := ParseFailback(v.Failback); refusal != nil {
		bad("HAVIP %s: %s", v.Name, refusal)
	}
}

// checkEdge: who guards and who serves is of this log, and of the present owner.
func checkEdge(s *State, bad complain) {
	if s.entry != nil {
		bad("the journal of one entry was left behind")
	}
	if s.Cluster.GuardIndex > s.Index || s.inputs > s.Index {
		bad("HAVIPs are guarded up to %d and placed by %d in a state of %d", s.Cluster.GuardIndex, s.inputs, s.Index)
	}
	for _, sess := range s.Sessions {
		if sess.Guarded > s.Index {
			bad("session %d guards up to %d in a state of %d", sess.Number, sess.Guarded, s.Index)
		}
	}
	for _, v := range s.HAVIPs {
		if v.Guard > s.Cluster.GuardIndex || s.Level() >= 3 && v.Guard == 0 {
			bad("HAVIP %s is guarded from %d on, all are from %d on", v.Name, v.Guard, s.Cluster.GuardIndex)
		}
		if v.Served != 0 && (v.Owner == nil || v.Served != v.Owner.Epoch) {
			bad("HAVIP %s is served in epoch %d, which is not its owner's", v.Name, v.Served)
		}
	}
	if len(s.Nodes) > 0 {
		own := s.own
		fresh := *s
		if fresh.indexOwn(); own == nil || !maps.Equal(own.node, fresh.own.node) {
			bad("the own addresses are not those of the nodes")
		}
	}
}

// checkLevel: nobody below the level is a member, and a state of level 1 has nothing in it
// that a program of level 1 does not know.
func checkLevel(s *State, bad complain) {
	if s.Cluster.Level < 0 || s.Cluster.Level == 1 || s.Cluster.Level > CommandLevel {
		bad("the level is %d", s.Cluster.Level)
	}
	if s.Level() > 1 {
		for _, part := range []any{s.Cluster, s.Nodes, s.Sessions, s.HAVIPs} {
			if level := fieldLevel(reflect.ValueOf(part)); level > s.Level() {
				bad("a state of level %d has a field of level %d in %T", s.Level(), level, part)
			}
		}
	}
	if s.Level() > 1 {
		return
	}
	lowest := CommandLevel
	for _, n := range s.Nodes {
		lowest = min(lowest, n.CommandLevel())
	}
	if lowest > 1 && len(s.Nodes) > 0 {
		bad("every node reads level %d, and the cluster is at 1", lowest)
	}
	if len(s.Groups)+len(s.Quarantine)+len(s.Decisions)+len(s.Revisions) > 0 {
		bad("a state of level 1 has groups, quarantine, decisions or revisions")
	}
	for _, part := range []any{s.Cluster, s.Nodes, s.Sessions, s.ENIs, s.Subnets, s.HAVIPs, s.Tokens, s.Events, s.Failovers, s.answered} {
		if level := fieldLevel(reflect.ValueOf(part)); level > 1 {
			bad("a state of level 1 has a field of level %d in %T", level, part)
		}
	}
}

func checkRevisions(s *State, bad complain) {
	size, last := 0, Revision{}
	for _, r := range s.Revisions {
		size += len(r.Config)
		if (last.Config != nil && r.Number <= last.Number) || r.Number > s.Cluster.Revision || r.Index > s.Index || !json.Valid(r.Config) {
			bad("revision %d of index %d follows %d, the newest is %d", r.Number, r.Index, last.Number, s.Cluster.Revision)
		}
		last = r
	}
	if len(s.Revisions) > MaxRevisions || size > MaxRevisionBytes {
		bad("%d revisions with %d bytes are kept", len(s.Revisions), size)
	}
	for _, d := range s.Decisions {
		if len(d.Detail) > MaxDetail || len(s.Decisions) > MaxDecisions || d.Index > s.Index {
			bad("decision %+v, of %d", d, len(s.Decisions))
		}
	}
}

func TestPolicyInvariantsNoticePlantedFaults(t *testing.T) {
	change := func(f func(v *HAVIP)) func(w *world, s *State) {
		return func(w *world, s *State) {
			v := w.get("web")
			f(&v)
			s.HAVIPs[v.ID] = v
		}
	}
	for _, tc := range []struct {
		name, want string
		plant      func(w *world, s *State)
	}{
		{"an end of no ban", "ends and is none", change(func(v *HAVIP) { v.BanEnds = map[string]int64{"n1": 1} })},
		{"required and forbidden", "requires and forbids", change(func(v *HAVIP) { v.Require, v.Forbid = []string{"n1"}, []string{"n1"} })},
		{"unsorted", "not sorted", change(func(v *HAVIP) { v.Forbid = []string{"n2", "n1"} })},
		{"a weight below 0", "out of range", change(func(v *HAVIP) { v.Weight = ptr(-1) })},
		{"no failures", "0 failures", change(func(v *HAVIP) { v.Fails = map[string]FailCount{"n1": {}} })},
		{"an EIP twice", "share EIP", change(func(v *HAVIP) { v.EIP = addr("198.51.100.8") })},
		{"a failback that is none", "not a failback", change(func(v *HAVIP) { v.Failback = "soon" })},
		{"a group of nobody", "which is not there", func(_ *world, s *State) {
			s.Groups["g"] = Group{Name: "g", Kind: Apart, HAVIPs: []string{"havip-0"}}
		}},
		{"groups that contradict", "contradict", func(w *world, s *State) {
			ids := []string{w.get("web").ID, w.get("api").ID}
			slices.Sort(ids)
			s.Groups["a"] = Group{Name: "a", Kind: Together, Hard: true, HAVIPs: ids}
			s.Groups["b"] = Group{Name: "b", Kind: Apart, Hard: true, HAVIPs: ids}
		}},
		{"a quarantine under another key", "is kept under x", func(_ *world, s *State) { s.Quarantine["x"] = Quarantined{} }},
		{"a drain that was cancelled", "draining true", func(w *world, s *State) {
			n := w.node("n1")
			n.Draining, n.Drain.Result = true, DrainCancelled
			s.Nodes[n.ID] = n
		}},
		{"a negative capacity", "out of range", func(w *world, s *State) {
			n := w.node("n1")
			n.Capacity = ptr(-1)
			s.Nodes[n.ID] = n
		}},
		{"a revision of the future", "the newest is", func(_ *world, s *State) { s.Revisions = []Revision{{Number: 999, Config: json.RawMessage("{}")}} }},
		{"a level too high", fmt.Sprintf("the level is %d", CommandLevel+1), func(_ *world, s *State) { s.Cluster.Level = CommandLevel + 1 }},
		{"a CA that is dropped while it signs", "the key of ca is", func(_ *world, s *State) { s.Cluster.Level, s.Cluster.Keys.Issuer = CommandLevel, "aa" }},
		{"a field that level 1 does not know", "in fsm.Cluster", func(_ *world, s *State) { s.Cluster.Level, s.Cluster.Maintenance = 0, true }},
		{"a value that level 1 does not know", "in map[string]fsm.HAVIP", func(w *world, s *State) {
			change(func(v *HAVIP) { v.GaveUp = map[string]GaveUp{"n1/eth0": {At: 1}} })(w, s)
			s.Cluster.Level = 0
		}},
		{"guarded in the future", "guarded up to", func(_ *world, s *State) { s.Cluster.GuardIndex = 9999 }},
		{"a fence of the future", "guards up to", func(w *world, s *State) {
			sess := s.Sessions[w.session("n1")]
			sess.Guarded = 9999
			s.Sessions[sess.Number] = sess
		}},
		{"served by another owner", "which is not its owner's", change(func(v *HAVIP) { v.Served = v.Owner.Epoch + 1 })},
		{"a guard of its own", "all are from", change(func(v *HAVIP) { v.Guard = 9999 })},
		{"own addresses of another time", "own addresses", func(w *world, s *State) {
			n := w.node("n1")
			n.Address = "192.0.2.99"
			s.Nodes[n.ID] = n
		}},
		{"a batch", "left behind", func(_ *world, s *State) { s.batch = &batch{} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := trio(t)
			owned(w)
			w.havip("api", "10.0.0.101")
			w.upgrade()
			w.must(BindEIP{w.get("api").ID, addr("198.51.100.8")})
			s := w.state.clone()
			tc.plant(w, s)
			if err := checkInvariants(s); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
		})
	}
}
