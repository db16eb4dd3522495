package realtime

import (
	"syscall"
	_ "unsafe" // for go:linkname
)

// Block makes a system call that is expected to wait for milliseconds or longer, and gives the goroutine's
// place in Go's scheduler (its P) to others before it, as the runtime itself does for its own waits.
//
// With an ordinary system call the place stays taken until the runtime's monitor thread has looked on
// for 10 ms, each 20 µs at first (runtime/proc.go, sysmon and retake): for a thread that does nothing but
// wait, some 60 wakeups of the monitor for each of its own. That was half of what an idle agent used.
//
// Pointers in the arguments must be converted in the call itself, as for syscall.Syscall6.
//
//go:uintptrescapes
//go:nosplit
func Block(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1 uintptr, errno syscall.Errno) {
	entersyscallblock()
	// Between the two the stack must not grow, and RawSyscall6 does not let it.
	r1, _, errno = syscall.RawSyscall6(trap, a1, a2, a3, a4, a5, a6)
	exitsyscall()
	return r1, errno
}

// The runtime keeps these two names and signatures for programs outside it (go.dev/issue/67401; gVisor uses
// them, too). Should that end, the program does not link, which no test can overlook.

//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
