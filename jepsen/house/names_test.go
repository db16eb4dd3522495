package house

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// notHere are names that a text may have although the tree does not: files of a data directory and of
// runs, and placeholders.
var notHere = map[string]bool{
	"identity.json": true, "keys.json": true, "NAME.patch": true, "testdata/NAME.txt": true, "sponsors.json": true, "results.json": true,
	"events/events.0.jsonl": true, "page.html": true,
}

var (
	codeSpan   = regexp.MustCompile("`([^`\n]+)`")
	fileName   = regexp.MustCompile(`^[\w./-]+\.(go|c|pml|patch|txt|md|json|yml|svg)$`)
	identifier = regexp.MustCompile(`^\w+(\.\w+)*(\(\))?$`)
	word       = regexp.MustCompile(`[A-Za-z_]\w*`)
)

// Each file and each identifier that a DESIGN.md names is in the tree. In a table of tests the prefix
// Test may be left out, as in the one of the lease core.
func TestDesignsNameWhatExists(t *testing.T) {
	files, words, texts := tree(t)
	if len(texts) < 40 {
		t.Fatalf("only %d texts", len(texts))
	}
	names := 0
	for path, text := range texts {
		for _, span := range codeSpan.FindAllStringSubmatch(text, -1) {
			switch name := span[1]; {
			case notHere[name]:
			case fileName.MatchString(name):
				names++
				if !files[filepath.Base(name)] {
					t.Errorf("%s names %s, which is not there", path, name)
				}
			case identifier.MatchString(name):
				names++
				for _, part := range word.FindAllString(name, -1) {
					if !words[part] && !words["Test"+part] {
						t.Errorf("%s names %s, and nothing is called %s", path, name, part)
					}
				}
			}
		}
	}
	if names < 800 {
		t.Errorf("only %d names were looked at", names)
	}
}

// tree returns the names of all files, the words of those that are no prose, and the texts that are held to them.
func tree(t *testing.T) (files, words map[string]bool, texts map[string]string) {
	t.Helper()
	files, words, texts = map[string]bool{}, map[string]bool{}, map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "bin" || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		files[d.Name()] = true
		raw, err := os.ReadFile(path)
		if err != nil || bytes.IndexByte(raw, 0) >= 0 {
			return err
		}
		switch {
		case d.Name() == "DESIGN.md", strings.HasSuffix(path, "docs/house.md"), strings.HasSuffix(path, "docs/changing.md"):
			texts[path] = string(raw)
		case !strings.HasSuffix(path, ".md") && !strings.HasSuffix(path, ".html"):
			for _, w := range word.FindAll(raw, -1) {
				words[string(w)] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, words, texts
}
