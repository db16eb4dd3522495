package browsertest

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestWalk does in the browser what the cloud's documentation says that one does in its console ("Create HAVIPs",
// "Managing HAVIPs", product/215/31820 and 215/18025 and their neighbours): the table of docs/tencent.md, step by step. The
// cloud beside it is asked after each whether it now has what its own console would have made.
func TestWalk(t *testing.T) {
	b, cloud := inCloud(t)
	b.eventuallyCLI("the cloud's names of the ENIs", func(out string) bool { return strings.Contains(out, "eni-lab30") }, "eni", "list")
	w := b.newBrowser()
	w.login(1, b.token("operator-anna", "admin"))
	step := func(name string, run func()) {
		t.Helper()
		began := time.Now()
		run()
		t.Logf("%-52s %s", name, time.Since(began).Round(10*time.Millisecond))
	}
	address := b.lab.Address(150).String()

	step("1 apply: the dialog", func() {
		w.at(1, "/havips")
		w.do(chromedp.Click(`a[href$="/havips/new"]`, chromedp.ByQuery), chromedp.WaitVisible("#dialog", chromedp.ByQuery))
		w.says("#dialog", "Name", "VPC", "Subnet", "Automatic", "Manual", "Range", "Reserved", "first host", "10 of 10 HAVIPs are left", "at most 10 members", "should own at most 5")
		w.is(`document.querySelector("input[name=limit]:checked").value`, "yes") // on by default
		w.is(`document.querySelector("input[name=mode]:checked").value`, "auto")
	})
	step("2 name, VPC, subnet, a manual address out of range", func() {
		w.do(chromedp.SendKeys("#name", "web", chromedp.ByQuery), chromedp.Click("input[value=manual]", chromedp.ByQuery), chromedp.SendKeys("#ip", "192.0.2.1", chromedp.ByQuery))
		w.do(chromedp.Click("button.main", chromedp.ByQuery), chromedp.WaitVisible(".note.bad", chromedp.ByQuery))
		w.says(".note.bad", "192.0.2.1")
		w.is(`document.querySelector("#name").value`, "web") // what was filled in stays
	})
	step("3 a manual address, and OK", func() {
		w.do(chromedp.SetValue("#ip", address, chromedp.ByQuery), chromedp.Click("button.main", chromedp.ByQuery), chromedp.WaitVisible("#owner-eni", chromedp.ByQuery))
		w.eventually(".title .pill", "Not bound") // the range is enforced and empty, as in the cloud
		w.says("#region", address, "nobody")
	})
	step("4 another one, with an automatic address", func() {
		w.at(1, "/havips/new")
		w.do(chromedp.SendKeys("#name", "spare", chromedp.ByQuery), chromedp.Click("button.main", chromedp.ByQuery), chromedp.WaitVisible("#owner-eni", chromedp.ByQuery))
		w.at(1, "/havips/new")
		w.says("#dialog", "8 of 10 HAVIPs are left")
	})
	step("5 the switch range: instances", func() {
		w.openEdit("web")
		for _, name := range []string{"node-1", "node-2"} {
			w.do(chromedp.Click(fmt.Sprintf(`input[name=cvm][value=%s]`, name), chromedp.ByQuery))
		}
		w.press("/edit", "changed")
		w.eventually(".title .pill", "Bound") // nothing is configured on the hosts: the agents do it
		w.says("#region", "node-1", "node-2")
	})
	step("6 the cloud gets both", func() {
		w.at(1, "/cloud")
		w.press("/cloud/test", "answered")
		w.says("#region", "the cloud has no HAVIP with the address "+address)
		w.do(chromedp.Click(`a[href$="/cloud/sync"]`, chromedp.ByQuery), chromedp.WaitVisible("#steps", chromedp.ByQuery))
		w.says("#steps", "web", "spare", "planned")
		w.do(chromedp.Click("input[name=sure]", chromedp.ByQuery), chromedp.Click("form button.main", chromedp.ByQuery))
		w.eventually("#region h2", "What was done")
		if v := cloud.HAVIPs(); len(v) != 2 || !v[0].CheckAssociate {
			t.Fatalf("in the cloud: %+v", v)
		}
	})
	step("7 backend ENI and server, here and in the cloud", func() {
		owner := b.settled("web")
		b.cli(1, "havip", "move", "web", "--to", fmt.Sprintf("node-%d", 3-owner)) // the fabric knows the range since a moment
		w.at(1, "/havips/web")
		w.eventually("#owner-node", fmt.Sprintf("node-%d", 3-owner))
		w.eventually(".title .pill", "Bound")
		w.eventually("#cloud", "AVAILABLE") // within a poll, and the page's own 10 s
		w.says("#cloud", fmt.Sprintf("node-%d", 3-owner), fmt.Sprintf("eni-lab%d", 3-owner), "Log and cloud agree")
		w.says("#owner-eni", fmt.Sprintf("node-%d/", 3-owner))
	})
	step("8 the list: the cloud's columns", func() {
		w.at(1, "/havips")
		w.says("thead", "Name and id", "Status", "Address", "Backend ENI", "Host", "EIP", "VPC and subnet")
		w.says("#region", address, "Bound", "Not bound")
		w.do(chromedp.SendKeys("#search", address, chromedp.ByQuery), chromedp.Click(".filters button", chromedp.ByQuery))
		w.eventually(".pager", "1 to 1 of 1")
	})
	step("9 bind an EIP", func() {
		w.at(1, "/havips/web")
		w.do(chromedp.SendKeys("#eip", cloudEIP, chromedp.ByQuery))
		w.press("/eip", "bound")
		w.eventually("#cloud", cloudEIP)
	})
	step("10 the range: ENIs, not the primary ones", func() {
		w.openEdit("spare")
		w.do(chromedp.Click(`input[name=range_type][value=eni]`, chromedp.ByQuery), chromedp.WaitVisible(".only-eni", chromedp.ByQuery))
		text := w.text(".only-eni")
		for i, h := range b.lab.Nodes() {
			if strings.Contains(text, fmt.Sprintf("node-%d/%s", i+1, h.Device(0))) || !strings.Contains(text, fmt.Sprintf("node-%d/%s", i+1, h.Device(1))) {
				t.Errorf("the ENIs to choose from: %s", text)
			}
			w.do(chromedp.Click(fmt.Sprintf(`input[name=eni][value="node-%d/%s"]`, i+1, h.Device(1)), chromedp.ByQuery))
		}
		w.press("/edit", "changed")
		w.eventually(".title .pill", "Bound")
	})
	step("11 unbind the EIP, release", func() {
		w.at(1, "/havips/web")
		w.press("/eip/unbind", "unbound")
		w.eventuallyNot("#cloud", cloudEIP)
		w.at(1, "/havips/web/delete")
		w.do(chromedp.Click("input[name=release]", chromedp.ByQuery), chromedp.Click("input[name=sure]", chromedp.ByQuery))
		w.press("/delete", "deleted")
		w.at(1, "/cloud/sync?prune=yes")
		w.says("#steps", "web")
		w.do(chromedp.Click("input[name=sure]", chromedp.ByQuery), chromedp.Click("form button.main", chromedp.ByQuery))
		w.eventually("#region h2", "What was done")
		for _, v := range cloud.HAVIPs() {
			if v.Vip == address {
				t.Errorf("still in the cloud: %+v", v)
			}
		}
	})
	for _, text := range w.faults(refusedOnPurpose) {
		t.Error(text)
	}
}

// openEdit opens the form that changes a HAVIP, from its page.
func (w *browser) openEdit(name string) {
	w.t.Helper()
	w.at(1, "/havips/"+name)
	w.do(chromedp.Click(`a[href$="/edit"]`, chromedp.ByQuery), chromedp.WaitVisible("#priority", chromedp.ByQuery))
}

var spaces = regexp.MustCompile(`\s+`)

// says fails unless an element has all of the texts in it, letters and spaces as they may be.
func (w *browser) says(selector string, has ...string) {
	w.t.Helper()
	text := strings.ToLower(spaces.ReplaceAllString(w.text(selector), " "))
	for _, part := range has {
		if !strings.Contains(text, strings.ToLower(part)) {
			w.t.Errorf("%s does not say %q: %.1500s", selector, part, text)
		}
	}
}

// is fails unless an expression of the page has a value.
func (w *browser) is(expression, want string) {
	w.t.Helper()
	var got string
	w.do(chromedp.Evaluate(expression, &got))
	if got != want {
		w.t.Errorf("%s is %q, want %q", expression, got, want)
	}
}

// eventuallyNot waits until an element does not say something any more.
func (w *browser) eventuallyNot(selector, has string) {
	w.t.Helper()
	for end := time.Now().Add(actionTime); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if !strings.Contains(w.text(selector), has) {
			return
		}
	}
	w.t.Fatalf("%s goes on saying %q", selector, has)
}

// eventuallyCLI waits until a command says something.
func (b *bed) eventuallyCLI(what string, ok func(string) bool, args ...string) {
	b.t.Helper()
	for end := time.Now().Add(actionTime); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if out, err := b.cluster.CLI(1, args...); err == nil && ok(string(out)) {
			return
		}
	}
	b.t.Fatalf("never: %s", what)
}
