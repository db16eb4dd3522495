package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"path"
	"slices"
	"sync"
)

// What browsers load: nothing of it comes from elsewhere. htmx is 4.0.1 (0BSD, static/LICENSE.htmx), with its
// parts for server-sent events and for a Content-Security-Policy.
//
//go:embed static/*.js static/*.css static/*.svg
var staticFiles embed.FS

//go:embed templates/*.html
var templateFiles embed.FS

// asset is a file with its hash, so that a browser may keep it for good.
type asset struct {
	body []byte
	kind string
	hash string
}

var assets = sync.OnceValue(func() map[string]asset {
	kinds := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
	out := map[string]asset{}
	entries, err := staticFiles.ReadDir("static")
	if err != nil {
		panic("console: " + err.Error())
	}
	add := func(name string, body []byte) {
		sum := sha256.Sum256(body)
		out[name] = asset{body, kinds[path.Ext(name)], hex.EncodeToString(sum[:6])}
	}
	var together []byte
	for _, part := range htmxParts {
		together = append(append(together, read(part)...), ";\n"...)
	}
	add(htmxName, together)
	for _, e := range entries {
		if !slices.Contains(htmxParts, e.Name()) {
			add(e.Name(), read(e.Name()))
		}
	}
	return out
})

func read(name string) []byte {
	body, err := staticFiles.ReadFile("static/" + name)
	if err != nil {
		panic("console: " + err.Error())
	}
	return body
}

// htmxName is htmx with its parts, as one script. Loaded one after the other they are a race: htmx sets out by a timer,
// which may run before a deferred script that is still on its way (HTML standard, "the end" of parsing, step 5). What
// a part then takes no notice of it never does: a page without its stream, elements whose nonce nobody looks at.
const htmxName = "htmx-4.0.1.js"

var htmxParts = []string{"htmx-4.0.1.min.js", "hx-csp-4.0.1.min.js", "hx-sse-4.0.1.min.js"}

// assetPath is the address of a file below Base.
func assetPath(name string) string { return "/static/" + name + "?v=" + assets()[name].hash }

// serveAsset serves a file to anybody: it is the same for all, and public.
func serveAsset(w http.ResponseWriter, r *http.Request) {
	a, ok := assets()[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	if r.URL.Query().Get("v") == a.hash {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_, _ = w.Write(a.body)
}

// Both are made when the first page is asked for: most runs of this program, each command line among them,
// ask for none.

// pages are the templates by the name of a page: the same layout with another content.
var pages = sync.OnceValue(func() map[string]*template.Template {
	all := template.Must(template.New("").Funcs(functions).ParseFS(templateFiles, "templates/*.html"))
	out := map[string]*template.Template{}
	for _, name := range pageNames {
		one := template.Must(all.Clone())
		out[name] = template.Must(one.Parse(`{{define "content"}}{{template "` + name + `" .}}{{end}}`))
	}
	return out
})

// pageNames are the pages that there are.
var pageNames = []string{
	"failed", "login", "opened", "overview", "havips", "havip", "havip-new", "havip-edit", "havip-move", "havip-delete", "nodes", "node", "node-remove", "eni",
	"failovers", "plan", "events", "audit", "cloud", "cloud-sync", "havip-cloud", "subnets", "groups", "checks", "webhooks", "tokens", "token-made", "keys", "keys-sure", "snapshots", "cluster",
}
