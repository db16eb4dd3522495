package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"havip-cluster/jepsen/history"
)

// The measures of a picture, in its own units (about pixels).
const (
	left       = 78 // where time begins
	width      = 1080
	laneHeight = 24
	faultsTop  = 18 // the lane of fault names
	faultLane  = 13
	faultsRows = 3 // their names stand in so many rows by turns
	nodesTop   = faultsTop + faultsRows*faultLane + 6
	ownerWide  = 8 // of the bar of one HAVIP
)

// strip is one picture: some minutes of the run.
type strip struct {
	Width, Height int
	Ticks         []tick
	Lanes         []lane
	Faults        []box
	Gaps          []bar // by HAVIP
	GapTop        int
}

type tick struct {
	X      string
	Text   string
	Y1, Y2 int
}

// lane is one node.
type lane struct {
	Name           string
	Y, Middle, End int
	Lease, Leader  string // SVG paths
	Owner          []bar
}

// bar is the bars of one HAVIP as one SVG path.
type bar struct {
	Class, Path string
	Wide        int
}

// box is a fault.
type box struct {
	X, W      string
	TextX     string
	Y, TextY  int
	Name      string
	Title     string
	Top, High int
}

// spell is a time in which something held at a node.
type spell struct {
	node       string
	start, end int64
}

func strips(h *history.History, gaps []gap) []strip {
	var list []strip
	leases := spells(h, history.MarkSession)
	leaders := spells(h, history.MarkLeader)
	owners := ownersOf(h)
	for from := int64(0); from < h.Runs[0].End; from += int64(stripLength) {
		s := scale{from, from + int64(stripLength)}
		list = append(list, draw(h, s, leases, leaders, owners, gaps))
	}
	return list
}

// scale turns times into x.
type scale struct{ from, to int64 }

func (s scale) x(at int64) float64 {
	at = max(s.from, min(s.to, at))
	return left + float64(at-s.from)*width/float64(s.to-s.from)
}

func (s scale) holds(start, end int64) bool { return start < s.to && end > s.from }

// path draws horizontal bars at y; wide ones are stroked by the class.
func (s scale) path(list []spell, y int, keep func(spell) bool) string {
	var b strings.Builder
	for _, sp := range list {
		if keep(sp) && s.holds(sp.start, sp.end) {
			fmt.Fprintf(&b, "M%.1f %dH%.1f", s.x(sp.start), y, max(s.x(sp.end), s.x(sp.start)+0.6))
		}
	}
	return b.String()
}

func draw(h *history.History, s scale, leases, leaders []spell, owners [][]spell, gaps []gap) strip {
	nodes := h.Runs[0].Nodes
	out := strip{Width: left + width + 12, GapTop: nodesTop + len(nodes)*laneHeight + 4}
	out.Height = out.GapTop + 10*len(h.Runs[0].HAVIPs) + 6
	for at := s.from; at <= s.to; at += int64(15 * time.Second) {
		out.Ticks = append(out.Ticks, tick{X: fmt.Sprintf("%.1f", s.x(at)), Text: clock(time.Duration(at))[:len(clock(time.Duration(at)))-2], Y1: faultsTop - 4, Y2: out.Height})
	}
	for i, name := range nodes {
		y := nodesTop + i*laneHeight
		here := func(sp spell) bool { return sp.node == name }
		l := lane{Name: name, Y: y, Middle: y + laneHeight/2 + 4, End: left + width}
		l.Lease = s.path(leases, y+laneHeight/2, here)
		l.Leader = s.path(leaders, y+2, here)
		for j, spells := range owners {
			l.Owner = append(l.Owner, bar{fmt.Sprintf("h%d", j), s.path(spells, y+8+j*(ownerWide+1), here), ownerWide})
		}
		out.Lanes = append(out.Lanes, l)
	}
	out.Faults = boxes(h, s, out.GapTop)
	for j := range h.Runs[0].HAVIPs {
		var list []spell
		for _, g := range gaps {
			if g.havip == j {
				list = append(list, spell{"", int64(g.Start), int64(g.End)})
			}
		}
		out.Gaps = append(out.Gaps, bar{"gap", s.path(list, out.GapTop+5+10*j, func(spell) bool { return true }), 7})
	}
	return out
}

// boxes are the faults of a strip, their names in rows by turns.
func boxes(h *history.History, s scale, bottom int) []box {
	var list []box
	for i, f := range h.Faults {
		end := f.End
		if end == 0 {
			end = h.Runs[0].End
		}
		if !s.holds(f.Begin, end) {
			continue
		}
		x, y := s.x(f.Begin), faultsTop+i%faultsRows*faultLane
		list = append(list, box{
			X: fmt.Sprintf("%.1f", x), W: fmt.Sprintf("%.1f", max(1, s.x(end)-x)), TextX: fmt.Sprintf("%.1f", x+2), Y: y, TextY: y + 10,
			Name: f.Name, Title: fmt.Sprintf("%s: %s, %s to %s", f.Name, f.Target, clock(time.Duration(f.Begin)), clock(time.Duration(end))),
			Top: nodesTop - 4, High: bottom - nodesTop + 4,
		})
	}
	return list
}

// spells turns marks, each the begin of a value, into times with a value other than 0.
func spells(h *history.History, kind string) []spell {
	var list []spell
	open := map[string]history.Mark{}
	for _, m := range h.Marks {
		if m.Kind != kind {
			continue
		}
		if was := open[m.Node]; was.Value != 0 {
			list = append(list, spell{m.Node, was.At, m.At})
		}
		open[m.Node] = m
	}
	for node, m := range open {
		if m.Value != 0 {
			list = append(list, spell{node, m.At, h.Runs[0].End})
		}
	}
	slices.SortFunc(list, func(a, b spell) int { return int(a.start - b.start) })
	return list
}

// ownersOf are the times in which frames show that a node answered for a HAVIP, by HAVIP. Pauses
// below spellApart are drawn through.
func ownersOf(h *history.History) [][]spell {
	const spellApart = int64(60 * time.Millisecond)
	list := make([][]spell, len(h.Runs[0].HAVIPs))
	frames := slices.SortedFunc(slices.Values(h.Frames), func(a, b history.Frames) int { return int(a.First - b.First) })
	last := map[[2]string]int{}
	for _, f := range frames {
		i := slices.Index(h.Runs[0].HAVIPs, f.HAVIP)
		if i < 0 {
			continue
		}
		key := [2]string{f.Node, f.HAVIP}
		if at, seen := last[key]; seen && f.First-list[i][at].end < spellApart {
			list[i][at].end = max(list[i][at].end, f.Last)
			continue
		}
		last[key] = len(list[i])
		list[i] = append(list[i], spell{f.Node, f.First, f.Last})
	}
	return list
}
