package console

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"havip-cluster/fsm"
)

// reachable is, for each route of the API, the page that uses it, or why none does. "POST /x" is a form of a page;
// anything else is a page that is opened.
var reachable = map[string]string{
	"GET /v1/self":                    "/",
	"GET /v1/status":                  "/",
	"GET /v1/nodes":                   "/nodes",
	"GET /v1/nodes/{name}":            "/nodes/node-1",
	"GET /v1/nodes/{name}/drain":      "/nodes/node-1",
	"PATCH /v1/nodes/{name}":          "POST /nodes/{name}/settings",
	"DELETE /v1/nodes/{name}":         "POST /nodes/{name}/remove",
	"POST /v1/nodes/{name}/drain":     "POST /nodes/{name}/drain",
	"POST /v1/nodes/{name}/activate":  "POST /nodes/{name}/activate",
	"GET /v1/enis":                    "/nodes",
	"GET /v1/enis/{id}":               "/enis/node-1%2Feth1",
	"PATCH /v1/enis/{id}":             "POST /enis/{id}",
	"GET /v1/havips":                  "/havips",
	"POST /v1/havips":                 "POST /havips/new",
	"GET /v1/havips/{id}":             "/havips/web",
	"PATCH /v1/havips/{id}":           "POST /havips/{id}/edit",
	"DELETE /v1/havips/{id}":          "POST /havips/{id}/delete",
	"GET /v1/havips/{id}/explain":     "/havips/web",
	"POST /v1/havips/{id}/move":       "POST /havips/{id}/move",
	"POST /v1/havips/{id}/enable":     "POST /havips/{id}/enable",
	"POST /v1/havips/{id}/disable":    "POST /havips/{id}/disable",
	"POST /v1/havips/{id}/eip":        "POST /havips/{id}/eip",
	"DELETE /v1/havips/{id}/eip":      "POST /havips/{id}/eip/unbind",
	"DELETE /v1/failures":             "POST /havips/{id}/failures",
	"GET /v1/failovers":               "/failovers",
	"GET /v1/events":                  "/events",
	"GET /v1/audit":                   "/audit",
	"POST /v1/plan":                   "/plan?n-node-1=down",
	"GET /v1/subnets":                 "/subnets",
	"POST /v1/subnets":                "POST /subnets",
	"DELETE /v1/subnets/{name}":       "POST /subnets/{name}/delete",
	"GET /v1/groups":                  "/groups",
	"POST /v1/groups":                 "POST /groups",
	"DELETE /v1/groups/{name}":        "POST /groups/{name}/delete",
	"GET /v1/checks":                  "/checks",
	"POST /v1/checks":                 "POST /checks",
	"DELETE /v1/checks/{name}":        "POST /checks/{name}/delete",
	"GET /v1/check-results":           "/checks",
	"GET /v1/webhooks":                "/webhooks",
	"POST /v1/webhooks":               "POST /webhooks",
	"DELETE /v1/webhooks/{name}":      "POST /webhooks/{name}/delete",
	"POST /v1/webhooks/{name}/test":   "POST /webhooks/{name}/test",
	"GET /v1/cluster":                 "/cluster",
	"PATCH /v1/cluster":               "POST /cluster",
	"GET /v1/access-tokens":           "/tokens",
	"POST /v1/access-tokens":          "POST /tokens",
	"DELETE /v1/access-tokens/{name}": "POST /tokens/{name}/revoke",
	"GET /v1/keys":                    "/keys",
	"POST /v1/keys/rotate":            "POST /keys/rotate",
	"GET /v1/snapshots":               "/snapshots",
	"GET /v1/provider":                "/cloud",
	"GET /v1/observed":                "none: asked by /cloud once there is a provider",
	"GET /v1/observed/{id}":           "/havips/web/cloud",
	"POST /v1/provider/test":          "POST /cloud/test",
	"POST /v1/provider/sync":          "POST /cloud/sync",

	"GET /v1/subnets/{name}": "none: the list of subnets has all of it",
	"GET /v1/groups/{name}":  "none: the list of groups has all of it",
	"GET /v1/checks/{name}":  "none: the list of checks has all of it",
	"GET /v1/placement":      "none: explain of each HAVIP, and the plan, say the same for people",
	"GET /v1/calibration":    "none: it is looked at while the host is under load, by `calibrate`",

	"POST /v1/havips/{id}/range":           "none: the form that changes a HAVIP sends the whole range",
	"POST /v1/havips/{id}/bans":            "none: a ban ends by a date that a person types; `havip ban`",
	"PATCH /v1/checks/{name}":              "none: a check is deleted and made anew; `check update` changes one in place",
	"POST /v1/tokens":                      "none: a token to join is typed at the new host, where the command line is; `node add`",
	"POST /v1/join":                        "none: the door of a new node",
	"GET /v1/export":                       "none: a configuration is a file, and lives in version control; `export`",
	"POST /v1/apply":                       "none: as export; `apply`",
	"GET /v1/revisions":                    "none: as export; `revisions`",
	"POST /v1/revisions/{number}/rollback": "none: as export; `rollback`",
	"GET /v1/snapshot":                     "none: a file with secrets in it does not go through a browser; `snapshot save`",
}

// Whatever the API can do the console can do too, or the table says why not. Pages that are opened are asked whether
// they really use the route.
func TestEveryRouteHasAPage(t *testing.T) {
	l := newLab(t)
	l.havip(fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100")})
	var doc struct{ Paths map[string]map[string]any }
	b := l.login("boss", fsm.RightAdmin)
	l.must(json.Unmarshal([]byte(l.openAPI()), &doc))
	routes := map[string]bool{}
	for path, methods := range doc.Paths {
		for method := range methods {
			if !strings.HasPrefix(path, "/v1/internal/") { // between nodes
				routes[strings.ToUpper(method)+" "+path] = true
			}
		}
	}
	if len(routes) < 60 {
		t.Fatalf("only %d routes are known", len(routes))
	}
	asked := l.recorded()
	own := New(Config{Base: "/console", API: InProcess(l.handler)})
	for _, route := range slices.Sorted(maps.Keys(routes)) {
		page := reachable[route]
		switch method, path, form := strings.Cut(page, " "); {
		case page == "":
			t.Errorf("no page uses %s: give it one, or say in this table why not", route)
		case strings.HasPrefix(page, "none: "):
		case form && method == http.MethodPost:
			if _, pattern := own.mux.Handler(&http.Request{Method: method, URL: &url.URL{Path: path}}); pattern != page {
				t.Errorf("%s: the console has no form %s (%q answers)", route, page, pattern)
			}
		default:
			asked.clear()
			if a := b.get("/console" + page); a.status != http.StatusOK {
				t.Errorf("%s: page %s: %d", route, page, a.status)
			}
			if !asked.has(route) {
				t.Errorf("page %s does not ask %s; it asks %v", page, route, asked.list())
			}
		}
	}
	for route := range reachable {
		if !routes[route] && route != "POST /v1/join" {
			t.Errorf("the table has %s, which is no route", route)
		}
	}
}

func (l *lab) openAPI() string {
	l.t.Helper()
	b := &browser{lab: l, source: "192.0.2.8"}
	return b.ask(http.MethodGet, "/openapi.json", nil, "Authorization", "Bearer "+l.token("reader", fsm.RightViewer, "")).text
}

// record is what the console asked the API for.
type record struct {
	mu  sync.Mutex
	all []string
}

func (r *record) clear() { r.mu.Lock(); defer r.mu.Unlock(); r.all = nil }
func (r *record) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// has reports whether a route was asked for; a name in its path is any.
func (r *record) has(route string) bool {
	for _, got := range r.list() {
		want, is := strings.Split(route, "/"), strings.Split(got, "/")
		if len(want) == len(is) && slices.EqualFunc(want, is, func(w, g string) bool { return w == g || strings.HasPrefix(w, "{") }) {
			return true
		}
	}
	return false
}

// recorded has what the console asks for written down from now on.
func (l *lab) recorded() *record {
	r := &record{}
	l.heard = func(q *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, q.Method+" "+q.URL.EscapedPath())
	}
	return r
}
