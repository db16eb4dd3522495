// Command table plants each bug of the catalogue in turn, runs the tests that should
// notice it, and prints who did. It fails when one survives. Run it in the root of the
// tree; names of bugs as arguments limit it to those.
package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"havip-cluster/internal/mutant"
)

const (
	catchLimit = 5 * time.Minute // for one test with one bug
	simSeeds   = "200"           // after so many without a violation a bug has survived the simulation
	simTime    = "2m"            // of each
)

func main() {
	survivors, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
	if survivors > 0 {
		fmt.Printf("%d planted bugs survived\n", survivors)
		os.Exit(1)
	}
}

func run(only []string) (survivors int, err error) {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	bugs := slices.DeleteFunc(slices.Clone(mutant.Catalogue), func(b mutant.Bug) bool {
		return len(only) > 0 && !slices.Contains(only, b.Name)
	})
	binaries := map[string]string{}
	for _, b := range bugs {
		for _, c := range b.By {
			if binaries[c.Package] == "" {
				if binaries[c.Package], err = build(dir, c.Package); err != nil {
					return 0, err
				}
			}
		}
	}
	fmt.Printf("%-26s %-45s %s\n", "planted bug", "rule or guard", "caught by")
	for found := range hunt(bugs, binaries) {
		if found.err != nil {
			return 0, found.err
		}
		for i, line := range found.by {
			name, rule := found.bug.Name, found.bug.Rule
			if i > 0 {
				name, rule = "", ""
			}
			fmt.Printf("%-26s %-45s %s\n", name, rule, line)
		}
		survivors += found.survived
	}
	fmt.Printf("%d planted bugs\n", len(bugs))
	return survivors, nil
}

// finding is what became of one planted bug.
type finding struct {
	bug      mutant.Bug
	by       []string // a line for each test that should notice it
	survived int      // of these tests
	err      error
}

// hunt plants the bugs, as many at a time as there are cores, and yields what became of them in
// their order.
func hunt(bugs []mutant.Bug, binaries map[string]string) iter.Seq[finding] {
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
func notice(b mutant.Bug, binaries map[string]string) finding {
	f := finding{bug: b}
	for _, c := range b.By {
		evidence, err := catch(binaries[c.Package], b.Name, c)
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

func build(dir, pkg string) (string, error) {
	out := filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-"))
	cmd := exec.Command("go", "test", "-tags", "mutants", "-c", "-o", out, "./"+pkg)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build the tests of %s: %w", pkg, err)
	}
	return filepath.Abs(out)
}

var (
	firstFailure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	history      = regexp.MustCompile(`(history \d+: .*)`)
	reason       = regexp.MustCompile(`(?m)^\s+\w+_test\.go:\d+: (.*)$`)
	simCaught    = regexp.MustCompile(`(?m)^caught: (.*)$`)
	ran          = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL): \S+/\S+`)
)

// catch runs one test with one bug, and returns what shows that it was noticed, or "".
func catch(binary, name string, c mutant.Catcher) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), catchLimit)
	defer cancel()
	args := []string{"-test.v", "-test.short", "-test.failfast", "-test.run", strings.ReplaceAll(c.Test, "NAME", name)}
	if c.Kind == mutant.Sim {
		args = append(args, "-sim.seeds", simSeeds, "-sim.duration", simTime)
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = c.Package
	if c.Kind != mutant.Passes {
		cmd.Env = append(os.Environ(), "HAVIP_MUTANT="+name)
	}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return "", err
	}
	text := string(out)
	switch c.Kind {
	case mutant.Fails:
		if m := firstFailure.FindStringSubmatch(text); err != nil && m != nil {
			return m[1] + " fails", nil
		}
	case mutant.Passes:
		if err == nil && ran.MatchString(text) {
			return found(text), nil
		}
	case mutant.Sim:
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
