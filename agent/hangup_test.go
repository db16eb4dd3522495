package agent

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHangup: SIGHUP ends no agent, neither one that reads its configuration nor one that has ended its work.
// Where it is not taken, this test ends here.
func TestHangup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := unix.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- Run(t.Context(), Options{Dir: t.TempDir(), ConfigFile: file}) }()
	f, err := os.OpenFile(file, os.O_WRONLY, 0) // it reads now
	if err != nil {
		t.Fatal(err)
	}
	hangup := func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	hangup()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a node without a data directory has run")
		}
	case <-time.After(nodeWait):
		t.Fatal("it does not end")
	}
	hangup()
}
