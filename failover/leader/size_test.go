package leader

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"havip-cluster/fsm"
)

// sized is a cluster of level 3 with three nodes, of which n1 owns the first half of the
// HAVIPs and n2 the others; n3 owns nothing yet.
type sized struct {
	t     testing.TB
	state *fsm.State
	at    int64
}

func (w *sized) do(body fsm.Body) fsm.Result {
	w.t.Helper()
	c, err := fsm.NewCommand(w.at, "n-n1", "", body)
	if err != nil {
		w.t.Fatal(err)
	}
	next, res, err := fsm.Apply(w.state, w.state.Index+1, c)
	if err != nil || res.Refusal != nil || len(res.Refused) > 0 {
		w.t.Fatalf("%T: %v %v %d refused", body, err, res.Refusal, len(res.Refused))
	}
	w.state = next
	return res
}

func (w *sized) session(node string) uint64 { return w.state.Nodes["n-"+node].LastSession }

func newSized(t testing.TB, havips int) *sized {
	t.Helper()
	w := &sized{t: t, state: fsm.New(), at: 1_700_000_000_000_000_000}
	for i := 1; i <= 3; i++ {
		n := fsm.Node{
			ID: fmt.Sprint("n-n", i), Name: fmt.Sprint("n", i), Address: fmt.Sprintf("192.0.2.%d", i), APIPort: 1, RaftPort: 2, GossipPort: 3,
			Role: fsm.RoleVoter, KeyHash: "k", Version: fsm.VersionWithLevel("v3"),
		}
		if i == 1 {
			w.do(fsm.InitCluster{ID: "c-1", Lease: 500 * time.Millisecond, Node: n})
		} else {
			w.do(fsm.CreateToken{Token: fsm.Token{ID: n.Name, SecretHash: "h", Node: n.Name, Role: fsm.RoleVoter, Expires: w.at + int64(time.Hour)}})
			w.do(fsm.AddNode{Token: n.Name, SecretHash: "h", Node: n})
		}
		w.do(fsm.ReportENIs{Node: n.ID, ENIs: []fsm.ENI{{Device: "eth0", MAC: fmt.Sprint(i), Up: true, Primary: true, Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.64.255.%d/12", i))}}}})
		w.do(fsm.OpenSession{Node: n.ID, Attempt: "a"})
	}
	cfg := fsm.Config{HAVIPs: []fsm.HAVIPSpec{}}
	for i := range havips {
		cfg.HAVIPs = append(cfg.HAVIPs, fsm.HAVIPSpec{Name: fmt.Sprintf("service-%05d", i), IP: netip.AddrFrom4([4]byte{10, 65, byte(i / 250), byte(2 + i%250)})})
	}
	w.do(fsm.ApplyConfig{Config: cfg})
	for i := 1; i <= 3; i++ {
		node := fmt.Sprint("n", i)
		w.do(fsm.ReportGuarded{Node: "n-" + node, Session: w.session(node), Index: w.state.Index})
	}
	var b fsm.Place
	for i, v := range w.state.HAVIPList() {
		node := "n1"
		if i >= havips/2 {
			node = "n2"
		}
		b.Assignments = append(b.Assignments, fsm.Assignment{HAVIP: v.ID, FromEpoch: v.Epoch, Node: "n-" + node, Session: w.session(node), ENI: node + "/eth0", Reason: "made so"})
	}
	w.do(b)
	return w
}

// failover decides, encodes, decodes and applies the close of n1's session.
func (w *sized) failover(step func(what string)) *fsm.State {
	dead := []uint64{w.session("n1")}
	place := placedWithout(w.state, dead, w.at, nil)
	step("decide")
	c, err := fsm.NewCommand(w.at, "n-n1", "", closing(w.state, dead, place))
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := c.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	step("encode")
	if c, err = fsm.DecodeCommand(raw); err != nil {
		w.t.Fatal(err)
	}
	step("decode")
	next, res, err := fsm.Apply(w.state, w.state.Index+1, c)
	if err != nil || res.Refusal != nil || len(res.Refused) > 0 {
		w.t.Fatal(err, res.Refusal, len(res.Refused))
	}
	step("apply")
	return next
}

// BenchmarkFailoverOf5000 is what a leader does when one of three nodes is lost with half of
// 10,000 HAVIPs, and what every node does with the entry.
func BenchmarkFailoverOf5000(b *testing.B) {
	w := newSized(b, 10000)
	took := map[string]time.Duration{}
	for b.Loop() {
		last := time.Now()
		w.failover(func(what string) {
			now := time.Now()
			took[what] += now.Sub(last)
			last = now
		})
	}
	for what, d := range took {
		b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), what+"-ms/op")
	}
}

// BenchmarkReportWith10000 is the entry that every node sends when something was created.
func BenchmarkReportWith10000(b *testing.B) {
	w := newSized(b, 10000)
	c, err := fsm.NewCommand(w.at, "", "", fsm.ReportGuarded{Node: "n-n1", Session: w.session("n1"), Index: w.state.Index})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := fsm.Apply(w.state, w.state.Index+1, c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkConfirmWith10000 is the entry that says that 5,000 are served.
func BenchmarkConfirmWith10000(b *testing.B) {
	w := newSized(b, 10000)
	var body fsm.Confirm
	for _, v := range w.state.Claimed(w.session("n1")) {
		body.Claims = append(body.Claims, fsm.ConfirmedClaim{HAVIP: v.ID, Epoch: v.Epoch, Session: v.Owner.Session})
	}
	for b.Loop() {
		c, err := fsm.NewCommand(w.at, "", "", body)
		if err != nil {
			b.Fatal(err)
		}
		raw, err := c.Encode()
		if err != nil {
			b.Fatal(err)
		}
		if c, err = fsm.DecodeCommand(raw); err != nil {
			b.Fatal(err)
		}
		if _, _, err := fsm.Apply(w.state, w.state.Index+1, c); err != nil {
			b.Fatal(err)
		}
	}
}
