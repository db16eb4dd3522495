package main

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"havip-cluster/membership/identity"
)

// codesIn are the values of the constants Code... of a file.
func codesIn(t *testing.T, name string) []string {
	t.Helper()
	file, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Code") || len(spec.Values) != 1 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				out = append(out, text)
			}
		}
		return true
	})
	return out
}

// TestErrorTable: each code of the program is in docs/errors.md, and no other.
func TestErrorTable(t *testing.T) {
	raw, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Za-z.]+)` \\|").FindAllStringSubmatch(string(raw), -1) {
		table[m[1]] = true
	}
	codes := append(codesIn(t, "../../fsm/refusal.go"), codesIn(t, "../../api/problem.go")...)
	if len(codes) < 30 {
		t.Fatalf("only %d codes were found", len(codes))
	}
	for _, c := range codes {
		if !table[c] {
			t.Errorf("%s is not in docs/errors.md", c)
		}
		delete(table, c)
	}
	for c := range table {
		t.Errorf("docs/errors.md has %s, which the program does not", c)
	}
}

// TestDocsCanBeTyped: each command of these pages can be typed as it stands there.
func TestDocsCanBeTyped(t *testing.T) {
	for _, name := range []string{"concepts.md", "tuning.md", "two-hosts.md", "kernels.md", "clouds.md", "from-mscs.md", "deploy/README.md"} {
		raw, err := os.ReadFile("../../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		lines := typedIn.FindAllStringSubmatch(string(raw), -1)
		if len(lines) == 0 {
			t.Errorf("%s has no command", name)
		}
		for _, m := range lines {
			if why := shown(m[1]); why != "" {
				t.Errorf("%s: havip-cluster %s: %s", name, m[1], why)
			}
		}
	}
}

// TestTuningHasTheProfiles: the table of docs/tuning.md is that of the program.
func TestTuningHasTheProfiles(t *testing.T) {
	raw, err := os.ReadFile("../../docs/tuning.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([a-z]+)` \\| ([^|]+) \\| ([^|]+) \\| ([^|]+) \\|").FindAllStringSubmatch(string(raw), -1)
	if len(rows) != 3 {
		t.Fatalf("%d profiles", len(rows))
	}
	read := func(text string) time.Duration {
		d, err := time.ParseDuration(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, row := range rows {
		profile, least := identity.Profile(row[1]), read(row[3])
		timers, err := identity.TimersFor(profile, 0)
		if err != nil || timers.Lease != read(row[2]) || timers.RaftHeartbeat != read(row[4]) || timers.RaftElection != read(row[4]) {
			t.Errorf("%s: %v, %+v", row[0], err, timers)
		}
		if _, err := identity.TimersFor(profile, least); err != nil {
			t.Errorf("%s: the shortest lease is refused: %v", row[0], err)
		}
		if _, err := identity.TimersFor(profile, least-time.Millisecond); err == nil {
			t.Errorf("%s: a shorter lease is taken", row[0])
		}
	}
}
