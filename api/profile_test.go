package api

import (
	"net/http"
	"testing"
)

// A profile is for the local socket: no certificate gets one from afar.
func TestProfiles(t *testing.T) {
	w := newWorld(t)
	for path, want := range map[string]int{"/debug/pprof/": 200, "/debug/pprof/heap": 200, "/debug/pprof/profile?seconds=1": 200, "/debug/pprof/nothing": 404} {
		if resp, _ := w.ask(t, 0, http.MethodGet, path, ""); resp.StatusCode != want {
			t.Errorf("%s over the socket: %s", path, resp.Status)
		}
	}
	member := NewClient(w.addrs[0], w.nodes[1].id.ClientTLS())
	defer member.Close()
	req, err := http.NewRequest(http.MethodGet, "https://"+w.addrs[0]+"/debug/pprof/heap", nil)
	must(t, err)
	if resp, _ := roundTrip(t, member.http, req); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a member from afar: %s", resp.Status)
	}
}
