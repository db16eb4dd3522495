package main

import (
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"havip-cluster/jepsen/checker"
	"havip-cluster/jepsen/history"
	"havip-cluster/jepsen/nemesis"
	"havip-cluster/jepsen/netns"
	"havip-cluster/jepsen/report"
	"havip-cluster/jepsen/trial"
)

// options are the flags.
type options struct {
	trial.Config
	out, judge, kinds string
	measure           bool
}

func parse(args []string) options {
	var o options
	f := flag.NewFlagSet("jepsen run", flag.ExitOnError)
	f.StringVar(&o.Binary, "binary", "bin/havip-cluster", "what is tested")
	f.DurationVar(&o.Duration, "duration", 5*time.Minute, "how long faults go on")
	f.IntVar(&o.Episodes, "episodes", 0, "how many episodes, instead of a duration")
	f.Uint64Var(&o.Seed, "seed", 0, "of faults and clients (0: a random one)")
	f.DurationVar(&o.Lease, "lease", trial.Lease, "of the cluster")
	f.IntVar(&o.Nodes, "nodes", 5, "of the cluster, 3 to 9")
	f.StringVar(&o.out, "out", "bin/jepsen", "folder for report.html and history.jsonl.gz")
	f.StringVar(&o.judge, "judge", "", "judge this history again instead of making one")
	f.StringVar(&o.kinds, "kinds", "", "of faults, separated by commas (default: "+strings.Join(nemesis.Names(), ",")+")")
	f.BoolVar(&o.measure, "measure", os.Getenv("HAVIP_MEASURE") != "", "the machine is quiet: hold gaps to the budget of a measuring run")
	_ = f.Parse(args) // it exits
	if o.Episodes > 0 {
		o.Duration = 0
	}
	return o
}

// runCommand leads a cluster of the real binary through faults on the real kernel, judges what
// happened, and writes the history and a report.
func runCommand(args []string) int {
	o := parse(args)
	if o.judge == "" {
		code, done, err := netns.Isolate()
		if err != nil {
			fmt.Fprintln(os.Stderr, "jepsen:", err)
			return 1
		}
		if done {
			return code
		}
		netns.RaisePriority()
	}
	valid, err := run(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "jepsen:", err)
	}
	if err != nil || !valid {
		return 1
	}
	return 0
}

func run(o options) (valid bool, err error) {
	var h *history.History
	if o.judge != "" {
		h, err = load(o.judge)
		if err != nil {
			return false, err
		}
	} else if h, err = try(&o); len(h.Runs) == 0 {
		return false, err
	}
	verdicts := checker.All(h, trial.Budgets(time.Duration(h.Runs[0].Lease), o.measure))
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return false, err
	}
	err = errors.Join(err, writeFile(filepath.Join(o.out, "report.html"), func(w io.Writer) error {
		return report.Write(w, h, verdicts)
	}))
	fmt.Printf("\n%-9s %-28s %s\n", "VERDICT", "CHECK", "WHY")
	for _, v := range verdicts {
		fmt.Printf("%-9s %-28s %s\n", v.Valid, v.Check, v.Message)
	}
	fmt.Printf("\nseed %d, %s\nagain: %s\n", h.Runs[0].Seed, filepath.Join(o.out, "report.html"), h.Runs[0].Command)
	return checker.Worst(verdicts...).Pass(), err
}

// try makes a run and keeps its history.
func try(o *options) (*history.History, error) {
	for o.Seed == 0 {
		o.Seed = uint64(rand.Uint32())
	}
	if o.kinds != "" {
		o.Kinds = strings.Split(o.kinds, ",")
	}
	o.Command = fmt.Sprintf("make jepsen DURATION=%s SEED=%d", o.Duration, o.Seed)
	if o.Lease != trial.Lease {
		o.Command += fmt.Sprintf(" LEASE=%s", o.Lease)
	}
	if o.kinds != "" {
		o.Command += fmt.Sprintf(" KINDS='%s'", o.kinds)
	}
	o.Log = func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	dir, err := os.MkdirTemp("", "havip-jepsen-")
	if err != nil {
		return &history.History{}, err
	}
	o.Dir = dir
	fmt.Printf("seed %d, data and logs in %s\n", o.Seed, dir)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	h, err := trial.Run(ctx, o.Config)
	if err == nil && os.Getenv("HAVIP_KEEP") == "" {
		err = os.RemoveAll(dir)
	}
	if mkdir := os.MkdirAll(o.out, 0o755); mkdir != nil {
		return h, mkdir
	}
	return h, errors.Join(err, writeFile(filepath.Join(o.out, "history.jsonl.gz"), func(w io.Writer) error {
		packed := gzip.NewWriter(w)
		return errors.Join(history.Encode(packed, h), packed.Close())
	}))
}

func load(path string) (*history.History, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	packed, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return history.Decode(packed)
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
