package jepsen_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTidyField: whatever was once found in the field has a test, and the test is there.
func TestTidyField(t *testing.T) {
	text, err := os.ReadFile("testdata/field.txt")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, line := range lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		named, what, found := strings.Cut(line, "|")
		field := strings.Fields(named)
		if !found || strings.TrimSpace(what) == "" || len(field) < 2 {
			t.Errorf("testdata/field.txt: %q has no mark, test and meaning", line)
			continue
		}
		rows++
		for _, test := range field[1:] {
			if !isTest(t, test) {
				t.Errorf("testdata/field.txt: there is no %s", test)
			}
		}
	}
	if rows < 45 {
		t.Errorf("only %d rows", rows)
	}
	if isTest(t, "jepsen/TestThatIsNotThere") {
		t.Error("it finds tests that are not there")
	}
}

// isTest reports whether a folder has a test, named as folder/Test.
func isTest(t *testing.T, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", filepath.Dir(name), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "\nfunc "+filepath.Base(name)+"(t *testing.T)") {
			return true
		}
	}
	return false
}
