package console

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"havip-cluster/api"
	"havip-cluster/fsm"
)

// Ten thousand HAVIPs: a page has fifty of them and says so, and the search is the server's.
func TestTenThousand(t *testing.T) {
	l := newLab(t)
	const n = 10_000
	sub := fsm.Subnet{Name: "wide", CIDR: netip.MustParsePrefix("10.80.0.0/16")}
	if res := l.apply(nil, fsm.CreateSubnet{Subnet: sub}, ""); res.Refusal != nil {
		t.Fatal(res.Refusal)
	}
	id := l.havip(fsm.CreateHAVIP{Name: "svc-00000", IP: netip.MustParseAddr("10.80.3.232"), Subnet: "wide"})
	one := l.now().HAVIPs[id]
	for i := 1; i < n; i++ { // into the state as it is: ten thousand creations are not what is looked at here
		v := one
		v.ID, v.Name, v.IP = fmt.Sprintf("havip-n%07d", i), fmt.Sprintf("svc-%05d", i), netip.AddrFrom4([4]byte{10, 80, byte((i + 1000) >> 8), byte(i + 1000)})
		l.now().HAVIPs[v.ID] = v
	}
	b := l.login("watcher", fsm.RightViewer)
	for _, row := range []struct {
		query     string
		first     string
		rows      int
		says      string
		more, les bool
	}{
		{"", "svc-00000", perPage, "1 to 50 of 10000", true, false},
		{"?offset=9990", "svc-09990", 10, "9991 to 10000 of 10000", false, true},
		{"?search=SVC-0777", "svc-07770", 10, "1 to 10 of 10", false, false},
		{"?search=10.80.3.232", "svc-00000", 1, "1 to 1 of 1", false, false},
		{"?subnet=wide&offset=5000", "svc-05000", perPage, "5001 to 5050 of 10000", true, true},
		{"?search=nothing-like-it", "", 0, "None is like that.", false, false},
		{"?offset=20000", "", 0, "The list ends before this page", false, false},
	} {
		began := time.Now()
		a := b.get("/console/havips" + row.query)
		if rows := strings.Count(a.text, `<tr id="h-`); rows != row.rows || !strings.Contains(plainText(a.text), row.says) || row.first != "" && !strings.Contains(a.text, ">"+row.first+"<") {
			t.Errorf("%q: %d rows, %s", row.query, rows, plainText(a.text)[:200])
		}
		if more, less := strings.Contains(a.text, `rel="next"`), strings.Contains(a.text, `rel="prev"`); row.rows > 0 && (more != row.more || less != row.les) {
			t.Errorf("%q: later %t, earlier %t", row.query, more, less)
		}
		if len(a.text) > 100_000 {
			t.Errorf("%q has %d bytes", row.query, len(a.text))
		}
		t.Logf("%-28q %d KB, %s", row.query, len(a.text)>>10, time.Since(began).Round(time.Millisecond))
	}
	if a := b.get("/console/havips?offset=x"); a.status != http.StatusBadRequest {
		t.Errorf("offset x: %d", a.status)
	}
	if a := b.get("/console/"); len(a.text) > 60_000 || !strings.Contains(plainText(a.text), "and more") && !strings.Contains(plainText(a.text), "more HAVIPs have no owner") {
		t.Errorf("the overview has %d bytes", len(a.text))
	}
}

// A page is told of what has changed, at once and with its index, and of leases every two seconds; what the API
// has no event about is told too.
func TestLive(t *testing.T) {
	l := newLab(t)
	id := l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100")})
	b := l.login("watcher", fsm.RightViewer)
	server := httptest.NewTLSServer(l.handler)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/console/live?since="+fmt.Sprint(l.now().Index), nil)
	l.must(err)
	r.AddCookie(&http.Cookie{Name: "__Host-havip-console", Value: b.cookie})
	resp, err := server.Client().Do(r)
	l.must(err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	words := make(chan string, 64)
	go func() {
		defer close(words)
		lines, kind := bufio.NewScanner(resp.Body), ""
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			if field == "event" {
				kind = value
			}
			if field == "data" {
				words <- kind + " " + value
			}
		}
	}()
	await := func(what string, has ...string) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for {
			select {
			case word, ok := <-words:
				hit := ok
				for _, part := range has {
					hit = hit && strings.Contains(word, part)
				}
				if hit {
					return
				}
				if !ok {
					t.Fatalf("%s: the stream ended", what)
				}
			case <-deadline:
				t.Fatalf("%s is never told", what)
			}
		}
	}
	v := l.now().HAVIPs[id]
	l.apply(nil, fsm.Confirm{Claims: []fsm.ConfirmedClaim{{HAVIP: id, Epoch: v.Epoch, Session: v.Owner.Session}}}, "")
	await("a word without an event", "changed", fmt.Sprint(l.now().Index), topicHAVIPs, topicFailovers)
	other := map[string]string{"node-1": "node-2", "node-2": "node-1"}[l.now().NodeName(v.Owner.Node)]
	boss := l.login("boss", fsm.RightAdmin)
	boss.post("/console/havips/"+id+"/move", url.Values{"to": {other}})
	await("a move", "changed", topicHAVIPs, topicNodes)
	await("a move, for ears", "said", "HAVIP web")
	await("the clock", "changed", topicClock)
	cancel()
}

// The first word is told at once, what follows within a pause together, and what is said is one line.
func TestNotifier(t *testing.T) {
	out := httptest.NewRecorder()
	n := notifier{out: out, control: http.NewResponseController(out), topics: map[string]bool{}}
	n.add(api.Event{Index: 7, Kind: "placed", HAVIP: "a\nb", Text: "goes\n\nevent: evil\n to node-2 " + strings.Repeat("x", 500)})
	n.add(api.Event{Index: 6, Kind: "keys"})
	text := n.render()
	if !strings.HasPrefix(text, "id: 7\nevent: changed\ndata: 7 config events failovers havips nodes\n\n") {
		t.Errorf("%q", text)
	}
	if strings.Contains(text, "\nevent: evil") || len(text) > 500 {
		t.Errorf("%q", text)
	}
	if n.render() == text || len(n.topics) != 0 {
		t.Error("it is told twice")
	}
}

// A timeline is drawn within its frame, whatever is in it.
func TestTimeline(t *testing.T) {
	for _, f := range []api.Failover{
		{}, {Steps: []api.FailoverStep{{What: "one"}}},
		{TotalUS: 600_000, Steps: []api.FailoverStep{{Step: "heard"}, {Step: "deadline", AfterUS: 500_000}, {Step: "committed", AfterUS: 520_000}, {Step: "applied", AfterUS: 519_000}, {Step: "confirmed", AfterUS: 600_000}}},
		{TotalUS: 5, Steps: []api.FailoverStep{{Step: "dark", AfterUS: -9}, {Step: "answered", AfterUS: 1 << 60}}},
	} {
		d := timelineOf(f)
		if len(d.Rows) != len(f.Steps) {
			t.Errorf("%d rows of %d steps", len(d.Rows), len(f.Steps))
		}
		for _, r := range d.Rows {
			if r.X < drawLeft || r.X+r.Width > drawWidth-drawRight+3 || r.Width < 3 || r.Y > d.Height {
				t.Errorf("%+v is outside of its frame, %d high", r, d.Height)
			}
		}
	}
}

// Over HTTP/1.1 a browser has six connections to a host, and a stream keeps one for itself: six pages that are all told
// of changes would be the last that it can open. The streams of one session leave room, and a page without one looks by
// itself.
func TestLiveLeavesConnections(t *testing.T) {
	const connections = 6 // of Chromium and Firefox, to one host
	l := newLab(t)
	b := l.login("watcher", fsm.RightViewer)
	server := httptest.NewTLSServer(l.handler)
	t.Cleanup(server.Close) // after the streams below
	client := server.Client()
	client.Transport.(*http.Transport).MaxConnsPerHost = connections
	ask := func(path string) *http.Response {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		t.Cleanup(cancel)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/console"+path, nil)
		l.must(err)
		r.AddCookie(&http.Cookie{Name: "__Host-havip-console", Value: b.cookie})
		resp, err := client.Do(r)
		if err != nil {
			t.Fatalf("%s is never answered: %v", path, err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	told := 0
	for range connections + 1 {
		resp := ask("/live?since=1")
		if resp.StatusCode == http.StatusOK {
			told++
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	if told != liveOld {
		t.Errorf("%d pages are told of changes, want %d", told, liveOld)
	}
	if resp := ask("/havips"); resp.StatusCode != http.StatusOK {
		t.Errorf("one page more: %s", resp.Status)
	}
}

// A page that goes away leaves no stream behind, whatever it spoke: there are only so many.
func TestLiveLeavesNothing(t *testing.T) {
	l := newLab(t)
	b := l.login("watcher", fsm.RightViewer)
	for _, http2 := range []bool{false, true} {
		server := httptest.NewUnstartedServer(l.handler)
		server.EnableHTTP2 = http2
		server.StartTLS()
		for i := range 80 { // more than the streams of a node
			ctx, cancel := context.WithCancel(t.Context())
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/console/live?since=1", nil)
			l.must(err)
			r.AddCookie(&http.Cookie{Name: "__Host-havip-console", Value: b.cookie})
			resp, err := server.Client().Do(r)
			l.must(err)
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("HTTP/2 %t, stream %d: %s", http2, i, resp.Status)
			}
			_, err = resp.Body.Read(make([]byte, 10))
			l.must(err)
			cancel()
			_ = resp.Body.Close()
		}
		server.Close()
	}
}
