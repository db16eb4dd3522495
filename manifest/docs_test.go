package manifest

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files; commit the difference only if you can explain it")

// TestComingFromNamesRealTests: each test that docs/coming-from.md names exists, and each
// row of its tables names one or says that there is no place.
func TestComingFromNamesRealTests(t *testing.T) {
	text, err := os.ReadFile("../docs/coming-from.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z][a-z0-9/-]*)/(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 60 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, n := range named {
		if !declared(t, filepath.Join("..", n[1]), n[2]) {
			t.Errorf("there is no %s in %s", n[2], n[1])
		}
	}
	for i, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "| ") || strings.HasSuffix(line, "| test |") {
			continue
		}
		if cells := strings.Split(strings.Trim(line, "| "), " | "); len(cells) != 3 || !strings.Contains(cells[2], "/Test") && cells[2] != "none: no place" {
			t.Errorf("line %d names no test and does not say that it has no place: %s", i+1, line)
		}
	}
	if declared(t, ".", "TestThatIsNotThere") {
		t.Error("the check finds tests that do not exist")
	}
}

func declared(t *testing.T, folder, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "\nfunc "+test+"(t *testing.T)") {
			return true
		}
	}
	return false
}
