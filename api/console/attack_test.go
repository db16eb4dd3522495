package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
)

// field finds the value of an input of a page.
func field(t *testing.T, page, name string) string {
	t.Helper()
	m := regexp.MustCompile(`<input[^>]* name="` + name + `"[^>]* value="([^"]*)"`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no field %s in the page", name)
	}
	return html.UnescapeString(m[1])
}

// Two have the same form open. What one changed and the other left as it was stays; what both changed is refused to
// the second, who is told what it is now.
func TestTwoBrowsers(t *testing.T) {
	l := newLab(t)
	id := l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100"), Range: fsm.Range{Type: fsm.RangeENI, Members: []string{"node-1/eth1", "node-2/eth1"}}})
	at := "/console/havips/" + id + "/edit"
	anna, bert := l.login("anna", fsm.RightAdmin), l.login("bert", fsm.RightAdmin)
	v := func() fsm.HAVIP { return l.now().HAVIPs[id] }
	a, b := editForm(nil), editForm(nil)
	a.Set("was", field(t, anna.get(at).text, "was"))
	b.Set("was", field(t, bert.get(at).text, "was"))
	b.Set("priority", "7")
	if got := bert.post(at, b); got.status != http.StatusSeeOther || v().Priority != 7 {
		t.Fatalf("the first: %d %s", got.status, plainText(got.text))
	}
	a.Set("description", "the shop")
	if got := anna.post(at, a); got.status != http.StatusSeeOther || v().Description != "the shop" || v().Priority != 7 {
		t.Errorf("the second: %d, %q, priority %d: it undid what the first had changed", got.status, v().Description, v().Priority)
	}
	b = editForm(map[string]string{"priority": "9", "was": b.Get("was")}) // bert's page is old by now
	if got := bert.post(at, b); got.status != http.StatusConflict || v().Priority != 7 || !strings.Contains(plainText(got.text), "priority, which is 7 now") {
		t.Errorf("both changed it: %d %s, priority %d", got.status, plainText(got.text)[:min(900, len(plainText(got.text)))], v().Priority)
	}

	rules := field(t, anna.get("/console/cluster").text, "was")
	first := rulesForm(map[string]string{"per_eni": "7", "was": rules})
	second := rulesForm(map[string]string{"per_node": "9", "was": rules})
	if got := anna.post("/console/cluster", first); got.status != http.StatusSeeOther {
		t.Errorf("rules: %d %s", got.status, plainText(got.text))
	}
	if got := bert.post("/console/cluster", second); got.status != http.StatusSeeOther || l.now().Cluster.Limits.PerENI != 7 || l.now().Cluster.Limits.PerNode != 9 {
		t.Errorf("rules of the second: %d, %+v", got.status, l.now().Cluster.Limits)
	}
	second.Set("per_eni", "3")
	if got := bert.post("/console/cluster", second); got.status != http.StatusConflict || l.now().Cluster.Limits.PerENI != 7 {
		t.Errorf("rules that both changed: %d, %+v", got.status, l.now().Cluster.Limits)
	}
	if got := bert.post("/console/cluster", rulesForm(map[string]string{"per_eni": "5", "per_node": "9", "was": `{"per_eni":"x`})); got.status != http.StatusSeeOther || l.now().Cluster.Limits.PerENI != 5 {
		t.Errorf("a field that cannot be read: %d, %+v", got.status, l.now().Cluster.Limits)
	}
}

// A viewer who sends changes by hand, every form there is, with what an operator would fill in, changes nothing.
func TestViewerPostsByHand(t *testing.T) {
	l := newLab(t)
	id := l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100")})
	b := l.login("watcher", fsm.RightViewer)
	before := l.now().Index
	full := url.Values{
		"name": {"x"}, "subnet": {"net-10.77.0.0-24"}, "mode": {"auto"}, "ip": {"10.77.0.120"}, "range_type": {"cvm"}, "cvm": {"node-1"}, "limit": {"no"}, "eip": {"203.0.113.9"}, "to": {"node-2"},
		"sure": {"yes"}, "release": {"yes"}, "priority": {"9"}, "weight": {"1"}, "stickiness": {"1"}, "fail_limit": {"3"}, "failback": {"never"}, "on": {"yes"}, "deadline": {"5m"}, "capacity": {"4"}, "score": {"5"},
		"primary": {"yes"}, "form": {"maintenance"}, "cidr": {"192.0.2.0/24"}, "kind": {"apart"}, "havips": {"web"}, "type": {"tcp"}, "target": {"127.0.0.1:1"}, "rise": {"3"}, "effect": {"-5"}, "url": {"https://x.example/"},
		"role": {"admin"}, "ttl": {"1h"}, "what": {"gossip"}, "direction": {"to-cloud"},
	}
	c := New(Config{Base: "/console"})
	if len(c.forms) < 28 {
		t.Fatalf("only %d forms are known", len(c.forms))
	}
	for _, pattern := range c.forms {
		path := strings.NewReplacer("/havips/{id}", "/havips/"+id, "/enis/{id}", "/enis/node-1%2Feth1", "{name}", "node-1").Replace(pattern)
		form := url.Values{}
		for k, v := range full {
			form[k] = v
		}
		if strings.HasSuffix(path, "/nodes/node-1/remove") {
			form.Set("sure", "node-1")
		}
		if strings.HasSuffix(path, "/edit") {
			form.Set("was", "{}")
		}
		a := b.post("/console"+path, form)
		conflict := strings.HasPrefix(path, "/cloud/") && a.status == http.StatusConflict // there is no cloud here
		if a.status != http.StatusForbidden && !conflict {
			t.Errorf("%s: %d %s: %.300s", path, a.status, a.location, plainText(a.text))
		}
	}
	if now := l.now().Index; now != before {
		t.Errorf("the log grew from %d to %d", before, now)
	}
}

// A session that ends while somebody fills in a form: nothing is done, he is told so, and is led back to no other place
// than a page of this console.
func TestSessionEndsInAForm(t *testing.T) {
	l := newLab(t)
	id := l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100")})
	b := l.login("boss", fsm.RightAdmin)
	if a := b.get("/console/havips/" + id + "/edit"); a.status != http.StatusOK {
		t.Fatal(a.status)
	}
	b.cookie = "restarted"
	a := b.post("/console/havips/"+id+"/disable", nil)
	if a.status != http.StatusSeeOther || a.location != "/console/login?did=ended" || l.now().HAVIPs[id].Disabled {
		t.Fatalf("a change: %d %s", a.status, a.location)
	}
	if page := b.get(a.location); !strings.Contains(page.text, "nothing was changed") {
		t.Errorf("the login does not say what became of the form: %s", plainText(page.text))
	}
	a = b.get("/console/havips?search=we&offset=0")
	if a.location != "/console/login?back="+url.QueryEscape("/havips?offset=0&search=we") {
		t.Errorf("a page: %s", a.location)
	}
	for _, row := range []struct{ at, to string }{
		{"https://node-1:7400/console/havips/web?did=changed&x=1", "/console/login?back=" + url.QueryEscape("/havips/web?x=1")}, {"https://evil.example/x", "/console/login"}, {"%", "/console/login"}, {"", "/console/login"},
	} {
		if got := b.ask(http.MethodGet, "/console/havips/web", nil, "HX-Request", "true", "HX-Current-URL", row.at).header.Get("HX-Redirect"); got != row.to {
			t.Errorf("a script at %q is led to %q, want %q", row.at, got, row.to)
		}
	}
	back := field(t, b.get(a.location).text, "back")
	for _, row := range []struct{ back, to string }{
		{back, "/console/havips?offset=0&search=we"}, {"", "/console/"}, {"https://evil.example/", "/console/"}, {"//evil.example/", "/console/evil.example/"}, {`/\evil.example`, "/console/"}, {"/x\r\nSet-Cookie: a=b", "/console/"},
	} {
		in := &browser{lab: l, source: "192.0.2.9"}
		if a := in.post("/console/login", url.Values{"token": {l.token(fmt.Sprintf("t%d", len(l.now().CredentialList())), fsm.RightViewer, "")}, "back": {row.back}}); a.location != row.to {
			t.Errorf("back to %q leads to %q, want %q", row.back, a.location, row.to)
		}
	}
}

// Script in every text field of every form: it is refused, or it is text wherever it is shown.
func TestScriptInEveryField(t *testing.T) {
	l := newLab(t)
	id := l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100")})
	b := l.login("boss", fsm.RightAdmin)
	evil := `"><script>alert(1)</script><img src=x onerror=alert(2)>`
	inputs := regexp.MustCompile(`<(?:input|textarea|select)[^>]* name="([^"]+)"`)
	forms := regexp.MustCompile(`(?s)<form[^>]*method="post" action="([^"]+)".*?</form>`)
	sent := 0
	check := func(where, text string) {
		t.Helper()
		for _, bad := range []string{"<script>alert", "<img src=x"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s: %s is in the page as it is", where, bad)
			}
		}
	}
	pages := append(slices.Clone(allPages), "/havips/"+id, "/havips/"+id+"/edit", "/havips/"+id+"/move", "/havips/"+id+"/delete")
	for _, path := range pages {
		for _, m := range forms.FindAllStringSubmatch(b.get("/console"+path).text, -1) {
			if strings.HasSuffix(m[1], "/logout") {
				continue
			}
			names := inputs.FindAllStringSubmatch(m[0], -1)
			for _, evilName := range names { // one at a time: the first that is wrong ends the reading of a form
				form := url.Values{}
				for _, n := range names {
					form.Set(n[1], "1")
				}
				form.Set(evilName[1], evil)
				form.Set("key", "")
				a := b.post(m[1], form)
				check(m[1]+" "+evilName[1], a.text)
				sent++
			}
		}
	}
	for _, path := range pages {
		check(path, b.get("/console"+path).text)
	}
	if sent < 80 {
		t.Errorf("only %d fields were tried", sent)
	}
}

// An answer whose reader waits no longer, as on a host that is too slow, costs that answer and not the agent: the API's
// library panics when a deadline has passed while it writes.
func TestReaderWaitsNoLonger(t *testing.T) {
	l := newLab(t)
	token := "Bearer " + l.token("reader", fsm.RightViewer, "")
	api := InProcess(l.handler)
	late := func(path string, wait time.Duration) error {
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), sourceKey{}, "192.0.2.7:4711"), wait)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://api"+path, nil)
		l.must(err)
		r.Header.Set("Authorization", token)
		resp, err := api.RoundTrip(r)
		if err != nil {
			return err
		}
		if _, err := resp.Body.Read(make([]byte, 10)); err != nil {
			return errors.Join(err, resp.Body.Close())
		}
		<-ctx.Done()
		return resp.Body.Close()
	}
	for _, path := range []string{"/v1/status", "/v1/nodes", "/v1/enis"} {
		wait := 300 * time.Millisecond
		err := late(path, wait)
		for errors.Is(err, context.DeadlineExceeded) && wait < 20*time.Second { // the host was too slow to begin the answer
			wait *= 2
			err = late(path, wait)
		}
		l.must(err)
	}
	if a := l.login("watcher", fsm.RightViewer).get("/console/nodes"); a.status != http.StatusOK {
		t.Errorf("afterwards: %d", a.status)
	}
}

// A handler that panics ends its own answer, before or after it began, and its cause is in the log.
func TestHandlerPanics(t *testing.T) {
	for _, begun := range []bool{false, true} {
		var log bytes.Buffer
		api := inProcess{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if begun {
				_, _ = w.Write([]byte("half an answer"))
			}
			panic("as the test says")
		}), slog.New(slog.NewTextHandler(&log, nil))}
		ctx := context.WithValue(t.Context(), sourceKey{}, "192.0.2.7:4711")
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://api/v1/havips", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := api.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(resp.Body)
		if err == nil || !begun && resp.StatusCode != http.StatusInternalServerError {
			t.Errorf("begun %t: %d, %v", begun, resp.StatusCode, err)
		}
		if err := resp.Body.Close(); err != nil || !strings.Contains(log.String(), "as the test says") {
			t.Errorf("begun %t: the log says %q, %v", begun, log.String(), err)
		}
	}
}
