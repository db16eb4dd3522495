package browsertest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"havip-cluster/api/console"
)

// pressedFile names each form that a browser sends in this run and that is carried out. `make check`, which has no
// browser, holds it against the forms that the console has.
const pressedFile = "pressed.txt"

// pressed is what all browsers of this run have sent.
var pressed = newPresses()

// presses are the forms that pages offered, and those that were sent and carried out. A form is the pattern of its path
// and, where several share one, the value of its field "form".
type presses struct {
	routes *http.ServeMux
	mu     sync.Mutex
	open   map[network.RequestID]string
	done   map[string]bool
	shown  map[string]bool
	astray []string
}

func newPresses() *presses {
	p := &presses{routes: http.NewServeMux(), open: map[network.RequestID]string{}, done: map[string]bool{}, shown: map[string]bool{}}
	for _, pattern := range console.New(console.Config{}).Forms() {
		p.routes.Handle("POST "+pattern, http.NotFoundHandler())
	}
	return p
}

// form is the name of what is sent to an address.
func (p *presses) form(address, kind string) (string, bool) {
	u, err := url.Parse(address)
	if err != nil {
		return "", false
	}
	path, ours := strings.CutPrefix(u.EscapedPath(), "/console")
	at, err := url.Parse(path)
	if !ours || err != nil {
		return "", false
	}
	_, pattern := p.routes.Handler(&http.Request{Method: http.MethodPost, URL: at})
	if pattern == "" {
		return path, false
	}
	name := strings.TrimPrefix(pattern, "POST ")
	if kind != "" {
		name += " form=" + kind
	}
	return name, true
}

// sent takes note of a form that is sent, and of one that was answered with another place to go.
func (p *presses) sent(e *network.EventRequestWillBeSent) {
	if e.RedirectResponse != nil {
		p.answered(e.RequestID, e.RedirectResponse.Status)
	}
	if e.Request.Method != http.MethodPost {
		return
	}
	var body strings.Builder
	for _, part := range e.Request.PostDataEntries {
		text, err := base64.StdEncoding.DecodeString(part.Bytes)
		if err == nil {
			body.Write(text)
		}
	}
	fields, _ := url.ParseQuery(body.String()) // what cannot be read has no field
	p.mu.Lock()
	defer p.mu.Unlock()
	if name, ok := p.form(e.Request.URL, fields.Get("form")); ok {
		p.open[e.RequestID] = name
	}
}

// answered takes note of the answer to a form.
func (p *presses) answered(id network.RequestID, status int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if name, ok := p.open[id]; ok {
		delete(p.open, id)
		p.done[name] = p.done[name] || status < http.StatusBadRequest
	}
}

// offers takes note of the forms of the page that is open.
func (w *browser) offers() {
	w.t.Helper()
	var forms [][2]string
	w.do(chromedp.Evaluate(`[...document.forms].filter(f => f.method === "post").map(f => [f.action, (f.querySelector("input[name=form]") || {}).value || ""])`, &forms))
	pressed.mu.Lock()
	defer pressed.mu.Unlock()
	for _, f := range forms {
		if name, ok := pressed.form(f[0], f[1]); ok {
			pressed.shown[name] = true
		} else {
			pressed.astray = append(pressed.astray, f[0])
		}
	}
}

// faults says which forms were not pressed, which lead nowhere, and whether the file says so. HAVIP_UPDATE=1 writes it.
func (p *presses) faults() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, name := range p.astray {
		out = append(out, "a page offers a form that leads nowhere: "+name)
	}
	for _, name := range slices.Sorted(maps.Keys(p.shown)) {
		if !p.done[name] {
			out = append(out, "no browser test presses "+name+", or it was refused each time")
		}
	}
	maps.DeleteFunc(p.done, func(_ string, carried bool) bool { return !carried })
	text := strings.Join(slices.Sorted(maps.Keys(p.done)), "\n") + "\n"
	if os.Getenv("HAVIP_UPDATE") != "" {
		if err := os.WriteFile(pressedFile, []byte(text), 0o644); err != nil {
			out = append(out, err.Error())
		}
		return out
	}
	had, err := os.ReadFile(pressedFile)
	if err != nil || string(had) != text {
		out = append(out, fmt.Sprintf("%s is not what was pressed (HAVIP_UPDATE=1 writes it): %v\n%s", pressedFile, err, text))
	}
	return out
}
