package mutants

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
)

const (
	catchLimit = 5 * time.Minute // for one test with one bug
	simSeeds   = "200"           // after so many without a violation a bug has survived the simulation
	simTime    = "2m"            // of each
)

// finding is what became of one planted bug.
type finding struct {
	bug      bug
	by       []string // a line for each test that should notice it
	survived int      // of these tests
	err      error
}

// hunt plants the bugs, as many at a time as there are cores, and yields what became of them in
// their order.
func hunt(bugs []bug, binaries builds) iter.Seq[finding] {
	findings := make([]chan finding, len(bugs))
	for i := range findings {
		findings[i] = make(chan finding, 1)
	}
	var next atomic.Int64
	for range runtime.NumCPU() {
		go func() {
			for i := next.Add(1) - 1; i < int64(len(bugs)); i = next.Add(1) - 1 {
				findings[i] <- notice(bugs[i], binaries)
			}
		}()
	}
	return func(yield func(finding) bool) {
		for _, c := range findings {
			if !yield(<-c) {
				next.Store(int64(len(bugs))) // what has begun ends with this process
				return
			}
		}
	}
}

// notice runs the tests that should notice a bug.
func notice(b bug, binaries builds) finding {
	f := finding{bug: b}
	for _, c := range b.By {
		evidence, err := catch(binaries[b.Name][c.Package], b.Name, c)
		if err != nil {
			f.err = fmt.Errorf("%s: %w", b.Name, err)
			return f
		}
		if evidence == "" {
			f.survived++
			evidence = "SURVIVED"
		}
		f.by = append(f.by, c.Package+": "+evidence)
	}
	return f
}

var (
	firstFailure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	history      = regexp.MustCompile(`(history \d+: .*)`)
	reason       = regexp.MustCompile(`(?m)^\s+\w+_test\.go:\d+: (.*)$`)
	simCaught    = regexp.MustCompile(`(?m)^caught: (.*)$`)
	crashed      = regexp.MustCompile(`(?m)^panic: (.*)$`)
	ran          = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL): \S+/\S+`)
)

// catch runs one test with one bug, and returns what shows that it was noticed, or "".
func catch(binary, name string, c catcher) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), catchLimit)
	defer cancel()
	args := []string{"-test.v", "-test.short", "-test.failfast", "-test.run", strings.ReplaceAll(c.Test, "NAME", name)}
	if c.How == inSim {
		args = append(args, "-sim.seeds", simSeeds, "-sim.duration", simTime)
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = c.Package
	if c.How != passes {
		cmd.Env = append(os.Environ(), "HAVIP_MUTANT="+name)
	}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return "", err
	}
	text := string(out)
	switch c.How {
	case fails:
		if m := firstFailure.FindStringSubmatch(text); err != nil && m != nil {
			return m[1] + " fails", nil
		}
		if m := crashed.FindStringSubmatch(text); err != nil && m != nil { // another goroutine than the test's: no test is named
			return short("the process ends: " + m[1]), nil
		}
	case passes:
		if err == nil && ran.MatchString(text) {
			return found(text), nil
		}
	case inSim:
		if m := simCaught.FindStringSubmatch(text); err == nil && m != nil {
			return short(m[1]), nil
		}
	}
	return "", nil
}

func found(text string) string {
	if m := history.FindStringSubmatch(text); m != nil {
		return short("search, " + m[1])
	}
	if m := reason.FindStringSubmatch(text); m != nil {
		return short("directed schedule: " + m[1])
	}
	return "directed schedule"
}

const evidenceMax = 110

func short(s string) string {
	if r := []rune(s); len(r) > evidenceMax {
		return string(r[:evidenceMax]) + "..."
	}
	return s
}
