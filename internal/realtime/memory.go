package realtime

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockAgain is between two looks at the mappings: the heap grows.
const lockAgain = time.Minute

// mappingsMax bounds how many mappings are looked at.
const mappingsMax = 10_000

// KeepMemory locks the memory that this process has, and again what it gets, until ctx ends.
//
// Each page is locked when it is first used (MLOCK_ONFAULT, mlock2(2)), and only in the program
// itself, heaps and stacks: files that are mapped stay as they are, because a log may be larger than
// what a node should hold. MCL_FUTURE is not used: with it a mapping beyond the limit fails, and Go's
// runtime ends the process for want of memory.
func (p *Plane) KeepMemory(ctx context.Context) {
	if p == nil {
		return
	}
	tick := time.NewTicker(lockAgain)
	defer tick.Stop()
	for {
		p.LockMemory()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// LockMemory locks what there is now. What is locked already costs a system call and no more.
func (p *Plane) LockMemory() {
	bytes, err := lockMappings()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried, p.memory, p.locked = true, err, bytes
}

// MayLock is nil when this process may lock all its memory.
func MayLock() *Refusal {
	h := host{root: "/"}
	if limit := h.rlimit(unix.RLIMIT_MEMLOCK); limit != unix.RLIM_INFINITY && !h.hasCapability(unix.CAP_IPC_LOCK) {
		return &Refusal{fmt.Sprintf("RLIMIT_MEMLOCK is %d bytes", limit), "set LimitMEMLOCK=infinity, or give CAP_IPC_LOCK", unix.EPERM}
	}
	return nil
}

func lockMappings() (uint64, error) {
	if refused := MayLock(); refused != nil {
		return 0, refused
	}
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	var all uint64
	for _, m := range mappings(string(text), self) {
		// One that went meanwhile is none of ours any more (ENOMEM).
		if _, _, errno := unix.Syscall(unix.SYS_MLOCK2, uintptr(m.from), uintptr(m.to-m.from), unix.MLOCK_ONFAULT); errno != 0 {
			if errno == unix.ENOMEM {
				continue
			}
			return all, &Refusal{fmt.Sprintf("mlock2: %v", errno), "look at the seccomp filter of the unit or container: mlock2", errno}
		}
		all += m.to - m.from
	}
	return all, nil
}

type mapping struct{ from, to uint64 }

// mappings are those of /proc/self/maps (proc(5)) that are to be locked: with a right to use them, and
// of the program or of nothing.
func mappings(maps, program string) []mapping {
	var out []mapping
	for line := range strings.Lines(maps) {
		fields := strings.Fields(line)
		if len(fields) < 5 || len(out) >= mappingsMax || strings.HasPrefix(fields[1], "---") {
			continue
		}
		name := strings.Join(fields[5:], " ")
		own := name == "" || name == program || name == "[heap]" || name == "[stack]" || strings.HasPrefix(name, "[anon:")
		begin, end, ok := strings.Cut(fields[0], "-")
		from, err1 := strconv.ParseUint(begin, 16, 64)
		to, err2 := strconv.ParseUint(end, 16, 64)
		if own && ok && err1 == nil && err2 == nil && from < to {
			out = append(out, mapping{from, to})
		}
	}
	return out
}
