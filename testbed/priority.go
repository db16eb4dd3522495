package testbed

import (
	"os"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// instrumentNice is the nice value of a process that measures: the highest priority. The
// agents run at -15, and an instrument that waits for them would measure itself.
const instrumentNice = -20

var raised atomic.Bool

// RaisePriority gives this process the priority of a measuring instrument; its children
// are not affected. Where that is not permitted nothing changes, and the figures contain
// the waiting times of the instruments.
func RaisePriority() {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil && unix.Setpriority(unix.PRIO_PROCESS, id, instrumentNice) == nil {
			raised.Store(true)
		}
	}
}

// ordinary gives the calling thread the ordinary priority, or takes it back.
func ordinary(on bool) {
	if !raised.Load() {
		return
	}
	nice := instrumentNice
	if on {
		nice = 0
	}
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), nice)
}
