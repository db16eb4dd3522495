package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"havip-cluster/api"
)

// What cannot be written is said, and the exit code is not 0: an export to a full disk is no export.
func TestOutputThatCannotBeWritten(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "-o", "json"}, {"--help"}, {"completion", "bash"}, {"verify", "testdata/web.yaml"}} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		if code := run(args, full, &stderr); code != 1 || !strings.Contains(stderr.String(), "write /dev/full: no space left on device") {
			t.Errorf("%q: exit code %d, %q", args, code, stderr.String())
		}
		if err := full.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What was typed is in an error, and may be long: the beginning says what is wrong, the end the way out.
func TestLongErrorsAreAbridged(t *testing.T) {
	var stdout, stderr bytes.Buffer
	typed := strings.Repeat("x", 5000)
	if code := run([]string{"havip", "create", "web", "--ip", typed}, &stdout, &stderr); code != 2 {
		t.Errorf("exit code %d", code)
	}
	if got := stderr.String(); len(got) > 1200 || !strings.HasPrefix(got, `Error: --ip "xxx`) || !strings.Contains(got, " ... ") || !strings.Contains(got, "is not an address such as 10.0.0.100") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	for text, want := range map[string]string{"": "", "short": "short", "a\nb\n": "a\nb\n"} {
		if got := abridged(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// A person is told what answers renewals, and why it is not the kernel.
func TestPlaneText(t *testing.T) {
	for want, p := range map[string]api.Plane{
		"in the guard, ordinary priority, memory not locked":                                                  {Process: "guard", Acceptor: "process"},
		"in the guard, ordinary priority, memory not locked, answers in the kernel on eth0":                   {Process: "guard", Acceptor: "kernel", AcceptorDevices: "eth0"},
		"in the guard, ordinary priority, memory not locked; answers in the process: operation not permitted": {Process: "guard", Acceptor: "process", AcceptorRefused: "operation not permitted"},
	} {
		if got := planeText(p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
