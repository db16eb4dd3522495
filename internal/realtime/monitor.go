package realtime

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// MonitorSlack is by how much Go's monitor thread may oversleep (PR_SET_TIMERSLACK, prctl(2)). It is for
// how long a goroutine that has entered a system call holds its place in the scheduler although others
// wait for one, and none waits while there are more places than cores.
const MonitorSlack = 2 * time.Millisecond

// RelaxMonitor lets the monitor thread of Go's runtime oversleep by MonitorSlack. Whenever a goroutine
// runs, that thread wakes each 20 µs (sysmon, runtime/proc.go): a process that has something to do for a
// moment, a hundred times a second, wakes for it ten times as often. It needs CAP_SYS_NICE, or the
// kernel refuses (EPERM); whoever is refused goes on as before.
func RelaxMonitor() error {
	id, err := monitorThread("/proc")
	if err != nil {
		return err
	}
	path := filepath.Join("/proc", strconv.Itoa(id), "timerslack_ns") // proc_pid_timerslack_ns(5)
	if err := os.WriteFile(path, []byte(strconv.FormatInt(MonitorSlack.Nanoseconds(), 10)), 0); err != nil {
		return fmt.Errorf("let Go's monitor thread sleep longer: %w", err)
	}
	return nil
}

// Places of Go's scheduler beyond the cores. With each of them an idle process wakes more of its threads to
// look for work.
const (
	// PlaneSpare is for a process that renews and answers: back from the kernel, each of its threads goes on
	// at once, and does not wait for a goroutine to give its place up.
	PlaneSpare = 2
	// Spare is for any other process with RelaxMonitor: one goroutine in a system call, such as a flush,
	// holds nobody up.
	Spare = 1
)

// TuneScheduler readies Go's scheduler: places to spare, unless the environment's GOMAXPROCS says how many
// there are, and RelaxMonitor, whose error it returns. It may be called again with another number.
func TuneScheduler(spare int) error {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.SetDefaultGOMAXPROCS()
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spare)
	}
	return RelaxMonitor()
}

// monitorThread finds the monitor: the first thread that a program of Go makes (runtime.main), and
// threads are numbered in a circle. A wrong one would only be an ordinary thread with timers that are
// late by MonitorSlack.
func monitorThread(proc string) (int, error) {
	link, err := os.Readlink(filepath.Join(proc, "self"))
	if err != nil {
		return 0, fmt.Errorf("find Go's monitor thread: %w", err)
	}
	self, err := strconv.Atoi(link)
	if err != nil {
		return 0, fmt.Errorf("find Go's monitor thread: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(proc, "sys/kernel/pid_max"))
	if err != nil {
		return 0, fmt.Errorf("find Go's monitor thread: %w", err)
	}
	circle, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("find Go's monitor thread: %w", err)
	}
	tasks, err := os.ReadDir(filepath.Join(proc, link, "task"))
	if err != nil {
		return 0, fmt.Errorf("find Go's monitor thread: %w", err)
	}
	first, found := circle, 0
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil || id == self {
			continue
		}
		if after := (id - self + circle) % circle; after < first {
			first, found = after, id
		}
	}
	if found == 0 {
		return 0, fmt.Errorf("find Go's monitor thread: %s has one thread", filepath.Join(proc, link))
	}
	return found, nil
}
