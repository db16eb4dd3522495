// Package boottime reads CLOCK_BOOTTIME, the clock of leases and deadlines: it counts while the
// host is suspended, and nobody sets it (clock_gettime(2)).
package boottime

import (
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Now is the present time in nanoseconds.
//
// It makes the system call without telling Go's scheduler: the call never blocks, and telling it
// wakes the runtime's monitor thread each time, which on an idle node costs more than the lease does.
func Now() int64 {
	var ts unix.Timespec
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		panic(fmt.Sprintf("boottime: %v", errno)) // every Linux since 2.6.39 has it
	}
	return ts.Nano()
}

// OfMachine refuses a time namespace with an offset: programs in the kernel see the machine's CLOCK_BOOTTIME
// (bpf_ktime_get_boot_ns), so an instant read here would mean another one there.
func OfMachine() error {
	b, err := os.ReadFile("/proc/self/timens_offsets")
	if err != nil {
		return nil // no time namespaces, or no /proc: no offset
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "boottime" && (f[1] != "0" || f[2] != "0") {
			return fmt.Errorf("the time namespace shifts CLOCK_BOOTTIME by %s s", f[1])
		}
	}
	return nil
}
