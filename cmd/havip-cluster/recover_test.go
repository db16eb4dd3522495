package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What recover does with a real cluster is in jepsen/scenario/recover_test.go.
func TestRecoverRefuses(t *testing.T) {
	fresh := filepath.Join(t.TempDir(), "fresh")
	if code := run([]string{"bootstrap", "--data-dir", fresh, "--node", "node-1", "--advertise", "127.0.0.1"}, &bytes.Buffer{}, os.Stderr); code != 0 {
		t.Fatal("bootstrap")
	}
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=16m,mode=0700"); err != nil {
		t.Skip(err) // no root
	}
	t.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })
	if err := os.CopyFS(mount, os.DirFS(fresh)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, dir, word string }{
		{"no directory", filepath.Join(fresh, "absent"), "no such file"},
		{"no node in it", t.TempDir(), "bootstrap"},
		{"a node that never ran", fresh, "before node"},
		{"a mount point", mount, "mount point"},
	} {
		above := filepath.Dir(tc.dir)
		before, _ := os.ReadDir(above)
		var out, stderr bytes.Buffer
		if code := run([]string{"recover", "--data-dir", tc.dir, "--off", "node-2"}, &out, &stderr); code != 1 || !strings.Contains(stderr.String(), tc.word) || out.Len() > 0 {
			t.Errorf("%s: exit code %d, %q, %q", tc.name, code, stderr.String(), out.String())
		}
		if after, _ := os.ReadDir(above); len(after) != len(before) && above != os.TempDir() {
			t.Errorf("%s: left beside the data directory: %v", tc.name, after)
		}
	}
}

func TestAllOff(t *testing.T) {
	for _, tc := range []struct {
		others, off []string
		word        string // "" = fine
	}{
		{[]string{"node-2", "node-3"}, []string{"node-3", "node-2"}, ""},
		{[]string{"node-2", "node-3"}, []string{"node-2"}, "does not name node-3"},
		{[]string{"node-2"}, []string{"node-2", "node-4"}, `"node-4"`},
		{nil, []string{"node-2"}, `"node-2"`},
	} {
		err := allOff(tc.others, tc.off)
		if (err == nil) != (tc.word == "") || err != nil && !strings.Contains(err.Error(), tc.word) {
			t.Errorf("others %v, off %v: %v", tc.others, tc.off, err)
		}
	}
}
