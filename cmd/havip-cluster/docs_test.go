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
	for _, name := range []string{"concepts.md", "tuning.md", "two-hosts.md", "deploy/README.md"} {
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
