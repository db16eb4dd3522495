package guard

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// reapAfter is how long a process has been dead before it is taken for one that nobody waits for.
const reapAfter = 2 * time.Second

// reap waits for the dead that nobody else waits for, until done is closed. Process 1 of a container has to: what a hook
// or a check leaves behind becomes its child, and would stay a zombie. The agent is waited for elsewhere, whenever that is;
// other children of the guard within reapAfter.
func reap(done <-chan struct{}, agent int) {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	defer signal.Stop(died)
	for {
		select {
		case <-done:
			return
		case <-died:
		}
		first := zombies()
		select {
		case <-done:
			return
		case <-time.After(reapAfter):
		}
		for _, pid := range zombies() {
			switch {
			case pid == agent:
			case slices.Contains(first, pid):
				_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // it has an answer, or somebody was first
			default: // it died later
				select {
				case died <- syscall.SIGCHLD:
				default:
				}
			}
		}
	}
}

// zombies are the dead children of this process.
func zombies() (pids []int) {
	entries, _ := os.ReadDir("/proc") // without it nothing is reaped
	parent := strconv.Itoa(os.Getpid())
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // it may have gone
		behind := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(behind) > 1 && string(behind[0]) == "Z" && string(behind[1]) == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}
