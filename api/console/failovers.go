package console

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"

	"havip-cluster/api"
)

// failoversMax is how many failovers a page draws.
const failoversMax = 40

// timeline is a failover, drawn.
type timeline struct {
	api.Failover
	Height int
	Rows   []bar
	Grid   []tick
	Text   string // the same in words, for who does not see it
}

// bar is one step: from the step before it to this one.
type bar struct {
	Y, TextY, X, Width, LabelX int
	Tone                       string
	What, Node, After          string
	Anchor                     string // start or end: where the label stands at X
}

// tick is a line of the scale.
type tick struct {
	X    int
	Says string
}

// Measures of the drawing, in its own units. The labels are left of the bars.
const (
	drawWidth = 1040
	drawLeft  = 470
	drawRight = 110 // for the time beside the longest bar
	drawRow   = 24
	drawTop   = 22
)

// steps are those of which a bar says what was waited for, and those that serve again; all others are work.
var (
	waitSteps = map[string]bool{"heard": true, "deadline": true, "noticed": true, "released": true}
	doneSteps = map[string]bool{"announced": true, "confirmed": true, "answered": true}
)

// timelineOf draws a failover.
func timelineOf(f api.Failover) timeline {
	t := timeline{Failover: f, Height: drawTop + drawRow*len(f.Steps) + 8}
	total := max(f.TotalUS, 1)
	scale := func(us int64) int { return drawLeft + int(us*int64(drawWidth-drawLeft-drawRight)/total) }
	parts := int64(4)
	if total < 100 {
		parts = 1 // microseconds: a finer scale says nothing
	}
	for i := range parts + 1 {
		us := total * i / parts
		t.Grid = append(t.Grid, tick{scale(us), micros(us)})
	}
	var said []string
	before := int64(0)
	for i, s := range f.Steps {
		tone := "work"
		switch {
		case waitSteps[s.Step]:
			tone = "wait"
		case doneSteps[s.Step]:
			tone = "done"
		case s.Step == "dark" || s.Step == "silent":
			tone = "dark"
		}
		after := max(0, min(s.AfterUS, total))
		from := min(before, after)
		b := bar{
			Y: drawTop + drawRow*i + 4, X: scale(from), Width: max(3, scale(after)-scale(from)), Tone: tone,
			What: s.What, Node: s.Node, After: micros(s.AfterUS), Anchor: "start",
		}
		b.TextY, b.LabelX = b.Y+12, b.X+b.Width+6
		t.Rows = append(t.Rows, b)
		said = append(said, fmt.Sprintf("%s %s at %s", s.What, s.Node, micros(s.AfterUS)))
		before = max(before, after)
	}
	t.Text = strings.Join(said, "; ")
	return t
}

// failoversData is the newest failovers.
type failoversData struct {
	HAVIP string
	List  []timeline
	Total int
}

func failoversPage(v *visit) (*page, error) {
	d := failoversData{HAVIP: v.r.URL.Query().Get("havip")}
	q := url.Values{}
	if d.HAVIP != "" {
		q.Set("havip", d.HAVIP)
	}
	var list []api.Failover
	if err := v.get(v.ctx, "/v1/failovers", q, &list); err != nil {
		return nil, err
	}
	d.Total = len(list)
	for _, f := range newest(list, failoversMax) {
		d.List = append(d.List, timelineOf(f))
	}
	return &page{Title: "Failovers", Tab: "failovers", Name: "failovers", Data: d, Topics: []string{topicFailovers}}, nil
}

// Whence and Whither are the owners in words.
func (t timeline) Whence() string  { return cmp.Or(t.From, "nobody") }
func (t timeline) Whither() string { return cmp.Or(t.To, "nobody") }
