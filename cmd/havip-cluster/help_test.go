package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// verbsOf are all commands that do something, by their names after the program's.
func verbsOf(root *cobra.Command) map[string]*cobra.Command {
	out := map[string]*cobra.Command{}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if !c.HasSubCommands() && !c.Hidden {
			out[strings.TrimPrefix(c.CommandPath(), root.Name()+" ")] = c
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return out
}

// Each verb has a help that begins with what it does, and examples of it that can be typed.
func TestEveryVerbHasExamples(t *testing.T) {
	root := newRoot(&globals{stdout: io.Discard, stderr: io.Discard})
	verbs := verbsOf(root)
	if len(verbs) < 80 {
		t.Fatalf("%d verbs", len(verbs))
	}
	for name, c := range verbs {
		if c.Short == "" || !strings.HasPrefix(c.Long, c.Short) {
			t.Errorf("%s: its help begins with %.60q, not with what it does: %q", name, c.Long, c.Short)
		}
		own := 0
		for line := range strings.Lines(c.Example) {
			lines := commandsIn("  " + line)
			if len(lines) != 1 {
				t.Errorf("%s: the example %q is no command line of this program", name, line)
				continue
			}
			typed := lines[0]
			if why := shown(typed); why != "" {
				t.Errorf("%s: the example %q: %s", name, typed, why)
			}
			if found, _, err := root.Find(words(typed)); err == nil && found.CommandPath() == c.CommandPath() {
				own++
			}
		}
		if own == 0 {
			t.Errorf("%s has no example of its own", name)
		}
	}
	for name := range examples {
		if _, there := verbs[name]; !there {
			t.Errorf("there are examples for %q, which is no verb", name)
		}
	}
}

// Verbs that list, delete and remove have the short names of other tools.
func TestShortNames(t *testing.T) {
	for name, c := range verbsOf(newRoot(&globals{stdout: io.Discard, stderr: io.Discard})) {
		if want := map[string]string{"list": "ls", "delete": "rm", "remove": "rm"}[c.Name()]; want != "" && !slices.Contains(c.Aliases, want) {
			t.Errorf("%s has not the short name %s", name, want)
		}
	}
}

// Each command of the program in any page of the docs, and in the README, can be typed as it stands.
func TestEveryPageCanBeTyped(t *testing.T) {
	var pages []string
	err := filepath.WalkDir("../../docs", func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".md") {
			pages = append(pages, path)
		}
		return err
	})
	if pages = append(pages, "../../README.md"); err != nil || len(pages) < 20 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	root := newRoot(&globals{stdout: io.Discard, stderr: io.Discard})
	commands, said := 0, 0
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, typed := range commandsIn(string(raw)) {
			commands++
			if why := shown(typed); why != "" {
				t.Errorf("%s: havip-cluster %s: %s", page, typed, why)
			}
		}
		for _, m := range mentions.FindAllStringSubmatch(string(raw), -1) {
			said++
			if why := mentioned(root, m[1]); why != "" {
				t.Errorf("%s: `%s`: %s", page, m[1], why)
			}
		}
	}
	if commands < 100 || said < 300 {
		t.Errorf("only %d commands and %d mentions were found", commands, said)
	}
	for _, wrong := range []string{"havip mvoe", "havip create --ipp=1", "node set --weihgt=1", "apply --proone"} {
		if mentioned(root, wrong) == "" {
			t.Errorf("`%s` passes", wrong)
		}
	}
}

var (
	// typedLines finds command lines of this program that stand by themselves, indented.
	typedLines = regexp.MustCompile("(?m)^    (?:sudo |[A-Z_]+=\\S+ )*havip-cluster ([^\n]+)")
	// mentions finds commands in running text, between backquotes, with the program's name or without.
	mentions = regexp.MustCompile("`(?:havip-cluster )?([a-z][a-z-]*(?: [^`\n]*)?)`")
)

// mentioned is why a command that running text names is none: arguments may be left out there, what may
// be left out stands in brackets, and what follows a name of another program is not looked at.
func mentioned(root *cobra.Command, text string) string {
	text, _, _ = strings.Cut(strings.NewReplacer("[", " ", "]", " ", ", ", "\n").Replace(text), "\n")
	list := words(text)
	if list[0] == "help" || !slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == list[0] && (c.HasSubCommands() || len(list) > 1) }) {
		return ""
	}
	c, rest, err := root.Find(list)
	switch {
	case err != nil:
		return err.Error()
	case c.HasSubCommands() && len(rest) > 0 && !slices.Contains(nouns, c.Name()+" "+rest[0]):
		return c.CommandPath() + " has no verb " + rest[0]
	}
	for _, word := range rest {
		name, long := strings.CutPrefix(strings.SplitN(word, "=", 2)[0], "--")
		if name = strings.TrimRight(name, ",.;"); long && c.Flags().Lookup(name) == nil && c.InheritedFlags().Lookup(name) == nil {
			return c.CommandPath() + " has no flag --" + name
		}
	}
	return ""
}

// nouns are words of running text that only look like a verb of a group.
var nouns = []string{"import keepalived|pacemaker|heartbeat|mscs", "node node-2", "node on"}

// commandsIn are the command lines of a page, each up to what the shell takes.
func commandsIn(text string) (out []string) {
	for _, m := range typedLines.FindAllStringSubmatch(text, -1) {
		line, _, _ := strings.Cut(m[1], " #")
		for _, shell := range []string{" | ", " >", " 2>", ";", " && ", " || ", " <", " &"} {
			line, _, _ = strings.Cut(line, shell)
		}
		out = append(out, strings.TrimSpace(line))
	}
	return out
}
