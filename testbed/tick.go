package testbed

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Ticker calls a function at absolute times, a fixed time apart, which the kernel's own timer keeps
// (timerfd). The Go runtime's timers are rounded up to a millisecond while the process is idle, and a
// sleep in a system call keeps a processor of the runtime from the receiving goroutines for up to
// 20 ms; both would be measured as delays of the network.
type Ticker struct {
	every time.Duration
	timer *os.File

	mu      sync.Mutex
	skipped uint64 // ticks whose time had passed before they could be served
}

// NewTicker starts a timer whose first tick is due at once.
func NewTicker(every time.Duration) (*Ticker, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("testbed: timer: %w", err)
	}
	spec := unix.ItimerSpec{Interval: unix.NsecToTimespec(int64(every)), Value: unix.NsecToTimespec(1)}
	if err := unix.TimerfdSettime(fd, 0, &spec, nil); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("testbed: timer: %w", err)
	}
	return &Ticker{every: every, timer: os.NewFile(uintptr(fd), "timerfd")}, nil
}

// Run calls tick until Stop, with the number of ticks due since the last call: 1, unless some were
// missed. A tick that comes late does not move the next one; ticks that are overdue
// altogether are left out and counted, not made up for.
func (t *Ticker) Run(tick func(due uint64)) {
	var due [8]byte // how many ticks since the last read
	for {
		if _, err := t.timer.Read(due[:]); err != nil {
			return
		}
		n := binary.NativeEndian.Uint64(due[:])
		t.mu.Lock()
		t.skipped += n - 1
		t.mu.Unlock()
		tick(n)
	}
}

// Stop makes Run return after the present tick.
func (t *Ticker) Stop() { _ = t.timer.Close() }

// Every is the time between two ticks.
func (t *Ticker) Every() time.Duration { return t.every }

// Skipped is how many ticks were left out so far.
func (t *Ticker) Skipped() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.skipped
}
