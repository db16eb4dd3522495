package guard

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// niceness of the agent: a lease is lost when the process waits too long for a core.
const niceness = -15

// RaisePriority sets the priority of every thread; those to come inherit it
// (setpriority(2): on Linux the nice value is per thread).
func RaisePriority() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, niceness); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("setpriority: %w", err)
		}
	}
	return nil
}

// SetOOMScore makes this process less likely to be killed for memory.
func SetOOMScore(score int) error {
	file, err := os.OpenFile("/proc/self/oom_score_adj", os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(file, score)
	return errors.Join(err, file.Close())
}
