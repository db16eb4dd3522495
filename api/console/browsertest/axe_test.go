package browsertest

import (
	"encoding/json"
	"os"
	"strings"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// finding is one of axe-core's.
type finding struct {
	ID     string `json:"id"`
	Impact string `json:"impact"`
	Help   string `json:"help"`
	Nodes  []struct {
		HTML           string `json:"html"`
		FailureSummary string `json:"failureSummary"`
	} `json:"nodes"`
}

// axe looks at the page with axe-core, whose file the make target fetches; it is given by the
// debugger, so no policy of the page has to let it in. It fails for what is serious or critical.
func (w *browser) axe(where string) {
	w.t.Helper()
	path := os.Getenv("HAVIP_AXE")
	if path == "" {
		w.t.Fatal("HAVIP_AXE names no axe.min.js: run this by `make console-test`")
	}
	source, err := os.ReadFile(path)
	w.must(err)
	var text string
	w.do(chromedp.Evaluate(string(source)+"; 0", nil), chromedp.Evaluate(
		`axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations))`, &text,
		func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	var found []finding
	w.must(json.Unmarshal([]byte(text), &found))
	for _, f := range found {
		var at []string
		for _, n := range f.Nodes {
			at = append(at, n.HTML+": "+n.FailureSummary)
		}
		if f.Impact == "serious" || f.Impact == "critical" {
			w.t.Errorf("axe at %s: %s, %s (%s): %.600s", where, f.Impact, f.ID, f.Help, strings.Join(at, "\n"))
		} else {
			w.t.Logf("axe at %s: %s, %s (%s): %.300s", where, f.Impact, f.ID, f.Help, strings.Join(at, "\n"))
		}
	}
}
