package boottime

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// It is the clock that the C library reads, and it goes on.
func TestNow(t *testing.T) {
	var ts unix.Timespec
	before := Now()
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	after := Now()
	if ts.Nano() < before || ts.Nano() > after {
		t.Errorf("%d is not between %d and %d", ts.Nano(), before, after)
	}
	time.Sleep(2 * time.Millisecond)
	if d := time.Duration(Now() - after); d < 2*time.Millisecond {
		t.Errorf("%v passed while 2ms did", d)
	}
}
