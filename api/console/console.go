// Package console is the product's pages for a browser: what operators of a cloud do in its
// console of HAVIPs is done here, and what such a console has not, explain, plan and the
// timelines of failovers, is looked at here.
//
// It is a client of the API and nothing more: it holds no state of the cluster, decides nothing, and
// may what the credential of its user may.
package console

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"havip-cluster/internal/plain"
)

// Config is what a Console is made of.
type Config struct {
	// API carries requests to the API. Mounted on the API port it is InProcess, which shows the token of
	// who logged in; on a port of its own it is the caller's client, with the caller's credential.
	API http.RoundTripper
	// Base is the path of all pages, without a slash at its end.
	Base string
	// Own says that API has a credential by itself. There is no login then: an address of OneTime opens it.
	Own bool
	// Host is the only Host header that is answered, "" = any. A console on loopback names its own, because
	// a page elsewhere may give its own name the address 127.0.0.1.
	Host string
	Log  *slog.Logger // nil = silent
}

// Console serves the pages. It starts nothing and needs no end.
type Console struct {
	Config
	mux      *http.ServeMux
	sessions sessions
	once     onces
	forms    []string // patterns of the changes, as they were registered
}

// New makes a Console.
func New(c Config) *Console {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	k := &Console{Config: c, mux: http.NewServeMux()}
	k.routes()
	return k
}

// Forms are the paths, below Base, to which forms of its pages are sent, as patterns of net/http without their method.
func (c *Console) Forms() []string { return append([]string{"/login", "/logout"}, c.forms...) }

// Mount gives what api.Config.Console wants: the console of the API that serves it.
func Mount(log *slog.Logger) func(http.Handler) http.Handler {
	return func(api http.Handler) http.Handler {
		if log == nil {
			log = slog.New(slog.DiscardHandler)
		}
		return New(Config{API: inProcess{api, log}, Base: "/console", Log: log})
	}
}

// routes are all pages. What changes something is a POST.
func (c *Console) routes() {
	c.mux.HandleFunc("GET /static/{name}", serveAsset)
	c.mux.HandleFunc("GET /login", c.showLogin)
	c.mux.HandleFunc("POST /login", c.login)
	c.mux.HandleFunc("POST /logout", c.logout)
	c.mux.HandleFunc("GET /open", c.open)
	c.mux.HandleFunc("GET /live", c.live)
	c.page("/{$}", overview)
	c.havipPages()
	c.nodePages()
	c.networkPages()
	c.policyPages()
	c.accessPages()
	c.page("/failovers", failoversPage)
	c.page("/plan", planPage)
	c.page("/events", eventsPage)
	c.page("/audit", auditPage)
	c.page("/cloud", cloudPage)
	c.page("/cloud/sync", syncPage)
	c.change("/cloud/sync", carrySync)
	c.change("/cloud/test", testCloud)
	c.page("/cluster", clusterPage)
	c.change("/cluster", changeCluster)
	c.page("/", notFound)
}

// sourceKey is the context key of the address that a request came from.
type sourceKey struct{}

// ServeHTTP serves the pages below Base.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	headers(w.Header())
	if c.Host != "" && r.Host != c.Host {
		http.Error(w, "this console answers at "+c.Host+" alone", http.StatusMisdirectedRequest)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if why := foreign(r); why != "" {
			c.Log.Warn("console: a change came from elsewhere", "source", r.RemoteAddr, "path", clip(r.URL.Path), "why", why)
			http.Error(w, "Refused: "+why+". Changes are made from the console's own pages.", http.StatusForbidden)
			return
		}
	}
	r = r.WithContext(context.WithValue(r.Context(), sourceKey{}, r.RemoteAddr))
	http.StripPrefix(c.Base, c.mux).ServeHTTP(w, r)
}

// headers are those of every answer. Pages say more: see policy.
func headers(h http.Header) {
	h.Set("Content-Security-Policy", policy(""))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin") // no-referrer would make the Origin of our own forms null
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
}

// policy is the Content-Security-Policy of a page with a nonce: nothing runs or styles that the page did
// not name, nothing is loaded from elsewhere, and nobody frames it.
func policy(nonce string) string {
	if nonce == "" {
		return "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	}
	return "default-src 'none'; script-src 'nonce-" + nonce + "'; style-src 'nonce-" + nonce + "'; img-src 'self'; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types htmx"
}

// foreign says why a change does not come from a page of this console, "" if it does. Browsers send
// Sec-Fetch-Site; older ones the Origin. What sends neither is no browser, and has the API.
func foreign(r *http.Request) string {
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "same-origin":
	case "":
		if r.Header.Get("Origin") == "" {
			return "the request names no origin"
		}
	default:
		return "the request comes from another site (" + clip(site) + ")"
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return ""
	}
	u, err := url.Parse(origin)
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	if err != nil || u.Scheme != scheme || u.Host != r.Host {
		return "the request comes from another origin (" + clip(origin) + ")"
	}
	return ""
}

// clipBytes bounds what of a caller's text comes into a log line or a sentence.
const clipBytes = 100

func clip(text string) string { return plain.Clip(text, clipBytes) }

// hostOf is the address of a caller without its port.
func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// cookieName is that of the session. With TLS the browser itself sees to it that only this host, over
// TLS, has set it (RFC 6265bis, section 4.1.3.2).
func (c *Console) cookieName() string {
	if c.Own {
		return "havip-console"
	}
	return "__Host-havip-console"
}

// cookie is that of a session; an empty value ends it.
func (c *Console) cookie(value string) *http.Cookie {
	k := &http.Cookie{Name: c.cookieName(), Value: value, Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode, MaxAge: int(sessionLife / time.Second)}
	if c.Own {
		// On loopback ports share their cookies; a path that nobody else knows keeps ours apart.
		k.Path, k.Secure = cmp.Or(c.Base, "/"), false
	}
	if value == "" {
		k.MaxAge = -1
	}
	return k
}
