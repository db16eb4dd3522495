package realtime

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// switches is how often a thread has gone to sleep by itself.
func switches(t *testing.T, id int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", id))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(rest))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no voluntary_ctxt_switches")
	return 0
}

// busy runs for a while and says how often a thread slept meanwhile; again a few times, where the machine stood still and
// it did not.
func busy(t *testing.T, id int, d time.Duration) int {
	t.Helper()
	before := switches(t, id)
	for range 8 {
		for end := time.Now().Add(d); time.Now().Before(end); {
			runtime.Gosched()
		}
		if n := switches(t, id) - before; n > 0 {
			return n
		}
	}
	return 0
}

// While a goroutine runs the monitor wakes, also when it is relaxed; a thread that only works does not.
func TestMonitorIsFoundAndRelaxed(t *testing.T) {
	id, err := monitorThread("/proc")
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/proc/%d/timerslack_ns", id)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(path, old, 0) })
	const span = 200 * time.Millisecond
	before := busy(t, id, span)
	if err := RelaxMonitor(); err != nil {
		t.Skipf("this host refuses: %v", err)
	}
	after := busy(t, id, span)
	t.Logf("in %v of work thread %d slept %d times before, %d after", span, id, before, after)
	if before == 0 || after == 0 {
		t.Errorf("thread %d did not wake in %v of work: it is not the monitor", id, span)
	}
	if now, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(now)) != fmt.Sprint(MonitorSlack.Nanoseconds()) {
		t.Errorf("its slack is %s, %v; want %d", now, err, MonitorSlack.Nanoseconds())
	}
}

func TestMonitorThreadIsTheFirstAfterTheProgram(t *testing.T) {
	for name, c := range map[string]struct {
		tasks []string
		want  int
	}{
		"in order":           {[]string{"100", "101", "107"}, 101},
		"round the circle":   {[]string{"32760", "302", "300", "450"}, 300},
		"the last before it": {[]string{"32760", "32767", "300"}, 32767},
	} {
		t.Run(name, func(t *testing.T) {
			proc := t.TempDir()
			for _, id := range c.tasks {
				if err := os.MkdirAll(filepath.Join(proc, c.tasks[0], "task", id), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(c.tasks[0], filepath.Join(proc, "self")); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(proc, "sys/kernel"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(proc, "sys/kernel/pid_max"), []byte("32768\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := monitorThread(proc); err != nil || got != c.want {
				t.Errorf("thread %d, %v; want %d", got, err, c.want)
			}
		})
	}
	if _, err := monitorThread(t.TempDir()); err == nil {
		t.Error("without a /proc: no error")
	}
}

// A second call counts from the cores again.
func TestTuneSchedulerIsRepeatable(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	before := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	runtime.SetDefaultGOMAXPROCS()
	cores := runtime.GOMAXPROCS(0)
	for _, spare := range []int{PlaneSpare, Spare, Spare} {
		_ = TuneScheduler(spare) // the monitor may not be ours to relax
		if got := runtime.GOMAXPROCS(0); got != cores+spare {
			t.Errorf("%d places, want %d + %d", got, cores, spare)
		}
	}
}
