package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"havip-cluster/fsm"
)

// need is who may use a route.
type need string

const (
	needNothing  need = "anybody"             // no credential at all
	needViewer   need = need(fsm.RightViewer) // reads
	needOperator need = need(fsm.RightOperator)
	needAdmin    need = need(fsm.RightAdmin)
	needNode     need = "node"  // a member's own certificate, of its own life
	needLocal    need = "local" // the local socket
)

// rule is what a route takes.
type rule struct {
	need need
	// own: the root and the certificate of a node may use it for that very node.
	own bool
	// more says when it takes more than need, which the body decides (fsm.Permits).
	more string
}

// rules are all routes with who may use them. A route that is not here is refused to
// everybody, and a test names it. docs/security.md shows the same table.
var rules = map[string]rule{
	"GET /healthz":      {need: needNothing},
	"GET /readyz":       {need: needNothing},
	"POST /v1/join":     {need: needNothing, more: "the join token is the right"},
	"GET /console/":     {need: needNothing, more: "a page to log in; every other page takes a token, and may what it may"},
	"POST /console/":    {need: needNothing, more: "as above, and from its own pages alone"},
	"GET /v1/self":      {need: needViewer},
	"GET /openapi.json": {need: needViewer},
	"GET /metrics":      {need: needViewer},

	"GET /debug/pprof/": {need: needLocal},
	"GET /debug/log":    {need: needLocal},

	"POST /v1/internal/commands":     {need: needNode},
	"GET /v1/internal/readindex":     {need: needNode},
	"POST /v1/internal/certificates": {need: needNode},

	"POST /v1/internal/keys/renew":      {need: needNode},
	"GET /v1/internal/keys/gossip/{id}": {need: needNode},
	"GET /v1/internal/keys/ca/{id}":     {need: needNode},

	"GET /v1/keys":         {need: needViewer},
	"POST /v1/keys/rotate": {need: needAdmin},

	"GET /v1/internal/calibration": {need: needNode},
	"GET /v1/calibration":          {need: needViewer},

	"GET /v1/status":                {need: needViewer},
	"GET /v1/cluster":               {need: needViewer},
	"PATCH /v1/cluster":             {need: needOperator, more: "maintenance alone; everything else: admin"},
	"GET /v1/events":                {need: needViewer},
	"GET /v1/failovers":             {need: needViewer},
	"GET /v1/audit":                 {need: needViewer},
	"GET /v1/webhooks":              {need: needViewer},
	"POST /v1/webhooks":             {need: needAdmin},
	"DELETE /v1/webhooks/{name}":    {need: needAdmin},
	"POST /v1/webhooks/{name}/test": {need: needAdmin},

	"GET /v1/access-tokens":           {need: needViewer},
	"POST /v1/access-tokens":          {need: needAdmin},
	"DELETE /v1/access-tokens/{name}": {need: needAdmin},

	"GET /v1/nodes":                  {need: needViewer},
	"GET /v1/nodes/{name}":           {need: needViewer},
	"PATCH /v1/nodes/{name}":         {need: needOperator, own: true, more: "standby and maintenance; capacity, score and health: admin"},
	"DELETE /v1/nodes/{name}":        {need: needAdmin},
	"GET /v1/nodes/{name}/drain":     {need: needViewer},
	"POST /v1/nodes/{name}/drain":    {need: needOperator, own: true},
	"POST /v1/nodes/{name}/activate": {need: needOperator, own: true},
	"POST /v1/tokens":                {need: needAdmin},

	"GET /v1/subnets":           {need: needViewer},
	"GET /v1/subnets/{name}":    {need: needViewer},
	"POST /v1/subnets":          {need: needAdmin},
	"DELETE /v1/subnets/{name}": {need: needAdmin},
	"GET /v1/enis":              {need: needViewer},
	"GET /v1/enis/{id}":         {need: needViewer},
	"PATCH /v1/enis/{id}":       {need: needAdmin},

	"GET /v1/havips":               {need: needViewer},
	"POST /v1/havips":              {need: needAdmin},
	"GET /v1/havips/{id}":          {need: needViewer},
	"PATCH /v1/havips/{id}":        {need: needOperator, more: "enabled and maintenance; everything else: admin"},
	"DELETE /v1/havips/{id}":       {need: needAdmin},
	"GET /v1/havips/{id}/explain":  {need: needViewer},
	"POST /v1/havips/{id}/move":    {need: needOperator},
	"POST /v1/havips/{id}/enable":  {need: needOperator},
	"POST /v1/havips/{id}/disable": {need: needOperator},
	"POST /v1/havips/{id}/range":   {need: needAdmin},
	"POST /v1/havips/{id}/bans":    {need: needAdmin},
	"POST /v1/havips/{id}/eip":     {need: needAdmin},
	"DELETE /v1/havips/{id}/eip":   {need: needAdmin},
	"GET /v1/placement":            {need: needViewer},
	"DELETE /v1/failures":          {need: needAdmin},

	"GET /v1/groups":           {need: needViewer},
	"GET /v1/groups/{name}":    {need: needViewer},
	"POST /v1/groups":          {need: needAdmin},
	"DELETE /v1/groups/{name}": {need: needAdmin},

	"GET /v1/checks":           {need: needViewer},
	"GET /v1/checks/{name}":    {need: needViewer},
	"POST /v1/checks":          {need: needAdmin},
	"PATCH /v1/checks/{name}":  {need: needAdmin},
	"DELETE /v1/checks/{name}": {need: needAdmin},
	"GET /v1/check-results":    {need: needViewer},

	"GET /v1/provider":       {need: needViewer},
	"POST /v1/provider/test": {need: needOperator},
	"POST /v1/provider/sync": {need: needAdmin},
	"GET /v1/observed":       {need: needViewer},
	"GET /v1/observed/{id}":  {need: needViewer},

	"GET /v1/export":                       {need: needViewer},
	"GET /v1/snapshot":                     {need: needViewer},
	"GET /v1/snapshots":                    {need: needViewer},
	"POST /v1/plan":                        {need: needViewer},
	"POST /v1/apply":                       {need: needAdmin},
	"GET /v1/revisions":                    {need: needViewer},
	"POST /v1/revisions/{number}/rollback": {need: needAdmin},
}

// routeMux is a ServeMux that remembers what was registered.
type routeMux struct {
	*http.ServeMux
	patterns []string
}

// HandleFunc implements humago.Mux.
func (m *routeMux) HandleFunc(pattern string, f func(http.ResponseWriter, *http.Request)) {
	m.Handle(pattern, http.HandlerFunc(f))
}

// Handle registers a route.
func (m *routeMux) Handle(pattern string, h http.Handler) {
	m.patterns = append(m.patterns, pattern)
	m.ServeMux.Handle(pattern, h)
}

// pattern is the route of a request, "/" where there is none.
func (s *Server) pattern(r *http.Request) string {
	_, pattern := s.mux.Handler(r)
	if method, path, _ := strings.Cut(pattern, " "); method == http.MethodGet && r.Method == http.MethodHead {
		return http.MethodGet + " " + path
	}
	return pattern
}

// openTo reports whether a request needs no credential at all: a joining node has none yet, and
// probes never do.
func (s *Server) openTo(r *http.Request) bool { return rules[s.pattern(r)].need == needNothing }

// permit refuses a caller that may not use a route. Changes are asked about again, with what
// is in them, where they are proposed.
func permit(pattern string, p peer, w fsm.Caller) *Problem {
	if pattern == "/" {
		return nil // there is no such endpoint, and the answer says so
	}
	r, known := rules[pattern]
	if !known {
		return problem(http.StatusForbidden, string(fsm.CodeDenied), "nobody may use %s: it has no rule", pattern)
	}
	ok := false
	switch r.need {
	case needNothing:
		ok = true
	case needNode:
		ok = p.node != "" && w.Credential == ""
	case needLocal:
		ok = p.local
	default:
		ok = w.Right.Covers(fsm.Right(r.need)) || r.own && w.Node != ""
	}
	if ok {
		return nil
	}
	have := "no role"
	if w.Right != "" {
		have = "role " + string(w.Right)
	}
	takes := "role " + string(r.need)
	switch r.need {
	case needNode:
		takes = "a member's own certificate"
	case needLocal:
		takes = "the local socket of this node"
	}
	return problem(http.StatusForbidden, string(fsm.CodeDenied), "%s may not do this: it takes %s, and it has %s", w.Principal, takes, have)
}

// Doors is the table of all routes and who may use them, as docs/security.md has it.
func Doors() string {
	var b strings.Builder
	b.WriteString("| route | who | |\n|---|---|---|\n")
	byPath := func(x, y string) int {
		mx, px, _ := strings.Cut(x, " ")
		my, py, _ := strings.Cut(y, " ")
		return strings.Compare(px+" "+mx, py+" "+my)
	}
	for _, pattern := range slices.SortedFunc(maps.Keys(rules), byPath) {
		r := rules[pattern]
		more := r.more
		if r.own {
			more = strings.TrimSuffix("a node's root and certificate for that node; "+more, "; ")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", pattern, r.need, more)
	}
	return b.String()
}
