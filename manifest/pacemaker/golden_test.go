package pacemaker

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

var update = flag.Bool("update", false, "write the golden files; commit the difference only if you can explain it")

func read(t *testing.T, name string) manifest.Source {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Source{Name: name, Data: data}
}

func golden(t *testing.T, name, got string) {
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

func check(t *testing.T, got manifest.Import, err error, base string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, base+"golden.yaml", string(got.Manifest.YAML()))
	golden(t, base+"findings.txt", got.Report())
	back, _, err := manifest.Decode(got.Manifest.YAML())
	if err != nil || string(back.YAML()) != string(got.Manifest.YAML()) {
		t.Errorf("what was imported is not read back as it is: %v", err)
	}
}

// badRow is an input that must be refused with a code, a place and a reason.
type badRow struct {
	name, text string
	code       fsm.Code
	place, why string
}

func refused(t *testing.T, row badRow, err error) {
	t.Helper()
	var faults manifest.Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		t.Fatalf("%s: error %v", row.name, err)
	}
	if f := faults[0]; f.Code != row.code || !strings.HasPrefix(f.Error(), row.place) || !strings.Contains(f.Text, row.why) {
		t.Errorf("%s: %s\nwant %s ... %s (%s)", row.name, f, row.place, row.why, row.code)
	}
}

func golds(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) < 10 {
		t.Fatalf("%d golden cases: %v", len(names), err)
	}
	return names
}

func fuzzed(t *testing.T, got manifest.Import, err error) {
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

// TestComingFromIsComplete: docs/coming-from.md speaks of every option that is known here.
func TestComingFromIsComplete(t *testing.T) {
	text, err := os.ReadFile("../../docs/coming-from.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []map[string]rule{parameters, metaRules, properties} {
		for option := range table {
			if !strings.Contains(string(text), "`"+option+"`") {
				t.Errorf("%s is not in docs/coming-from.md", option)
			}
		}
	}
}
