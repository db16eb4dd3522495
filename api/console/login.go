package console

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"havip-cluster/api"
)

// tokenMax is the most bytes of a token that is tried.
const tokenMax = 1024

// backMax is the most bytes of an address to which a login leads back.
const backMax = 200

// OneTime gives an address below the console's host that opens it once, within a minute. It is for a
// console whose API has a credential by itself.
func (c *Console) OneTime() string { return c.Base + "/open?once=" + c.once.make(time.Now()) }

// session is that of the request's cookie.
func (c *Console) session(r *http.Request) (session, bool) {
	secret := c.secret(r)
	if secret == "" {
		return session{}, false
	}
	return c.sessions.of(secret, time.Now())
}

// secret is the value of a request's cookie, "" without one.
func (c *Console) secret(r *http.Request) string {
	k, err := r.Cookie(c.cookieName())
	if err != nil {
		return ""
	}
	return k.Value
}

// end ends the session of a request.
func (c *Console) end(w http.ResponseWriter, r *http.Request) {
	c.sessions.end(c.secret(r))
	http.SetCookie(w, c.cookie(""))
}

// toLogin sends who has no session where he gets one. A script that asks again is told, not sent.
func (c *Console) toLogin(w http.ResponseWriter, r *http.Request) {
	q := url.Values{}
	back := cleanPath(r)
	script := r.Header.Get("HX-Request") == "true"
	if script { // it asks for a part of a page
		back = c.pageOf(r.Header.Get("HX-Current-URL"))
	}
	switch {
	case r.Method != http.MethodGet:
		q.Set("did", "ended")
	case back != "/" && !strings.HasPrefix(back, "/live") && len(back) <= backMax:
		q.Set("back", back)
	}
	to := c.Base + "/login"
	if len(q) > 0 {
		to += "?" + q.Encode()
	}
	if script {
		w.Header().Set("HX-Redirect", to)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// pageOf is the page of this console at an address, below Base; "/" for any other.
func (c *Console) pageOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "/"
	}
	path, ok := strings.CutPrefix(u.EscapedPath(), c.Base)
	if !ok || !strings.HasPrefix(path, "/") {
		return "/"
	}
	q := u.Query()
	q.Del("did")
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path
}

func (c *Console) showLogin(w http.ResponseWriter, r *http.Request) {
	if _, ok := c.session(r); ok {
		http.Redirect(w, r, c.Base+"/", http.StatusSeeOther)
		return
	}
	c.renderLogin(w, r, nil)
}

func (c *Console) renderLogin(w http.ResponseWriter, r *http.Request, p *api.Problem) {
	status := http.StatusOK
	if p != nil {
		status = p.Status
	}
	v := &visit{asker: &asker{}, r: r, base: c.Base}
	c.render(w, v, &page{Title: "Log in", Name: "login", Status: status, Problem: p, Form: true, Data: r.FormValue("back")})
}

// login asks the API whether a token is one. The API counts those that are not, by the address of who
// tries, and after ten at once takes one every 6 s: here and in its own door together.
func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, formMax)
	token := strings.TrimSpace(r.PostFormValue("token"))
	if c.Own || token == "" || len(token) > tokenMax || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		c.renderLogin(w, r, problemf(http.StatusBadRequest, "That is no token. `havip-cluster token create NAME --role viewer` makes one."))
		return
	}
	var self api.Self
	if err := (&asker{api: c.API, token: token}).whoami(r.Context(), &self); err != nil {
		p, _ := errors.AsType[*api.Problem](err)
		if p == nil {
			p = asProblem(err)
		}
		if p.Status == http.StatusUnauthorized {
			p = &api.Problem{Status: http.StatusForbidden, Code: p.Code, Detail: p.Detail} // 401 would make a browser ask for a password
		}
		c.renderLogin(w, r, p)
		return
	}
	c.Log.Info("console: login", "principal", self.Principal, "source", hostOf(r.RemoteAddr))
	http.SetCookie(w, c.cookie(c.sessions.open(token, self.Principal, time.Now())))
	back := r.PostFormValue("back") // below Base whatever is in it, so that nobody is led elsewhere
	if !strings.HasPrefix(back, "/") || strings.ContainsAny(back, "\\\r\n") {
		back = "/"
	}
	http.Redirect(w, r, c.Base+"/"+strings.TrimLeft(back, "/"), http.StatusSeeOther)
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	c.end(w, r)
	http.Redirect(w, r, c.Base+"/login", http.StatusSeeOther)
}

// open takes an address that was given by OneTime.
func (c *Console) open(w http.ResponseWriter, r *http.Request) {
	if !c.Own || !c.once.take(r.URL.Query().Get("once"), time.Now()) {
		c.renderLogin(w, r, problemf(http.StatusForbidden, "This address was used already, or is older than a minute. The command line gives another one."))
		return
	}
	http.SetCookie(w, c.cookie(c.sessions.open("", "", time.Now())))
	// Not a redirect: the cookie is SameSite=Strict, and a browser that came here from elsewhere would not send
	// it on the next step of the same navigation.
	v := &visit{asker: &asker{}, r: r, base: c.Base}
	c.render(w, v, &page{Title: "Open", Name: "opened", Form: true})
}
