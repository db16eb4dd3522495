package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"havip-cluster/fsm"
)

// FuzzBodies: whatever body a client sends to an operation, it is done or refused with a
// problem that has a code, never an internal error.
func FuzzBodies(f *testing.F) {
	operations := []string{
		"POST /v1/havips", "PATCH /v1/havips/web", "POST /v1/havips/web/move", "POST /v1/havips/web/range", "POST /v1/havips/web/bans",
		"PATCH /v1/nodes/node-2", "POST /v1/subnets", "PATCH /v1/enis/node-1%2Feth0", "PATCH /v1/cluster", "POST /v1/tokens",
		"POST /v1/internal/commands",
	}
	bodies := []string{
		webBody, `{"priority":5,"prefer":{"node-1":10}}`, `{"to":"node-2"}`, `{"type":"cvm","add":["node-1","node-2"]}`, `{"add":["node-1"],"for_ms":9223372036854775807}`,
		`{"standby":true}`, `{"name":"s2","cidr":"10.78.0.0/24","gateway":"10.78.0.1","reserved":["10.78.0.9"]}`, `{"primary":false}`,
		`{"lease_ms":9223372036854775807}`, `{"node":"node-3","ttl_ms":-1}`, `{"kind":"report-enis","body":{"node":"n-1"}}`,
		"", "null", "[]", `{"name":"\ud800"}`, `{"name":"a","ip":"10.77.0.9","prefer":{"":1}}`, `{"name":"a","ip":"::ffff:10.77.0.9"}`, `{"cidr":"0.0.0.0/0","name":"x"}`,
	}
	for i := range operations {
		f.Add(byte(i), bodies[i])
	}
	for i, b := range bodies {
		f.Add(byte(i), b)
	}
	w := newWorld(f)
	handler := w.servers[0].Handler()
	f.Fuzz(func(t *testing.T, operation byte, body string) {
		w.log.mu.Lock()
		w.log.state = fsm.New() // small again: each input is on its own
		w.log.mu.Unlock()
		w.fill(t)
		w.log.apply(t, fsm.CreateHAVIP{Name: "web"}, "")
		method, path, _ := strings.Cut(operations[int(operation)%len(operations)], " ")
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r = r.WithContext(context.WithValue(r.Context(), peerKey{}, peer{local: true}))
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		if answer.Code >= http.StatusInternalServerError {
			t.Errorf("%s %s %q: %d %s", method, path, body, answer.Code, answer.Body)
		}
		if p := decodeProblem(answer.Code, answer.Body.Bytes()); p != nil && (p.Code == "" || p.Code == CodeInternal) {
			t.Errorf("%s %s %q: no code in %s", method, path, body, answer.Body)
		}
	})
}

// FuzzProblem: whatever an agent or something that is none answers, an error has a code and
// a text that fits on a screen.
func FuzzProblem(f *testing.F) {
	f.Add(400, []byte(`{"code":"ResourceNotFound","detail":"x","status":404}`))
	f.Add(502, []byte("<html>"))
	f.Add(500, []byte(`{"code":""}`))
	f.Add(200, []byte(`{}`))
	f.Add(999, []byte("null"))
	f.Add(404, []byte(strings.Repeat("x", 1<<16)))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		p := decodeProblem(status, body)
		switch {
		case (p == nil) != (status < http.StatusBadRequest):
			t.Errorf("status %d became %v", status, p)
		case p != nil && (p.Code == "" || p.Status != status || p.Error() == ""):
			t.Errorf("status %d, %q became %+v", status, body, p)
		}
	})
}
