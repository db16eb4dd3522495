package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// Every command line pays for what packages prepare before main, and every agent keeps it. What only some
// need, such as the pages of the console, is made when it is asked for.
func TestStartCostsLittle(t *testing.T) {
	const most = 2 << 20 // bytes that one package may allocate
	cmd := exec.Command(os.Args[0], "-test.run", "^$")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line) // init PACKAGE @T ms, D ms clock, N bytes, M allocs (package runtime, GODEBUG)
		if len(f) < 8 || f[0] != "init" || f[8] != "bytes," {
			continue
		}
		seen++
		if n, err := strconv.Atoi(f[7]); err != nil || n > most {
			t.Errorf("%s allocates %s bytes before main, at most %d", f[1], f[7], most)
		}
	}
	if seen < 20 {
		t.Errorf("only %d packages told of themselves:\n%s", seen, out)
	}
}
