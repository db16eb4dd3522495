package console

import (
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
)

// ownBrowser opens a console of the command line's kind.
func ownBrowser(t *testing.T, c *Console) *ownLab {
	t.Helper()
	b := &ownLab{t: t, c: c}
	if a := b.get(c.OneTime()); a.status != http.StatusOK || b.cookie == nil {
		t.Fatalf("the one-time address: %d", a.status)
	}
	return b
}

// ownLab is a browser at a console without TLS.
type ownLab struct {
	t      *testing.T
	c      *Console
	cookie *http.Cookie
}

func (b *ownLab) get(path string, more ...string) answer {
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:8080"+path, nil)
	for i := 0; i+1 < len(more); i += 2 {
		r.Header.Set(more[i], more[i+1])
	}
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	w := httptest.NewRecorder()
	b.c.ServeHTTP(w, r)
	for _, k := range w.Result().Cookies() {
		b.cookie = k
	}
	return answer{w.Code, w.Header(), w.Body.String(), w.Header().Get("Location")}
}

// A change that does not come from a page of ours is refused, whatever cookie it has.
func TestChangesFromElsewhere(t *testing.T) {
	l := newLab(t)
	id := l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100")})
	b := l.login("boss", fsm.RightAdmin)
	for _, row := range []struct {
		name   string
		header []string
		may    bool
	}{
		{"another site", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"another site without an Origin", []string{"Sec-Fetch-Site", "cross-site", "Origin", ""}, false},
		{"another port of the same host", []string{"Sec-Fetch-Site", "same-site"}, false},
		{"typed", []string{"Sec-Fetch-Site", "none"}, false},
		{"a foreign Origin", []string{"Origin", "https://evil.example"}, false},
		{"our name without TLS", []string{"Origin", "http://node-1:7400"}, false},
		{"Origin null", []string{"Origin", "null"}, false},
		{"an older browser elsewhere", []string{"Sec-Fetch-Site", "", "Origin", "https://evil.example"}, false},
		{"nothing at all", []string{"Sec-Fetch-Site", "", "Origin", ""}, false},
		{"an older browser here", []string{"Sec-Fetch-Site", ""}, true},
		{"a browser that sends no Origin", []string{"Origin", ""}, true},
	} {
		l.apply(nil, fsm.UpdateHAVIP{ID: id, Change: enabled(true)}, "")
		a := b.ask(http.MethodPost, "/console/havips/"+id+"/disable", nil, row.header...)
		if done := l.now().HAVIPs[id].Disabled; done != row.may || !row.may && a.status != http.StatusForbidden {
			t.Errorf("%s: %d, done %t", row.name, a.status, done)
		}
	}
	// Neither does it log somebody in as somebody else.
	b.cookie = ""
	if a := b.ask(http.MethodPost, "/console/login", url.Values{"token": {l.token("t", fsm.RightViewer, "")}}, "Sec-Fetch-Site", "cross-site"); a.status != http.StatusForbidden || b.cookie != "" {
		t.Errorf("a login from elsewhere: %d", a.status)
	}
}

func enabled(on bool) fsm.Change { return fsm.Change{Enabled: &on} }

// Whatever is in names and texts, it is text.
func TestHostileText(t *testing.T) {
	l := newLab(t)
	evil := `<img src=x onerror=alert(1)>"'` + "`" + `{{.}}</title>`
	id := l.havip(fsm.CreateHAVIP{Name: evil, IP: netip.MustParseAddr("10.77.0.100"), Spec: fsm.Spec{Description: `</textarea><script>alert(2)</script>" hx-get="/x`}})
	b := l.login("boss", fsm.RightAdmin)
	looked := 0
	for _, path := range append(allPages, "/havips?search="+url.QueryEscape(evil), "/events?kind="+url.QueryEscape(evil), "/failovers?havip="+url.QueryEscape(evil), "/havips/"+id, "/havips/"+id+"/edit", "/havips/"+id+"/move",
		"/havips/"+id+"/delete", "/havips/new?name="+url.QueryEscape(evil)+"&vpc="+url.QueryEscape(evil)+"&ip="+url.QueryEscape(evil), "/havips/"+url.PathEscape(evil), "/nodes/"+url.PathEscape(evil), "/x"+url.PathEscape(evil), "/keys/rotate?what="+url.QueryEscape(evil), "/havips?did="+url.QueryEscape(evil)) {
		a := b.get("/console" + path)
		looked++
		for _, bad := range []string{"<img", "<script>", "</textarea><script", `" hx-get="/x`, "onerror=alert(1)>\"", "</title>`"} {
			if strings.Contains(a.text, bad) {
				t.Errorf("%s: %q is in the page as it is", path, bad)
			}
		}
		if n := strings.Count(a.text, "</title>"); n != 1 {
			t.Errorf("%s has %d titles", path, n)
		}
	}
	if looked < 25 || !strings.Contains(b.get("/console/havips").text, "&lt;img src=x onerror") {
		t.Error("the names were not shown at all")
	}
}

// The login: what is no token is refused, and who tries often waits, at both doors together.
func TestLogin(t *testing.T) {
	l := newLab(t)
	token := l.token("anna", fsm.RightViewer, "")
	b := &browser{lab: l, source: "192.0.2.66"}
	for _, text := range []string{"", "hello", "a b", strings.Repeat("x", 5000), "havip1.AAAA"} {
		if a := b.post("/console/login", url.Values{"token": {text}}); a.status != http.StatusBadRequest && a.status != http.StatusForbidden || b.cookie != "" || strings.Contains(a.header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("token %.20q: %d", text, a.status)
		}
	}
	wrong := token[:len(token)-4] + "AAAA"
	status := 0
	for range 12 {
		status = b.post("/console/login", url.Values{"token": {wrong}}).status
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("after twelve wrong tokens: %d", status)
	}
	if a := b.post("/console/login", url.Values{"token": {token}}); a.status != http.StatusTooManyRequests || b.cookie != "" {
		t.Errorf("the right one at once: %d", a.status)
	}
	b.source = "192.0.2.67"
	a := b.post("/console/login", url.Values{"token": {token}})
	k := a.header.Get("Set-Cookie")
	for _, part := range []string{"__Host-havip-console=", "HttpOnly", "Secure", "SameSite=Strict", "Path=/;"} {
		if !strings.Contains(k, part) {
			t.Errorf("the cookie %q has no %s", k, part)
		}
	}
	if strings.Contains(k, token) || a.location != "/console/" || strings.Contains(b.get("/console/").text, token) {
		t.Error("the token is in the cookie or in a page")
	}
	if a := b.get("/console/login"); a.location != "/console/" {
		t.Errorf("the login of who is logged in: %d", a.status)
	}
	old := b.cookie
	b.post("/console/logout", nil)
	b.cookie = old
	if a := b.get("/console/"); a.location != "/console/login" {
		t.Errorf("the cookie is good after the logout: %d", a.status)
	}
}

// Sessions end, and there are only so many.
func TestSessions(t *testing.T) {
	var s sessions
	now := time.Now()
	first := s.open("t", "p", now)
	if _, ok := s.of(first, now.Add(sessionIdle-time.Second)); !ok {
		t.Error("it ended before its time")
	}
	if _, ok := s.of(first, now.Add(2*sessionIdle-2*time.Second)); !ok {
		t.Error("what is used is not idle")
	}
	if _, ok := s.of(first, now.Add(3*sessionIdle)); ok {
		t.Error("it is good after an hour without use")
	}
	busy := s.open("t", "p", now)
	for at := now; at.Before(now.Add(sessionLife)); at = at.Add(sessionIdle / 2) {
		s.of(busy, at)
	}
	if _, ok := s.of(busy, now.Add(sessionLife)); ok {
		t.Error("it is good after eight hours")
	}
	for i := range 3 * sessionsMax {
		s.open(string(rune('a'+i%20))+"x", "p", now)
	}
	if n := len(s.all); n > sessionsMax {
		t.Errorf("%d sessions", n)
	}
	s = sessions{}
	for range 2 * sessionsOwner {
		s.open("one", "p", now)
	}
	if n := len(s.all); n != sessionsOwner {
		t.Errorf("%d sessions of one token", n)
	}
	for k := range s.all {
		if k == sha256.Sum256(nil) {
			t.Error("a session without a secret")
		}
	}
}

// An address opens the console once, for a minute; another Host header, or another path, opens nothing.
func TestOneTimeAddress(t *testing.T) {
	var o onces
	now := time.Now()
	late := o.make(now)
	if o.take(late, now.Add(onceLife+time.Second)) {
		t.Error("it is good after a minute")
	}
	c := New(Config{Base: "/secret", Own: true, Host: "127.0.0.1:8080", API: roundTrip(func(*http.Request) (*http.Response, error) { return nil, http.ErrServerClosed })})
	address := c.OneTime()
	b := ownBrowser(t, c)
	if b.cookie.Path != "/secret" || b.cookie.SameSite != http.SameSiteStrictMode || !b.cookie.HttpOnly {
		t.Errorf("the cookie is %+v", b.cookie)
	}
	used := c.OneTime()
	b.cookie = nil
	b.get(used)
	b.cookie = nil
	if a := b.get(used); a.status != http.StatusForbidden || b.cookie != nil {
		t.Errorf("the address opens twice: %d", a.status)
	}
	if a := b.get("/"); a.status != http.StatusNotFound {
		t.Errorf("outside its path: %d", a.status)
	}
	r := httptest.NewRequest(http.MethodGet, "http://rebound.example"+address, nil)
	w := httptest.NewRecorder()
	if c.ServeHTTP(w, r); w.Code != http.StatusMisdirectedRequest {
		t.Errorf("another Host: %d", w.Code)
	}
	if a := b.get("/secret/login"); !strings.Contains(a.text, "havip-cluster console") || strings.Contains(a.text, "<form") {
		t.Errorf("its login asks for a token: %s", plainText(a.text))
	}
}
