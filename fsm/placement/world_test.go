package placement_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// A world is a cluster as a test sees it. Every change goes through fsm.Apply, so a test
// cannot reach a state that the log cannot.
type world struct {
	t     tb
	state *fsm.State
	at    int64
	slow  bool // nobody says by itself that its fence knows a new HAVIP
}

// tb is what a world needs of a test, a benchmark or a property.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

const start = int64(1_700_000_000) * int64(time.Second)

func ptr[T any](v T) *T { return &v }

func (w *world) try(body fsm.Body) fsm.Result {
	w.t.Helper()
	c, err := fsm.NewCommand(w.at, "test", "", body)
	if err != nil {
		w.t.Fatal(err)
	}
	next, res, err := fsm.Apply(w.state, w.state.Index+1, c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.state = next
	if w.state.GuardedUpTo() < w.state.GuardIndex() && !w.slow {
		w.slow = true
		w.guarded()
		w.slow = false
	}
	return res
}

// guarded lets every node with a session say that its fence knows all HAVIPs.
func (w *world) guarded() {
	w.t.Helper()
	for _, sess := range w.state.SessionList() {
		w.must(fsm.ReportGuarded{Node: sess.Node, Session: sess.Number, Index: w.state.Index})
	}
}

func (w *world) must(body fsm.Body) fsm.Result {
	w.t.Helper()
	res := w.try(body)
	if res.Refusal != nil || len(res.Refused) > 0 {
		w.t.Fatalf("%T was refused: %v %q", body, res.Refusal, res.Refused)
	}
	return res
}

// cluster has the nodes n1, n2, ... with eth0 (primary) and eth1 in subnet net, up and with
// an open session.
func cluster(t tb, nodes int) *world {
	w := &world{t: t, state: fsm.New(), at: start}
	for i := 1; i <= nodes; i++ {
		n := fsm.Node{
			ID: fmt.Sprint("n-n", i), Name: fmt.Sprint("n", i), Address: fmt.Sprintf("192.0.2.%d", i),
			APIPort: 7400, RaftPort: 7401, GossipPort: 7402, Role: fsm.RoleVoter, KeyHash: "k", Version: fsm.VersionWithLevel("test"),
		}
		if i == 1 {
			w.must(fsm.InitCluster{ID: "c-1", Lease: time.Second, Node: n})
			w.must(fsm.CreateSubnet{Subnet: fsm.Subnet{Name: "net", CIDR: netip.MustParsePrefix("10.0.0.0/16"), Gateway: netip.MustParseAddr("10.0.0.1")}})
		} else {
			w.join(n, fsm.RoleAgent)
		}
		w.link(n.Name, true)
		w.open(n.Name)
	}
	return w
}

func (w *world) join(n fsm.Node, role fsm.Role) {
	w.t.Helper()
	w.must(fsm.CreateToken{Token: fsm.Token{ID: n.Name, SecretHash: "s", Node: n.Name, Role: role, Expires: w.at + int64(time.Hour)}})
	w.must(fsm.AddNode{Token: n.Name, SecretHash: "s", Node: n})
}

// link reports both ENIs of a node, up or down.
func (w *world) link(node string, up bool) {
	w.t.Helper()
	var i int
	if _, err := fmt.Sscanf(node, "n%d", &i); err != nil {
		w.t.Fatal(err)
	}
	var enis []fsm.ENI
	for k, device := range []string{"eth0", "eth1"} {
		enis = append(enis, fsm.ENI{Device: device, Up: up, Primary: k == 0, Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.%d.%d/16", k+1, i))}})
	}
	w.must(fsm.ReportENIs{Node: "n-" + node, ENIs: enis})
}

// fault has a node report a fault of its eth0, or that there is none any more.
func (w *world) fault(node, fault string) {
	w.t.Helper()
	var enis []fsm.ENI
	for _, e := range w.state.ENIList() {
		if e.Node == "n-"+node {
			if e.Device == "eth0" {
				e.Fault = fault
			}
			enis = append(enis, e)
		}
	}
	w.must(fsm.ReportENIs{Node: "n-" + node, ENIs: enis})
}

func (w *world) session(node string) uint64 { return w.state.Nodes["n-"+node].LastSession }

func (w *world) open(node string) {
	w.t.Helper()
	w.must(fsm.OpenSession{Node: "n-" + node, Last: w.session(node), Attempt: "a", Guarded: w.state.Index})
}

// down is the death of a node: its session is closed, nothing is placed in the entry.
func (w *world) down(node string) { w.t.Helper(); w.must(fsm.CloseSession{Session: w.session(node)}) }

func (w *world) node(name string, b fsm.UpdateNode) {
	w.t.Helper()
	b.ID = "n-" + name
	w.must(b)
}

func (w *world) havip(b fsm.CreateHAVIP) fsm.HAVIP {
	w.t.Helper()
	b.Subnet = "net"
	return w.state.HAVIPs[w.must(b).Object]
}

func (w *world) get(name string) fsm.HAVIP {
	w.t.Helper()
	v, refusal := w.state.HAVIPNamed(name)
	if refusal != nil {
		w.t.Fatal(refusal)
	}
	return v
}

func (w *world) update(name string, b fsm.UpdateHAVIP) {
	w.t.Helper()
	b.ID = w.get(name).ID
	w.must(b)
}

// put gives a HAVIP to an ENI, and lets earlier owners release it.
func (w *world) put(name, eni string) {
	w.t.Helper()
	v, e := w.get(name), w.state.ENIs[eni]
	w.must(fsm.Place{Assignments: []fsm.Assignment{{
		HAVIP: v.ID, FromEpoch: v.Epoch, Node: e.Node, Session: w.state.Nodes[e.Node].LastSession, ENI: eni, Reason: "put",
	}}})
	w.settle()
}

// settle lets every holder release what it no longer owns.
func (w *world) settle() {
	w.t.Helper()
	for _, v := range w.state.HAVIPList() {
		for _, cl := range v.Draining {
			w.must(fsm.Release{Claims: []fsm.ReleasedClaim{{HAVIP: v.ID, Epoch: cl.Epoch, Session: cl.Session}}})
		}
	}
}

func (w *world) compute() []placement.Decision { return w.state.Explain(w.at) }

func (w *world) decision(name string) placement.Decision {
	w.t.Helper()
	i := slices.IndexFunc(w.compute(), func(d placement.Decision) bool { return d.Name == name })
	if i < 0 {
		w.t.Fatalf("no decision for %s", name)
	}
	return w.compute()[i]
}

// moves are the assignments of what should change.
func (w *world) moves(decisions []placement.Decision) []fsm.Assignment {
	var out []fsm.Assignment
	for _, d := range decisions {
		if d.Moves {
			out = append(out, w.state.Assignment(d))
		}
	}
	return out
}

// carryOut puts all moves into the log, as the leader does. Nothing may be refused.
func (w *world) carryOut() {
	w.t.Helper()
	if m := w.moves(w.compute()); len(m) > 0 {
		w.must(fsm.Place{Assignments: m})
	}
}

// owners lists who owns what, by name.
func (w *world) owners() string {
	var out []string
	for _, v := range w.state.HAVIPList() {
		owner := "-"
		if v.Owner != nil {
			owner = v.Owner.ENI
		}
		out = append(out, v.Name+"="+owner)
	}
	return strings.Join(out, " ")
}
