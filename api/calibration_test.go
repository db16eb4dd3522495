package api

import (
	"net/http"
	"strings"
	"testing"

	"havip-cluster/internal/limits"
)

func second(at, late, trip, least int64) CalibrationSecond {
	return CalibrationSecond{At: at, Renewals: 10, Answered: 10, LateUS: late, TripUS: trip, LeastUS: least}
}

// The worst second of all nodes decides, and of a proposal it leaves as much as it has used.
func TestPropose(t *testing.T) {
	p, worst, known := Propose([]NodeCalibration{
		{Node: "a", LeaseMS: 500, SyncUS: 3000, Seconds: []CalibrationSecond{second(1, 200, 300, 400_000), second(2, 29_000, 1_000, 370_000)}},
		{Node: "b", LeaseMS: 500, Plane: Plane{RealTime: true}, Seconds: []CalibrationSecond{second(1, 100, 400, 399_000)}},
		{Node: "away", Problem: "no answer"},
	})
	if !known || len(worst) != 2 || worst[0].Node != "a" || worst[0].At != 2 || worst[0].UsedMS != 30 || worst[1].Node != "b" {
		t.Fatalf("%+v", worst)
	}
	if !strings.Contains(worst[0].Cause, "too busy to renew in time; it has no real-time") || !strings.Contains(worst[1].Cause, "answered late") {
		t.Errorf("%q, %q", worst[0].Cause, worst[1].Cause)
	}
	// 30 ms and the pace of 20 ms are half of 100 ms.
	if p.LeaseMS != 100 || p.MarginMS != 50 || p.KeptMS != 38 || p.FailoverMS != 111 {
		t.Errorf("%+v", p)
	}
	if _, _, known := Propose([]NodeCalibration{{Node: "away"}}); known {
		t.Error("a proposal from nothing")
	}
	if p, _, _ := Propose([]NodeCalibration{{Node: "a", LeaseMS: 500, Seconds: []CalibrationSecond{second(1, 10, 100, 0)}}}); p.LeaseMS != limits.LeaseProposed.Milliseconds() {
		t.Errorf("below the floor: %+v", p)
	}
}

// Renewals that were lost show in what was left of the lease alone.
func TestLostRenewals(t *testing.T) {
	w, known := worstOf(NodeCalibration{Node: "a", LeaseMS: 500, Plane: Plane{RealTime: true}, Seconds: []CalibrationSecond{second(5, 100, 200, 150_000)}})
	if !known || w.UsedMS != 250 || !strings.Contains(w.Cause, "were lost") {
		t.Errorf("%+v", w)
	}
}

// A lease that a node would have lost is refused, with the event, and set by force; a longer one is set always.
func TestALeaseThatANodeCannotKeep(t *testing.T) {
	w := newWorld(t)
	for _, n := range w.nodes {
		n.course = []CalibrationSecond{second(1_700_000_000, 150_000, 10_000, 240_000)}
	}
	send := func(query, body string, status int) string {
		t.Helper()
		resp, text := w.ask(t, 0, http.MethodPatch, "/v1/cluster"+query, body)
		if resp.StatusCode != status {
			t.Errorf("%s %s: %d %s", query, body, resp.StatusCode, text)
		}
		return string(text)
	}
	if text := send("", `{"lease_ms": 150}`, http.StatusBadRequest); !strings.Contains(text, "150 ms late") || !strings.Contains(text, "is 200 ms") || !strings.Contains(text, "--force") || !strings.Contains(text, "2023-11-14T22:13:20Z") {
		t.Errorf("%s", text)
	}
	send("", `{"lease_ms": 400}`, http.StatusOK)
	send("?force=true", `{"lease_ms": 300}`, http.StatusOK)
	send("", `{"lease_ms": 2000}`, http.StatusOK)
}
