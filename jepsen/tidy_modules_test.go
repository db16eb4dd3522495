package jepsen_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// modulesOf prints a module for each package that the binary links.
const modulesOf = `{{with .Module}}{{if not .Main}}{{.Path}} {{with .Replace}}{{.Version}} (replaced){{else}}{{.Version}}{{end}}{{end}}{{end}}`

// TestTidyModules: docs/dependencies.md lists what the binary links, and nothing else.
func TestTidyModules(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", modulesOf, "./cmd/havip-cluster")
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, found := strings.Cut(string(text), "\n## Modules\n")
	if !found {
		t.Fatal("docs/dependencies.md has no list of modules")
	}
	links, says := lines(string(out)), lines(list)
	if len(links) < 20 {
		t.Fatalf("the binary links only %q", links)
	}
	for _, m := range links {
		if !slices.Contains(says, m) {
			t.Errorf("docs/dependencies.md does not list %s", m)
		}
	}
	for _, m := range says {
		if !slices.Contains(links, m) {
			t.Errorf("docs/dependencies.md lists %s, which the binary does not link", m)
		}
	}
}

// TestTidyBinary: the binary holds nothing of the evidence.
func TestTidyBinary(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/havip-cluster")
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	own := 0
	for _, pkg := range lines(string(out)) {
		if folder, ok := strings.CutPrefix(pkg, modulePath); ok {
			own++
			if folder == "jepsen" || strings.HasPrefix(folder, "jepsen/") {
				t.Errorf("the binary links %s", folder)
			}
		}
	}
	if own < 20 {
		t.Errorf("only %d packages of the project are linked", own)
	}
}

// lines are the lines of a text that say something, each once, sorted.
func lines(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
