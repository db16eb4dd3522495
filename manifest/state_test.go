package manifest_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
	"havip-cluster/manifest"
)

const now = int64(1_800_000_000_000_000_123)

// drawState makes a state in which everything that the placement looks at may occur.
func drawState(r *rand.Rand) *fsm.State {
	s := fsm.New()
	s.Cluster.Revision = r.Uint64N(100)
	s.Cluster.Maintenance = r.IntN(20) == 0
	s.Cluster.Limits = fsm.Limits{PerENI: r.IntN(3), PerNode: r.IntN(4)}
	s.Cluster.Rebalance = []string{"", fsm.RebalanceNever, fsm.RebalanceEven}[r.IntN(3)]
	seldom := func() bool { return r.IntN(8) == 0 }
	number := func(n int) *int {
		if r.IntN(2) == 0 {
			return nil
		}
		v := r.IntN(n)
		return &v
	}
	s.Subnets["s1"] = fsm.Subnet{Name: "s1", VPC: fsm.DefaultVPC, CIDR: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1")}
	s.Subnets["s2"] = fsm.Subnet{Name: "s2", VPC: fsm.DefaultVPC, CIDR: netip.MustParsePrefix("10.0.1.0/24"), Auto: true, Reserved: []netip.Addr{netip.MustParseAddr("10.0.1.9")}}
	var nodes, enis []string
	for i := range 1 + r.IntN(4) {
		n := fsm.Node{ID: fmt.Sprint("n-", i), Name: fmt.Sprint("node-", i), Role: []fsm.Role{fsm.RoleVoter, fsm.RoleAgent, fsm.RoleWitness}[r.IntN(3)],
			Standby: seldom(), Maintenance: seldom(), Removing: seldom(), Draining: seldom(), Score: r.IntN(5) - 2, Capacity: number(4),
			Health: []fsm.Health{"", fsm.HealthGreen, fsm.HealthYellow, fsm.HealthRed}[r.IntN(4)], Flaps: fsm.FailCount{Count: r.IntN(5), LastAt: now - r.Int64N(int64(time.Hour))}}
		if n.Health == fsm.HealthRed {
			n.HealthReason = "disk: full"
		}
		if r.IntN(5) > 0 {
			n.LastSession = uint64(100 + i)
			s.Sessions[n.LastSession] = fsm.Session{Number: n.LastSession, Node: n.ID, Opened: now - r.Int64N(int64(time.Hour)), Draining: seldom()}
		}
		s.Nodes[n.ID] = n
		nodes = append(nodes, n.Name)
		for k := range 1 + r.IntN(2) {
			net := 1 + r.IntN(2)
			e := fsm.ENI{ID: fmt.Sprint(n.Name, "/eth", k), Node: n.ID, Device: fmt.Sprint("eth", k), Subnet: fmt.Sprint("s", net), Primary: k == 0, Up: !seldom(), Detached: seldom(),
				Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.%d.%d/24", net-1, 10+i*4+k))}}
			switch r.IntN(6) {
			case 0:
				e.Fault = "gateway silent: 10.0.0.1"
			case 1:
				e.SetSubnet, e.Subnet = "s1", "s1"
			case 2:
				e.Prefixes = append(e.Prefixes, netip.MustParsePrefix("10.0.0.99/24"))
			}
			s.ENIs[e.ID] = e
			enis = append(enis, e.ID)
		}
	}
	target := func() string {
		if r.IntN(3) == 0 {
			return enis[r.IntN(len(enis))]
		}
		return nodes[r.IntN(len(nodes))]
	}
	targets := func() []string {
		var out []string
		for range r.IntN(3) {
			if t := target(); !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
		slices.Sort(out)
		return out
	}
	for i := range 1 + r.IntN(6) {
		v := fsm.HAVIP{ID: fmt.Sprint("havip-", i), Name: []string{fmt.Sprint("web", i), "same"}[min(1, r.IntN(5)/4)], IP: netip.MustParseAddr(fmt.Sprint("10.0.0.", 100+i)), Subnet: "s1", VPC: fsm.DefaultVPC,
			Range: fsm.Range{Limit: r.IntN(2) == 0}, Bans: targets(), Spec: fsm.Spec{Priority: r.IntN(3), Disabled: seldom(), Unmanaged: seldom(), Maintenance: seldom(), Failback: []string{"", "never", "immediate", "30m", "01:00-23:00"}[r.IntN(5)], Stickiness: number(50), Weight: number(3), FailLimit: number(4)}, Deleting: seldom()}
		if r.IntN(3) > 0 {
			v.Range.Type, v.Range.Members = fsm.RangeCVM, slices.Clone(nodes[:1+r.IntN(len(nodes))])
		}
		if v.Require = targets(); r.IntN(3) > 0 {
			v.Require = nil
		}
		for range r.IntN(3) {
			if t := target(); !slices.Contains(v.Require, t) && !slices.Contains(v.Forbid, t) && seldom() {
				v.Forbid = append(v.Forbid, t)
			}
			v.Prefer = map[string]int{target(): r.IntN(200) - 50, target(): 7}
		}
		slices.Sort(v.Forbid)
		if len(v.Bans) > 0 && r.IntN(2) == 0 {
			v.BanEnds = map[string]int64{v.Bans[0]: now + r.Int64N(int64(time.Hour)) - int64(30*time.Minute)}
		}
		v.Fails = map[string]fsm.FailCount{nodes[0]: {Count: r.IntN(5), LastAt: now - r.Int64N(int64(time.Hour))}}
		v.GaveUp = map[string]fsm.GaveUp{enis[0]: {Until: now + r.Int64N(100) - 50, Reason: "no answer: twice"}}
		e := s.ENIs[enis[r.IntN(len(enis))]]
		switch n := s.Nodes[e.Node]; r.IntN(3) {
		case 0:
			v.Owner = &fsm.Claim{Epoch: 3, Node: n.ID, Session: n.LastSession, ENI: e.ID}
		case 1:
			v.Last = e.ID
		}
		v.Draining = make([]fsm.Claim, r.IntN(2))
		s.HAVIPs[v.ID] = v
	}
	for i := range r.IntN(3) {
		g := fsm.Group{Name: fmt.Sprint("g", i), Kind: []fsm.GroupKind{fsm.Together, fsm.Apart}[r.IntN(2)], Hard: r.IntN(2) == 0}
		for _, v := range s.HAVIPList() {
			if r.IntN(2) == 0 {
				g.HAVIPs = append(g.HAVIPs, v.ID)
			}
		}
		s.Groups[g.Name] = g
	}
	drawChecks(r, s)
	return s
}

// drawChecks makes checks, and what nodes have said of them.
func drawChecks(r *rand.Rand, s *fsm.State) {
	for i := range r.IntN(4) {
		k := fsm.Check{Name: fmt.Sprint("check-", i), Type: fsm.CheckTCP, Target: "127.0.0.1:80", Score: -r.IntN(2) * 5, Revision: 7}
		k.Drop = k.Score == 0 && r.IntN(3) == 0
		for _, v := range s.HAVIPList() {
			if r.IntN(3) == 0 {
				k.HAVIPs = append(k.HAVIPs, v.ID)
			}
		}
		k = k.Complete()
		s.Checks[k.Name] = k
		for _, n := range s.NodeList() {
			if !k.RunsOn(n) || r.IntN(4) == 0 {
				continue
			}
			state := []fsm.CheckState{fsm.CheckPassing, fsm.CheckFailing, fsm.CheckFailing, fsm.CheckUnknown}[r.IntN(4)]
			s.Results[n.ID] = append(s.Results[n.ID], fsm.CheckResult{Check: k.Name, Revision: 7, Session: n.LastSession, State: state, Output: "so it is"})
		}
	}
}

// TestPlanFromExport: on random states a plan from the exported file, written and read
// again, is the plan from the state, for every node that may be down as well.
func TestPlanFromExport(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	moves := 0
	for range 300 {
		s := drawState(r)
		m := manifest.FromState(s, now)
		for form, text := range map[string][]byte{"YAML": m.YAML(), "JSON": m.JSON()} {
			back, err := manifest.Read(text)
			if err != nil {
				t.Fatalf("seed %d, %s: %v\n%s", seed, form, err, text)
			}
			want, got := s.Problem(now), back.Manifest.Problem(now)
			for _, c := range []placement.Changes{{}, {Down: []string{"node-0"}}, {Standby: []string{"node-0"}}, {ENIsGone: []string{"node-0/eth0"}}} {
				a, errA := placement.Plan(want, c)
				b, errB := placement.Plan(got, c)
				if errA != nil || errB != nil {
					t.Fatalf("seed %d: %v, %v", seed, errA, errB)
				}
				moves += len(a.Moves)
				if !reflect.DeepEqual(a, b) {
					ja, _ := json.Marshal(a)
					jb, _ := json.Marshal(b)
					t.Fatalf("seed %d, %s, %+v: from the state\n%s\nfrom the export\n%s\n%s", seed, form, c, ja, jb, text)
				}
			}
		}
	}
	if moves < 100 {
		t.Errorf("the plans held %d moves in all: nothing was tried", moves)
	}
}

// TestExportAppliesToItself: an export applied to its own state changes nothing that the
// state wishes.
func TestExportAppliesToItself(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		s := drawState(r)
		m := manifest.FromState(s, now)
		if d := manifest.Diff(m, m); len(d) > 0 {
			t.Fatalf("%s", d)
		}
		got, want := m.ToConfig(), s.DesiredConfig()
		if len(got.HAVIPs) != len(want.HAVIPs) || len(got.Nodes) != len(want.Nodes) {
			t.Fatalf("%d HAVIPs and %d nodes, want %d and %d", len(got.HAVIPs), len(got.Nodes), len(want.HAVIPs), len(want.Nodes))
		}
		byID := map[string]fsm.HAVIPSpec{}
		for _, v := range got.HAVIPs {
			byID[v.ID] = v
		}
		for _, w := range want.HAVIPs {
			g := byID[w.ID]
			if g.IP != w.IP || g.Subnet != w.Subnet || g.Priority != w.Priority || g.Disabled != w.Disabled || g.Unmanaged != w.Unmanaged ||
				!reflect.DeepEqual(g.Prefer, w.Prefer) || !slices.Equal(g.Require, w.Require) || !slices.Equal(g.Forbid, w.Forbid) ||
				!slices.Equal(g.Range.Members, w.Range.Members) || g.Range.Limit != w.Range.Limit {
				t.Fatalf("got %+v\nwant %+v", g, w)
			}
		}
	}
}
