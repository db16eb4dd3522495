package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"havip-cluster/fsm"
)

// A page of the HAVIPs is what the whole list would have there, at the leader and at a follower.
func TestListPages(t *testing.T) {
	w := newWorld(t)
	for i := range 25 {
		w.ask(t, 0, "POST", "/v1/havips", fmt.Sprintf(`{"name":"svc-%02d","ip":"10.77.0.%d"}`, i, 100+i))
	}
	w.ask(t, 0, "PATCH", "/v1/havips/svc-03", `{"enabled":false,"description":"Billing for Ünal"}`)
	w.log.place(t)
	w.ask(t, 0, "POST", "/v1/havips/svc-07/move", `{"to":"node-2"}`)
	list := func(at int, query string) (names []string, total string) {
		resp, err := w.curl(at).Get("http://local/v1/havips" + query)
		must(t, err)
		defer resp.Body.Close()
		var page []HAVIP
		if resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&page) != nil {
			t.Fatalf("%s: %d", query, resp.StatusCode)
		}
		for _, v := range page {
			names = append(names, v.Name)
		}
		return names, resp.Header.Get("X-Havip-Total")
	}
	for at := range 2 {
		all, total := list(at, "")
		if len(all) != 25 || total != "25" {
			t.Errorf("all: %d of %s", len(all), total)
		}
		var joined []string
		for offset := 0; offset < 30; offset += 10 {
			page, total := list(at, fmt.Sprintf("?limit=10&offset=%d", offset))
			if joined = append(joined, page...); total != "25" || len(page) > 10 {
				t.Errorf("offset %d: %d of %s", offset, len(page), total)
			}
		}
		if strings.Join(joined, " ") != strings.Join(all, " ") {
			t.Errorf("pages: %q", joined)
		}
		for query, want := range map[string]string{
			"?search=SVC-1&limit=2": "2 of 10", "?search=10.77.0.124": "1 of 1", "?search=%C3%BCnal": "1 of 1", "?state=DISABLED": "1 of 1", "?search=havip-": "25 of 25",
			"?node=nobody": "0 of 0", "?subnet=net-10.77.0.0-24&limit=1": "1 of 25", "?subnet=other": "0 of 0", "?offset=1000000": "0 of 25",
		} {
			if names, total := list(at, query); fmt.Sprintf("%d of %s", len(names), total) != want {
				t.Errorf("%s: %d of %s, want %s", query, len(names), total, want)
			}
		}
		onFirst, _ := list(at, "?node=node-1")
		onSecond, _ := list(at, "?node=node-2")
		served, _ := list(at, "?state=PENDING")
		if len(onFirst)+len(onSecond) != 24 || len(served) != 24 || strings.Join(onFirst, " ") == "" {
			t.Errorf("%d and %d by node, %d pending", len(onFirst), len(onSecond), len(served))
		}
	}
	for _, query := range []string{"?limit=-1", "?limit=1001", "?offset=-1", "?state=GONE", "?colour=red"} {
		resp, err := w.curl(0).Get("http://local/v1/havips" + query)
		must(t, err)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", query, resp.StatusCode)
		}
	}
}

// Everybody who may read is told who he is.
func TestSelf(t *testing.T) {
	w := newWorld(t)
	for _, a := range w.askers(t, 0) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.base+"/v1/self", nil)
		must(t, err)
		for i := 0; i+1 < len(a.header); i += 2 {
			req.Header.Set(a.header[i], a.header[i+1])
		}
		resp, err := a.client.Do(req)
		must(t, err)
		var got Self
		_ = json.NewDecoder(resp.Body).Decode(&got)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			continue // TestEveryRoute has who may
		}
		if got.Role != string(a.caller.Right) || got.Node != "node-1" || got.Principal == "" || (got.OwnNode != "") != (a.caller.Node != "") {
			t.Errorf("%s is told %+v, and is %+v", a.name, got, a.caller)
		}
	}
}

// With ticks a stream also tells of a change that has no event; without, it does not.
func TestTicks(t *testing.T) {
	w := newWorld(t)
	w.ask(t, 0, "POST", "/v1/havips", `{"name":"web","ip":"10.77.0.100"}`)
	w.log.place(t)
	v := w.log.now().HAVIPList()[0]
	with, without := &follower{since: w.log.now().Index, ticks: true}, &follower{since: w.log.now().Index}
	w.log.apply(t, fsm.Confirm{Claims: []fsm.ConfirmedClaim{{HAVIP: v.ID, Epoch: v.Epoch, Session: v.Owner.Session}}}, "")
	st := w.log.now()
	for _, row := range []struct {
		follower *follower
		want     string
	}{{with, fmt.Sprintf("id: %d\nevent: index\ndata: {\"index\":%d}\n\n", st.Index, st.Index)}, {without, ""}, {with, ""}} {
		if text, err := row.follower.news(st); err != nil || text != row.want {
			t.Errorf("ticks %t: %q, %v", row.follower.ticks, text, err)
		}
	}
	w.ask(t, 0, "PATCH", "/v1/havips/web", `{"priority":1}`)
	if text, _ := with.news(w.log.now()); !strings.Contains(text, "event: havip-changed") || strings.Contains(text, "event: index") {
		t.Errorf("what has an event is told twice: %q", text)
	}
}
