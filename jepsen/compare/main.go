// Package compare runs Keepalived and havip-cluster through the same faults, on the same kind of
// LAN with the same client and observer, one after the other on this machine, and prints
// one table. `make compare` calls it.
package compare

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"havip-cluster/jepsen/netns"
)

const (
	nodes    = 3
	port     = netns.DefaultPort
	lastByte = 100 // of the HAVIP

	settle    = 1 * time.Second  // of ordinary service before a fault
	hold      = 6 * time.Second  // how long a fault lasts: longer than Keepalived's default needs
	after     = 3 * time.Second  // of observation after it has ended
	readyWait = 30 * time.Second // for one owner and all nodes in service
	runsMax   = 1000
)

// Command is `jepsen compare`; it returns the exit code.
func Command(args []string) int {
	f := flag.NewFlagSet("jepsen compare", flag.ExitOnError)
	runs := f.Int("runs", 5, "how often each fault is repeated, 1 to 1000")
	only := f.String("only", "", "measure those whose name has this in it: Keepalived, havip-cluster, tuned, ...")
	_ = f.Parse(args) // it exits
	if *runs < 1 || *runs > runsMax || f.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "compare: -runs %d: want 1 to %d, and no further arguments\n", *runs, runsMax)
		return 2
	}
	code, done, err := netns.Isolate()
	if err == nil && !done {
		netns.RaisePriority()
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		err = compare(ctx, *runs, *only)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		return 1
	}
	return code
}

// contender is a way to keep one address on one of the lab's nodes, which count from 1.
type contender interface {
	// Start starts every node and returns when it has done so.
	Start() error
	// Owner is the node that the contender itself believes to own the address; an error
	// while there is none, or more than one, or while a node is not in service.
	Owner() (int, error)
	// Stop ends the daemon of a node in the orderly way and waits for its end.
	Stop(node int) error
	// Signal sends one to all processes of a node's daemon.
	Signal(node int, sig syscall.Signal) error
	// Restart starts the daemon of a node that has ended.
	Restart(node int) error
	// Tail is what the daemons said last.
	Tail() string
	// Close kills what still runs.
	Close() error
}

// entry is one contender with its name in the table.
type entry struct {
	name string
	make func(l *netns.Lab, havip netip.Addr, dir string) (contender, error)
}

func entries() []entry {
	return []entry{
		{"Keepalived, defaults (VRRPv2, advert_int 1)", newKeepalived(defaults)},
		{"Keepalived, tuned (VRRPv3, advert_int 0.1)", newKeepalived(tuned)},
		{"havip-cluster, defaults (lease 500 ms)", newHAVIP("lan")},
		{"havip-cluster, profile fast (lease 150 ms)", newHAVIP("fast")},
	}
}

func compare(ctx context.Context, runs int, only string) error {
	facts, err := machine()
	if err != nil {
		return err
	}
	var table table
	for _, e := range entries() {
		if !strings.Contains(e.name, only) {
			continue
		}
		if err := measureAll(ctx, e, runs, &table); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	fmt.Println(facts)
	fmt.Println()
	fmt.Print(table.markdown())
	return nil
}

// measureAll puts one contender on a lab of its own through every fault.
func measureAll(ctx context.Context, e entry, runs int, table *table) (err error) {
	dir, err := os.MkdirTemp("", "havip-compare-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	lab, err := netns.New(netns.Options{Nodes: nodes})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	for _, h := range lab.Nodes() {
		stop, err := h.Respond(port)
		if err != nil {
			return err
		}
		defer stop()
	}
	b := &bed{lab: lab, havip: lab.Address(lastByte)}
	if b.contender, err = e.make(lab, b.havip, dir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			fmt.Fprintln(os.Stderr, b.contender.Tail())
		}
		err = errors.Join(err, b.contender.Close())
	}()
	if err := b.contender.Start(); err != nil {
		return err
	}
	for _, f := range faults() {
		row := row{contender: e.name, fault: f.name}
		for range runs {
			m, err := b.measure(ctx, f)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			fmt.Fprintf(os.Stderr, "%s, %s: gap %s, two owners %s (suspect %s), %d and %d ticks missed\n", e.name, f.name,
				m.gap.Round(time.Millisecond), m.certain.Round(time.Millisecond), m.suspect.Round(100*time.Microsecond), m.skippedProbes, m.skippedPolls)
			row.runs = append(row.runs, m)
		}
		table.rows = append(table.rows, row)
	}
	return nil
}
