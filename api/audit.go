package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
)

// Outcomes of an audited request.
const (
	OutcomeDone    = "done"
	OutcomeRefused = "refused"
)

// AuditEntry is one request on record: who wanted what, from where, and what became of it.
type AuditEntry struct {
	At        time.Time `json:"at"`
	Principal string    `json:"principal" doc:"root@NODE, node:NAME, token:NAME, join:NAME, or nobody"`
	Role      string    `json:"role,omitempty"`
	Source    string    `json:"source,omitempty" doc:"Absent: the local socket"`
	Request   string    `json:"request" doc:"Name of the operation, as the OpenAPI document has it"`
	Object    string    `json:"object,omitempty" doc:"Name or id"`
	Key       string    `json:"key,omitempty" doc:"Idempotency-Key"`
	Outcome   string    `json:"outcome" enum:"done,refused"`
	Index     uint64    `json:"index,omitempty" doc:"Of what was done"`
	Code      string    `json:"code,omitempty" doc:"Of what was refused"`
	Detail    string    `json:"detail,omitempty"`
	Times     int       `json:"times,omitempty" doc:"How often the same was refused to the same caller within a minute"`
}

const (
	refusalsPerMinute = 120         // new entries; more are counted only
	refusalRepeat     = time.Minute // the same one within this is counted, not written again
	detailMax         = 300         // bytes
	problemMax        = 4 << 10     // bytes of an answer that are read back
)

// refusals is what this node has refused: bounded, in memory, and never in the log, because
// who may change nothing must not fill it.
type refusals struct {
	mu     sync.Mutex
	ring   []AuditEntry
	window time.Time
	fresh  int // entries of this window
	lost   int // that found no place in it
}

// add puts a refusal on record. It reports whether it is new, and so worth a line in the log.
func (f *refusals) add(e AuditEntry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.At.Sub(f.window) >= time.Minute {
		f.window, f.fresh = e.At, 0
	}
	for i := len(f.ring) - 1; i >= 0 && e.At.Sub(f.ring[i].At) < refusalRepeat; i-- {
		o := &f.ring[i]
		if o.Principal == e.Principal && o.Source == e.Source && o.Request == e.Request && o.Code == e.Code {
			o.Times++
			return false
		}
	}
	if f.fresh++; f.fresh > refusalsPerMinute {
		f.lost++
		return false
	}
	e.Times = 1
	if len(f.ring) >= limits.Refusals {
		f.ring = slices.Delete(f.ring, 0, 1)
	}
	f.ring = append(f.ring, e)
	return true
}

// list returns a copy, oldest first.
func (f *refusals) list() []AuditEntry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ring)
}

// seen is what the gates find out about a request, for the record.
type seen struct {
	caller    fsm.Caller
	forwarded bool
}

type seenKey struct{}

func seenOf(ctx context.Context) *seen {
	if s, ok := ctx.Value(seenKey{}).(*seen); ok {
		return s
	}
	return &seen{}
}

// record puts every request that was refused on record: of reads those that had no right.
func (s *Server) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isConsole(r) {
			next.ServeHTTP(w, r) // what it asks for comes here by itself, with its user
			return
		}
		what := &seen{caller: fsm.Caller{Principal: "nobody"}}
		rw := &refusalWriter{ResponseWriter: w}
		next.ServeHTTP(rw, r.WithContext(context.WithValue(r.Context(), seenKey{}, what)))
		right := rw.status == http.StatusUnauthorized || rw.status == http.StatusForbidden
		change := r.Method != http.MethodGet && r.Method != http.MethodHead
		if what.forwarded || rw.status < http.StatusBadRequest || rw.status >= http.StatusInternalServerError || !right && !change {
			return
		}
		if right {
			s.denied.Inc()
		}
		p := decodeProblem(rw.status, rw.body.Bytes())
		c := what.caller
		e := AuditEntry{
			At: time.Now().UTC(), Principal: c.Principal, Role: string(c.Right), Source: c.Source, Request: c.Request, Object: objectOf(r),
			Key: short(r.Header.Get(headerKey)), Outcome: OutcomeRefused, Code: p.Code, Detail: short(p.Detail),
		}
		if s.refusals.add(e) && right {
			s.Log.Warn("a request was refused", "principal", e.Principal, "source", cmp.Or(e.Source, "local"), "request", e.Request, "code", e.Code)
		}
	})
}

// objectOf is what a request is about, as its path says.
func objectOf(r *http.Request) string {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/"), "/")
	if len(parts) < 2 {
		return ""
	}
	return short(parts[1])
}

func short(text string) string {
	if len(text) > detailMax {
		text = strings.ToValidUTF8(text[:detailMax], "")
	}
	return text
}

// refusalWriter keeps the beginning of an answer that is a problem.
type refusalWriter struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (w *refusalWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *refusalWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if w.status >= http.StatusBadRequest {
		if room := problemMax - w.body.Len(); room > 0 {
			w.body.Write(b[:min(room, len(b))])
		}
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *refusalWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type auditQuery struct {
	Consistency
	Since  string `query:"since" doc:"Only those after this time, such as 2026-11-29T01:00:00Z"`
	Follow bool   `query:"follow" doc:"Server-sent events, without end; so does Accept: text/event-stream"`
}

func (s *Server) auditRoutes() {
	read(s, "/v1/audit", "list-audit", "Who changed what, oldest first, with what was refused; as a stream with follow", func(st *fsm.State, in *auditQuery) ([]AuditEntry, error) {
		since, refusal := auditSince(in.Since)
		if refusal != nil {
			return nil, refusal
		}
		return s.audited(st, since), nil
	})
}

// auditSince reads the time after which somebody wants to know.
func auditSince(text string) (time.Time, *Problem) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, problem(http.StatusBadRequest, string(fsm.CodeMalformed), "since %q is not a time such as 2026-11-29T01:00:00Z", short(text))
	}
	return t, nil
}

// audited is what a state and this node remember, in the order of time.
func (s *Server) audited(st *fsm.State, since time.Time) []AuditEntry {
	out := []AuditEntry{}
	for _, a := range st.Audit {
		if e := auditView(st, a); e.At.After(since) {
			out = append(out, e)
		}
	}
	for _, e := range s.refusals.list() {
		if e.At.After(since) {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b AuditEntry) int { return a.At.Compare(b.At) })
	return out
}

func auditView(st *fsm.State, a fsm.Audited) AuditEntry {
	object := a.Object
	if v, ok := st.HAVIPs[object]; ok {
		object = v.Name
	} else {
		object = st.NodeName(object)
	}
	return AuditEntry{
		At: wall(a.At), Principal: a.Caller.Principal, Role: string(a.Caller.Right), Source: a.Caller.Source,
		Request: cmp.Or(a.Caller.Request, a.Kind), Object: object, Key: a.Key, Outcome: OutcomeDone, Index: a.Index,
	}
}

// followAudit streams what is put on record here: what the cluster accepted, and what this node
// refused. It ends as follow does.
func (s *Server) followAudit(w http.ResponseWriter, r *http.Request) {
	since, refusal := auditSince(r.URL.Query().Get("since"))
	if refusal != nil {
		writeProblem(w, refusal)
		return
	}
	told := map[string]int{} // what was sent, by its identity: how often it had happened
	s.stream(w, r, followPoll, func(st *fsm.State) (string, error) {
		var b strings.Builder
		now := map[string]int{}
		for _, e := range s.audited(st, since) {
			id := fmt.Sprint(e.Index, e.At.UnixNano(), e.Principal, e.Request, e.Code)
			if now[id] = e.Times; told[id] == e.Times {
				if _, known := told[id]; known {
					continue
				}
			}
			text, err := json.Marshal(e)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", e.Outcome, text)
		}
		told = now
		return b.String(), nil
	})
}

// operationNames are the names of the operations, by route; hidden ones have none.
func operationNames(doc *huma.OpenAPI) map[string]string {
	out := map[string]string{}
	for path, item := range doc.Paths {
		for method, op := range map[string]*huma.Operation{
			http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
		} {
			if op != nil {
				out[method+" "+path] = op.OperationID
			}
		}
	}
	return out
}
