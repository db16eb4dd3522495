package realtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Refusal is a host's no, with the way out.
type Refusal struct {
	Why, Do string
	err     error
}

func (r *Refusal) Error() string {
	if r.Do == "" {
		return r.Why
	}
	return r.Why + "; " + r.Do
}

func (r *Refusal) Unwrap() error { return r.err }

// raiseThread gives the calling thread real-time priority. Where the thread's cgroup has no
// real-time budget and the cgroup file system (version 1) can be written, the thread alone moves to
// the root of the cpu controller, which has one: corosync does so with its whole process.
func raiseThread() error {
	h := host{root: "/"}
	if us, err := h.number("proc/sys/kernel/sched_rt_runtime_us"); err == nil && us == 0 {
		return &Refusal{"kernel.sched_rt_runtime_us is 0: no real-time thread gets a core", "sysctl -w kernel.sched_rt_runtime_us=950000", unix.EPERM}
	}
	err := setPolicy(unix.SCHED_RR, Priority)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EPERM) {
		return &Refusal{fmt.Sprintf("sched_setattr: %v", err), "", err}
	}
	if group, ok := h.cpuGroup(); ok && group.v1 && group.budget == 0 {
		if os.WriteFile(filepath.Join(group.mount, "tasks"), []byte(strconv.Itoa(unix.Gettid())), 0) == nil {
			if err = setPolicy(unix.SCHED_RR, Priority); err == nil {
				return nil
			}
		}
	}
	return h.explain(err)
}

// TryPriority reports whether a thread of this process would get real-time priority, and leaves
// nothing behind: it asks in a thread that ends.
func TryPriority() error {
	done := make(chan error)
	go func() {
		p := New()
		defer p.Enter("trial").Leave() // the thread ends with the goroutine
		p.mu.Lock()
		defer p.mu.Unlock()
		done <- p.last
	}()
	return <-done
}

// host reads what a host says of itself, below a root that tests change.
type host struct{ root string }

func (h host) text(name string) string {
	b, err := os.ReadFile(filepath.Join(h.root, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (h host) number(name string) (int64, error) {
	return strconv.ParseInt(h.text(name), 10, 64)
}

// cpuGroup is the cgroup of this process that real-time budgets are given to.
type cpuGroup struct {
	path   string // as /proc/self/cgroup names it
	mount  string // of the cpu controller
	v1     bool
	budget int64 // microseconds in each period, version 1 alone
}

// cpuGroup finds it; false: there is none, or nothing says so.
func (h host) cpuGroup() (cpuGroup, bool) {
	unified := ""
	for line := range strings.Lines(h.text("proc/self/cgroup")) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, controller := range strings.Split(parts[1], ",") {
			if controller != "cpu" {
				continue
			}
			for _, mount := range []string{"sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"} {
				if us, err := h.number(filepath.Join(mount, parts[2], "cpu.rt_runtime_us")); err == nil {
					return cpuGroup{parts[2], filepath.Join(h.root, mount), true, us}, true
				}
			}
		}
		if parts[0] == "0" {
			unified = parts[2]
		}
	}
	return cpuGroup{path: unified}, unified != ""
}

// explain says why the kernel refuses, as far as that can be seen.
func (h host) explain(err error) error {
	if !h.hasCapability(unix.CAP_SYS_NICE) && h.rlimit(unix.RLIMIT_RTPRIO) < Priority {
		return &Refusal{"CAP_SYS_NICE is missing", fmt.Sprintf("give it to the unit or container, or set LimitRTPRIO=%d", Priority), err}
	}
	group, ok := h.cpuGroup()
	switch {
	case ok && group.v1 && group.budget == 0:
		return &Refusal{fmt.Sprintf("the cgroup %s has no real-time budget (cpu.rt_runtime_us is 0)", group.path),
			fmt.Sprintf("write some, 200000 say, to cpu.rt_runtime_us of %s and of the groups above it, from the top", filepath.Join(group.mount, group.path)), err}
	case ok && !group.v1 && group.path != "/":
		return &Refusal{fmt.Sprintf("the kernel gives real-time budget by group (CONFIG_RT_GROUP_SCHED), and cgroup v2 has none to give to %s", group.path),
			"boot with rt_group_sched=0 (Linux 6.16 or newer), or take a kernel without that option", err}
	}
	return &Refusal{"the kernel refuses it (EPERM)", "look at the seccomp filter of the unit or container: sched_setattr", err}
}

func (h host) hasCapability(bit uint) bool {
	for line := range strings.Lines(h.text("proc/self/status")) {
		if value, is := strings.CutPrefix(line, "CapEff:"); is {
			have, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return err == nil && have&(1<<bit) != 0
		}
	}
	return false
}

// rlimit is the soft limit of this process.
func (host) rlimit(which int) uint64 {
	var l unix.Rlimit
	if unix.Getrlimit(which, &l) != nil {
		return 0
	}
	return l.Cur
}
