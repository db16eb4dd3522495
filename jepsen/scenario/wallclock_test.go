package scenario

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// aDayOff is more than the day that a certificate is valid before it was signed.
const aDayOff = 26 * time.Hour

// clockVariable names the file that has how far the wall clock of a process is off, in seconds.
const clockVariable = "HAVIP_TEST_WALL_CLOCK"

// wallClockSource is what the skewed program has beside Go's own time.Now. The kernel has no namespace for the wall clock, and a
// static program cannot be given another library; so the Go library that it is built with has another clock. Nothing of it is in
// the program that users get.
const wallClockSource = `package time

import (
	"sync/atomic"
	"syscall"
)

// wallOff is how far the wall clock is off, in seconds: the file's number, read ten times a second. The
// runtime asks for the time on stacks on which nothing may be read.
var wallOff atomic.Int64

func init() {
	if file, skewed := syscall.Getenv("` + clockVariable + `"); skewed {
		lookAt(file)
		go func() {
			for {
				Sleep(100 * Millisecond)
				lookAt(file)
			}
		}()
	}
}

func lookAt(file string) {
	fd, err := syscall.Open(file, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	var buf [32]byte
	n, _ := syscall.Read(fd, buf[:])
	syscall.Close(fd)
	sign, off := int64(1), int64(0)
	for _, c := range buf[:max(n, 0)] {
		switch {
		case c == '-':
			sign = -1
		case c >= '0' && c <= '9':
			off = 10*off + int64(c-'0')
		}
	}
	wallOff.Store(sign * off)
}
`

// skewedBinary builds the program with a wall clock that a file shifts.
func skewedBinary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	library := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	raw, err := os.ReadFile(filepath.Join(library, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(raw), now) != 1 {
		t.Fatalf("time.Now of %s is not as it was", runtime.Version())
	}
	replace := map[string]string{}
	for name, text := range map[string]string{"time.go": strings.Replace(string(raw), now, now+"\tsec += wallOff.Load()\n", 1), "skew.go": wallClockSource} {
		replace[filepath.Join(library, name)] = filepath.Join(dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "havip-cluster")
	cmd := exec.Command("go", "build", "-trimpath", "-overlay", filepath.Join(dir, "overlay.json"), "-o", path, "havip-cluster/cmd/havip-cluster")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build with another clock: %v: %s", err, out)
	}
	return path
}

// clocks is a bed whose nodes have wall clocks that can be set.
type clocks struct {
	*Bed
}

func newClocks(t *testing.T, binary string) clocks {
	t.Helper()
	b := clocks{unformed(t, 3)}
	b.Cluster.Binary = binary
	b.must(b.Cluster.Bootstrap())
	for i := 2; i <= 3; i++ {
		b.Cluster.Env = b.clockOf(i)
		b.must(b.Cluster.Join(i, "voter"))
	}
	b.Cluster.Env = nil
	b.WaitVoters(3)
	b.WaitSessions(3)
	for _, h := range b.Lab.Nodes() {
		_, err := h.Respond(port)
		b.must(err)
	}
	b.CLI(1, "havip", "create", "web", "--ip", b.HAVIP.String(), "--no-range-limit")
	b.Eventually("its owner has it", func() bool { return b.has(b.Owner()) })
	return b
}

func (b clocks) file(node int) string {
	return filepath.Join(b.Cluster.Dir, fmt.Sprintf("clock%d", node))
}

// clockOf gives what is started next the wall clock of a node.
func (b clocks) clockOf(node int) []string { return []string{clockVariable + "=" + b.file(node)} }

// set sets the wall clock of a node that runs.
func (b clocks) set(node int, off time.Duration) {
	b.t.Helper()
	next := b.file(node) + ".next"
	b.must(os.WriteFile(next, fmt.Appendf(nil, "%d", int64(off/time.Second)), 0o600))
	b.must(os.Rename(next, b.file(node)))
}

// tellsTheClock waits until a node's status names its clock and another one, with both times.
func (b clocks) tellsTheClock(node int, off time.Duration) {
	b.t.Helper()
	here := time.Now().UTC().Add(off).Format("2006-01-02T15:")
	line := ""
	b.Eventually(fmt.Sprintf("status of node %d to name both times", node), func() bool {
		out, _ := b.Cluster.CLI(node, "status")
		for l := range strings.Lines(string(problems(out))) {
			if strings.Contains(l, "this node: its clock says "+here) || strings.Contains(l, "clock says "+here) {
				line = strings.TrimSpace(l)
				return true
			}
		}
		return false
	})
	b.t.Log(line)
}

// TestWallClockADayOff: the wall clock of a node is more than a day ahead, or behind, from one moment to the next, and at a start.
// Nothing moves, leases and failovers do not look at it; status names it with both times; and the node is well once it is right.
func TestWallClockADayOff(t *testing.T) {
	long(t)
	binary := skewedBinary(t)
	for name, off := range map[string]time.Duration{"ahead": aDayOff, "behind": -aDayOff} {
		t.Run(name, func(t *testing.T) {
			b := newClocks(t, binary)
			if b.Leader() == 3 {
				b.must(b.Cluster.Restart(1))
			}
			b.Cluster.Env = b.clockOf(3)
			defer func() { b.Cluster.Env = nil }()
			b.Place(3)
			session := b.session(3)
			m := b.Watch(func() {
				b.set(3, off)
				time.Sleep(5 * Lease)
			})
			noDual(t, m)
			if m.Gap > Lease/2 {
				timely(t, "the HAVIP was silent for %s as the clock was set", m.Gap)
			}
			if now := b.session(3); now != session {
				timely(t, "the node lost its session %d, it has %d", session, now)
			}

			m = b.Watch(func() { // the failover away from it, by everybody's leases
				b.must(b.Cluster.Kill(3, syscall.SIGKILL))
				b.must(b.Cluster.AwaitEnd(3))
				b.NewOwner(1, 3)
			})
			noDual(t, m)
			t.Logf("failover away from a node whose clock is off: gap %s", m.Gap)

			b.must(b.Cluster.Start(3))
			b.startsOff(off)
			b.set(3, 0)
			if !b.Cluster.Running(3) {
				b.must(b.Cluster.Start(3))
			}
			b.WaitSessions(3)
			b.Place(3)
		})
	}
}

// startsOff sees a node start with its wall clock off. Ahead, it is a member as ever. Behind, no certificate of the cluster is valid
// yet by it.
func (b clocks) startsOff(off time.Duration) {
	b.t.Helper()
	if off > 0 {
		b.WaitSessions(3)
		b.tellsTheClock(3, off)
		return
	}
	here := time.Now().UTC().Add(off).Format("2006-01-02T15:")
	b.Eventually("its log to name both times", func() bool {
		return hasLine(b.Cluster.Tail(3), "begins at", "this host's clock says "+here, "set the clock")
	})
	for line := range strings.Lines(b.Cluster.Tail(3)) {
		if strings.Contains(line, "set the clock") {
			b.t.Log(strings.TrimSpace(line))
			break
		}
	}
	b.t.Logf("the agent runs: %t", b.Cluster.Running(3))
}
