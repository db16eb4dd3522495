package realtime

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// raiseLooks is how often RaiseProcess looks for threads: one may have been made by another that was not
// raised yet.
const raiseLooks = 3

// RaiseProcess gives the threads of this process, and those that it makes from now on, the priority of
// Enter: for a small process that does nothing but renew and answer. Go's runtime stops all its threads
// now and then and waits for each of them, so one without the priority would hold up the others: with
// eight busy loops on two cores for 50 ms and more.
//
// The runtime's monitor stays as it is: it runs no goroutine, so nobody waits for it, and a real-time
// thread has no slack in its timers, so RelaxMonitor would be in vain. With the priority it took half of
// what the process used, and that before everybody else on the host.
//
// Start children before: they would inherit it. What the host refuses is in Report.
func (p *Plane) RaiseProcess() {
	err := raiseProcess()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.process = err
}

func raiseProcess() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := raiseThread(); err != nil {
		return err
	}
	monitor, _ := monitorThread("/proc") // 0 is no thread
	for range raiseLooks {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || tid == monitor {
				continue
			}
			attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: Priority}
			if err := unix.SchedSetAttr(tid, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
				return fmt.Errorf("sched_setattr: %w", err)
			}
		}
	}
	return nil
}
