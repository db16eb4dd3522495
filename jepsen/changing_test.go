package jepsen_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestChangingNamesWhatExists: docs/changing.md sends a newcomer to files and folders that are there.
func TestChangingNamesWhatExists(t *testing.T) {
	text, err := os.ReadFile("../docs/changing.md")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, m := range regexp.MustCompile("`([a-z_-]+/[a-z_/*.-]*)`").FindAllStringSubmatch(string(text), -1) {
		found, err := filepath.Glob(filepath.Join("..", m[1]))
		if err != nil || len(found) == 0 {
			t.Errorf("docs/changing.md names %s, which does not exist", m[1])
		}
		named++
	}
	if named < 40 || !strings.Contains(string(text), "fsm/placement/rules.go") {
		t.Errorf("only %d files are named", named)
	}
}
