package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestFromPacemaker does what docs/from-pacemaker.md says in its steps 1 and 2, with the CIB
// that it shows. What needs a Pacemaker is not typed.
func TestFromPacemaker(t *testing.T) {
	text, err := os.ReadFile("../../docs/from-pacemaker.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	var cib strings.Builder
	var commands []string
	for line := range strings.Lines(strings.Split(string(text), "## 3.")[0]) {
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case !indented:
		case strings.HasPrefix(strings.TrimSpace(code), "<"):
			cib.WriteString(code)
		case strings.HasPrefix(code, "havip-cluster "):
			commands = append(commands, strings.TrimSpace(code))
		case !strings.HasPrefix(code, "cibadmin "):
			t.Errorf("%q is neither typed nor known to need a Pacemaker", code)
		}
	}
	if len(commands) != 3 {
		t.Fatalf("commands %q", commands)
	}
	if err := os.WriteFile("cib.xml", []byte(cib.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range commands {
		words := strings.Fields(command)[1:]
		var stdout, stderr bytes.Buffer
		file := ""
		if n := len(words); n > 2 && words[n-2] == ">" {
			words, file = words[:n-2], words[n-1]
		}
		if code := run(words, &stdout, &stderr); code != 0 {
			t.Fatalf("%s: exit code %d\n%s", command, code, stderr.String())
		}
		if file == "" {
			continue
		}
		if err := os.WriteFile(file, stdout.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, said := range []string{"stickiness of vip: 300:", "check gateway, ping of 10.77.0.1, bars vip, vip6 where it fails", "`check create nginx --type systemd --target nginx.service --havips vip,vip6`", "failback of vip: never", "primitive nginx (nginx): not an address"} {
			if !strings.Contains(stderr.String(), said) {
				t.Errorf("%s: no %q in\n%s", command, said, stderr.String())
			}
		}
	}
}
