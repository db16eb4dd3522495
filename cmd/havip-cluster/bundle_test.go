package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Without an agent a bundle holds what the host tells, and never a key.
func TestDebugBundle(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	file := filepath.Join(t.TempDir(), "b.tar.gz")
	do := func(args ...string) (code int, out, stderr string) {
		var o, e bytes.Buffer
		code = run(append([]string{"--data-dir", dir, "--timeout", "1s"}, args...), &o, &e)
		return code, o.String(), e.String()
	}
	if code, _, stderr := do("bootstrap", "--node", "node-1", "--advertise", "127.0.0.1"); code != 0 {
		t.Fatal(stderr)
	}
	code, out, stderr := do("debug", "bundle", "-f", file)
	if code != 0 || !strings.Contains(out, file) || !strings.Contains(stderr, "missing: status.json: ") {
		t.Fatalf("exit code %d, %q, %q", code, out, stderr)
	}
	if code, _, stderr := do("debug", "bundle", "-f", file); code != 1 || !strings.Contains(stderr, "exists") {
		t.Errorf("a second time: exit code %d, %q", code, stderr)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	parts := untar(t, file)
	for _, name := range []string{"version.txt", "data-dir.txt", "interfaces.txt", "proc/uptime.txt"} {
		if len(parts["havip-cluster-debug/"+name]) == 0 {
			t.Errorf("%s is empty or missing", name)
		}
	}
	if !strings.Contains(parts["havip-cluster-debug/data-dir.txt"], "raft/log.db") {
		t.Errorf("data-dir.txt: %s", parts["havip-cluster-debug/data-dir.txt"])
	}
	for _, secret := range []string{"node.key", "ca.key", "gossip.key"} {
		text, err := os.ReadFile(filepath.Join(dir, secret))
		if err != nil {
			t.Fatal(err)
		}
		lines := slices.Collect(strings.Lines(string(text)))
		for name, content := range parts {
			if strings.Contains(content, strings.TrimSpace(lines[len(lines)/2])) {
				t.Errorf("%s is in %s", secret, name)
			}
		}
	}
}

func untar(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for r := tar.NewReader(z); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return parts
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		parts[head.Name] = string(text)
	}
}
