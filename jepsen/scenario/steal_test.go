package scenario

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// machine is what the kernel says of the time of all cores since the boot (proc(5), /proc/stat).
type machine struct {
	all, stolen time.Duration // stolen: taken by the hypervisor
}

// machineTime reads it; nothing where nothing says so.
func machineTime() (m machine) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return m
	}
	return machineOf(string(text))
}

// machineOf reads the first eight figures of the first line: user, nice, system, idle, iowait, irq, softirq, steal.
func machineOf(stat string) (m machine) {
	const tick, steal = time.Second / 100, 8
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) <= steal || fields[0] != "cpu" {
		return machine{}
	}
	for i, field := range fields[1 : steal+1] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return machine{}
		}
		m.all += time.Duration(ticks) * tick
		if i+1 == steal {
			m.stolen = time.Duration(ticks) * tick
		}
	}
	return m
}

func (m machine) add(other machine) machine {
	return machine{m.all + other.all, m.stolen + other.stolen}
}

// since is what has passed from an earlier reading to this one.
func (m machine) since(before machine) machine {
	return machine{m.all - before.all, m.stolen - before.stolen}
}

// String is the share that was stolen, which stands next to a figure; "-" where nobody looked.
func (m machine) String() string {
	if m.all == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(m.stolen)/float64(m.all))
}

// The share is of all cores, between two readings. What is no such line says nothing.
func TestStealNextToTheFigure(t *testing.T) {
	before := machineOf("cpu  100 0 100 700 0 0 0 100 7 7\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
	after := machineOf("cpu  110 0 110 770 1 2 2 105 9 9\n")
	if got := after.since(before).String(); got != "5.0 %" {
		t.Error(got)
	}
	for _, stat := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9", "cpu 1 2 3 4 5 6 7 x"} {
		if got := machineOf(stat); got != (machine{}) || got.String() != "-" {
			t.Errorf("%q: %v", stat, got)
		}
	}
}
