package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/fsm"
)

const (
	// drainPause is how often `node drain` looks.
	drainPause = 100 * time.Millisecond
	// drainStuck is how long nothing may be left that can move before `node drain` gives
	// up: a target may be on its way back.
	drainStuck = 2 * time.Second
)

// drained is the result of `node drain`.
type drained struct {
	api.Drain
	Moved int `json:"moved"`
	// Stuck are those that could not move, or that nobody owns now.
	Stuck []api.DrainLeft `json:"stuck"`
}

func newNodeDrainCommand(g *globals) *cobra.Command {
	var deadline time.Duration
	c := verb("drain", "Move away what a node owns, one HAVIP after another, and wait", []string{"NODE"}, func(cmd *cobra.Command, args []string) error {
		c, err := g.client()
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, cancel := interruptible(cmd.Context())
		defer cancel()
		return g.drain(ctx, c, args[0], deadline)
	})
	c.Long = "The node gets nothing until `node activate`, which also ends a drain that runs. Progress is on stderr. It ends early when what is left cannot move."
	c.Flags().DurationVar(&deadline, "deadline", 0, "how long it may take, in whole seconds (default: no limit)")
	c.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("deadline") && (deadline < time.Second || deadline%time.Second != 0 || deadline > fsm.DrainMax) {
			return usage("--deadline %s is not in whole seconds, from 1s to %s", deadline, fsm.DrainMax)
		}
		return nil
	}
	return c
}

// drain begins a drain, or takes up one that runs, and follows it to its end.
func (g *globals) drain(ctx context.Context, c *api.Client, node string, deadline time.Duration) error {
	before, err := c.HAVIPs(ctx)
	if err != nil {
		return err
	}
	d, err := c.Drain(ctx, node)
	if err != nil || !d.Running || deadline != 0 {
		if d, err = c.DrainNode(ctx, node, api.DrainSpec{DeadlineSeconds: int64(deadline / time.Second)}); err != nil {
			return err
		}
	}
	owned := slices.DeleteFunc(before, func(v api.HAVIP) bool { return text(v.Node) != d.Node })
	fmt.Fprintf(g.stderr, "node %s: %s to move\n", d.Node, plural(d.Total, "HAVIP"))
	p := g.progress()
	defer p.end()
	moving := time.Now()
	for d.Running { // with none left it still runs until the last one has been released
		if n := len(d.Left); n > 0 {
			p.tell(d.Total-n, d.Total, fmt.Sprintf("node %s: %d of %d left, %s", d.Node, n, d.Total, nextMove(d.Left)))
		}
		if slices.ContainsFunc(d.Left, func(l api.DrainLeft) bool { return l.To != nil }) {
			moving = time.Now()
		}
		if time.Since(moving) > drainStuck {
			break
		}
		select {
		case <-ctx.Done():
			g.next("the drain goes on; `havip-cluster node activate %s` ends it", d.Node)
			return fmt.Errorf("interrupted with %d of %d HAVIPs left", len(d.Left), d.Total)
		case <-time.After(drainPause):
		}
		if d, err = c.Drain(ctx, node); err != nil {
			return err
		}
	}
	p.end()
	out := drained{Drain: d, Stuck: []api.DrainLeft{}}
	if err := out.count(ctx, c, owned); err != nil {
		return err
	}
	if err := emit(g, out, nil, printDrained); err != nil {
		return err
	}
	return out.verdict()
}

// nextMove names what moves next, or why nothing does.
func nextMove(left []api.DrainLeft) string {
	for _, l := range left {
		if l.To != nil {
			return fmt.Sprintf("next is HAVIP %s to %s", oneLine(l.HAVIP), *l.To)
		}
	}
	return fmt.Sprintf("HAVIP %s cannot move: %s", oneLine(left[0].HAVIP), oneLine(left[0].Reason))
}

// count says what became of the HAVIPs that the node owned.
func (d *drained) count(ctx context.Context, c *api.Client, owned []api.HAVIP) error {
	for _, l := range d.Left {
		if l.To == nil {
			d.Stuck = append(d.Stuck, l)
		}
	}
	list, err := c.Placement(ctx, nil, false)
	if err != nil {
		return err
	}
	for _, p := range list {
		was := slices.ContainsFunc(owned, func(v api.HAVIP) bool { return v.ID == p.ID })
		switch {
		case !was:
		case p.Node == nil && !slices.ContainsFunc(d.Stuck, func(l api.DrainLeft) bool { return l.HAVIP == p.Name }):
			d.Stuck = append(d.Stuck, api.DrainLeft{HAVIP: p.Name, Reason: "it has no owner: " + p.Reason})
		case p.Node != nil && *p.Node != d.Node:
			d.Moved++
		}
	}
	return nil
}

func printDrained(w io.Writer, d drained) {
	result := d.Result
	if result == "" {
		result = "stuck"
	}
	fmt.Fprintf(w, "node %s: %s, %d of %d moved\n", d.Node, result, d.Moved, d.Total)
	for _, l := range d.Stuck {
		fmt.Fprintf(w, "HAVIP %s: %s\n", oneLine(l.HAVIP), oneLine(l.Reason))
	}
}

// verdict is nil when the node has nothing left and every HAVIP has an owner.
func (d *drained) verdict() error {
	var names []string
	for _, l := range d.Stuck {
		names = append(names, oneLine(l.HAVIP))
	}
	activate := fmt.Sprintf("`havip-cluster node activate %s`", d.Node)
	switch {
	case d.Result == fsm.DrainCancelled:
		return fmt.Errorf("the drain of node %s was ended by `node activate`", d.Node)
	case d.Result == fsm.DrainDeadline:
		return fmt.Errorf("the deadline passed with %d of %d HAVIPs left on node %s; %s takes the drain back", len(d.Left), d.Total, d.Node, activate)
	case d.Running && len(d.Left) == 0:
		return fmt.Errorf("node %s has not released its last HAVIP yet; `havip-cluster node drain %s` again waits for it", d.Node, d.Node)
	case len(names) > 0:
		return fmt.Errorf("node %s: nobody else can own HAVIP %s; `havip-cluster explain` says why, %s takes the drain back", d.Node, strings.Join(names, ", "), activate)
	}
	return nil
}
