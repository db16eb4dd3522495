// Package goldens is what the tests of the importers share. Only tests import it.
package goldens

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

var update = flag.Bool("update", false, "write the golden files; commit the difference only if you can explain it")

// Read is one input file.
func Read(t *testing.T, name string) manifest.Source {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Source{Name: name, Data: data}
}

// Sources reads the files of a case, those of a pattern such as *.conf, in the order of their names.
func Sources(t *testing.T, dir, pattern string) []manifest.Source {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no input in %s: %v", dir, err)
	}
	var out []manifest.Source
	for _, name := range names {
		out = append(out, Read(t, name))
	}
	return out
}

// Same compares with a golden file, or writes it under -update.
func Same(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got\n%s", name, got)
	}
}

// Check compares what was imported, and its findings, with the golden files at base, and
// reads it back.
func Check(t *testing.T, got manifest.Import, err error, base string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	Same(t, base+"golden.yaml", string(got.Manifest.YAML()))
	Same(t, base+"findings.txt", got.Report())
	back, _, err := manifest.Decode(got.Manifest.YAML())
	if err != nil || string(back.YAML()) != string(got.Manifest.YAML()) {
		t.Errorf("what was imported is not read back as it is: %v", err)
	}
}

// Case is an input from the field with what is right for it. The golden file at base holds the
// outcome whole; Want and Never are what the .expect beside the input demands of it.
type Case struct {
	Name  string
	Files []string // below the folder of the cases; none: Name with the importer's extension
	Nodes []string // as --node
	Root  string   // as --root
	Lost  bool     // something is missing in it, or nothing was imported: exit code 1
	Want  []string // each is in the outcome
	Never []string // none is in it
}

// Outcome is all that an import says, as the golden files of cases have it.
func Outcome(got manifest.Import, err error) string {
	var b strings.Builder
	if len(got.Manifest.HAVIPs) > 0 {
		b.Write(got.Manifest.YAML())
	}
	b.WriteString("--- findings\n" + got.Report())
	switch lost := len(got.Lost()); {
	case err != nil:
		b.WriteString("--- exit code 1: " + err.Error() + "\n")
	case lost > 0:
		b.WriteString("--- exit code 1: " + strconv.Itoa(lost) + " missing\n")
	default:
		b.WriteString("--- exit code 0\n")
	}
	return b.String()
}

// Field checks the outcome of a case. dir is the folder of the cases.
func Field(t *testing.T, c Case, dir string, got manifest.Import, err error) {
	t.Helper()
	text := Outcome(got, err)
	Same(t, filepath.Join(dir, c.Name+".golden"), text)
	if lost := err != nil || len(got.Lost()) > 0; lost != c.Lost {
		t.Errorf("something is missing in it: %v, want %v\n%s", lost, c.Lost, text)
	}
	for _, want := range c.Want {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, never := range c.Never {
		if strings.Contains(text, never) {
			t.Errorf("%q is in\n%s", never, text)
		}
	}
	if _, errs := os.Stat(filepath.Join(dir, c.Name+".expect")); errs != nil {
		t.Errorf("no word on what is right: %v", errs)
	}
	if err != nil {
		return
	}
	back, _, err := manifest.Decode(got.Manifest.YAML())
	if err != nil || string(back.YAML()) != string(got.Manifest.YAML()) {
		t.Errorf("what was imported is not read back as it is: %v", err)
	}
}

// EveryCase checks that each .expect in dir has a row.
func EveryCase(t *testing.T, dir string, rows []Case) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.expect"))
	if err != nil || len(names) != len(rows) {
		t.Errorf("%d files say what is right, and %d rows are tried: %v", len(names), len(rows), err)
	}
}

// Refused checks that the first fault of err has the code, the place and the reason.
func Refused(t *testing.T, name string, code fsm.Code, place, why string, err error) {
	t.Helper()
	var faults manifest.Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		t.Fatalf("%s: error %v", name, err)
	}
	if f := faults[0]; f.Code != code || !strings.HasPrefix(f.Error(), place) || !strings.Contains(f.Text, why) {
		t.Errorf("%s: %s\nwant %s ... %s (%s)", name, f, place, why, code)
	}
}

// Found checks that some finding begins with place and holds why.
func Found(t *testing.T, name, place, why string, got manifest.Import) {
	t.Helper()
	for _, f := range got.Findings {
		if text := f.String(); strings.HasPrefix(text, place) && strings.Contains(text, why) {
			return
		}
	}
	t.Errorf("%s: no %s ... %s in\n%s", name, place, why, got.Report())
}

// Cases are the golden inputs, at least ten.
func Cases(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) < 10 {
		t.Fatalf("%d golden cases: %v", len(names), err)
	}
	return names
}

// Fuzzed checks what a fuzz target got: an error has a code and a file, and anything else
// can be read back.
func Fuzzed(t *testing.T, got manifest.Import, err error) {
	if err != nil {
		var faults manifest.Faults
		if !errors.As(err, &faults) || faults[0].Code == "" || faults[0].File == "" {
			t.Fatalf("error without code or file: %v", err)
		}
		return
	}
	if _, _, err := manifest.Decode(got.Manifest.YAML()); err != nil {
		t.Fatalf("%v\n%s", err, got.Manifest.YAML())
	}
}

// ComingFrom checks that docs/coming-from.md speaks of every option that an importer knows.
func ComingFrom[R any](t *testing.T, tables ...map[string]R) {
	t.Helper()
	text, err := os.ReadFile("../../docs/coming-from.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		for option := range table {
			if !strings.Contains(string(text), "`"+option+"`") {
				t.Errorf("%s is not in docs/coming-from.md", option)
			}
		}
	}
}
