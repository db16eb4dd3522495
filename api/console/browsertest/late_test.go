package browsertest

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

const (
	// scriptLate is by how much a script comes after the others.
	scriptLate = 1500 * time.Millisecond
	// liveSoon is how long a page may take to be live after its last script: below the 8 s after which it asks again
	// for a stream that never began.
	liveSoon = 5 * time.Second
)

// lateScripts has each script of a page come later than the others, one at a time, as on a slow network or a busy host:
// the page gets its stream all the same, and at once.
func lateScripts(w *browser) {
	w.at(1, "/havips")
	var scripts []string
	w.do(chromedp.Evaluate(`[...document.scripts].map(s => s.src)`, &scripts))
	if len(scripts) == 0 {
		w.t.Fatal("the page has no scripts")
	}
	w.do(network.SetCacheDisabled(true))
	defer w.do(network.SetCacheDisabled(false))
	for _, src := range scripts {
		name, _, _ := strings.Cut(path.Base(src), "?")
		took := w.withLate(name)
		w.t.Logf("%s %s later than the others: live %s after it", name, scriptLate, took.Round(time.Millisecond))
		if took > liveSoon {
			w.t.Errorf("with %s coming late the page is live only after %s: its stream never began", name, took)
		}
	}
}

// withLate opens a page whose script of this name comes late, and says how long after it the page is live.
func (w *browser) withLate(name string) time.Duration {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	chromedp.ListenTarget(ctx, func(event any) {
		if e, ok := event.(*fetch.EventRequestPaused); ok {
			go func() {
				time.Sleep(scriptLate)
				_ = w.try(fetch.ContinueRequest(e.RequestID))
			}()
		}
	})
	w.do(fetch.Enable().WithPatterns([]*fetch.RequestPattern{{URLPattern: fmt.Sprintf("*/static/%s*", name)}}))
	defer w.do(fetch.Disable())
	w.at(1, "/havips") // returns with the page's load event, and so after its scripts
	begun := time.Now()
	w.eventually("#live-word", "Live")
	return time.Since(begun)
}
