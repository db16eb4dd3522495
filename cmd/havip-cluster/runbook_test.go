package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// typedIn finds command lines of this program in a text: indented, or between backquotes.
var typedIn = regexp.MustCompile("(?m)(?:^    |`)havip-cluster ([^`\n|>#]+)")

// words splits a command line as a shell does, without its variables.
func words(line string) (out []string) {
	var word strings.Builder
	quote, begun := rune(0), false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, begun = r, true
		case quote == 0 && r == ' ':
			if begun {
				out = append(out, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if begun {
		out = append(out, word.String())
	}
	return out
}

// shown is why a command line that a text shows cannot be typed, "" if it can: the verb, its flags
// and the number of its arguments are read as the program reads them.
func shown(line string) string {
	root := newRoot(&globals{stdout: io.Discard, stderr: io.Discard})
	cmd, rest, err := root.Find(words(line))
	if err != nil {
		return err.Error()
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err.Error()
	}
	if cmd.HasSubCommands() && cmd.Name() != root.Name() {
		return cmd.CommandPath() + " needs a verb"
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err.Error()
	}
	return ""
}

// TestRunbooks: each has what it means, where to look, what to do and when it is done, and each
// command in it can be typed.
func TestRunbooks(t *testing.T) {
	files, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d runbooks, %v", len(files), err)
	}
	for _, name := range append(files, "../../docs/monitoring/README.md") {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := typedIn.FindAllStringSubmatch(string(raw), -1)
		if len(lines) == 0 {
			t.Errorf("%s has no command", name)
		}
		for _, m := range lines {
			if why := shown(m[1]); why != "" {
				t.Errorf("%s: havip-cluster %s: %s", filepath.Base(name), m[1], why)
			}
		}
		for _, part := range []string{"## Look", "## Do", "## Done when"} {
			if strings.Contains(name, "runbooks") && !strings.Contains(string(raw), part) {
				t.Errorf("%s lacks %q", name, part)
			}
		}
	}
	for _, wrong := range []string{"havip mvoe web --to n", "havip move web --too n", "havip move", "node"} {
		if shown(wrong) == "" {
			t.Errorf("%q passes", wrong)
		}
	}
}
