package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
)

const (
	calibrateLeast = 5 * time.Second
	calibrateMost  = 7 * 24 * time.Hour
	calibrateEvery = 2 * time.Second // between two questions to the nodes
	// calibrateOverlap is how many seconds more are asked for than have passed: an answer may come late.
	calibrateOverlap = 5
	loopsPerCore     = 4 // busy loops of --load
	worstShown       = 5
)

// calibration is what `calibrate` prints.
type calibration struct {
	Seconds   int64        `json:"seconds" doc:"For how long it measured"`
	Load      bool         `json:"load"`
	LeaseMS   int64        `json:"lease_ms"`
	Proposed  api.Proposal `json:"proposed"`
	Worst     []api.Worst  `json:"worst"`
	Nodes     []calibrated `json:"nodes"`
	SyncMaxUS int64        `json:"sync_max_us"`
}

// calibrated is what was seen of one node.
type calibrated struct {
	Node      string    `json:"node"`
	Plane     api.Plane `json:"lease_plane"`
	Renewals  uint64    `json:"renewals"`
	LateMaxUS int64     `json:"late_max_us"`
	Late99US  int64     `json:"late_p99_us"`
	TripMaxUS int64     `json:"trip_max_us"`
	Trip50US  int64     `json:"trip_p50_us"`
	StealMS   int64     `json:"steal_ms"`
	SyncMaxUS int64     `json:"sync_max_us"`
	Problem   string    `json:"problem,omitempty"`
}

func newCalibrateCommand(g *globals) *cobra.Command {
	span, load := 10*time.Minute, false
	c := verb("calibrate", "Measure how this cluster renews its leases, and propose the shortest lease with its margin", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		if span < calibrateLeast || span > calibrateMost {
			return usage("--for %s is not within %s and %s", span, calibrateLeast, calibrateMost)
		}
		ctx, stop := interruptible(ctx)
		defer stop()
		if load {
			end := burden()
			defer end()
		}
		fmt.Fprintf(g.stderr, "Measuring for %s; Ctrl-C ends it early, with what was seen.\n", span)
		p := g.progress()
		seen, err := gather(ctx, c, span, func(passed time.Duration) {
			p.tell(int(passed/time.Second), int(span/time.Second), fmt.Sprintf("%s of %s", passed.Truncate(progressStep(p.terminal, span)), span))
		})
		p.end()
		if err != nil {
			return err
		}
		out, err := seen.result()
		out.Load = load
		return emit(g, out, err, printCalibration)
	}))
	c.Long = c.Short + ".\n\n" +
		"Each node knows of its last 15 minutes, second by second, how late its renewals left and how long a majority took to answer; here\n" +
		"they are gathered for as long as is asked for, with stolen processor time and the time of a disk flush. The proposal is the shortest lease of\n" +
		"which the worst event, with the pace of the renewals, used half. Let it run for hours, through backups and the busiest time of the day.\n" +
		"--load makes this host, and no other, busy meanwhile: " + fmt.Sprint(loopsPerCore) + " loops for each core and a writer that flushes."
	c.Example = "  havip-cluster calibrate --for 1h\n  havip-cluster calibrate --for 2m --load -o json"
	c.Flags().DurationVar(&span, "for", span, "for how long to measure")
	c.Flags().BoolVar(&load, "load", false, "make this host busy meanwhile")
	return c
}

// gathered is what the nodes have told, each second once.
type gathered struct {
	began, ended time.Time
	nodes        map[string]*told
}

type told struct {
	last        api.NodeCalibration
	seconds     map[int64]api.CalibrationSecond
	steal       [2]int64        // of the first and the last word
	stolen      map[int64]int64 // microseconds until a word, by unix seconds of the word before
	sync, heard int64
}

// progressStep is how finely the time of a measurement is told: to the second on a terminal, and into a
// pipe at most ten times in all.
func progressStep(terminal bool, span time.Duration) time.Duration {
	if terminal {
		return time.Second
	}
	return max(span/10, time.Second)
}

// gather asks the nodes every few seconds. Without an answer at all it fails; a node that is away for
// a while is asked again.
func gather(ctx context.Context, c *api.Client, span time.Duration, tell func(passed time.Duration)) (*gathered, error) {
	g := &gathered{began: time.Now(), nodes: map[string]*told{}}
	end := time.NewTimer(span)
	defer end.Stop()
	tick := time.NewTicker(calibrateEvery)
	defer tick.Stop()
	var last error
	for asked := g.began; ; {
		over := false
		select {
		case <-ctx.Done():
			over = true
		case <-end.C:
			over = true
		case <-tick.C:
		}
		back := min(int(time.Since(asked)/time.Second)+calibrateOverlap, api.CalibrationSeconds)
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), calibrateEvery*2)
		list, err := c.Calibration(asking, back, true)
		cancel()
		if g.ended = time.Now(); err == nil {
			asked = g.ended
			g.take(list)
		} else {
			last = err
		}
		tell(min(g.ended.Sub(g.began), span))
		if over {
			break
		}
	}
	if len(g.nodes) == 0 {
		return nil, errors.Join(errors.New("no node has told how it renews"), last)
	}
	return g, nil
}

// take notes what came. Seconds before the measurement do not count.
func (g *gathered) take(list []api.NodeCalibration) {
	for _, n := range list {
		t := g.nodes[n.Node]
		if t == nil {
			t = &told{seconds: map[int64]api.CalibrationSecond{}, stolen: map[int64]int64{}}
			g.nodes[n.Node] = t
		}
		if n.Problem != "" && len(n.Seconds) == 0 {
			t.last.Node, t.last.Problem = n.Node, n.Problem
			continue
		}
		if t.heard == 0 {
			t.steal[0] = n.StealUS
		} else {
			t.stolen[t.heard] = n.StealUS - t.steal[1]
		}
		t.last, t.steal[1], t.heard, t.sync = n, n.StealUS, g.ended.Unix(), max(t.sync, n.SyncUS)
		for _, s := range n.Seconds {
			if s.At >= g.began.Unix() {
				t.seconds[s.At] = s
			}
		}
	}
}

// result judges what was gathered.
func (g *gathered) result() (calibration, error) {
	out := calibration{Seconds: int64(g.ended.Sub(g.began).Round(time.Second) / time.Second), Worst: []api.Worst{}, Nodes: []calibrated{}}
	var all []api.NodeCalibration
	names := make([]string, 0, len(g.nodes))
	for name := range g.nodes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t := g.nodes[name]
		n := t.last
		n.SyncUS, n.Seconds = t.sync, make([]api.CalibrationSecond, 0, len(t.seconds))
		for _, s := range t.seconds {
			n.Seconds = append(n.Seconds, s)
		}
		slices.SortFunc(n.Seconds, func(a, b api.CalibrationSecond) int { return int(a.At - b.At) })
		all = append(all, n)
		out.LeaseMS, out.SyncMaxUS = max(out.LeaseMS, n.LeaseMS), max(out.SyncMaxUS, t.sync)
		out.Nodes = append(out.Nodes, summary(n, t))
	}
	p, worst, known := api.Propose(all)
	if !known {
		return out, errors.New("no node has renewed a lease meanwhile")
	}
	for i := range worst {
		for from, us := range g.nodes[worst[i].Node].stolen {
			// What was stolen between two words is known, not in which second: half of what the event took is reason enough.
			if d := worst[i].At - from; d >= -1 && d <= int64(calibrateEvery/time.Second) && us/1000 >= max(worst[i].UsedMS/2, 1) {
				worst[i].Cause = fmt.Sprintf("the hypervisor took %d ms of the processors about then", us/1000)
			}
		}
	}
	out.Proposed, out.Worst = p, worst[:min(len(worst), worstShown)]
	return out, nil
}

func summary(n api.NodeCalibration, t *told) calibrated {
	out := calibrated{Node: n.Node, Plane: n.Plane, StealMS: (t.steal[1] - t.steal[0]) / 1000, SyncMaxUS: t.sync, Problem: n.Problem}
	var late, trip []int64
	for _, s := range n.Seconds {
		out.Renewals += uint64(s.Renewals)
		late, trip = append(late, s.LateUS), append(trip, s.TripUS)
	}
	if len(late) == 0 {
		return out
	}
	slices.Sort(late)
	slices.Sort(trip)
	out.LateMaxUS, out.Late99US = late[len(late)-1], late[len(late)*99/100]
	out.TripMaxUS, out.Trip50US = trip[len(trip)-1], trip[len(trip)/2]
	return out
}

func printCalibration(w io.Writer, c calibration) {
	load := ""
	if c.Load {
		load = ", with this host made busy"
	}
	printPairs(w, []pair{
		{"MEASURED", fmt.Sprintf("%s%s", time.Duration(c.Seconds)*time.Second, load)},
		{"LEASE NOW", millis(c.LeaseMS)},
		{"PROPOSED", fmt.Sprintf("%s, of which the worst event would have left %s; without a margin %s", millis(c.Proposed.LeaseMS), millis(c.Proposed.MarginMS), millis(c.Proposed.KeptMS))},
		{"FAILOVER", fmt.Sprintf("about %s after the loss of a host", millis(c.Proposed.FailoverMS))},
	})
	for _, e := range c.Worst {
		fmt.Fprintf(w, "! %s, %s: %s beside the pace of renewals (%d ms late, %d ms until a majority had answered): %s\n",
			time.Unix(e.At, 0).UTC().Format(time.RFC3339), oneLine(e.Node), millis(e.UsedMS), e.LateMS, e.TripMS, oneLine(e.Cause))
	}
	fmt.Fprintln(w)
	printTable(w, c.Nodes, calibratedColumns)
}

var calibratedColumns = []column[calibrated]{
	{"NODE", func(n calibrated) string { return n.Node }},
	{"RENEWALS", func(n calibrated) string { return fmt.Sprint(n.Renewals) }},
	{"LATE P99", func(n calibrated) string { return microsText(n.Late99US) }},
	{"LATE MAX", func(n calibrated) string { return microsText(n.LateMaxUS) }},
	{"TRIP P50", func(n calibrated) string { return microsText(n.Trip50US) }},
	{"TRIP MAX", func(n calibrated) string { return microsText(n.TripMaxUS) }},
	{"STOLEN", func(n calibrated) string { return millis(n.StealMS) }},
	{"FLUSH MAX", func(n calibrated) string { return microsText(n.SyncMaxUS) }},
	{"PLANE", func(n calibrated) string { return strings.Join(strings.Fields(planeText(n.Plane)+" "+n.Problem), " ") }},
}

func microsText(us int64) string {
	return (time.Duration(us) * time.Microsecond).Round(10 * time.Microsecond).String()
}

// burden makes this host busy: loops that ask for nothing but the processor, and a file that is
// flushed again and again. The function that it returns ends it.
func burden() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	loops := loopsPerCore * runtime.NumCPU()
	before := runtime.GOMAXPROCS(loops + runtime.NumCPU())
	var all sync.WaitGroup
	for range loops {
		all.Go(func() {
			for n := uint64(1); ctx.Err() == nil; {
				for range 1 << 16 {
					n = n*6364136223846793005 + 1442695040888963407
				}
				runtime.KeepAlive(n)
			}
		})
	}
	all.Go(func() {
		f, err := os.CreateTemp("", "havip-calibrate-")
		if err != nil {
			return // the processors are busy all the same
		}
		defer os.Remove(f.Name())
		defer f.Close()
		for block := make([]byte, 64<<10); ctx.Err() == nil; {
			if _, err := f.WriteAt(block, 0); err != nil || f.Sync() != nil {
				return
			}
		}
	})
	return func() {
		cancel()
		all.Wait()
		runtime.GOMAXPROCS(before)
	}
}
