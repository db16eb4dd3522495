package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
