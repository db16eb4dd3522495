package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"havip-cluster/api"
)

// What nodes tell is gathered second by second, each once, and what was stolen meanwhile explains the worst.
func TestCalibration(t *testing.T) {
	began := time.Unix(1000, 0)
	g := &gathered{began: began, nodes: map[string]*told{}}
	word := func(at int64, steal, flush int64, seconds ...api.CalibrationSecond) {
		g.ended = time.Unix(at, 0)
		g.take([]api.NodeCalibration{
			{Node: "node-1", LeaseMS: 500, Plane: api.Plane{RealTime: true}, StealUS: steal, SyncUS: flush, Seconds: seconds},
			{Node: "node-2", Problem: "no answer"},
		})
	}
	s := func(at, late, trip int64) api.CalibrationSecond {
		return api.CalibrationSecond{At: at, Renewals: 10, Answered: 10, LateUS: late, TripUS: trip, LeastUS: 390_000}
	}
	word(1002, 1_000, 2_000, s(999, 90_000, 0), s(1000, 100, 300), s(1001, 200, 400))
	word(1004, 41_000, 5_000, s(1001, 200, 400), s(1002, 100, 300), s(1003, 30_000, 300))
	word(1006, 41_000, 3_000, s(1004, 100, 300), s(1005, 100, 300))
	out, err := g.result()
	if err != nil {
		t.Fatal(err)
	}
	if out.Seconds != 6 || out.LeaseMS != 500 || out.SyncMaxUS != 5_000 || len(out.Nodes) != 2 || len(out.Worst) != 1 {
		t.Fatalf("%+v", out)
	}
	if n := out.Nodes[0]; n.Renewals != 60 || n.LateMaxUS != 30_000 || n.StealMS != 40 || n.Trip50US != 300 {
		t.Errorf("%+v", n)
	}
	if w := out.Worst[0]; w.At != 1003 || w.UsedMS != 31 || !strings.Contains(w.Cause, "hypervisor took 40 ms") {
		t.Errorf("%+v", w)
	}
	if out.Nodes[1].Problem != "no answer" {
		t.Errorf("%+v", out.Nodes[1])
	}
	var text bytes.Buffer
	printCalibration(&text, out)
	for _, want := range []string{"PROPOSED", "110ms", "1970-01-01T00:16:43Z, node-1", "no answer"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s has no %q", text.String(), want)
		}
	}
}

// The load of --load ends.
func TestBurden(t *testing.T) {
	end := burden()
	time.Sleep(50 * time.Millisecond)
	done := make(chan struct{})
	go func() { defer close(done); end() }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on")
	}
}
