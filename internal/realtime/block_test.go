package realtime

import (
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the kernel answers comes back, and others run meanwhile, also where there is one place for all.
func TestBlock(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var fds [2]int
	if err := unix.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	go func() {
		runtime.GC() // stops the world, which must not wait for the one below
		_, _ = unix.Write(fds[1], []byte("word"))
		_ = unix.Close(fds[1])
	}()
	buf := make([]byte, 16)
	n, errno := Block(unix.SYS_READ, uintptr(fds[0]), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0, 0)
	if errno != 0 || string(buf[:n]) != "word" {
		t.Errorf("%q, %v", buf[:n], errno)
	}
	if _, errno := Block(unix.SYS_READ, ^uintptr(0), uintptr(unsafe.Pointer(&buf[0])), 1, 0, 0, 0); errno != unix.EBADF {
		t.Errorf("no such descriptor: %v", errno)
	}
}
