package browsertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"havip-cluster/api"
)

// key is the cookie of a session in this browser.
type key string

const cookieName = "__Host-havip-console"

// key is that of the session that the browser has.
func (w *browser) key() (out key) {
	w.t.Helper()
	w.do(chromedp.ActionFunc(func(ctx context.Context) error {
		all, err := network.GetCookies().Do(ctx)
		for _, c := range all {
			if c.Name == cookieName {
				out = key(c.Value)
			}
		}
		if err == nil && out == "" {
			err = errors.New("this browser has no session")
		}
		return err
	}))
	return out
}

// as gives the browser the session of somebody else, as when he logs in on another page of it. What is open stays open.
func (w *browser) as(k key) {
	w.t.Helper()
	w.do(network.SetCookie(cookieName, string(k)).WithURL("https://node-1:7400/").WithSecure(true).WithHTTPOnly(true).WithSameSite(network.CookieSameSiteStrict).WithPath("/"))
}

// another logs somebody else in and gives both sessions.
func (w *browser) another(token string) (mine, other key) {
	w.t.Helper()
	mine = w.key()
	w.do(network.ClearBrowserCookies())
	w.login(1, token)
	other = w.key()
	w.as(mine)
	return mine, other
}

// taking is a change that takes something away, or tries something out.
type taking struct {
	page, action string
	sure         bool // behind a confirmation that has to be opened
	says         string
	gone         func() bool // asked through the API
}

// taken has a viewer try it: his page does not offer it, and what he sends from a page that somebody else left open
// is refused. Then it is done.
func (w *browser) taken(admin, viewer key, what taking) {
	w.t.Helper()
	button := fmt.Sprintf(`form[action$=%q] button`, what.action)
	visible := fmt.Sprintf(`String([...document.querySelectorAll(%q)].some(b => b.checkVisibility()))`, button)
	offered := fmt.Sprintf(`String(!!document.querySelector(%q))`, button)
	confirm := func() {
		if what.sure {
			w.is(visible, "false")
			w.do(chromedp.Click(fmt.Sprintf(`form[action$=%q] summary`, what.action), chromedp.ByQuery))
		}
		w.is(visible, "true")
	}
	w.as(viewer)
	w.at(1, what.page)
	w.is(offered, "false")
	w.as(admin)
	// With scripts the page would ask for itself again, as the viewer, and offer him nothing.
	w.do(chromedp.Navigate("about:blank"), emulation.SetScriptExecutionDisabled(true))
	w.at(1, what.page)
	confirm()
	w.as(viewer)
	w.do(chromedp.Click(button, chromedp.ByQuery), chromedp.WaitVisible(".note.bad", chromedp.ByQuery))
	w.says("h1", "Refused")
	w.says(".note.bad", "UnauthorizedOperation")
	w.do(emulation.SetScriptExecutionDisabled(false))
	if what.gone() {
		w.t.Fatalf("a viewer did %s", what.action)
	}
	w.as(admin)
	w.at(1, what.page)
	confirm()
	w.press(what.action, what.says)
	for end := time.Now().Add(actionTime); !what.gone(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%s was said to be done, and was not", what.action)
		}
	}
}

// takenAway ends what was created, as an operator who knows what he does, and as one who may not.
func takenAway(w *browser) {
	admin, viewer := w.another(w.token("watcher-bob", "viewer"))
	defer w.as(admin)
	absent := func(name string, list ...string) func() bool {
		return func() bool {
			var all []struct {
				Name string `json:"name"`
			}
			w.ask(1, &all, list...)
			for _, one := range all {
				if one.Name == name {
					return false
				}
			}
			return true
		}
	}
	w.taken(admin, viewer, taking{"/groups", "/groups/fronts/delete", true, "deleted", absent("fronts", "group", "list")})
	w.taken(admin, viewer, taking{"/checks", "/checks/self/delete", true, "deleted", absent("self", "check", "list")})
	w.taken(admin, viewer, taking{"/subnets", "/subnets/lab/delete", true, "deleted", absent("lab", "subnet", "list")})

	// A subnet in which HAVIPs are stays, and the page says why.
	var subnets []api.Subnet
	w.ask(1, &subnets, "subnet", "list")
	for _, s := range subnets {
		if s.HAVIPs > 0 {
			w.at(1, "/subnets")
			action := "/subnets/" + s.Name + "/delete"
			w.do(chromedp.Click(fmt.Sprintf(`form[action$=%q] summary`, action), chromedp.ByQuery), chromedp.Click(fmt.Sprintf(`form[action$=%q] button`, action), chromedp.ByQuery), chromedp.WaitVisible(".note.bad", chromedp.ByQuery))
			w.says(".note.bad", s.Name)
			if absent(s.Name, "subnet", "list")() {
				w.t.Errorf("subnet %s was deleted with HAVIPs in it", s.Name)
			}
		}
	}
	w.testedWebhook(admin, viewer)
	w.forgotten(admin, viewer)
	for _, name := range []string{"inside", "wall"} {
		w.at(1, "/webhooks")
		w.do(chromedp.Click(fmt.Sprintf(`form[action$="/webhooks/%s/delete"] summary`, name), chromedp.ByQuery))
		w.press("/webhooks/"+name+"/delete", "deleted")
	}
	for _, text := range w.faults(refusedTaking) {
		w.t.Error(text)
	}
}

// refusedTaking is what Chromium logs of what is refused above: to a viewer, of a subnet in use, of a receiver inside.
func refusedTaking(text string) bool {
	return strings.Contains(text, "status of 403") || strings.Contains(text, "status of 409") || strings.Contains(text, "status of 502")
}

// leave logs out: what is open then asks for the token.
func leave(w *browser) {
	w.at(1, "/havips")
	w.do(chromedp.Click(`form[action$="/logout"] button`, chromedp.ByQuery), chromedp.WaitVisible("#token", chromedp.ByQuery))
	w.at(1, "/havips")
	w.do(chromedp.WaitVisible("#token", chromedp.ByQuery))
}

// testedWebhook sends a test message. A receiver on the leader's own host is none that a webhook may reach, and the page
// says what lets it in; one that takes the message is told once.
func (w *browser) testedWebhook(admin, viewer key) {
	w.t.Helper()
	var took atomic.Int64
	var l net.Listener
	w.must(w.lab.Client().Do(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(w.lab.Client().IP(0).String(), "18099"))
		return err
	}))
	s := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil && bytes.Contains(body, []byte(`"kind":"test"`)) {
			took.Add(1)
		}
	})}
	w.t.Cleanup(func() { _ = s.Close() })
	go func() { _ = s.Serve(l) }()

	create := func(name, url string) {
		w.as(admin)
		w.at(1, "/webhooks")
		w.do(chromedp.SendKeys("#name", name, chromedp.ByQuery), chromedp.SendKeys("#url", url, chromedp.ByQuery))
		w.press("/webhooks", "created")
	}
	create("inside", "http://127.0.0.1:18099/")
	w.do(chromedp.Click(`form[action$="/webhooks/inside/test"] button`, chromedp.ByQuery), chromedp.WaitVisible(".note.bad", chromedp.ByQuery))
	w.says(".note.bad", "FailedOperation.Webhook", "it is this host itself", "webhook_allow")
	create("wall", "http://"+l.Addr().String()+"/")
	w.taken(admin, viewer, taking{"/webhooks", "/webhooks/wall/test", false, "took the test message", func() bool { return took.Load() > 0 }})
	if n := took.Load(); n != 1 {
		w.t.Errorf("one press sent %d messages", n)
	}
}

// forgotten has a HAVIP fail on its only node, because a station outside the cluster has its address, and has the
// failure forgotten once that station is gone: it is bound at once, long before its pause is over.
func (w *browser) forgotten(admin, viewer key) {
	w.t.Helper()
	address := w.lab.Address(135).String()
	of := func() (v api.HAVIP) { w.ask(1, &v, "havip", "show", "luckless"); return v }
	w.cli(1, "havip", "create", "luckless", "--ip", address, "--range", "cvm:node-2", "--disabled")
	w.station("add", address)
	w.cli(1, "havip", "enable", "luckless")
	w.at(1, "/havips/luckless")
	w.eventually("#region", "node-2: 1 of")
	w.station("del", address)
	if v := of(); len(v.Fails) == 0 {
		w.t.Fatalf("it has no failures: %+v", v)
	}
	w.taken(admin, viewer, taking{"/havips/luckless", "/failures", false, "forgotten", func() bool { return len(of().Fails) == 0 }})
	w.eventually(".title .pill", "Bound")
}

// station gives the client of the lab, which is no member, an address, or takes it from it.
func (w *browser) station(verb, address string) {
	w.t.Helper()
	h := w.lab.Client()
	cmd := h.Command("ip", "address", verb, address+"/32", "dev", h.Device(0))
	w.must(h.Start(cmd))
	w.must(cmd.Wait())
}
