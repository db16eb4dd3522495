// Package search plays a range of seeds in several processes of the simulation's test
// binary, because one seed must not disturb another's luck, and sums up what they print.
package search

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type settings struct {
	binary, out string
	seed        uint64
	seeds, jobs int
	duration    time.Duration
	limit       time.Duration
}

// Command is `jepsen search`; it returns the exit code.
func Command(args []string) int {
	f := flag.NewFlagSet("jepsen search", flag.ExitOnError)
	var s settings
	f.StringVar(&s.binary, "binary", "", "the simulation's test binary")
	f.StringVar(&s.out, "out", "", "folder for schedules that fail")
	f.Uint64Var(&s.seed, "seed", 1, "first seed")
	f.IntVar(&s.seeds, "seeds", 24, "number of seeds")
	f.DurationVar(&s.duration, "duration", 5*time.Minute, "virtual time with faults of each")
	f.IntVar(&s.jobs, "jobs", 2, "processes")
	f.DurationVar(&s.limit, "limit", 24*time.Hour, "real time")
	_ = f.Parse(args) // it exits
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		return 1
	}
	return 0
}

func run(s settings) (err error) {
	if s.jobs < 1 || s.seeds < 1 {
		return errors.New("at least one process and one seed")
	}
	if s.binary, err = filepath.Abs(s.binary); err != nil {
		return err
	}
	if s.out, err = filepath.Abs(s.out); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	defer cancel()
	t := &totals{sums: map[string]float64{}}
	began := time.Now()
	var wg sync.WaitGroup
	for i := range min(s.jobs, s.seeds) {
		wg.Go(func() { t.job(ctx, s, i) })
	}
	wg.Wait()
	t.print(s, time.Since(began))
	if t.failed > 0 {
		return fmt.Errorf("%d processes found something: see above, and %s", t.failed, s.out)
	}
	return nil
}

// totals is what the processes have told.
type totals struct {
	mu     sync.Mutex
	sums   map[string]float64 // by the name of the figure; durations in seconds
	failed int
}

// job plays every jobs-th seed.
func (t *totals) job(ctx context.Context, s settings, i int) {
	n := (s.seeds - i + s.jobs - 1) / s.jobs
	cmd := exec.CommandContext(ctx, s.binary, "-test.v", "-test.timeout", "0", "-test.run", "^TestSim$",
		"-sim.seed", strconv.FormatUint(s.seed+uint64(i), 10), "-sim.step", strconv.Itoa(s.jobs), "-sim.seeds", strconv.Itoa(n),
		"-sim.duration", s.duration.String(), "-sim.out", s.out)
	cmd.Dir = filepath.Dir(s.binary)
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	pipe, err := cmd.StdoutPipe()
	cmd.Stderr = cmd.Stdout
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.fail(err)
		return
	}
	// Each play tells its figures. Silence is a play that does not end: its stacks say where.
	stuck := time.AfterFunc(stuckAfter, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) })
	defer stuck.Stop()
	t.read(bufio.NewScanner(pipe), func() { stuck.Reset(stuckAfter) })
	if err := cmd.Wait(); err != nil && ctx.Err() == nil { // what ends for want of time has found nothing
		t.fail(fmt.Errorf("process %d: %w; the schedule that was being played is in %s", i, err, s.out))
	}
}

func (t *totals) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed++
	fmt.Println(err)
}

const (
	lineMax    = 1 << 20          // bytes
	stuckAfter = 10 * time.Minute // of real time, far more than the longest play takes on a busy machine
)

var (
	quiet  = regexp.MustCompile(`seed \d+: .* virtual in|^(=== RUN|PASS|--- PASS|shrinking)|cluster-hours`)
	figure = regexp.MustCompile(`(\w+)=(\S+)`)
)

// read sums up the figures and passes on what is news.
func (t *totals) read(lines *bufio.Scanner, alive func()) {
	lines.Buffer(nil, lineMax)
	for lines.Scan() {
		text := lines.Text()
		alive()
		switch {
		case strings.HasPrefix(text, "stats "):
			t.add(text)
		case !quiet.MatchString(text):
			fmt.Println(text)
		}
	}
}

func (t *totals) add(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range figure.FindAllStringSubmatch(text, -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if d, bad := time.ParseDuration(m[2]); err != nil && bad == nil {
			v, err = d.Seconds(), nil
		}
		switch {
		case err != nil:
		case m[1] == "settle":
			t.sums[m[1]] = max(t.sums[m[1]], v)
		default:
			t.sums[m[1]] += v
		}
	}
}

func (t *totals) print(s settings, took time.Duration) {
	hours := t.sums["virtual"] / 3600
	fmt.Printf("sim: seeds %d to %d: %.0f runs, %.1f cluster-hours in %v of real time: %.1f hours per real minute in %d processes\n",
		s.seed, s.seed+uint64(s.seeds)-1, t.sums["runs"], hours, took.Round(time.Second), hours/took.Minutes(), s.jobs)
	if t.sums["faults"] > 0 {
		fmt.Printf("sim: %.1f of the hours with faults, one each %.1f s; longest way back to service after the last fault %.1f s\n",
			t.sums["faulty"]/3600, t.sums["faulty"]/t.sums["faults"], t.sums["settle"])
	}
	var names []string
	for name := range t.sums {
		if name != "virtual" && name != "faulty" && name != "settle" && name != "runs" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	line := "sim:"
	for _, name := range names {
		line += fmt.Sprintf(" %s=%.0f", name, t.sums[name])
	}
	fmt.Println(line)
	fmt.Printf("sim: %d processes found a violation\n", t.failed)
}
