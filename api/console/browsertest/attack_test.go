package browsertest

import (
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// eniPath is the id of an ENI as it stands in an address.
func (b *bed) eniPath(node, eni int) string {
	return url.PathEscape(fmt.Sprintf("node-%d/%s", node, b.lab.Node(node).Device(eni)))
}

// backButton goes back to a form after it was sent: it is the form again, and what is sent from it then is done as well.
func backButton(w *browser) {
	create := func(name string, last int) {
		w.do(chromedp.SetValue("#name", name, chromedp.ByQuery), chromedp.Click("input[value=manual]", chromedp.ByQuery), chromedp.SetValue("#ip", w.lab.Address(byte(last)).String(), chromedp.ByQuery))
		w.do(chromedp.Click("button.main", chromedp.ByQuery), chromedp.WaitVisible("#owner-eni", chromedp.ByQuery))
		w.eventually("h1", name)
	}
	w.at(1, "/havips/new")
	create("back-1", 141)
	w.do(chromedp.NavigateBack(), chromedp.WaitVisible("#dialog", chromedp.ByQuery))
	create("back-2", 142)
	for _, name := range []string{"back-1", "back-2"} {
		if _, err := w.cluster.CLI(1, "havip", "show", name); err != nil {
			w.t.Errorf("after going back: %v", err)
		}
	}
	// A page that was left and comes back is live again, and as things are now.
	w.at(1, "/havips/back-1")
	w.eventually("#live-word", "Live")
	w.at(1, "/events")
	w.cli(1, "havip", "update", "back-1", "--description", "changed while the page was away")
	w.do(chromedp.NavigateBack())
	w.eventually("#region", "changed while the page was away")
	w.eventually("#live-word", "Live")
}

// twoBrowsers has one HAVIP open in two windows: what one does the other shows, and a form that is old by then
// does not undo it.
func twoBrowsers(w *browser) {
	ctx, cancel := chromedp.NewContext(w.ctx)
	defer cancel()
	other := &browser{w.bed, ctx, &heard{}}
	w.must(chromedp.Run(ctx))
	w.at(1, "/havips/shop-4/edit")
	other.at(1, "/havips/shop-4/edit")
	other.do(chromedp.SetValue("#priority", "11", chromedp.ByQuery))
	other.press("/edit", "changed")
	w.do(chromedp.SetValue("#description", "by the first", chromedp.ByQuery))
	w.press("/edit", "changed")
	w.eventually("#region", "by the first")
	w.says("#region", "11,")
	other.eventually("#region", "by the first")
	other.do(chromedp.Click(`a[href$="/edit"]`, chromedp.ByQuery), chromedp.WaitVisible("#priority", chromedp.ByQuery))
	w.do(chromedp.Click(`a[href$="/edit"]`, chromedp.ByQuery), chromedp.WaitVisible("#priority", chromedp.ByQuery), chromedp.SetValue("#priority", "12", chromedp.ByQuery))
	w.press("/edit", "changed")
	other.do(chromedp.SetValue("#priority", "13", chromedp.ByQuery), chromedp.Click("form[action$='/edit'] button", chromedp.ByQuery))
	other.eventually(".note.bad", "which is 12 now")
	w.faults(func(text string) bool { return strings.Contains(text, "status of 409") })
}

// TestOpenOver has a page open while the leader fails, and while the agent that it talks to is started anew. It is live
// again after the first without anybody's doing, and asks for the token after the second, because a session ends with the
// agent; logged in, one is where one was.
func TestOpenOver(t *testing.T) {
	b := newBed(t)
	b.cli(1, "havip", "create", "web", "--ip", b.lab.Address(100).String(), "--range", "cvm:node-1,node-2,node-3")
	b.cli(1, "wait", "havip", "web", "--owned", "--timeout", "20s")
	token := b.token("anna", "admin")
	leader, err := b.cluster.Leader()
	b.must(err)
	at := leader%3 + 1
	w := b.newBrowser()
	w.login(at, token)
	w.at(at, "/havips/web")
	w.eventually("#live-word", "Live")

	b.must(b.cluster.Kill(leader, syscall.SIGKILL))
	began := time.Now()
	for end := began.Add(actionTime); ; time.Sleep(50 * time.Millisecond) {
		if _, err := b.cluster.CLI(at, "havip", "update", "web", "--description", "after the leader"); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nobody leads")
		}
	}
	w.eventually("#region", "after the leader")
	w.eventually("#live-word", "Live")
	t.Logf("the leader is killed: the page shows a change %s later", time.Since(began).Round(time.Millisecond))
	b.must(b.cluster.Start(leader))
	b.cli(at, "wait", "cluster", "--healthy", "--timeout", "60s")

	b.must(b.cluster.Kill(at, syscall.SIGTERM))
	w.eventually("#live-word", "Cut off")
	b.must(b.cluster.AwaitEnd(at)) // the page is cut off before the process has ended
	b.must(b.cluster.Start(at))
	began = time.Now()
	if err := w.try(chromedp.WaitVisible("#token", chromedp.ByQuery)); err != nil {
		t.Fatalf("the page never asks for the token again: %v", err)
	}
	t.Logf("the agent is started anew: the page asks for the token %s later", time.Since(began).Round(time.Millisecond))
	w.do(chromedp.SendKeys("#token", token, chromedp.ByQuery), chromedp.Click("button.main", chromedp.ByQuery), chromedp.WaitVisible("#owner-eni", chromedp.ByQuery))
	w.eventually("#live-word", "Live")
	w.faults(nil) // the requests that nobody answered

	b.must(b.cluster.Kill(at%3+1, syscall.SIGKILL)) // a node that is lost is removed by its page
	lost := fmt.Sprintf("node-%d", at%3+1)
	w.at(at, "/nodes/"+lost+"/remove")
	w.says("#region", "Left without an owner", "Moves", "Do not talk with it")
	w.do(chromedp.SendKeys("#sure", lost, chromedp.ByQuery), chromedp.Click("input[name=force]", chromedp.ByQuery), chromedp.Click("button.sure", chromedp.ByQuery))
	w.eventually(".note.good", "removed")
	w.eventuallyNot("#h-nodes + *", lost)
	for _, text := range w.faults(nil) {
		t.Error(text)
	}
}
