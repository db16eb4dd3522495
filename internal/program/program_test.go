package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asUnit runs f on a thread that has the capabilities of the shipped unit, of those that matter here.
func asUnit(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() { done <- err }() // also when f ends the goroutine
		runtime.LockOSThread()         // the thread ends with it
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var caps [2]unix.CapUserData
		err = unix.Capget(&header, &caps[0])
		for _, c := range []int{unix.CAP_SYS_PTRACE, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH} {
			caps[c/32].Effective &^= 1 << (c % 32)
			caps[c/32].Permitted &^= 1 << (c % 32)
		}
		if err == nil {
			err = unix.Capset(&header, &caps[0])
		}
		if err == nil {
			f()
		}
	}()
	if err := <-done; err != nil {
		t.Skip("capabilities cannot be laid down here: ", err)
	}
}

// shell is a run of a script as nobody.
func shell(body string) Run {
	return Run{Path: "/bin/sh", Args: []string{"-c", body}, User: &syscall.Credential{Uid: nobody, Gid: nobody}, Keep: 4096, Most: 4096}
}

// alive lists the processes with a word in their command line.
func alive(t *testing.T, word string) (out []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Error(err)
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), word) {
			out = append(out, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return out
}

// gone fails unless all processes with a word in their command line end soon.
func gone(t *testing.T, word string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left := alive(t, word)
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("left behind: %q", left)
			return
		}
	}
}

// rest is a sleep that no other process has in its command line.
func rest(n int) string { return fmt.Sprintf("%d.%d", 90_000+n, os.Getpid()) }

// Whatever leaves the session and clears its environment is killed at the time-out, with the
// capabilities that the unit leaves the agent.
func TestNothingEscapes(t *testing.T) {
	asUnit(t, func() {
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		defer cancel()
		word := rest(1)
		_, err := Execute(ctx, shell(fmt.Sprintf("setsid sleep %[1]s & env -i setsid sh -c 'sleep %[1]s; :' & sleep %[1]s", word)))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ended with %v", err)
		}
		gone(t, word)
	})
}

// One that begins processes without an end leaves none.
func TestAForkBombEnds(t *testing.T) {
	asUnit(t, func() {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		word := rest(2)
		body := fmt.Sprintf("f() { i=0; while [ $i -lt 40 ]; do env -i setsid sleep %s & i=$((i+1)); sleep 0.01; done; }; f & f & f; sleep 100", word)
		_, _ = Execute(ctx, shell(body))
		gone(t, word)
	})
}

// What a program leaves behind that ended in time goes with a later run, and what another run does stays.
func TestWhatIsLeftBehindEnds(t *testing.T) {
	asUnit(t, func() {
		word, other := rest(3), rest(4)
		if _, err := Execute(t.Context(), shell("setsid sleep "+word+" >/dev/null 2>&1 & exit 0")); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = Execute(ctx, shell("setsid sleep "+other+" & wait"))
		}()
		for end := time.Now().Add(20 * time.Second); len(alive(t, "sleep\x00"+other)) == 0 && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
		m := own()
		m.mu.Lock()
		m.looked = time.Time{}
		m.mu.Unlock()
		if _, err := Execute(t.Context(), shell("exit 0")); err != nil {
			t.Error(err)
		}
		if m.from != 0 {
			gone(t, word)
			if len(alive(t, "sleep\x00"+other)) == 0 {
				t.Error("what another run has begun was killed")
			}
		}
		cancel()
		<-done
		gone(t, other)
	})
}

// The kernel ends a program before the agent, whose value it would have else, also where root may not
// write what belongs to others.
func TestAProgramIsKilledFirst(t *testing.T) {
	asUnit(t, func() {
		out, err := Execute(t.Context(), shell("i=0; while [ $(cat /proc/self/oom_score_adj) != 500 ] && [ $i -lt 200 ]; do sleep 0.1; i=$((i+1)); done; cat /proc/self/oom_score_adj"))
		if err != nil || !strings.HasPrefix(string(out.Text), "500\n") {
			t.Errorf("%q, %v", out.Text, err)
		}
	})
}

// Programs that reserve much and use little run: Go's own, as one.
func TestAProgramInGoRuns(t *testing.T) {
	path, err := exec.LookPath("go")
	if err != nil {
		t.Skip(err)
	}
	out, err := Execute(t.Context(), Run{Path: path, Args: []string{"version"}, Env: []string{"HOME=/", "GOTOOLCHAIN=local"}, Keep: 4096, Most: 4096})
	if err != nil || !strings.HasPrefix(string(out.Text), "go version") {
		t.Errorf("%q, %v", out.Text, err)
	}
}

// One that eats memory ends by its bound, long before the time-out.
func TestMemoryIsBounded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	run := shell("exec tail /dev/zero")
	run.User = nil // bounds of another user's process need CAP_SYS_RESOURCE, which not every place that tests has
	out, err := Execute(ctx, run)
	if err == nil || ctx.Err() != nil {
		t.Errorf("%q, %v", out.Text, err)
	}
}

func TestBlocksOfGroups(t *testing.T) {
	for table, want := range map[string]bool{
		"         0          0 4294967295\n": true, "0 100000 65536\n": false, "": false, "0 0 1000\n1879048192 5 268435456\n": true, "0 0 x": false,
	} {
		if got := known(table, marksFrom+marksEach); got != want {
			t.Errorf("%q: %t", table, got)
		}
	}
	m := &marks{from: marksFrom, active: map[uint32]bool{}}
	seen := map[uint32]bool{}
	for range marksEach {
		seen[m.take()] = true
	}
	if len(seen) != marksEach || seen[0] || m.take() != 0 || m.stale(marksFrom) || m.stale(marksFrom+marksEach) {
		t.Errorf("%d groups", len(seen))
	}
	m.drop(marksFrom + 7)
	if !m.stale(marksFrom+7) || m.take() != marksFrom+7 {
		t.Error("a group is not used again")
	}
}
