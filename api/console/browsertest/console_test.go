package browsertest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// One cluster for all that does not harm it.
func TestConsole(t *testing.T) {
	b := newBed(t)
	for i := range 6 {
		b.cli(1, "havip", "create", fmt.Sprintf("shop-%d", i+1), "--ip", b.lab.Address(byte(100+i)).String(), "--range", "cvm:node-1,node-2,node-3")
	}
	b.cli(1, "check", "create", "agent", "--type", "process", "--target", "havip-cluster")
	w := b.newBrowser()
	admin := b.token("operator-anna", "admin")
	w.login(1, admin)
	for _, part := range []struct {
		name string
		run  func(*browser)
	}{
		{"dialog", dialog}, {"changes", changes}, {"pages", everyPage}, {"narrow", narrowAndDark}, {"late scripts", lateScripts}, {"back", backButton}, {"two browsers", twoBrowsers}, {"cut off", cutOff}, {"taken away", takenAway}, {"no scripts", noScripts}, {"logged out", leave},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			in := *b
			in.t = t
			defer func() { // also when it ended early: this is mostly why
				for _, text := range w.faults(refusedOnPurpose) {
					t.Error(text)
				}
			}()
			part.run(&browser{&in, w.ctx, w.heard})
		}) {
			return
		}
	}
}

// refusedOnPurpose is what Chromium logs of an answer that is an error, which the tests ask for.
func refusedOnPurpose(text string) bool {
	return strings.Contains(text, "Failed to load resource: the server responded with a status of 400") || strings.Contains(text, "status of 404") && strings.Contains(text, "/nothing")
}

// dialog creates a HAVIP as the cloud's console does: name, VPC, subnet, address, range.
func dialog(w *browser) {
	w.at(1, "/havips")
	w.do(chromedp.Click(`a[href$="/havips/new"]`, chromedp.ByQuery), chromedp.WaitVisible("#dialog", chromedp.ByQuery))
	w.do(chromedp.SendKeys("#name", "web", chromedp.ByQuery), chromedp.SendKeys("#description", "the shop's front; ask Anna", chromedp.ByQuery))
	if text := w.text("#region"); !strings.Contains(text, "(first host)") || !strings.Contains(text, "In use") {
		w.t.Errorf("the dialog does not say what is reserved: %s", text)
	}
	w.do(chromedp.Click(`input[value=manual]`, chromedp.ByQuery), chromedp.WaitVisible("#ip", chromedp.ByQuery))
	w.do(chromedp.SendKeys("#ip", w.lab.Address(1).String(), chromedp.ByQuery))
	for _, name := range []string{"node-1", "node-2", "node-3"} {
		w.do(chromedp.Click(fmt.Sprintf(`input[name=cvm][value=%s]`, name), chromedp.ByQuery))
	}
	w.shot("create")
	w.do(chromedp.Click(`button.main`, chromedp.ByQuery), chromedp.WaitVisible(".note.bad", chromedp.ByQuery))
	if text := w.text(".note.bad"); !strings.Contains(text, "InvalidParameterValue.Reserved") && !strings.Contains(text, "reserved") {
		w.t.Errorf("a reserved address: %s", text)
	}
	w.do(chromedp.SetValue("#ip", w.lab.Address(120).String(), chromedp.ByQuery), chromedp.Click(`button.main`, chromedp.ByQuery), chromedp.WaitVisible("#owner-eni", chromedp.ByQuery))
	w.eventually(".title .pill", "Bound")
	w.eventually("#owner-node", "n")
	w.eventually("#live-word", "Live")
}

// press clicks a button of a form by what its form does, and waits for the page that comes.
func (w *browser) press(action, says string) {
	w.t.Helper()
	w.forget()
	w.do(chromedp.Click(fmt.Sprintf(`form[action$=%q] button`, action), chromedp.ByQuery))
	w.eventually(".note.good", says)
}

// forget takes what a page says of the last change off it: it must not be taken for what the next one says.
func (w *browser) forget() {
	w.t.Helper()
	w.do(chromedp.Evaluate(`document.querySelectorAll(".note.good").forEach(n => n.remove())`, nil))
}

// changes does each kind of change by its form.
func changes(w *browser) {
	w.at(1, "/havips/web")
	w.do(chromedp.SendKeys("#eip", "203.0.113.7", chromedp.ByQuery))
	w.press("/eip", "bound")
	w.eventually("#region", "203.0.113.7")
	w.press("/eip/unbind", "unbound")
	w.press("/disable", "disabled")
	w.eventually(".title .pill", "Disabled")
	w.press("/enable", "enabled")
	w.eventually(".title .pill", "Bound")
	from := w.text("#owner-node")
	w.do(chromedp.Click(`a[href$="/move"]`, chromedp.ByQuery), chromedp.WaitVisible("input[name=to]", chromedp.ByQuery))
	w.do(chromedp.Click(`input[name=to]:not([disabled])`, chromedp.ByQuery))
	w.press("/move", "move")
	w.eventually(".title .pill", "Bound")
	w.eventually("#h-failovers + .failover", "→")
	_ = from // it may have gone to the other ENI of the same node

	w.do(chromedp.Click(`a[href$="/edit"]`, chromedp.ByQuery), chromedp.WaitVisible("#priority", chromedp.ByQuery))
	w.do(chromedp.SetValue("#priority", "7", chromedp.ByQuery), chromedp.SetValue("#description", "changed in a browser", chromedp.ByQuery), chromedp.SetValue("#prefer", "node-2=50", chromedp.ByQuery))
	w.press("/edit", "changed")
	w.eventually("#region", "changed in a browser")

	w.at(1, "/groups")
	w.do(chromedp.SendKeys("#name", "fronts", chromedp.ByQuery), chromedp.SendKeys("#havips", "shop-1, shop-2", chromedp.ByQuery))
	w.press("/groups", "created")
	w.at(1, "/subnets")
	w.do(chromedp.SendKeys("#name", "lab", chromedp.ByQuery), chromedp.SendKeys("#cidr", "192.0.2.0/24", chromedp.ByQuery))
	w.press("/subnets", "created")
	w.at(1, "/checks")
	w.do(chromedp.SendKeys("#name", "self", chromedp.ByQuery), chromedp.SetValue("#type", "file", chromedp.ByQuery), chromedp.SendKeys("#target", "/etc/hostname", chromedp.ByQuery), chromedp.SendKeys("#effect", "-5", chromedp.ByQuery))
	w.press("/checks", "created")
	w.at(1, "/webhooks")
	w.do(chromedp.SendKeys("#name", "ops", chromedp.ByQuery), chromedp.SendKeys("#url", "http://127.0.0.1:9/x", chromedp.ByQuery))
	w.press("/webhooks", "created")
	w.do(chromedp.Click(`form[action$="/webhooks/ops/delete"] summary`, chromedp.ByQuery))
	w.press("/webhooks/ops/delete", "deleted")
	w.at(1, "/tokens")
	w.do(chromedp.SendKeys("#name", "for-the-wall", chromedp.ByQuery), chromedp.Click(`form[action$="/tokens"] button`, chromedp.ByQuery), chromedp.WaitVisible("code.secret", chromedp.ByQuery))
	w.at(1, "/tokens")
	w.do(chromedp.Click(`form[action$="/tokens/for-the-wall/revoke"] summary`, chromedp.ByQuery))
	w.press("/tokens/for-the-wall/revoke", "worth nothing")

	w.at(1, "/nodes/node-3")
	w.press("/node-3/standby", "standby")
	w.eventually(".title", "standby")
	w.press("/node-3/activate", "active")
	w.press("/node-3/maintenance", "Maintenance")
	w.press("/node-3/maintenance", "Maintenance")
	w.press("/node-3/drain", "drain")
	w.eventually("#region", "done")
	w.press("/node-3/activate", "active")

	w.at(1, "/nodes/node-3")
	w.do(chromedp.SetValue("#score", "3", chromedp.ByQuery), chromedp.SetValue("#capacity", "70", chromedp.ByQuery))
	w.press("/node-3/settings", "changed")
	w.at(1, "/enis/"+w.eniPath(3, 1))
	w.do(chromedp.Click("input[name=primary]:not(:checked)", chromedp.ByQuery), chromedp.Click("#region form button.main", chromedp.ByQuery))
	w.eventually(".note.good", "changed")
	w.forget()
	w.do(chromedp.Click("input[name=primary]:not(:checked)", chromedp.ByQuery), chromedp.Click("#region form button.main", chromedp.ByQuery))
	w.eventually(".note.good", "changed")

	w.at(1, "/cluster")
	w.do(chromedp.SetValue("#per_eni", "50", chromedp.ByQuery), chromedp.Click(`form:has(input[value=rules]) button`, chromedp.ByQuery), chromedp.WaitVisible(".note.good", chromedp.ByQuery))
	for _, button := range []string{"Begin maintenance", "End maintenance"} {
		w.forget()
		w.do(chromedp.Click(fmt.Sprintf(`//button[.=%q]`, button), chromedp.BySearch))
		w.eventually(".note.good", "changed")
	}
	w.forget()
	w.do(chromedp.SendKeys("#lease", "600ms", chromedp.ByQuery), chromedp.Click(`form:has(input[value=lease]) button`, chromedp.ByQuery))
	w.eventually(".note.good", "changed")
	w.says("#region", "The lease is 600 ms")
	w.at(1, "/keys/rotate?what=gossip")
	w.do(chromedp.Click("input[name=sure]", chromedp.ByQuery))
	w.press("/keys/rotate", "replacement")

	w.at(1, "/havips/shop-6/delete")
	w.do(chromedp.Click("input[name=release]", chromedp.ByQuery), chromedp.Click("input[name=sure]", chromedp.ByQuery))
	w.press("/delete", "deleted")
}

// everyPage looks at each page: axe, weight, and some for the docs.
func everyPage(w *browser) {
	for _, to := range []string{"node-1", "node-2"} { // at least one of them is a move
		_, _ = w.cluster.CLI(1, "havip", "move", "shop-3", "--to", to)
		time.Sleep(time.Second)
	}
	time.Sleep(time.Second)
	shots := map[string]string{
		"/": "overview", "/havips": "havips", "/havips/web": "havip", "/nodes": "nodes", "/failovers": "failovers", "/plan?n-node-1=down&each=yes": "plan", "/cluster": "cluster", "/events": "events",
	}
	for _, path := range []string{
		"/", "/havips", "/havips/new", "/havips/web", "/havips/web/edit", "/havips/web/move", "/havips/web/delete", "/nodes", "/nodes/node-1", "/nodes/node-3/remove", "/enis/" + w.eniPath(2, 1), "/failovers", "/plan", "/plan?n-node-1=down&each=yes", "/events", "/audit",
		"/cluster", "/cloud", "/subnets", "/groups", "/checks", "/webhooks", "/tokens", "/keys", "/keys/rotate?what=ca", "/snapshots", "/nothing",
	} {
		w.weight()
		w.at(1, path)
		w.do(chromedp.WaitReady("#region", chromedp.ByQuery))
		w.axe(path)
		w.t.Logf("%-28s %6.1f KB over the network", path, float64(w.weight())/1024)
		if name := shots[path]; name != "" {
			w.eventually("#live-word", "Live")
			w.shot(name)
		}
	}
	var zone string
	w.at(1, "/events")
	w.do(chromedp.Evaluate(`document.querySelector("time").textContent`, &zone))
	if strings.Contains(zone, "UTC") {
		w.t.Errorf("a date is not in the viewer's zone: %q", zone)
	}
}

// narrowAndDark looks at a telephone at night.
func narrowAndDark(w *browser) {
	dark := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}
	w.do(emulation.SetEmulatedMedia().WithFeatures(dark), emulation.SetDeviceMetricsOverride(390, 844, 1, true))
	for _, path := range []string{"/", "/havips", "/havips/new", "/havips/web", "/havips/web/edit", "/nodes", "/nodes/node-1", "/nodes/node-3/remove", "/enis/" + w.eniPath(2, 1), "/failovers", "/plan?n-node-1=down&each=yes", "/cloud", "/cluster", "/checks", "/events"} {
		w.at(1, path)
		w.axe("dark, narrow " + path)
		var over int
		w.do(chromedp.Evaluate(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &over))
		if over > 1 {
			w.t.Errorf("%s is %d pixels wider than a telephone", path, over)
		}
		if path == "/havips/web" {
			w.shot("narrow")
		}
	}
	w.do(emulation.ClearDeviceMetricsOverride(), chromedp.EmulateViewport(1280, 900))
	for _, path := range []string{"/", "/plan?n-node-1=down", "/cluster", "/havips/new"} {
		w.at(1, path)
		w.axe("dark " + path)
		if path == "/" {
			w.eventually("#live-word", "Live")
			w.shot("dark")
		}
	}
	w.do(emulation.SetEmulatedMedia())
}

// cutOff is a page whose stream never begins: it says so, goes on working, and finds back.
func cutOff(w *browser) {
	w.do(network.SetBlockedURLs([]string{"*/console/live*"}))
	w.at(1, "/havips")
	w.eventually("#live-word", "Cut off for")
	w.cli(1, "havip", "create", "unheard", "--ip", w.lab.Address(130).String(), "--range", "cvm:node-1")
	w.eventually("#region", "unheard") // it looks by itself
	w.eventually("#live-word", "looks again every 8 s")
	w.do(network.SetBlockedURLs([]string{}))
	w.eventually("#live-word", "Live")
	w.faults(nil) // the blocked requests
}

// noScripts works with links and forms alone.
func noScripts(w *browser) {
	w.do(chromedp.Navigate("about:blank")) // scripts that run when they are switched off complain
	w.do(emulation.SetScriptExecutionDisabled(true))
	defer w.do(emulation.SetScriptExecutionDisabled(false))
	w.at(1, "/havips")
	w.do(chromedp.Click(`a[href$="/havips/new"]`, chromedp.ByQuery), chromedp.WaitVisible("#dialog", chromedp.ByQuery))
	w.do(chromedp.SendKeys("#name", "plain", chromedp.ByQuery), chromedp.Click(`input[name=cvm]`, chromedp.ByQuery), chromedp.Click(`button.main`, chromedp.ByQuery), chromedp.WaitVisible("#owner-eni", chromedp.ByQuery))
	if text := w.text("h1"); text != "plain" {
		w.t.Errorf("created %q", text)
	}
	w.press("/disable", "disabled")
	w.at(1, "/havips/plain/delete")
	w.do(chromedp.Click("input[name=sure]", chromedp.ByQuery))
	if w.try(chromedp.Click(`input[name=release]`, chromedp.ByQuery, chromedp.AtLeast(0))) != nil {
		w.t.Log("nobody owned it any more")
	}
	w.press("/delete", "deleted")
}
