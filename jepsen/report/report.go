// Package report draws a run: one HTML page that needs no network, on which a person sees at a
// glance what happened, who owned what, and what every checker says.
package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"havip-cluster/jepsen/checker"
	"havip-cluster/jepsen/history"
)

//go:embed page.html
var source string

var page = template.Must(template.New("report").Parse(source))

// Limits of the page.
const (
	stripLength = 3 * time.Minute // of time in one picture
	gapsShown   = 20
	gapShortest = 20 * time.Millisecond // in pictures and lists
)

// view is what the page shows.
type view struct {
	Run      history.Run
	Pass     bool
	Passed   int
	Verdicts []verdict
	Facts    []fact
	HAVIPs   []string // classes h0, h1, ... of the legend
	Strips   []strip
	Gaps     []gapRow
	Faults   []faultRow
}

type verdict struct{ Check, Valid, Message string }

type fact struct{ Value, Name string }

type gapRow struct {
	At, Length, HAVIP, From, To, Faults string
}

type faultRow struct {
	Name          string
	Alone, Paired int
	Longest       string
	longest       time.Duration
}

// Write writes the page of a history and its verdicts.
func Write(w io.Writer, h *history.History, verdicts []checker.Verdict) error {
	if len(h.Runs) == 0 {
		return fmt.Errorf("report: the history says nothing of a run")
	}
	v := view{Run: h.Runs[0], Pass: checker.Worst(verdicts...).Pass()}
	for _, c := range verdicts {
		v.Verdicts = append(v.Verdicts, verdict{c.Check, c.Valid.String(), c.Message})
		if c.Pass() {
			v.Passed++
		}
	}
	gaps := gapsOf(h)
	v.HAVIPs = v.Run.HAVIPs
	v.Facts = facts(h, gaps)
	v.Strips = strips(h, gaps)
	v.Gaps = gapRows(h, gaps)
	v.Faults = faultRows(h, gaps)
	if err := page.Execute(w, v); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// gap is a gap of one HAVIP as its client saw it.
type gap struct {
	checker.Gap
	havip int // index in Run.HAVIPs
}

func gapsOf(h *history.History) []gap {
	var list []gap
	for _, s := range h.Series {
		at := slices.Index(h.Runs[0].HAVIPs, s.Target)
		if s.Kind != history.Probing || at < 0 {
			continue
		}
		var probes []history.Probe
		for _, p := range h.Probes {
			if p.From == s.From && p.Target == s.Target {
				probes = append(probes, p)
			}
		}
		for _, g := range checker.Gaps(probes, time.Duration(s.Every), gapShortest) {
			list = append(list, gap{g, at})
		}
	}
	return list
}

func facts(h *history.History, gaps []gap) []fact {
	ok := 0
	for _, op := range h.Ops {
		if op.Outcome == history.OK {
			ok++
		}
	}
	var longest time.Duration
	for _, g := range gaps {
		longest = max(longest, g.Duration)
	}
	dual := checker.DualOwner(h.Answers)
	return []fact{
		{round(dual.Certain), "with two owners"},
		{round(time.Duration(h.Runs[0].End)), "run"},
		{fmt.Sprint(len(h.Faults)), "faults"},
		{fmt.Sprint(len(h.Ops)), fmt.Sprintf("operations, %d ok", ok)},
		{thousands(len(h.Probes)), "probes"},
		{fmt.Sprint(dual.Handovers), "hand-overs"},
		{round(longest), "longest gap"},
	}
}

func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// round shows a duration with three digits.
func round(d time.Duration) string {
	switch {
	case d == 0:
		return "0 ms"
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
	case d < time.Minute:
		return fmt.Sprintf("%.3g s", d.Seconds())
	}
	return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
}

// clock shows a time since the start.
func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%04.1f", int(d.Minutes()), d.Seconds()-60*float64(int(d.Minutes())))
}

// during names the faults that were there, or had just been, in a gap.
func during(h *history.History, g gap) string {
	var names []string
	for _, f := range h.Faults {
		if f.Begin <= int64(g.End) && (f.End == 0 || f.End+int64(5*time.Second) >= int64(g.Start)) {
			names = append(names, strings.TrimSpace(f.Name+" "+f.Target))
		}
	}
	return strings.Join(names, "; ")
}

func gapRows(h *history.History, gaps []gap) []gapRow {
	gaps = slices.SortedFunc(slices.Values(gaps), func(a, b gap) int { return int(b.Duration - a.Duration) })
	var rows []gapRow
	for _, g := range gaps[:min(len(gaps), gapsShown)] {
		rows = append(rows, gapRow{
			At: clock(g.Start), Length: round(g.Duration), HAVIP: h.Runs[0].HAVIPs[g.havip],
			From: g.FromNode, To: g.ToNode, Faults: during(h, g),
		})
	}
	return rows
}

func faultRows(h *history.History, gaps []gap) []faultRow {
	rows := map[string]*faultRow{}
	var names []string
	for _, f := range h.Faults {
		row := rows[f.Name]
		if row == nil {
			row = &faultRow{Name: f.Name}
			rows[f.Name] = row
			names = append(names, f.Name)
		}
		alone := !slices.ContainsFunc(h.Faults, func(o history.Fault) bool {
			return o != f && o.Begin < f.End && f.Begin < o.End
		})
		if !alone {
			row.Paired++
			continue
		}
		row.Alone++
		for _, g := range gaps {
			if int64(g.Start) < f.End && int64(g.End) > f.Begin {
				row.longest = max(row.longest, g.Duration)
			}
		}
		row.Longest = round(row.longest)
	}
	slices.Sort(names)
	var list []faultRow
	for _, name := range names {
		list = append(list, *rows[name])
	}
	return list
}
