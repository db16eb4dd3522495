package console

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each form of the console is pressed by a test in a real browser. `make console-test` writes down what it pressed and
// holds itself to it; this test needs no browser, and fails for a form that is new.
func TestEachFormIsPressedInABrowser(t *testing.T) {
	text, err := os.ReadFile("browsertest/pressed.txt")
	if err != nil {
		t.Fatal(err)
	}
	pressed := strings.Fields(strings.ReplaceAll(string(text), " form=", "?form="))
	has := func(form string) bool { return slices.Contains(pressed, form) }
	variant := func(form string) bool {
		return slices.ContainsFunc(pressed, func(p string) bool { return strings.HasPrefix(p, form+"?form=") })
	}
	forms := New(Config{}).Forms()
	for _, form := range forms {
		if !has(form) && !variant(form) {
			t.Errorf("no test in a browser presses the form that is sent to %s: add it to browsertest, then `HAVIP_UPDATE=1 make console-test`", form)
		}
	}
	for _, p := range pressed {
		if form, _, _ := strings.Cut(p, "?"); !slices.Contains(forms, form) {
			t.Errorf("browsertest/pressed.txt has %s, which the console has not", p)
		}
	}
	// Forms that share a path say which they are in a field of that name.
	err = fs.WalkDir(templateFiles, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := fs.ReadFile(templateFiles, path)
		for _, m := range regexp.MustCompile(`name="form" value="([a-z]+)"`).FindAllSubmatch(text, -1) {
			if !slices.ContainsFunc(pressed, func(p string) bool { return strings.HasSuffix(p, "?form="+string(m[1])) }) {
				t.Errorf("%s: no test in a browser presses the form %s", path, m[1])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
