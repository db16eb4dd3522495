package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"havip-cluster/api"
	"havip-cluster/fsm"
)

// What save and restore do with a real cluster is in jepsen/scenario/policy_test.go.
func TestSnapshotInspect(t *testing.T) {
	s := fsm.New()
	s.Cluster = fsm.Cluster{ID: "c-00000000000000aa", Revision: 4}
	s.Index = 17
	whole, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(whole)
	changed[len(changed)/2] ^= 1
	for name, tc := range map[string]struct {
		data []byte
		word string // "" = fine
	}{
		"whole":        {whole, ""},
		"cut off":      {whole[:len(whole)-1], "corrupt"},
		"changed":      {changed, "checksum"},
		"empty":        {nil, "corrupt"},
		"another file": {[]byte("version: 1\n"), "corrupt"},
	} {
		file := filepath.Join(t.TempDir(), "snapshot")
		if err := os.WriteFile(file, tc.data, 0o600); err != nil {
			t.Fatal(err)
		}
		var out, stderr bytes.Buffer
		code := run([]string{"snapshot", "inspect", file}, &out, &stderr)
		if tc.word == "" && (code != 0 || !strings.Contains(out.String(), "c-00000000000000aa") || !strings.Contains(out.String(), "17")) {
			t.Errorf("%s: exit code %d, %s, %s", name, code, &out, &stderr)
		}
		if tc.word != "" && (code != 1 || !strings.Contains(stderr.String(), tc.word) || !strings.Contains(stderr.String(), file)) {
			t.Errorf("%s: exit code %d, %s", name, code, &stderr)
		}
	}
	var out, stderr bytes.Buffer
	if code := run([]string{"snapshot", "inspect", "absent"}, &out, &stderr); code != 1 || !strings.Contains(stderr.String(), "absent") {
		t.Errorf("absent: exit code %d, %s", code, &stderr)
	}
}

// A snapshot of another cluster would delete what this one has: it is taken only by who types its id.
func TestSnapshotOfAnotherCluster(t *testing.T) {
	s := fsm.New()
	s.Cluster, s.Index = fsm.Cluster{ID: "c-00000000000000aa"}, 3
	data, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "snapshot")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := agentWith(t, map[string]any{"/v1/cluster": api.Cluster{ID: "c-00000000000000bb"}, "/v1/nodes": []api.Node{}, "/v1/havips": []api.HAVIP{}})
	for _, row := range []struct {
		line, says string
		code       int
	}{
		{"", "is of cluster c-00000000000000aa, and this is c-00000000000000bb", 1},
		{" --from-cluster c-00000000000000bb", "the snapshot is of cluster c-00000000000000aa", 2},
	} {
		var out, stderr bytes.Buffer
		code := run(append([]string{"snapshot", "restore", file, "--data-dir", dir}, strings.Fields(row.line)...), &out, &stderr)
		if code != row.code || !strings.Contains(stderr.String(), row.says) {
			t.Errorf("%q: exit code %d, %s", row.line, code, &stderr)
		}
	}
	var out, stderr bytes.Buffer
	run([]string{"snapshot", "restore", file, "--data-dir", dir, "--from-cluster", "c-00000000000000aa"}, &out, &stderr)
	if strings.Contains(stderr.String(), "is of cluster") {
		t.Errorf("with its id: %s", &stderr)
	}
}
