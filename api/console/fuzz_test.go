package console

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzStranger: whatever somebody without a session sends, he gets the login, a public file or a refusal: no page,
// no word to the API but for a token that he shows, and nothing panics.
func FuzzStranger(f *testing.F) {
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /console/ HTTP/1.1\r\nHost: a\r\nHX-Request: true\r\n\r\n", "GET /console/static/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /console/static/console.css?v=1 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /console/open?once=AAAA HTTP/1.1\r\nHost: a\r\n\r\n", "GET /console/live?since=18446744073709551616 HTTP/1.1\r\nHost: a\r\nCookie: __Host-havip-console=\"\r\n\r\n",
		"POST /console/login HTTP/1.1\r\nHost: a\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\ntoken=abc",
		"POST /console/havips/x/delete HTTP/1.1\r\nHost: a\r\nOrigin: https://a\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 3\r\n\r\n--x",
		"GET /console/havips/%2e%2e/%00 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, own bool) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return
		}
		r.TLS, r.RemoteAddr = &tls.ConnectionState{}, "192.0.2.1:1"
		c := New(Config{Base: "/console", Own: own, API: roundTrip(func(q *http.Request) (*http.Response, error) {
			if own || q.URL.Path != "/v1/self" || !strings.HasPrefix(q.Header.Get("Authorization"), "Bearer ") || r.URL.Path != "/console/login" {
				t.Errorf("%q asks the API for %s", text, q.URL.Path)
			}
			return nil, errors.New("refused")
		})})
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		body := w.Body.String()
		if w.Code >= http.StatusInternalServerError && w.Code != http.StatusServiceUnavailable || strings.Contains(body, "aria-label=\"Pages\"") {
			t.Errorf("%q is answered with %d %.200q", text, w.Code, body)
		}
		if w.Code == http.StatusSeeOther && !atLogin(w.Header().Get("Location")) {
			t.Errorf("%q is sent to %q", text, w.Header().Get("Location"))
		}
		for _, k := range w.Result().Cookies() {
			if k.Value != "" {
				t.Errorf("%q gets a session", text)
			}
		}
	})
}
