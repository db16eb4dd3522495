package bench

import (
	"bytes"
	"cmp"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
)

// draw writes the plots that the results have data for, as SVG.
func (r *results) draw(dir string) error {
	if err := r.drawGaps(filepath.Join(dir, "gaps.svg")); err != nil {
		return err
	}
	if r.sized() {
		if err := r.drawSizes(filepath.Join(dir, "sizes.svg")); err != nil {
			return err
		}
	}
	return r.drawCosts(filepath.Join(dir, "cost.svg"))
}

// contenders in the order in which they were measured.
func (r *results) contenders() (names []string) {
	for _, w := range r.Rows {
		if !slices.Contains(names, w.Contender) {
			names = append(names, w.Contender)
		}
	}
	return names
}

// logTicks are at 1, 2, 5, 10, ... so that 30 ms and 4 s can be read off one axis.
func logTicks(low, high float64) (ticks []plot.Tick) {
	for decade := math.Pow(10, math.Floor(math.Log10(low))); decade <= high; decade *= 10 {
		for _, m := range []float64{1, 2, 5} {
			if v := m * decade; v >= low && v <= high {
				ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', -1, 64)})
			}
		}
	}
	return ticks
}

// drawGaps has a line for each fault, and on it a mark at p50 and a stroke to the maximum.
func (r *results) drawGaps(path string) error {
	p := newPlot()
	p.Title.Text = "Gap as a client sees it, p50 (mark) to max; one address, three nodes"
	p.X.Label.Text = "ms"
	p.X.Scale = plot.LogScale{}
	p.Add(plotter.NewGrid())
	var labels []string
	low, high := math.Inf(1), 1.0
	for i, name := range r.contenders() {
		var marks plotter.XYs
		for _, f := range faults {
			at := slices.IndexFunc(r.Rows, func(w row) bool {
				return w.Contender == name && w.Fault == f.name && w.HAVIPs == 1 && w.Voters == 3 && !w.Busy
			})
			if at < 0 || f.name == busyLoops {
				continue
			}
			line := slices.Index(labels, f.name)
			if line < 0 {
				labels, line = append(labels, f.name), len(labels)
			}
			// A gap of nothing has no place on a logarithmic axis; the prober sees 1 ms.
			p50, most := max(r.Rows[at].quantile(0.5), 1), max(r.Rows[at].quantile(1), 1)
			low, high = min(low, p50), max(high, most)
			y := float64(-line) + 0.09*float64(i-len(r.contenders())/2)
			marks = append(marks, plotter.XY{X: p50, Y: y})
			stroke, err := plotter.NewLine(plotter.XYs{{X: p50, Y: y}, {X: most, Y: y}})
			if err != nil {
				return err
			}
			stroke.Color, stroke.Width = plotutil.DarkColors[i%len(plotutil.DarkColors)], vg.Points(1.5)
			p.Add(stroke)
		}
		if len(marks) == 0 {
			continue
		}
		s, err := plotter.NewScatter(marks)
		if err != nil {
			return err
		}
		s.Color, s.Shape, s.Radius = plotutil.DarkColors[i%len(plotutil.DarkColors)], plotutil.Shape(i), vg.Points(3)
		p.Add(s)
		p.Legend.Add(name, s)
	}
	if len(labels) == 0 {
		return nil
	}
	ticks := make([]plot.Tick, len(labels))
	for i, l := range labels {
		ticks[i] = plot.Tick{Value: float64(-i), Label: l}
	}
	p.Y.Tick.Marker = plot.ConstantTicks(ticks)
	p.Y.Min, p.Y.Max = -float64(len(labels))+0.5, 2.5
	p.X.Min, p.X.Max = low/1.5, high*1.5
	p.X.Tick.Marker = plot.ConstantTicks(logTicks(p.X.Min, p.X.Max))
	p.Legend.Top, p.Legend.Left = true, false
	return save(p, 26*vg.Centimeter, vg.Length(6+2*len(labels))*vg.Centimeter, path)
}

// drawSizes has the gap after a host loss over the number of addresses.
func (r *results) drawSizes(path string) error {
	p := newPlot()
	p.Title.Text = "Host loss: until the last address is served again, the longest of all runs"
	p.X.Label.Text, p.Y.Label.Text = "addresses, half of them on the lost host", "ms"
	p.X.Scale = plot.LogScale{}
	p.Add(plotter.NewGrid())
	low, high := math.Inf(1), 1.0
	for i, name := range r.contenders() {
		var line plotter.XYs
		for _, w := range r.Rows {
			if w.Contender == name && w.Fault == hostLoss && w.Voters == 3 && !w.Busy {
				line = append(line, plotter.XY{X: float64(w.HAVIPs), Y: w.quantile(1)})
				low, high = min(low, float64(w.HAVIPs)), max(high, float64(w.HAVIPs))
			}
		}
		if len(line) < 2 {
			continue
		}
		slices.SortFunc(line, func(a, b plotter.XY) int { return cmp.Compare(a.X, b.X) })
		l, s, err := plotter.NewLinePoints(line)
		if err != nil {
			return err
		}
		l.Color, s.Color, s.Shape = plotutil.DarkColors[i%len(plotutil.DarkColors)], plotutil.DarkColors[i%len(plotutil.DarkColors)], plotutil.Shape(i)
		p.Add(l, s)
		p.Legend.Add(name, l, s)
	}
	p.X.Min, p.X.Max, p.Y.Min = low/1.5, high*1.5, 0
	p.X.Tick.Marker = plot.ConstantTicks(logTicks(p.X.Min, p.X.Max))
	p.Legend.Top, p.Legend.Left = true, true
	return save(p, 22*vg.Centimeter, 12*vg.Centimeter, path)
}

// drawCosts has a bar for the CPU of each contender.
func (r *results) drawCosts(path string) error {
	var values plotter.Values
	var names []string
	for _, c := range r.Costs {
		values = append(values, c.CPU)
		names = append(names, fmt.Sprintf("%s, %d nodes, %d", c.Contender, c.Voters, c.HAVIPs))
	}
	if len(values) == 0 {
		return nil
	}
	slices.Reverse(values) // the first on top
	slices.Reverse(names)
	p := newPlot()
	p.Title.Text = "CPU of one node while nothing changes"
	p.X.Label.Text = "% of a core"
	bars, err := plotter.NewBarChart(values, vg.Points(14))
	if err != nil {
		return err
	}
	bars.Horizontal, bars.Color, bars.LineStyle.Width = true, color.RGBA{R: 70, G: 120, B: 180, A: 255}, 0
	p.Add(bars, plotter.NewGrid())
	p.NominalY(names...)
	p.X.Min = 0
	return save(p, 22*vg.Centimeter, vg.Length(3+len(values))*vg.Centimeter, path)
}

// newPlot has letters that browsers have, or others of the same width for.
func newPlot() *plot.Plot {
	p := plot.New()
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.X.Tick.Label, &p.Y.Label.TextStyle, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
	p.Title.Padding, p.Legend.Padding, p.Y.Padding = vg.Points(8), vg.Points(4), vg.Points(2)
	p.BackgroundColor = color.White
	return p
}

func save(p *plot.Plot, width, height vg.Length, path string) error {
	w, err := p.WriterTo(width, height, "svg")
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		return err
	}
	svg := bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;"))
	return os.WriteFile(path, svg, 0o644)
}
