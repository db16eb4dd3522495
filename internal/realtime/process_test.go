package realtime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Every thread has the priority but the runtime's monitor, also those that are made afterwards; in a process of its own,
// because nothing takes it away again.
func TestRaiseProcess(t *testing.T) {
	if os.Getenv("HAVIP_RAISE") == "" {
		if err := TryPriority(); err != nil {
			t.Skipf("this host gives no real-time priority: %v", err)
		}
		c := exec.Command(os.Args[0], "-test.run", "^TestRaiseProcess$", "-test.v")
		c.Env = append(os.Environ(), "HAVIP_RAISE=1")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	p := New()
	p.RaiseProcess()
	if r := p.Report(); r.Refused != "" {
		t.Fatal(r.Refused)
	}
	before := threads(t)
	stop := make(chan struct{})
	defer close(stop)
	for range 8 { // each takes a thread for itself
		ready := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(ready)
			<-stop
		}()
		<-ready
	}
	after := threads(t)
	if len(after) <= len(before) {
		t.Fatalf("%d threads, and %d later", len(before), len(after))
	}
	monitor, err := monitorThread("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for tid, policy := range after {
		if (policy == unix.SCHED_RR) == (tid == monitor) {
			t.Errorf("thread %d has policy %d; the monitor is %d", tid, policy, monitor)
		}
	}
	fmt.Println(len(after), "threads")
}

// threads are those of this process with their policies.
func threads(t *testing.T) map[int]uint32 {
	t.Helper()
	out := map[int]uint32{}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		attr, err := unix.SchedGetAttr(tid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		out[tid] = attr.Policy
	}
	return out
}
