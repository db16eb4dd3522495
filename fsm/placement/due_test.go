package placement_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"havip-cluster/fsm"
	"havip-cluster/fsm/placement"
)

// Between two times at which NextDue says that something ends, time alone changes nothing: a
// leader that has carried out its answer need not ask again.
func TestNextDue(t *testing.T) {
	later, never := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := drawnPolicy(t)
		w.carryOut()
		due := w.state.NextDue(w.at)
		if due != 0 && due <= w.at {
			t.Fatalf("it is due at %d, which was before %d", due, w.at)
		}
		last := w.at + int64(400*24*time.Hour)
		if due != 0 {
			last = due - 1
			later++
		} else {
			never++
		}
		for range 4 {
			at := rapid.Int64Range(w.at, last).Draw(t, "at")
			if got := w.state.Moves(at, nil); len(got) > 0 {
				t.Fatalf("%s later, before it is due (%d): %+v", time.Duration(at-w.at), due, got)
			}
		}
	})
	if later == 0 || never == 0 {
		t.Errorf("%d have something that ends, %d nothing: the test has tried nothing", later, never)
	}
}

// A HAVIP that a fence does not know goes nowhere, and says whom it waits for; its owner stays.
func TestWaitsForAFence(t *testing.T) {
	w := cluster(t, 3)
	w.slow = true
	id := w.must(fsm.CreateHAVIP{Name: "web", Subnet: "net"}).Object
	d, _ := w.state.ExplainOne(w.at, id)
	if d.To != "" || d.Reason != "it waits for the fence of n1, n2, n3" {
		t.Errorf("to %q: %s", d.To, d.Reason)
	}
	for _, c := range d.Candidates {
		if c.Rule != "unguarded" || c.Needs == "" {
			t.Errorf("%+v", c)
		}
	}
	w.must(fsm.ReportGuarded{Node: "n-n1", Session: w.session("n1"), Index: w.state.Index})
	w.must(fsm.ReportGuarded{Node: "n-n3", Session: w.session("n3"), Index: w.state.Index})
	if d, _ = w.state.ExplainOne(w.at, id); d.Reason != "it waits for the fence of n2" {
		t.Error(d.Reason)
	}
	p := w.state.Problem(w.at)
	if i := slices.IndexFunc(p.HAVIPs, func(v placement.HAVIP) bool { return v.ID == id }); !reflect.DeepEqual(p.HAVIPs[i].Waits, []string{"n2"}) {
		t.Errorf("waits for %v", p.HAVIPs[i].Waits)
	}
	w.down("n2")
	w.carryOut()
	if w.state.HAVIPs[id].Owner == nil {
		t.Error("nobody is left to wait for, and it goes nowhere")
	}
}
