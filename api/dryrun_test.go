package api

import (
	"bytes"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
)

func dryRun(t testing.TB, st *fsm.State) func() {
	w := &fsm.Caller{Principal: "root", Right: fsm.RightAdmin}
	cmd := fsm.CreateHAVIP{Name: "dry", IP: netip.MustParseAddr("10.77.0.120")}
	return func() {
		if _, err := after(st, w, "key", cmd, 1); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkDryRun is what a create costs before it is proposed.
func BenchmarkDryRun(b *testing.B) {
	do := dryRun(b, newWorld(b).log.now())
	b.ReportAllocs()
	for b.Loop() {
		do()
	}
}

// A dry run encodes and decodes the body once: nothing of it may come back unseen.
func TestDryRunAllocates(t *testing.T) {
	do := dryRun(t, newWorld(t).log.now())
	if n := testing.AllocsPerRun(20, do); n > dryRunMost {
		t.Errorf("%.0f allocations of a create that is tried, at most %d", n, dryRunMost)
	}
}

const dryRunMost = 130

// No node on the way waits longer than the caller: the answer with the reason is there first.
func TestPatience(t *testing.T) {
	w := newWorld(t)
	w.log.lead("")
	for _, row := range []struct{ method, path, body string }{{"POST", "/v1/havips", webBody}, {"GET", "/v1/havips", ""}} {
		began := time.Now()
		resp, answer := w.ask(t, 1, row.method, row.path, row.body, headerPatience, "300")
		if took := time.Since(began); resp.StatusCode != http.StatusServiceUnavailable || !bytes.Contains(answer, []byte(CodeNoLeader)) || took < 200*time.Millisecond || took >= leaderWait {
			t.Errorf("%s %s: %d %s after %s", row.method, row.path, resp.StatusCode, answer, took)
		}
	}
	for _, bad := range []string{"0", "-1", "soon", "3600001", strings.Repeat("9", 400)} {
		if resp, answer := w.ask(t, 1, "GET", "/v1/havips", "", headerPatience, bad); resp.StatusCode != http.StatusBadRequest || !bytes.Contains(answer, []byte("milliseconds")) {
			t.Errorf("%s %q: %d %s", headerPatience, bad, resp.StatusCode, answer)
		}
	}
	// A client says what it has, and ends with the reason rather than with silence. On a busy host the answer may be late
	// once, and the client silent: then with more time, but never as much as the wait for a leader.
	c := w.local(1)
	for c.Timeout = 600 * time.Millisecond; ; c.Timeout *= 2 {
		began := time.Now()
		_, err := c.CreateHAVIP(t.Context(), HAVIPSpec{Name: "web", IP: "10.77.0.100"})
		if err != nil && strings.Contains(err.Error(), "no leader") && time.Since(began) < leaderWait {
			break
		}
		if 2*c.Timeout >= leaderWait {
			t.Errorf("after %s: %v", time.Since(began), err)
			break
		}
	}
}
