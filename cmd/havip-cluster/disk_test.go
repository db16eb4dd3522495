package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The data directory is on a file system that is read-only or full: each verb that writes there names the way out, and
// when that is done it works.
func TestDiskOfTheDataDirectory(t *testing.T) {
	mounted := func(options string, flags uintptr) string {
		t.Helper()
		dir := t.TempDir()
		if err := unix.Mount("havip", dir, "tmpfs", flags, "mode=0700,"+options); err != nil {
			t.Skipf("this test needs root: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		return dir
	}
	ask := func(dir string, args ...string) string {
		t.Helper()
		var out, stderr bytes.Buffer
		if code := run(append(args, "--data-dir", dir), &out, &stderr); code == 0 {
			return ""
		}
		return stderr.String()
	}
	bootstrap := []string{"bootstrap", "--node", "node-1", "--advertise", "127.0.0.1"}
	full := mounted("size=256k", 0)
	fill := filepath.Join(full, "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	f.Close()
	if got := ask(full, bootstrap...); !strings.Contains(got, "no space left") || !strings.Contains(got, "make room there") {
		t.Errorf("bootstrap on a full disk: %q", got)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if got := ask(full, bootstrap...); got != "" {
		t.Errorf("after room was made: %q", got)
	}
	ro := mounted("size=4m", 0)
	if got := ask(ro, bootstrap...); got != "" {
		t.Fatal(got)
	}
	if err := unix.Mount("", ro, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if got := ask(ro, "agent", "--no-guard"); !strings.Contains(got, "read-only file system") || !strings.Contains(got, "mount -o remount,rw") {
		t.Errorf("the agent on a read-only disk: %q", got)
	}
}
