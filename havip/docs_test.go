package havip

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/settings.md again")

const docsFile = "../docs/settings.md"

// table is docs/settings.md.
func table() string {
	var b strings.Builder
	b.WriteString(`# The settings of a HAVIP

Made from the table in ` + "`havip/settings.go`" + ` by ` + "`go test ./havip -run TestDocs -update`" + `. The key is that of the API's JSON and of a manifest; an absent one
means the default. Name, address, range, bans and EIP have rules and verbs of their own.

| key | command line | default | bounds | from level | |
|---|---|---|---|---|---|
`)
	for i := range Settings {
		s := &Settings[i]
		bounds := "-"
		switch s.Kind {
		case Number:
			bounds = fmt.Sprintf("%d to %d", s.Low, s.High)
		case Targets:
			bounds = fmt.Sprintf("%d nodes and ENIs", s.High)
		case Scores:
			bounds = fmt.Sprintf("%d nodes and ENIs, each %d to %d", TargetsMax, s.Low, s.High)
		case Text:
			if s.High > 0 {
				bounds = fmt.Sprintf("%d bytes", s.High)
			}
		}
		def := s.Default
		if def == "" {
			def = "-"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %d | %s |\n", s.Key, s.Verbs(), def, bounds, s.Level(), s.Doc())
	}
	return b.String()
}

// The page says what the table says.
func TestDocs(t *testing.T) {
	if *update {
		if err := os.WriteFile(docsFile, []byte(table()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != table() {
		t.Error("docs/settings.md says something else; write it with -update")
	}
}

// acts are the files outside this package that name a setting because they do something with it,
// beside what is done with every setting.
var acts = map[string][]string{
	"FailLimit": {
		"manifest/mscs/group.go",          // FailoverThreshold
		"manifest/pacemaker/resources.go", // an option of Pacemaker becomes this one
		"api/console/havip_forms.go",      // its form changes what differs from what it showed
		"cmd/havip-cluster/havips.go",     // shown beside the failures: 1 of 3
	},
}

// One setting lives in one folder: what docs/changing.md promises. A file that names one is in this
// package, or acts on it.
func TestASettingHasOneHome(t *testing.T) {
	for name, allowed := range acts {
		key := strings.ToLower(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(name, "${1}_$2"))
		if !slices.Contains(keysOfTable(), key) {
			continue
		}
		var home, outside []string
		err := filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if !regexp.MustCompile(`\.` + name + `\b|\b` + name + `:|"` + key + `|\b` + strings.ReplaceAll(key, "_", "-") + `"`).Match(text) {
				return nil
			}
			path = filepath.ToSlash(strings.TrimPrefix(path, "../"))
			if strings.HasPrefix(path, "havip/") {
				home = append(home, path)
			} else {
				outside = append(outside, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(allowed)
		if slices.Sort(outside); !slices.Equal(outside, allowed) {
			t.Errorf("%s is named in %v outside of its home, want %v", name, outside, allowed)
		}
		if len(home) == 0 || len(home) > 2 {
			t.Errorf("%s is at home in %v", name, home)
		}
	}
}

func keysOfTable() []string {
	var out []string
	for i := range Settings {
		out = append(out, Settings[i].Key)
	}
	return out
}
