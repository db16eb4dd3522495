package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"havip-cluster/api"
	"havip-cluster/fsm"
	"havip-cluster/manifest"
	"havip-cluster/membership/identity"
)

// scripted is an agent whose answers to one method and path come one after another; the
// last one stays.
type scripted struct {
	mu      sync.Mutex
	answers map[string][]any
	asked   []string
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := r.Method + " " + r.URL.Path
	s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI())
	list := s.answers[path]
	if len(list) == 0 {
		list = []any{api.Problem{Status: 404, Code: "ResourceNotFound", Detail: "nothing at " + path}}
	}
	if len(list) > 1 {
		s.answers[path] = list[1:]
	}
	if p, ok := list[0].(api.Problem); ok {
		w.WriteHeader(p.Status)
	}
	_ = json.NewEncoder(w).Encode(list[0])
}

func (s *scripted) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(append(args, "--data-dir", s.serve(t)), &out, &errs)
	return code, out.String(), errs.String()
}

// serve answers on the socket of a data directory until the test ends.
func (s *scripted) serve(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	l, err := api.ListenLocal(identity.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: s}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return dir
}

// TestDrain follows drains to each of their ends.
func TestDrain(t *testing.T) {
	on := func(node string) api.Placement {
		return api.Placement{ID: "havip-1", Name: "web", Node: &node}
	}
	nobody := api.Placement{ID: "havip-1", Name: "web", Reason: "no ENI is eligible"}
	havips := []api.HAVIP{{Placement: on("node-1")}}
	goes := api.DrainLeft{HAVIP: "web", To: ptr("node-2/eth0"), Reason: "node node-2 owns fewer"}
	stays := api.DrainLeft{HAVIP: "web", Reason: "no ENI is eligible: node-2/eth0: it is banned"}
	d := func(running bool, result string, left ...api.DrainLeft) api.Drain {
		return api.Drain{Node: "node-1", Draining: true, Running: running, Result: result, Total: 1, Left: append([]api.DrainLeft{}, left...)}
	}
	never := api.Problem{Status: 404, Code: "ResourceNotFound", Detail: "node node-1 was never drained"}
	rows := []struct {
		name         string
		shows, began []any
		place        api.Placement
		code         int
		says, warns  string
	}{
		{"done", []any{never, d(true, "", goes), d(false, fsm.DrainDone)}, []any{d(true, "", goes)}, on("node-2"), 0, "node node-1: done, 1 of 1 moved", "1 of 1 left, next is HAVIP web to node-2/eth0"},
		{"nothing to move", []any{never, d(false, fsm.DrainDone)}, []any{d(true, "")}, on("node-2"), 0, "node node-1: done", "1 HAVIP to move"},
		{"the last has left and is not released", []any{never, d(true, ""), d(true, ""), d(false, fsm.DrainDone)}, []any{d(true, "", goes)}, on("node-2"), 0, "node node-1: done, 1 of 1 moved", ""},
		{"never released", []any{never, d(true, "")}, []any{d(true, "", goes)}, on("node-2"), 1, "node node-1: stuck, 1 of 1 moved", "has not released its last HAVIP yet"},
		{"stuck", []any{never, d(true, "", stays)}, []any{d(true, "", stays)}, on("node-1"), 1, "HAVIP web: no ENI is eligible: node-2/eth0: it is banned", "nobody else can own HAVIP web"},
		{"deadline", []any{never, d(false, fsm.DrainDeadline, goes)}, []any{d(true, "", goes)}, on("node-1"), 1, "node node-1: deadline, 0 of 1 moved", "the deadline passed with 1 of 1 HAVIPs left"},
		{"activated", []any{never, d(false, fsm.DrainCancelled, goes)}, []any{d(true, "", goes)}, on("node-1"), 1, "cancelled", "ended by `node activate`"},
		{"owner lost meanwhile", []any{never, d(false, fsm.DrainDone)}, []any{d(true, "", goes)}, nobody, 1, "HAVIP web: it has no owner", "nobody else can own"},
		{"runs already", []any{d(true, "", goes), d(false, fsm.DrainDone)}, nil, on("node-2"), 0, "1 of 1 moved", ""},
		{"refused", []any{never}, []any{api.Problem{Status: 409, Code: "UnsupportedOperation", Detail: "node node-1 is being removed"}}, on("node-1"), 1, "", "[UnsupportedOperation]"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := &scripted{answers: map[string][]any{
				"GET /v1/havips": {havips}, "GET /v1/nodes/node-1/drain": row.shows, "POST /v1/nodes/node-1/drain": row.began, "GET /v1/placement": {[]api.Placement{row.place}},
			}}
			code, stdout, stderr := s.run(t, "node", "drain", "node-1")
			if code != row.code || !strings.Contains(stdout, row.says) || !strings.Contains(stderr, row.warns) {
				t.Errorf("%d\n%s\n%s", code, stdout, stderr)
			}
		})
	}
}

// TestApplyConflict: another change between the diff and the change begins it again, as
// long as nobody named a revision.
func TestApplyConflict(t *testing.T) {
	dry := func(revision uint64) api.Applied {
		return api.Applied{DryRun: true, Changed: true, Revision: revision, Warnings: []string{}, Changes: []manifest.Change{{Kind: "havip", Name: "web", Op: "change", Field: "priority", Old: "0", New: "7"}}}
	}
	conflict := api.Problem{Status: 409, Code: string(fsm.CodeConflict), Detail: "the configuration is at revision 8, not 7"}
	done := api.Applied{Changed: true, Revision: 9, Warnings: []string{}, Changes: []manifest.Change{}}
	s := &scripted{answers: map[string][]any{"POST /v1/apply": {dry(7), conflict, dry(8), done}}}
	code, stdout, stderr := s.run(t, "apply", "-f", "testdata/web.yaml")
	if code != 0 || stdout != "revision 9: 0 created, 1 changed, 0 deleted, 1 unchanged\n" || !strings.Contains(stderr, "~ havip web priority: 0 -> 7") || !strings.Contains(stderr, "beginning again") {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	if got := s.asked[3]; !strings.Contains(got, "expected=8") || strings.Contains(got, "dry_run") {
		t.Errorf("asked %q", s.asked)
	}
	s = &scripted{answers: map[string][]any{"POST /v1/apply": {dry(7), conflict}}}
	if code, _, stderr := s.run(t, "apply", "-f", "testdata/web.yaml", "--expect", "7"); code != 1 || len(s.asked) != 2 || !strings.Contains(stderr, "[UnsupportedOperation.RevisionConflict]") {
		t.Errorf("with --expect: %d %q %q", code, stderr, s.asked)
	}
	s = &scripted{answers: map[string][]any{"POST /v1/apply": {dry(7), conflict, dry(7), conflict, dry(7), conflict, dry(7), conflict, dry(7), conflict, dry(7)}}}
	if code, _, _ := s.run(t, "apply", "-f", "testdata/web.yaml"); code != 1 || len(s.asked) != 2*applyAttempts {
		t.Errorf("a conflict without end: %d after %d requests", code, len(s.asked))
	}
	same := api.Applied{DryRun: true, Revision: 7, Warnings: []string{"odd"}, Changes: []manifest.Change{}}
	s = &scripted{answers: map[string][]any{"POST /v1/apply": {same}}}
	if code, stdout, stderr := s.run(t, "apply", "-f", "testdata/web.yaml"); code != 0 || stdout != "revision 7: nothing to change\n" || len(s.asked) != 1 {
		t.Errorf("nothing to change: %d %q %q %q", code, stdout, stderr, s.asked)
	}
}
