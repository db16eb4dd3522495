package jepsen

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var halfMerged = regexp.MustCompile(`(?m)^(<{7} |>{7} )`)

// No text of the tree holds the marks of a merge that nobody finished: the compiler sees those of Go alone.
func TestTidyMerges(t *testing.T) {
	seen := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == ".git" || name == "bin" {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil || bytes.IndexByte(text, 0) >= 0 {
			return err
		}
		seen++
		if halfMerged.Match(text) {
			t.Errorf("%s holds the marks of an unfinished merge", path)
		}
		return nil
	})
	if err != nil || seen < 500 {
		t.Errorf("%d files were read, %v", seen, err)
	}
}

func TestTidyMergesSeesOne(t *testing.T) {
	if !halfMerged.MatchString("a\n"+"<<<<<<"+"< HEAD\nb\n") || halfMerged.MatchString("a << b\n=======\n") {
		t.Error("the marks are not told from other text")
	}
}
