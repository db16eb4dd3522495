package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestManual: each verb has a page with its flags, the same bytes each time, and no line begins with
// what roff would take for a request of its own.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	var out, stderr bytes.Buffer
	if code := run([]string{"man", dir}, &out, &stderr); code != 0 {
		t.Fatal(stderr.String())
	}
	pages, err := filepath.Glob(dir + "/havip-cluster*.8")
	if err != nil || len(pages) < 25 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	request := regexp.MustCompile(`^\.(TH|SH|SS|TP|PP|B|I|br|nf|fi)( |$)`)
	for _, p := range pages {
		raw, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			if line[0] == '\'' || line[0] == '.' && !request.MatchString(strings.TrimSpace(line)) {
				t.Errorf("%s: %q", filepath.Base(p), line)
			}
		}
	}
	raw, err := os.ReadFile(dir + "/havip-cluster-havip.8")
	if err != nil || !strings.Contains(string(raw), `.B \-\-failback`) || !strings.Contains(string(raw), ".SS havip\\-cluster havip move HAVIP") {
		t.Errorf("havip: %v\n%.600s", err, raw)
	}
	if again := manPage(newRoot(&globals{})); !bytes.Equal(again, manPage(newRoot(&globals{}))) {
		t.Error("twice is not the same")
	}
}

// TestCompletionOfNames: names are asked for where a verb takes one, and an agent that does not
// answer is no error in the shell.
func TestCompletionOfNames(t *testing.T) {
	for line, thing := range map[string]string{"havip move": "HAVIP", "node show": "NODE", "subnet show": "SUBNET", "group show": "GROUP", "explain": "HAVIP", "eni show": "ENI"} {
		root := newRoot(&globals{})
		cmd, _, err := root.Find(strings.Fields(line))
		if err != nil || cmd.ValidArgsFunction == nil {
			t.Errorf("%s: %v, nothing is completed", line, err)
			continue
		}
		if got := thingOf(strings.Fields(cmd.Use)[1]); got != thing {
			t.Errorf("%s completes %q, want %q", line, got, thing)
		}
	}
	var out, stderr bytes.Buffer
	if code := run([]string{"__complete", "--data-dir", t.TempDir(), "havip", "move", ""}, &out, &stderr); code != 0 || strings.TrimSpace(out.String()) != ":4" {
		t.Errorf("exit code %d, %q, %q", code, out.String(), stderr.String())
	}
}

// TestDeployExamples: the YAML of the examples can be read.
func TestDeployExamples(t *testing.T) {
	n := 0
	err := filepath.WalkDir("../../docs/deploy", func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".yaml") && !strings.HasSuffix(path, ".yml") {
			return err
		}
		n++
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var v any
		if err := yaml.Unmarshal(raw, &v); err != nil || v == nil {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil || n < 5 {
		t.Errorf("%d files, %v", n, err)
	}
}
