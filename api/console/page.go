package console

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"havip-cluster/api"
)

// visit is one request of somebody who is logged in.
type visit struct {
	*asker
	ctx  context.Context
	r    *http.Request
	base string
	self api.Self
	// key is of the form that was sent, "" on a GET.
	key string
}

// page is what a template shows.
type page struct {
	Title string
	Tab   string // in the navigation
	Name  string // of the template
	Data  any
	// Topics are those whose change makes the page ask for itself again; see topicsOf.
	Topics []string
	// Every is after which time it asks for itself in any case, such as "10s": for what the log does not tell. "" = never.
	Every  string
	Status int // 0 = 200
	// Problem is why what was asked for was not done.
	Problem *api.Problem
	// Form says that the page is one that somebody fills in: it is not replaced under the hands.
	Form bool
	// Typed is the form that was refused: the page shows it as it was filled in, but for secrets.
	Typed url.Values
}

// view is what a template is given.
type view struct {
	*page
	Base, Nonce string
	Path        string // of this page with its query, below Base
	Self        api.Self
	Behind      string
	Index       uint64
	Did         string
	Key         string
	Own         bool
	Now         time.Time
}

// May reports whether the visitor's role is enough for what takes another one. It decides what is
// offered; what is done the API decides.
func (v view) May(role string) bool { return covers(v.Self.Role, role) }

// MayAll is May for what no token of a group may do.
func (v view) MayAll(role string) bool { return v.Self.Group == "" && v.May(role) }

func covers(have, need string) bool {
	rank := map[string]int{"viewer": 1, "operator": 2, "admin": 3}
	return rank[have] >= rank[need]
}

// page registers a page that shows something.
func (c *Console) page(pattern string, show func(*visit) (*page, error)) {
	c.mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
		v, ok := c.visitor(w, r)
		if !ok {
			return
		}
		p, err := show(v)
		if err != nil {
			p = failed(err)
		}
		c.render(w, v, p)
	})
}

// outcome is what became of a change: where to go on, and what to say there. Page is shown instead when
// it was refused, with the form as it was filled in.
type outcome struct {
	To, Did string
	Page    *page
}

// change registers a form's target.
func (c *Console) change(pattern string, do func(*visit) (outcome, error)) {
	c.forms = append(c.forms, pattern)
	c.mux.HandleFunc("POST "+pattern, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, formMax)
		v, ok := c.visitor(w, r)
		if !ok {
			return
		}
		if err := r.ParseForm(); err != nil {
			c.render(w, v, failed(problemf(http.StatusBadRequest, "the form cannot be read: %v", err)))
			return
		}
		v.key = r.PostForm.Get("key")
		out, err := do(v)
		switch {
		case err != nil && out.Page != nil:
			out.Page.Problem, out.Page.Typed = asProblem(err), v.r.PostForm
			out.Page.Status = out.Page.Problem.Status
			c.render(w, v, out.Page)
		case err != nil:
			p := failed(err)
			p.Data = cmp.Or(out.To, "/")
			c.render(w, v, p)
		case out.Page != nil:
			c.render(w, v, out.Page)
		default:
			http.Redirect(w, r, c.Base+withDid(out.To, out.Did), http.StatusSeeOther)
		}
	})
}

// formMax is the most bytes of a form.
const formMax = 64 << 10

// again is a page with its form as it was filled in, for a change that was refused; nil where nothing was refused, or the page
// cannot be shown.
func (v *visit) again(err error, show func(*visit) (*page, error)) *page {
	if err == nil {
		return nil
	}
	p, failed := show(v)
	if failed != nil {
		return nil
	}
	p.Form = true
	return p
}

// withDid adds the name of a sentence to an address.
func withDid(to, did string) string {
	if did == "" {
		return to
	}
	sign := "?"
	if strings.Contains(to, "?") {
		sign = "&"
	}
	return to + sign + "did=" + url.QueryEscape(did)
}

func asProblem(err error) *api.Problem {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return p
	}
	return problemf(http.StatusInternalServerError, "%v", err)
}

// failed is the page of what could not be shown or done.
func failed(err error) *page {
	p := asProblem(err)
	title := "Refused"
	switch {
	case p.Status == http.StatusNotFound:
		title = "Not found"
	case p.Status >= http.StatusInternalServerError:
		title = "It did not work"
	}
	return &page{Title: title, Name: "failed", Status: p.Status, Problem: p, Data: "/"}
}

func notFound(v *visit) (*page, error) {
	return nil, &api.Problem{Status: http.StatusNotFound, Code: api.CodeAction, Detail: "There is no page " + clip(v.r.URL.Path) + "."}
}

// visitor is who asks, or sends him to the login.
func (c *Console) visitor(w http.ResponseWriter, r *http.Request) (*visit, bool) {
	one, ok := c.session(r)
	if !ok {
		c.toLogin(w, r)
		return nil, false
	}
	told, err := strconv.ParseUint(r.Header.Get(askTold), 10, 64)
	if err != nil {
		told = 0
	}
	v := &visit{asker: &asker{api: c.API, token: one.token, told: told}, ctx: r.Context(), r: r, base: c.Base}
	err = v.asker.whoami(r.Context(), &v.self)
	if p, refused := errors.AsType[*api.Problem](err); refused && p.Status == http.StatusUnauthorized {
		c.end(w, r) // it was revoked, or has ended
		c.toLogin(w, r)
		return nil, false
	}
	if err != nil {
		c.render(w, v, failed(err))
		return nil, false
	}
	return v, true
}

// whoami asks who the asker is. It asks nobody but the node, so that it has an answer without a leader.
func (a *asker) whoami(ctx context.Context, into *api.Self) error {
	_, err := a.do(ctx, question{method: http.MethodGet, path: "/v1/self", into: into, wait: staleWait})
	return err
}

// render writes a page, or for a script that asks again only the part of it that changes.
func (c *Console) render(w http.ResponseWriter, v *visit, p *page) {
	nonce := rand.Text()
	out := view{
		page: p, Base: c.Base, Nonce: nonce, Self: v.self, Behind: v.behind, Index: v.index, Did: sentences[v.r.URL.Query().Get("did")],
		Key: rand.Text(), Own: c.Own, Now: time.Now().UTC(), Path: cleanPath(v.r),
	}
	name := "layout"
	if v.r.Header.Get("HX-Request") == "true" && v.r.Method == http.MethodGet {
		name = "region"
	}
	var b bytes.Buffer
	if err := pages()[p.Name].ExecuteTemplate(&b, name, out); err != nil {
		c.Log.Error("console: a page cannot be made", "page", p.Name, "error", err)
		http.Error(w, "The page cannot be made; the agent's log says why.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", policy(nonce))
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(cmp.Or(p.Status, http.StatusOK))
	_, _ = w.Write(b.Bytes()) // the reader has gone if this fails
}

// cleanPath is a page's address without what is said once.
func cleanPath(r *http.Request) string {
	q := r.URL.Query()
	q.Del("did")
	if len(q) == 0 {
		return r.URL.EscapedPath()
	}
	return r.URL.EscapedPath() + "?" + q.Encode()
}

// sentences are what a page says after a change. Their names travel in the address, so nobody can make a page
// say what he likes.
var sentences = map[string]string{
	"created": "It was created.", "changed": "It was changed.", "deleted": "It was deleted.", "ended": "Your session had ended, so nothing was changed. Log in; what you typed is in your browser's page before this one.", "removed": "The node is removed: nobody in the cluster talks to it any more.", "moved": "The move was decided. The page shows it as it is carried out.",
	"enabled": "It is enabled: it gets an owner.", "disabled": "It is disabled: its owner releases it.", "bound": "The EIP was bound.", "unbound": "The EIP was unbound.",
	"standby": "The node is in standby: what it owns goes to others.", "active": "The node is active again.", "drain": "The drain has begun.",
	"maintenance": "Maintenance was changed.", "revoked": "The token is worth nothing any more.", "rotating": "The replacement has begun; it goes on by itself.",
	"answered": "The cloud answered this node's question.", "tested": "The receiver took the test message.", "cleared": "The failures are forgotten.",
}
