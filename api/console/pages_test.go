package console

import (
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"havip-cluster/fsm"
)

// allPages are those without a name in their path; the tests add these.
var allPages = []string{
	"/", "/havips", "/havips/new", "/nodes", "/nodes/node-1", "/failovers", "/plan", "/plan?n-node-1=down&each=yes", "/events", "/audit", "/cluster", "/cloud", "/nodes/node-2/remove", "/enis/node-1%2Feth1",
	"/subnets", "/groups", "/checks", "/webhooks", "/tokens", "/keys", "/keys/rotate?what=ca", "/snapshots",
}

// Every page is shown to a viewer, in whole, with the headers that keep it what it is.
func TestEveryPage(t *testing.T) {
	l := newLab(t)
	id := l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100")})
	b := l.login("watcher", fsm.RightViewer)
	seen := 0
	for _, path := range append(allPages, "/havips/"+id, "/havips/web", "/havips/"+id+"/edit", "/havips/"+id+"/cloud", "/havips/"+id+"/move", "/havips/"+id+"/delete") {
		a := b.get("/console" + path)
		if a.status != http.StatusOK || !strings.HasSuffix(strings.TrimSpace(a.text), "</html>") {
			t.Errorf("%s: %d %.300s", path, a.status, a.text)
			continue
		}
		seen++
		nonce := regexp.MustCompile(`script-src 'nonce-([A-Z2-7]{26})'`).FindStringSubmatch(a.header.Get("Content-Security-Policy"))
		if nonce == nil || strings.Count(a.text, nonce[1]) < 4 {
			t.Errorf("%s: its policy is %q", path, a.header.Get("Content-Security-Policy"))
		}
		for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(a.header.Get("Content-Security-Policy"), part) {
				t.Errorf("%s: its policy has no %s", path, part)
			}
		}
		if a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: headers %v", path, a.header)
		}
		for _, part := range htmxParts {
			if strings.Contains(a.text, part) { // see htmxName
				t.Errorf("%s loads %s by itself", path, part)
			}
		}
		for _, bad := range []string{"<no value>", "ZgotmplZ", "%!", "style=\"", " onclick", "http://", "<script>"} {
			if strings.Contains(a.text, bad) {
				t.Errorf("%s has %q in it", path, bad)
			}
		}
		for _, m := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(a.text, -1) {
			if !strings.HasPrefix(m[1], "/console/") && m[1] != "#main" {
				t.Errorf("%s leads to %s", path, m[1])
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d pages were looked at", seen)
	}
	if a := b.get("/console/nothing"); a.status != http.StatusNotFound || !strings.Contains(a.text, "There is no page") {
		t.Errorf("a page that is none: %d", a.status)
	}
	if a := b.get("/console/havips/nothing"); a.status != http.StatusNotFound {
		t.Errorf("a HAVIP that is none: %d", a.status)
	}
}

// What the pages say is what the cluster is.
func TestPagesTell(t *testing.T) {
	l := newLab(t)
	id := l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100"), Range: fsm.Range{Type: fsm.RangeCVM, Members: []string{"node-1", "node-2"}}})
	l.apply(nil, fsm.CreateHAVIP{Name: "lonely", IP: netip.MustParseAddr("10.77.0.101"), Range: fsm.Range{Limit: true}}, "")
	b := l.login("watcher", fsm.RightViewer)
	for _, row := range []struct{ path, has string }{
		{"/", "1 not bound"},
		{"/", "HAVIP lonely has no owner"},
		{"/", "432 ms"},
		{"/", "havip-cluster"},
		{"/havips", "2"},
		{"/havips?state=UNBIND", "lonely"},
		{"/havips/" + id, "node-1/eth"},
		{"/havips/" + id, "instances node-1, node-2"},
		{"/havips/" + id, "Explain"},
		{"/havips/new", "10.77.0.2 – 10.77.0.254"},
		{"/havips/new", "10.77.0.0 (network), 10.77.0.1 (first host), 10.77.0.255 (broadcast)"},
		{"/havips/new", "10.77.0.100 (HAVIP web)"},
		{"/plan?n-node-1=down", "Left without an owner"},
		{"/cluster", "a host loss then takes about 500 to 800 ms"},
		{"/nodes/node-1", "432 ms of 500"},
		{"/events", "havip-created"},
		{"/audit", "Who"},
	} {
		if a := b.get("/console" + row.path); !strings.Contains(plainText(a.text), row.has) {
			t.Errorf("%s does not say %q:\n%s", row.path, row.has, plainText(a.text))
		}
	}
	if a := b.get("/console/havips?state=UNBIND"); strings.Contains(a.text, ">web<") {
		t.Error("the filter lets through what has an owner")
	}
}

// Nobody sees a page, or changes anything, without a session.
func TestNobody(t *testing.T) {
	l := newLab(t)
	id := l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100")})
	b := &browser{lab: l, source: "192.0.2.7"}
	for _, path := range append(allPages, "/live", "/havips/"+id) {
		if a := b.get("/console" + path); a.status != http.StatusSeeOther || !atLogin(a.location) || strings.Contains(a.text, "<main") {
			t.Errorf("%s for nobody: %d to %q", path, a.status, a.location)
		}
	}
	before := l.now().Index
	for _, path := range []string{"/havips/new", "/havips/" + id + "/delete", "/nodes/node-1/standby", "/cluster", "/tokens", "/keys/rotate"} {
		if a := b.post("/console"+path, url.Values{"sure": {"yes"}, "name": {"x"}}); a.status != http.StatusSeeOther || !atLogin(a.location) {
			t.Errorf("POST %s for nobody: %d to %q", path, a.status, a.location)
		}
	}
	if l.now().Index != before {
		t.Error("something was changed for nobody")
	}
	if a := b.ask(http.MethodGet, "/console/", nil, "HX-Request", "true"); a.status != http.StatusNoContent || a.header.Get("HX-Redirect") != "/console/login" {
		t.Errorf("a script without a session: %d %v", a.status, a.header)
	}
}

// atLogin reports whether an address is the login of this console, with whatever goes with it.
func atLogin(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Host == "" && u.Scheme == "" && u.Path == "/console/login"
}
