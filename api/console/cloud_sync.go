package console

import (
	"net/http"

	"havip-cluster/api"
)

// syncStep is one thing that would be done, or was, with what became of it.
type syncStep struct {
	HAVIP   string `json:"havip"`
	Address string `json:"address"`
	Text    string `json:"text"`
	Result  string `json:"result"`
	Error   string `json:"error"`
}

// syncData is what would be done so that log and cloud agree, or what was.
type syncData struct {
	None      string // why there is nothing to show; "" = there is
	Direction string
	Prune     bool
	Done      bool // carried out, not planned
	Steps     []syncStep
}

// syncPage says what would be done. It changes nothing, but the cloud is asked.
func syncPage(v *visit) (*page, error) {
	q := v.r.URL.Query()
	d := syncData{Direction: "to-cloud", Prune: q.Get("prune") == "yes"}
	if q.Get("direction") == "from-cloud" {
		d.Direction = "from-cloud"
	}
	p := &page{Title: "Make log and cloud agree", Tab: "cloud", Name: "cloud-sync", Data: &d, Form: true}
	err := v.sync(&d, true)
	if d.None = noCloud(err); err != nil && d.None == "" {
		p.Problem = asProblem(err)
		p.Status = p.Problem.Status
	}
	return p, nil
}

// sync plans, or carries out what the API plans anew by a fresh look.
func (v *visit) sync(d *syncData, dry bool) error {
	ask := api.SyncRequest{Direction: d.Direction, DryRun: dry, Prune: d.Prune && d.Direction == "to-cloud"}
	_, err := v.do(v.ctx, question{method: http.MethodPost, path: "/v1/provider/sync", body: ask, into: &d.Steps, key: v.key, wait: removeWait})
	return err
}

func carrySync(v *visit) (outcome, error) {
	f := v.r.PostForm
	d := syncData{Direction: f.Get("direction"), Prune: f.Get("prune") == "yes", Done: true}
	if f.Get("sure") != "yes" {
		return outcome{To: "/cloud/sync"}, problemf(http.StatusBadRequest, "Say that you are sure: tick the box.")
	}
	if err := v.sync(&d, false); err != nil {
		return outcome{To: "/cloud"}, err
	}
	return outcome{Page: &page{Title: "Log and cloud", Tab: "cloud", Name: "cloud-sync", Data: &d, Form: true}}, nil
}

// testCloud has the node that serves this page ask the cloud once.
func testCloud(v *visit) (outcome, error) {
	_, err := v.do(v.ctx, question{method: http.MethodPost, path: "/v1/provider/test", key: v.key, wait: removeWait})
	return outcome{To: "/cloud", Did: "answered"}, err
}
