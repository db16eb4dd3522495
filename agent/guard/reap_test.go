package guard

import (
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FIELD, part 3: the guard is process 1 of a container, and hooks leave processes behind.
func TestTheDeadAreReaped(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil { // as process 1 is
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
	agent := exec.Command("true")
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		reap(done, agent.Process.Pid)
	}()
	var last time.Time
	hook := func() { // it leaves a process behind
		if err := exec.Command("sh", "-c", "sleep 0.2 & exit 0").Run(); err != nil {
			t.Fatal(err)
		}
		last = time.Now()
	}
	for range 3 {
		hook()
		time.Sleep(100 * time.Millisecond)
	}
	seen, end := 0, time.Now().Add(30*time.Second)
	for {
		left := slices.DeleteFunc(zombies(), func(pid int) bool { return pid == agent.Process.Pid })
		if seen = max(seen, len(left)); seen > 0 && len(left) == 0 {
			break
		}
		if seen == 0 && time.Since(last) > 2*reapAfter { // they came and went while this goroutine stood still
			hook()
		}
		if time.Now().After(end) {
			t.Fatalf("still there: %v", left)
		}
		time.Sleep(5 * time.Millisecond)
	}
	close(done)
	<-ended
	if err := agent.Wait(); err != nil {
		t.Errorf("the agent's end was taken away: %v", err)
	}
}
