package mutant

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCatalogue: every bug that the source plants is in the catalogue with a catcher, and
// the catalogue names no other.
func TestCatalogue(t *testing.T) {
	call := regexp.MustCompile(`mutant\.Active\("([a-z-]+)"\)`)
	planted := map[string]bool{}
	err := filepath.WalkDir("../..", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(name, ".go") {
			return err
		}
		text, err := os.ReadFile(name)
		for _, m := range call.FindAllSubmatch(text, -1) {
			planted[string(m[1])] = true
		}
		return err
	})
	if err != nil || len(planted) == 0 {
		t.Fatalf("no planted bug was found: %v", err)
	}
	var listed []string
	for _, b := range Catalogue {
		if len(b.By) == 0 || b.Rule == "" || slices.Contains(listed, b.Name) {
			t.Errorf("%s has no catcher or no rule, or is listed twice", b.Name)
		}
		if !planted[b.Name] {
			t.Errorf("%s is listed and planted nowhere", b.Name)
		}
		listed = append(listed, b.Name)
		delete(planted, b.Name)
	}
	for name := range planted {
		t.Errorf("%s is planted and not in the catalogue", name)
	}
}
