package main

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// adviceIn finds "`VERB ..." in a text: the words up to the first that is no plain one.
var adviceIn = regexp.MustCompile("`([a-z][a-z-]*(?: [a-z][a-z-]*)*)")

// foreign are other programs that a text may advise.
var foreign = []string{"ip"}

// Whatever the rules, the placement and Apply advise between backquotes is a verb that there
// is. An obstacle's text is what a user copies into his shell.
func TestAdvisedVerbsExist(t *testing.T) {
	root, found := newRoot(&globals{}), map[string]bool{}
	for _, folder := range []string{"../../fsm", "../../fsm/placement", "../../failover", "../../membership", "../../api"} {
		for where, text := range literals(t, folder) {
			for _, m := range adviceIn.FindAllStringSubmatch(text, -1) {
				words := strings.Fields(m[1])
				if slices.Contains(foreign, words[0]) {
					continue
				}
				if words[0] == root.Name() {
					words = words[1:]
				}
				if why := noSuchVerb(root, words); why != "" {
					t.Errorf("%s advises `%s`: %s", where, m[1], why)
				}
				found[m[1]] = true
			}
		}
	}
	for _, verb := range []string{"havip clear-failures", "havip unban", "havip enable", "node activate", "havip range add", "havip move"} {
		if !found[verb] {
			t.Errorf("nothing advises `%s`: the test does not read what it should", verb)
		}
	}
	if noSuchVerb(root, []string{"havip", "reset-failures"}) == "" {
		t.Error("a verb that there is not was not noticed")
	}
}

// noSuchVerb says why some words are not the beginning of a command line, "" if they are.
func noSuchVerb(root *cobra.Command, words []string) string {
	at := root
	for _, word := range words {
		i := slices.IndexFunc(at.Commands(), func(c *cobra.Command) bool { return c.Name() == word || slices.Contains(c.Aliases, word) })
		if i < 0 && !at.HasSubCommands() {
			return "" // an argument
		}
		if i < 0 {
			return at.CommandPath() + " has no verb " + word
		}
		at = at.Commands()[i]
	}
	return ""
}

// literals returns the string literals of the Go files of a folder that are no tests, by place.
func literals(t *testing.T, folder string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", folder, len(files), err)
	}
	out := map[string]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		set := gotoken.NewFileSet()
		file, err := parser.ParseFile(set, name, raw, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != gotoken.STRING || lit.Value[0] == '`' {
				return true
			}
			if text, err := strconv.Unquote(lit.Value); err == nil {
				out[set.Position(lit.Pos()).String()] = text
			}
			return true
		})
	}
	return out
}
