//go:debug randseednop=0
package sim

import (
	"flag"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"havip-cluster/testbed/labtest"
)

var (
	seedFlag     = flag.Uint64("sim.seed", 1, "first seed")
	seedsFlag    = flag.Int("sim.seeds", 4, "number of seeds")
	stepFlag     = flag.Uint64("sim.step", 1, "from one seed to the next: several processes share a range")
	durationFlag = flag.Duration("sim.duration", 5*time.Minute, "virtual time with faults, of each seed")
	traceFlag    = flag.Bool("sim.trace", false, "print what happens, with virtual times")
	fileFlag     = flag.String("sim.file", "", "play this schedule instead of seeds")
	timesFlag    = flag.Int("sim.times", 1, "play each schedule so often")
	outFlag      = flag.String("sim.out", "", "folder for failing schedules; the test's own folder without it")
	shrinkFlag   = flag.Int("sim.shrink", 200, "plays to spend on making a failing schedule smaller")
)

// TestMain has one thread at a time and little garbage collection: raft's own luck is
// then nearly the same in each play of a seed, and plays are faster.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

// play runs a schedule in a bubble of its own.
func play(t *testing.T, s Schedule, trace func(time.Duration, string)) (st Stats, v *Violation) {
	t.Helper()
	//lint:ignore SA1019 raft takes its time-outs from the global generator
	rand.Seed(int64(s.Seed)) //nolint:staticcheck // see above
	defer func() {
		// Raft leaves what is in its queues unanswered when it is shut down (raft v1.8.0: nobody
		// reads applyCh any more), and so a goroutine of membership.wait may stay.
		if r := recover(); r != nil && !strings.Contains(fmt.Sprint(r), "blocked goroutines remain") {
			panic(r)
		} else if r != nil {
			st.Left++
		}
	}()
	labtest.Bubble(t, func(*testing.T) { st, v = Play(s, trace) })
	return st, v
}

// recorder keeps the last lines of a run.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

const recorded = 60

func (r *recorder) add(at time.Duration, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := fmt.Sprintf("%14v %s", at, text)
	if *traceFlag {
		fmt.Fprintln(os.Stderr, line)
	}
	if strings.Contains(text, "raft:") || len(text) < 20 && strings.Contains(text, " to ") {
		return
	}
	if r.lines = append(r.lines, line); len(r.lines) > recorded {
		r.lines = slices.Delete(r.lines, 0, 1)
	}
}

func (r *recorder) String() string { return strings.Join(r.lines, "\n") }

// schedules are those that the flags name.
func schedules(t *testing.T) func(yield func(Schedule) bool) {
	t.Helper()
	return func(yield func(Schedule) bool) {
		for i := range *seedsFlag {
			var s Schedule
			if *fileFlag != "" {
				if s = read(t, *fileFlag); i > 0 {
					return
				}
			} else {
				s = Generate(*seedFlag+uint64(i)**stepFlag, *durationFlag)
			}
			for range *timesFlag {
				if !yield(s) {
					return
				}
			}
		}
	}
}

func read(t *testing.T, name string) Schedule {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := Parse(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return s
}

// TestSim plays random schedules: never a violation, and service again after the faults.
func TestSim(t *testing.T) {
	var total Stats
	began := time.Now()
	for s := range schedules(t) {
		s.begin(t)
		var trace func(time.Duration, string)
		if *traceFlag {
			trace = (&recorder{}).add
		}
		begin := time.Now()
		st, v := play(t, s, trace)
		total.Add(st)
		fmt.Println("stats", st)
		t.Logf("seed %d: %s, %d hosts, %d events, %v virtual in %v", s.Seed, s.Profile, len(s.Roles), len(s.Events), st.Virtual.Round(time.Second), time.Since(begin).Round(ms))
		if idle := st.Idle(); len(idle) > 0 && v == nil {
			t.Errorf("seed %d: nothing happened: no %v", s.Seed, idle)
		}
		if v != nil {
			report(t, s, v)
		}
	}
	took := time.Since(began)
	pace := time.Duration(0)
	if total.Faults > 0 {
		pace = total.Faulty / time.Duration(total.Faults)
	}
	t.Logf("%d runs, %.1f cluster-hours, %.1f of them with a fault each %v; %.1f hours per real minute on one core",
		total.Runs, total.Virtual.Hours(), total.Faulty.Hours(), pace.Round(ms), total.Virtual.Hours()/took.Minutes())
}

func (s Schedule) folder(t *testing.T) string {
	if *outFlag == "" {
		return t.ArtifactDir()
	}
	if err := os.MkdirAll(*outFlag, 0o755); err != nil {
		t.Fatal(err)
	}
	return *outFlag
}

// begin leaves the schedule where it is found if the process dies of it: a panic in one
// of raft's goroutines, or a bubble that is stuck, ends the process.
func (s Schedule) begin(t *testing.T) {
	if *outFlag != "" {
		s.save(t, fmt.Sprintf("current-%d.txt", *seedFlag%*stepFlag), "is being played")
	}
}

func (s Schedule) save(t *testing.T, name, why string) string {
	t.Helper()
	name = filepath.Join(s.folder(t), name)
	if err := os.WriteFile(name, []byte("# "+strings.ReplaceAll(why, "\n", " ")+"\n"+s.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

const replays = 5

// report tells all about a failing schedule: how often it fails again, and what is left
// of it when every event is dropped without which it still fails.
func report(t *testing.T, s Schedule, v *Violation) {
	t.Helper()
	name := s.save(t, fmt.Sprintf("seed-%d.txt", s.Seed), v.String())
	again := 0
	for range replays {
		if _, w := play(t, s, nil); w != nil && w.Rule == v.Rule {
			again++
		}
	}
	fails := func(s Schedule) bool {
		for range 2 { // the same faults, not quite the same interleaving
			fmt.Println("shrinking") // a sign of life for search
			if _, w := play(t, s, nil); w != nil && w.Rule == v.Rule {
				return true
			}
		}
		return false
	}
	small, played := Shrink(s, *shrinkFlag, fails)
	short := small.save(t, fmt.Sprintf("seed-%d-small.txt", s.Seed), v.String())
	var rec recorder
	for range replays {
		rec.lines = nil
		if _, w := play(t, small, rec.add); w != nil {
			break
		}
	}
	t.Errorf("seed %d: %v\nplay it again: make sim SEED0=%d SEEDS=1, or -sim.file %s; it failed %d of %d times again\nafter %d plays %d of %d events are left (%s):\n%v\nthe end of that:\n%v",
		s.Seed, v, s.Seed, name, again, replays, played, len(small.Events), len(s.Events), short, small, &rec)
}

// TestScenarios plays the schedules that are kept: past findings, and those made to
// measure.
func TestScenarios(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			var rec recorder
			st, v := play(t, read(t, name), rec.add)
			if idle := st.Idle(); v != nil || len(idle) > 0 {
				t.Errorf("%v, no %v\n%v", v, idle, &rec)
			}
		})
	}
}

func TestScheduleText(t *testing.T) {
	for seed := range uint64(50) {
		s := Generate(seed, time.Minute)
		got, err := Parse(strings.NewReader(s.String()))
		if err != nil || got.String() != s.String() {
			t.Fatalf("seed %d: %v\n%v\n%v", seed, err, s, got)
		}
	}
	for _, bad := range []string{
		"", "seed x", "cluster roles=voter", "1s kill", "fly 1s",
		"cluster roles=agent profile=lan lease=1s delay=1ms enis=1 havips=1 duration=1s\nclocks ppm=0",
		"cluster roles=voter profile=lan lease=1s delay=1ms enis=1 havips=1 duration=1s\nclocks ppm=0\n1s kill b keep 1s",
		"cluster roles=voter profile=lan lease=1s delay=1ms enis=1 havips=1 duration=1s\nclocks ppm=0\n1s hold word a a 1s 1s",
		"cluster roles=voter profile=lan lease=1s delay=1ms enis=1 havips=1 duration=1s\nclocks ppm=0\n-1s kill a keep 1s",
	} {
		if _, err := Parse(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestShrink(t *testing.T) {
	s := Generate(1, 5*time.Minute)
	need := []string{s.Events[3].String(), s.Events[len(s.Events)-2].String()}
	small, played := Shrink(s, 1000, func(s Schedule) bool {
		n := 0
		for _, e := range s.Events {
			if slices.Contains(need, e.String()) {
				n++
			}
		}
		return n == len(need)
	})
	if len(small.Events) != len(need) || played > 200 {
		t.Errorf("%d events are left after %d plays: %v", len(small.Events), played, small.Events)
	}
}
