package realtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const childEnv = "HAVIP_REALTIME_CHILD"

// TestMain: as a child it says what a process in its cgroup gets.
func TestMain(m *testing.M) {
	if group := os.Getenv(childEnv); group != "" {
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(fmt.Sprint(os.Getpid())), 0); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Printf("plain: %v\n", tryHere(setPolicy(unix.SCHED_RR, Priority)))
		fmt.Printf("explained: %v\n", host{root: "/"}.explain(unix.EPERM))
		fmt.Printf("raised: %v\n", TryPriority())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func tryHere(err error) error {
	if err == nil {
		_ = setPolicy(schedOther, 0)
	}
	return err
}

// policy of this process's threads, by thread id.
func policies(t *testing.T) map[string]uint32 {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint32{}
	for _, task := range tasks {
		var id int
		fmt.Sscan(task.Name(), &id)
		if attr, err := unix.SchedGetAttr(id, 0); err == nil {
			out[task.Name()] = attr.Policy
		}
	}
	return out
}

func realTimeThreads(t *testing.T) (n int) {
	for _, p := range policies(t) {
		if p == unix.SCHED_RR {
			n++
		}
	}
	return n
}

// One thread gets the priority; those that it makes do not, and it gives it back when it leaves.
func TestOneThreadIsRealTime(t *testing.T) {
	p := New()
	entered, leave, left := make(chan bool), make(chan bool), make(chan bool)
	go func() {
		defer close(left)
		defer p.Enter("renews").Leave()
		for range 20 { // other threads come to be, some made by this one
			go func() { time.Sleep(5 * time.Millisecond) }()
		}
		close(entered)
		<-leave
	}()
	<-entered
	if r := p.Report(); !r.RealTime || r.Refused != "" {
		t.Fatalf("this test needs root, or CAP_SYS_NICE: %+v", r)
	}
	time.Sleep(10 * time.Millisecond)
	if n := realTimeThreads(t); n != 1 {
		t.Errorf("%d threads are real-time", n)
	}
	close(leave)
	<-left
	for end := time.Now().Add(20 * time.Second); realTimeThreads(t) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the thread has kept its priority, and lives")
		}
	}
}

// A nil plane asks for nothing and stops nobody.
func TestNoPlane(t *testing.T) {
	var p *Plane
	th := p.Enter("x")
	th.Worked()
	th.Leave()
	if r := p.Report(); r != (Report{}) {
		t.Errorf("%+v", r)
	}
}

// A cgroup (version 1) without a real-time budget: the kernel's no is explained, and the thread that
// renews moves to the root of the cpu controller, where it gets the priority.
func TestGroupWithoutBudget(t *testing.T) {
	const cpu = "/sys/fs/cgroup/cpu"
	if _, err := os.Stat(cpu + "/cpu.rt_runtime_us"); err != nil {
		t.Skip("no real-time budgets by group here (CONFIG_RT_GROUP_SCHED with cgroup version 1)")
	}
	group := filepath.Join(cpu, fmt.Sprintf("havip-test-%d", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skip("the cgroup file system cannot be written here:", err)
	}
	t.Cleanup(func() {
		for range 100 {
			if os.Remove(group) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error("the cgroup is left")
	})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+group)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text := string(out)
	if !strings.Contains(text, "plain: operation not permitted") || !strings.Contains(text, "cpu.rt_runtime_us is 0") ||
		!strings.Contains(text, filepath.Base(group)) || !strings.Contains(text, "raised: <nil>") {
		t.Errorf("%s", text)
	}
}

// What a host's files say, as text.
func TestExplain(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"no right": {map[string]string{"proc/self/status": "CapEff:\t0000000000000000\n"}, []string{"CAP_SYS_NICE is missing", "LimitRTPRIO=10"}},
		"version 1": {map[string]string{
			"proc/self/status": "CapEff:\t000001ffffffffff\n", "proc/self/cgroup": "4:cpu,cpuacct:/system.slice/h.service\n0::/\n",
			"sys/fs/cgroup/cpu,cpuacct/system.slice/h.service/cpu.rt_runtime_us": "0\n",
		}, []string{"/system.slice/h.service has no real-time budget", "cpu.rt_runtime_us of"}},
		"version 2": {map[string]string{
			"proc/self/status": "CapEff:\t000001ffffffffff\n", "proc/self/cgroup": "0::/system.slice/h.service\n",
		}, []string{"CONFIG_RT_GROUP_SCHED", "rt_group_sched=0", "/system.slice/h.service"}},
		"root of version 2": {map[string]string{
			"proc/self/status": "CapEff:\t000001ffffffffff\n", "proc/self/cgroup": "0::/\n",
		}, []string{"seccomp"}},
	} {
		root := t.TempDir()
		for file, text := range c.files {
			path := filepath.Join(root, file)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		got := host{root: root}.explain(unix.EPERM).Error()
		for _, w := range c.want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: %q has no %q", name, got, w)
			}
		}
	}
}

// A thread that does nothing but work is an ordinary one for a second; one that waits never is.
func TestMeter(t *testing.T) {
	m := meter{granted: true, raised: true}
	now, used := time.Hour, time.Minute
	for range 1000 { // a third of a core
		now, used = now+3*time.Millisecond, used+time.Millisecond
		if v := m.sample(now, used); v != stay {
			t.Fatalf("it was quiet: %v", v)
		}
	}
	var at time.Duration
	for start := now; at == 0; {
		now, used = now+time.Millisecond, used+time.Millisecond
		if m.sample(now, used) == lower {
			at = now
		}
		if now > start+3*meterSpan {
			t.Fatal("a flood does not end")
		}
	}
	for {
		now, used = now+time.Millisecond, used+time.Millisecond
		if m.sample(now, used) == raise {
			break
		}
		if now > at+2*meterRest {
			t.Fatal("it never rises again")
		}
	}
	if now < at+meterRest {
		t.Errorf("it rose after %v", now-at)
	}
}

// Of this very process: after it, its own memory is locked, and files that are mapped are not.
func TestLockMemory(t *testing.T) {
	if refused := MayLock(); refused != nil {
		t.Fatalf("this test needs root: %v", refused)
	}
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mapped, err := unix.Mmap(int(f.Fd()), 0, 1<<20, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mapped)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := New()
	p.KeepMemory(ctx)
	if r := p.Report(); !r.Locked || r.LockedBytes == 0 {
		t.Fatalf("%+v", r)
	}
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	locked, sawFile, name := 0, false, ""
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if strings.Contains(fields[0], "-") && !strings.HasSuffix(fields[0], ":") {
			name = strings.Join(fields[5:], " ")
		}
		if fields[0] != "VmFlags:" {
			continue
		}
		lo := slices.Contains(fields, "lo")
		if name == file {
			sawFile = true
			if lo {
				t.Error("the log is locked")
			}
		}
		if lo {
			locked++
		}
	}
	if locked < 3 || !sawFile {
		t.Errorf("%d mappings are locked, the log seen: %v", locked, sawFile)
	}
	unlock(t)
}

// unlock gives the memory of the test's process back: others run in it.
func unlock(t *testing.T) {
	if err := unix.Munlockall(); err != nil {
		t.Error(err)
	}
}

// It waits in the kernel until the instant, also when signals come.
func TestSleepUntil(t *testing.T) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	SleepUntil(now.Nano() + int64(20*time.Millisecond))
	var after unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &after); err != nil {
		t.Fatal(err)
	}
	if d := time.Duration(after.Nano() - now.Nano()); d < 20*time.Millisecond {
		t.Errorf("%v", d)
	}
}
