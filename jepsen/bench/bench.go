// Package bench measures havip-cluster and Keepalived: the same faults, on the same kind of LAN with the
// same client and observer, in turn, in one run on this machine. `make bench` calls it. The results are
// written as JSON, a table and plots, and held to ratios.
package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"havip-cluster/jepsen/netns"
)

const (
	port      = netns.DefaultPort
	settle    = 1 * time.Second  // of ordinary service before a fault
	after     = 1 * time.Second  // of observation after it has ended
	readyWait = 90 * time.Second // for the owners where a fault wants them, and all nodes in service
	runsMax   = 1000
)

// Command is `jepsen bench`; it returns the exit code: 0 measured and every gate held, 1 not, 2 usage.
func Command(args []string) int {
	f := flag.NewFlagSet("jepsen bench", flag.ExitOnError)
	set := f.String("set", "standard", "what is measured: "+strings.Join(setNames(), ", "))
	runs := f.Int("runs", 5, "how often each fault is repeated, 1 to 1000")
	only := f.String("only", "", "measure those whose line in -list has this in it")
	out := f.String("out", "bin/bench", "folder for results.json, README.md and the plots")
	list := f.Bool("list", false, "say what would be measured")
	draw := f.String("draw", "", "measure nothing: table, plots and gates of this results.json")
	_ = f.Parse(args) // it exits
	if *runs < 1 || *runs > runsMax || f.NArg() > 0 || sets[*set] == nil {
		fmt.Fprintf(os.Stderr, "bench: -runs %d -set %s: want 1 to %d runs of one of %v, and no further arguments\n", *runs, *set, runsMax, setNames())
		return 2
	}
	scenes := slices.DeleteFunc(sets[*set](), func(s scene) bool { return !strings.Contains(s.String(), *only) })
	if *list {
		for _, s := range scenes {
			fmt.Printf("%s: %s\n", s, strings.Join(s.faults, ", "))
		}
		return 0
	}
	if *draw != "" {
		return finish(read(*draw))(*out)
	}
	code, done, err := netns.Isolate()
	if err == nil && !done {
		netns.RaisePriority()
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return finish(measureAll(ctx, *set, scenes, *runs))(*out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return code
}

// finish writes what was measured, also when it ended early, and judges it.
func finish(r *results, err error) func(out string) int {
	return func(out string) int {
		if r != nil {
			r.Gates = judge(r)
			if failed := r.write(out); err == nil {
				err = failed
			}
			fmt.Print(r.markdown())
			fmt.Fprintf(os.Stderr, "bench: results are in %s\n", out)
		}
		switch {
		case err != nil:
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		case len(r.Rows) > 0 && !passed(r.Gates):
			return 1
		}
		return 0
	}
}

// measureAll plays the scenes in turn.
func measureAll(ctx context.Context, set string, scenes []scene, runs int) (*results, error) {
	r := &results{Set: set, Runs: runs}
	if err := r.describe(); err != nil {
		return nil, err
	}
	for _, s := range scenes {
		if err := s.play(ctx, runs, r); err != nil {
			return r, fmt.Errorf("%s: %w", s, err)
		}
	}
	return r, nil
}
