package api

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// walker makes random states by random commands; what Apply refuses is no part of one.
type walker struct {
	t  *testing.T
	r  *rand.Rand
	st *fsm.State
	at int64
}

func (w *walker) do(body fsm.Body) bool {
	w.at += int64(w.r.IntN(20)) * int64(time.Second)
	next, err := after(w.st, nil, "", body, w.at)
	if err != nil {
		return false
	}
	w.st = next
	if next.GuardedUpTo() < next.GuardIndex() { // as the nodes do; no file tells of it
		for _, sess := range next.SessionList() {
			if w.st, err = after(w.st, nil, "", fsm.ReportGuarded{Node: sess.Node, Session: sess.Number, Index: w.st.Index}, w.at); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return true
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// some draws a few of a list, each at most once.
func some[T any](r *rand.Rand, list []T, most int) []T {
	out := slices.Clone(list)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(len(out), r.IntN(most+1))]
}

// newWalker makes two to four nodes with one or two ENIs each, in two subnets of which one
// has IPv6 as well.
func newWalker(t *testing.T, seed uint64) *walker {
	w := &walker{t: t, r: rand.New(rand.NewPCG(seed, 1)), st: fsm.New(), at: 1_700_000_000_000_000_000}
	node := func(i int) fsm.Node {
		return fsm.Node{
			ID: fmt.Sprintf("n-%016x", i), Name: fmt.Sprintf("node-%d", i), Address: fmt.Sprintf("10.0.0.%d", i), APIPort: 1, RaftPort: 2, GossipPort: 3,
			Role: fsm.RoleVoter, Version: fsm.VersionWithLevel("v1"), KeyHash: "k",
		}
	}
	if !w.do(fsm.InitCluster{ID: "c-0123456789abcdef", Profile: "lan", Lease: 500 * time.Millisecond, Node: node(1)}) {
		t.Fatal("no cluster")
	}
	for i := 1; i <= 2+w.r.IntN(3); i++ {
		if i > 1 {
			name := fmt.Sprintf("node-%d", i)
			role := pick(w.r, []fsm.Role{fsm.RoleVoter, fsm.RoleVoter, fsm.RoleAgent, fsm.RoleWitness})
			if !w.do(fsm.CreateToken{Token: fsm.Token{ID: name, SecretHash: "h", Node: name, Role: role, Expires: w.at + int64(time.Hour)}}) ||
				!w.do(fsm.AddNode{Token: name, SecretHash: "h", Node: node(i)}) {
				t.Fatal("no node")
			}
		}
		w.do(fsm.OpenSession{Node: node(i).ID, Attempt: "a", Guarded: w.st.Index})
		enis := []fsm.ENI{{Device: "eth0", MAC: "02:00:00:00:00:01", Primary: true, Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.77.0.%d/24", 10+i))}}}
		if w.r.IntN(2) == 0 {
			enis = append(enis, fsm.ENI{Device: "eth1", MAC: "02:00:00:00:00:02", Up: w.r.IntN(5) > 0, Fault: pick(w.r, []string{"", "", "gateway silent"}), Prefixes: []netip.Prefix{
				netip.MustParsePrefix(fmt.Sprintf("10.78.0.%d/24", 10+i)), netip.MustParsePrefix(fmt.Sprintf("2001:db8::%d/64", 10+i)), netip.MustParsePrefix(fmt.Sprintf("10.77.0.%d/24", 60+i)),
			}})
		}
		w.do(fsm.ReportENIs{Node: node(i).ID, ENIs: enis})
	}
	return w
}

func (w *walker) nodes() (out []fsm.Node) { return w.st.NodeList() }

func (w *walker) targets() []string {
	var out []string
	for _, n := range w.nodes() {
		out = append(out, n.Name)
	}
	for _, e := range w.st.ENIList() {
		out = append(out, e.ID)
	}
	return out
}

func (w *walker) create(i int) fsm.CreateHAVIP {
	r := w.r
	ips := []string{fmt.Sprintf("10.77.0.%d", 100+i), fmt.Sprintf("10.78.0.%d", 100+i), fmt.Sprintf("2001:db8::%x", 100+i)}
	v := fsm.CreateHAVIP{
		Name: fmt.Sprintf("v%d", i%12), IP: netip.MustParseAddr(pick(r, ips)), Spec: fsm.Spec{Priority: r.IntN(3) - 1, Disabled: r.IntN(12) == 0, Unmanaged: r.IntN(12) == 0, Maintenance: r.IntN(12) == 0, Failback: pick(r, []string{"", "never", "immediate", "5m", "02:00-04:00", "22:00-01:30"}), Require: some(r, w.targets(), 1), Forbid: some(r, w.targets(), 1)},
	}
	for range r.IntN(3) {
		if v.Prefer == nil {
			v.Prefer = map[string]int{}
		}
		v.Prefer[pick(r, w.targets())] = r.IntN(200) - 50
	}
	for _, p := range []**int{&v.Stickiness, &v.Weight, &v.FailLimit} {
		if n := r.IntN(8); n < 4 {
			*p = &n
		}
	}
	if r.IntN(2) == 0 {
		v.Range = fsm.Range{Type: fsm.RangeCVM, Limit: r.IntN(4) > 0}
		for _, n := range some(r, w.nodes(), 4) {
			v.Range.Members = append(v.Range.Members, n.Name)
		}
	}
	return v
}

// step is one random command.
func (w *walker) step(i int) {
	r, havips := w.r, w.st.HAVIPList()
	if len(havips) < 3 {
		w.do(w.create(i))
		return
	}
	v, n := pick(r, havips), pick(r, w.nodes())
	switch r.IntN(18) {
	case 0, 1, 2, 3:
		w.do(w.create(i))
	case 4:
		w.do(fsm.BanHAVIP{ID: v.ID, Target: pick(r, w.targets()), For: time.Duration(r.IntN(3)) * time.Minute})
	case 5:
		on := r.IntN(2) == 0
		w.do(fsm.UpdateNode{ID: n.ID, Standby: &on})
	case 6:
		on, capacity := r.IntN(2) == 0, r.IntN(5)
		w.do(fsm.UpdateNode{ID: n.ID, Maintenance: &on, Capacity: &capacity})
	case 7:
		w.do(fsm.DrainNode{ID: n.ID})
	case 8:
		w.do(fsm.ActivateNode{ID: n.ID})
	case 9:
		w.do(fsm.ReportHealth{Node: n.ID, Health: pick(r, []fsm.Health{fsm.HealthGreen, fsm.HealthYellow, fsm.HealthRed}), Reason: "because: of 'this'"})
	case 10:
		w.do(fsm.RecordFailure{HAVIP: v.ID, Node: n.ID, Reason: "x"})
	case 11:
		if v.Owner != nil {
			w.do(fsm.Release{Claims: []fsm.ReleasedClaim{{HAVIP: v.ID, Epoch: v.Epoch, Session: v.Owner.Session, Failure: "no: # good"}}})
		}
	case 12:
		w.do(fsm.CloseSession{Session: n.LastSession})
	case 13:
		w.do(fsm.OpenSession{Node: n.ID, Last: n.LastSession, Attempt: fmt.Sprint(i), Guarded: w.st.Index})
	case 14:
		var of []string
		for _, v := range some(r, havips, 4) {
			of = append(of, v.ID)
		}
		w.do(fsm.CreateGroup{Group: fsm.Group{Name: fmt.Sprintf("g%d", i), Kind: pick(r, []fsm.GroupKind{fsm.Together, fsm.Apart}), Hard: r.IntN(2) == 0, HAVIPs: of}})
	case 15:
		rebalance := pick(r, []string{fsm.RebalanceNever, fsm.RebalanceEven})
		frozen := r.IntN(8) == 0
		w.do(fsm.SetCluster{Limits: &fsm.Limits{PerENI: r.IntN(4), PerNode: r.IntN(4)}, Rebalance: &rebalance, Maintenance: &frozen})
	case 16:
		w.do(fsm.DeleteHAVIP{ID: v.ID, Force: r.IntN(2) == 0})
	case 17:
		if moves := w.st.Moves(w.at, nil); len(moves) > 0 {
			w.do(fsm.Place{Assignments: moves})
		}
	}
}

func (w *walker) spec() PlanSpec {
	names := func(most int) (out []string) {
		for _, n := range some(w.r, w.nodes(), most) {
			out = append(out, n.Name)
		}
		return out
	}
	spec := PlanSpec{Down: names(1), Standby: names(1), Drain: names(1), Activate: names(2), NMinusOne: w.r.IntN(3) == 0}
	for _, e := range some(w.r, w.st.ENIList(), 1) {
		spec.ENIsGone = append(spec.ENIsGone, e.ID)
	}
	return spec
}

// change is a configuration that mends or makes some HAVIPs.
func (w *walker) change(m manifest.Manifest) manifest.Manifest {
	out := manifest.New()
	for _, h := range some(w.r, m.HAVIPs, 3) {
		h.Priority, h.Enabled, h.Stickiness = w.r.IntN(5), w.r.IntN(3) > 0, w.r.IntN(3)
		h.Owner, h.Last, h.Fails, h.FailEnds, h.GaveUp, h.Draining = "", "", nil, nil, nil, 0
		out.HAVIPs = append(out.HAVIPs, h)
	}
	if w.r.IntN(2) == 0 {
		h := manifest.NewHAVIP("made")
		h.IP = pick(w.r, []string{"10.77.0.240", "10.78.0.240", "10.77.0.1", "10.99.0.1", "10.77.0.11"})
		out.HAVIPs = append(out.HAVIPs, h)
	}
	if w.r.IntN(3) == 0 {
		out.Rebalance = "even"
	}
	if w.r.IntN(4) == 0 {
		out.Groups = []manifest.Group{}
	}
	return out
}

// TestOfflinePlan: a plan for an export, read from its text, is the plan of the cluster.
func TestOfflinePlan(t *testing.T) {
	moved, refused, changed := 0, 0, 0
	for seed := range uint64(300) {
		w := newWalker(t, seed)
		for i := range 20 + w.r.IntN(40) {
			w.step(i)
		}
		at := w.at + int64(w.r.IntN(600))*int64(time.Second)
		m := manifest.FromState(w.st, at)
		text := pick(w.r, [][]byte{m.YAML(), m.JSON()})
		read, _, err := manifest.Decode(text)
		if err != nil {
			t.Fatalf("seed %d: an export is refused: %v\n%s", seed, err, text)
		}
		spec := w.spec()
		p := w.st.Problem(at)
		want, errWant := PlanFor(p, p, spec)
		got, err := PlanOffline(read, nil, spec, time.Unix(0, at))
		if diff := cmp.Diff(asJSON(t, want), asJSON(t, got)); diff != "" || err != nil || errWant != nil {
			t.Fatalf("seed %d, %+v: %v %v (-cluster +offline)\n%s\n%s", seed, spec, err, errWant, diff, text)
		}
		moved += len(want.Moves)

		change := w.change(read)
		spec.Prune = w.r.IntN(3) == 0
		next, errWant := after(w.st, nil, "", fsm.ApplyConfig{Config: change.ToConfig(), Prune: spec.Prune}, at)
		got, err = PlanOffline(read, &change, spec, time.Unix(0, at))
		if errWant != nil {
			if refused++; err == nil || problemOf(err).Code != problemOf(errWant).Code {
				t.Fatalf("seed %d: the cluster refuses %v, offline %v\n%s", seed, errWant, err, change.YAML())
			}
			continue
		}
		changed++
		if want, errWant = PlanFor(p, next.Problem(at), spec); errWant != nil {
			t.Fatal(errWant)
		}
		if diff := cmp.Diff(asJSON(t, want), asJSON(t, got)); diff != "" || err != nil {
			t.Fatalf("seed %d, %+v with\n%s%v (-cluster +offline)\n%s\n%s", seed, spec, change.YAML(), err, diff, text)
		}
	}
	if moved < 50 || refused < 10 || changed < 100 {
		t.Errorf("%d moves, %d changes, %d refusals: the walk does not reach enough", moved, changed, refused)
	}
	t.Logf("%d moves, %d changes, %d refusals", moved, changed, refused)
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", " ")
	must(t, err)
	return string(raw)
}
