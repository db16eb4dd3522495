package console

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"havip-cluster/fsm"
)

// A page that was told of a change shows it without asking for the newest state, which takes a leader; one that was told
// of more than its node has, and one that was told of nothing, ask for it.
func TestToldPageWaitsForNoLeader(t *testing.T) {
	l := newLab(t)
	l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100")})
	b := l.login("anna", fsm.RightViewer)
	var newest int
	l.heard = func(r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/havips") && r.URL.Query().Get("consistency") != "stale" {
			newest++
		}
	}
	for _, path := range []string{"/console/havips", "/console/havips/web"} {
		for _, row := range []struct {
			told string
			asks bool
		}{
			{"", true},
			{fmt.Sprint(l.now().Index), false},
			{"1", false},
			{fmt.Sprint(l.now().Index + 1), true},
			{"many", true},
			{"-1", true},
		} {
			newest = 0
			a := b.ask(http.MethodGet, path, nil, "HX-Request", "true", askTold, row.told)
			if a.status != http.StatusOK || !strings.Contains(a.text, "web") {
				t.Fatalf("%s told of %q: %d", path, row.told, a.status)
			}
			if (newest > 0) != row.asks {
				t.Errorf("%s told of %q: the newest state was asked for %d times, want it asked for: %v", path, row.told, newest, row.asks)
			}
		}
	}
	l.mu.Lock()
	l.lost = true
	l.mu.Unlock()
	if a := b.ask(http.MethodGet, "/console/havips/web", nil, "HX-Request", "true", askTold, fmt.Sprint(l.now().Index)); a.status != http.StatusOK || strings.Contains(a.text, "No majority") {
		t.Errorf("what the node was told of it has: %d", a.status)
	}
	if a := b.ask(http.MethodGet, "/console/havips/web", nil, "HX-Request", "true"); !strings.Contains(a.text, "No majority") {
		t.Error("without a majority and without a change the page does not say that it may be old")
	}
}
