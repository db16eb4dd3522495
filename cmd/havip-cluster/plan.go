package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/fsm/placement"
)

func newPlanCommand(g *globals) *cobra.Command {
	var spec api.PlanSpec
	var offline, changes, atText string
	at := time.Now()
	c := verb("plan", "What would be placed where, and what would be left without an owner", none, func(cmd *cobra.Command, _ []string) error {
		if offline != "" {
			out, err := g.planOffline(offline, changes, spec, at)
			return emit(g, out, err, g.printPlan)
		}
		return g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			if changes != "" {
				_, data, err := g.decodeFile(changes)
				if err != nil {
					return err
				}
				spec.Changes = string(data)
			}
			out, err := c.Plan(ctx, spec)
			return emit(g, out, err, g.printPlan)
		})(cmd, nil)
	})
	c.Long = "Nothing is changed. With --offline the state is read from what `export` wrote, and neither a cluster nor root is needed."
	f := c.Flags()
	f.StringSliceVar(&spec.Down, "down", nil, "nodes that are down")
	f.StringSliceVar(&spec.Up, "up", nil, "nodes that are up again")
	f.StringSliceVar(&spec.Standby, "standby", nil, "nodes in standby")
	f.StringSliceVar(&spec.Activate, "activate", nil, "nodes whose standby or drain ends")
	f.StringSliceVar(&spec.Drain, "drain", nil, "nodes that are drained")
	f.StringSliceVar(&spec.ENIsGone, "eni-gone", nil, "ENIs that are detached")
	f.BoolVar(&spec.NMinusOne, "n-1", false, "ask for every node what its failure would cost")
	f.StringVarP(&changes, "file", "f", "", "a configuration that is applied before; - is stdin")
	f.BoolVar(&spec.Prune, "prune", false, "with -f: delete what the file does not name")
	f.StringVar(&offline, "offline", "", "file with the state, as 'export' wrote it; - is stdin")
	f.StringVar(&atText, "at", "", "with --offline: the time that it is supposed to be, such as 2026-11-22T15:04:05Z (default: now)")
	c.PreRunE = func(*cobra.Command, []string) (err error) {
		if atText != "" {
			if at, err = time.Parse(time.RFC3339Nano, atText); err != nil {
				return usage("--at %q is not a time such as 2026-11-22T15:04:05Z", atText)
			}
		}
		switch {
		case atText != "" && offline == "":
			return usage("--at needs --offline: the cluster asks its own clock")
		case offline == "-" && changes == "-":
			return usage("--offline and -f cannot both be stdin")
		case spec.Prune && changes == "":
			return usage("--prune needs -f: say what is to stay")
		}
		for flag, names := range map[string][]string{"--down": spec.Down, "--up": spec.Up, "--standby": spec.Standby, "--activate": spec.Activate, "--drain": spec.Drain, "--eni-gone": spec.ENIsGone} {
			if slices.Contains(names, "") {
				return usage("%s has an empty name in it", flag)
			}
		}
		return nil
	}
	return c
}

// planOffline is the plan for a state in a file. It is asked as the cluster would ask.
func (g *globals) planOffline(file, changes string, spec api.PlanSpec, at time.Time) (api.Plan, error) {
	m, _, err := g.decodeFile(file)
	if err != nil {
		return api.Plan{}, err
	}
	if changes == "" {
		return api.PlanOffline(m, nil, spec, at)
	}
	change, _, err := g.decodeFile(changes)
	if err != nil {
		return api.Plan{}, err
	}
	return api.PlanOffline(m, &change, spec, at)
}

// printPlan prints what moves, what is left without an owner, and what each node's failure
// would cost.
func (g *globals) printPlan(w io.Writer, p api.Plan) {
	if p.NoMajority != "" {
		fmt.Fprintf(w, "! %s\n", oneLine(p.NoMajority))
	}
	for _, n := range p.LastVoters {
		fmt.Fprintf(w, "! without node %s no majority of the voters is left: everything falls silent within one lease\n", oneLine(n))
	}
	if len(p.Moves)+len(p.Unplaced) == 0 {
		fmt.Fprintf(g.stderr, "Nothing moves: %s.\n", plural(len(p.Owners), "HAVIP"))
	}
	if len(p.Moves) > 0 {
		printTable(w, p.Moves, []column[placement.Move]{
			{"HAVIP", func(m placement.Move) string { return m.HAVIP }},
			{"FROM", func(m placement.Move) string { return text(m.From) }},
			{"TO", func(m placement.Move) string { return text(m.To) }},
			{"REASON", func(m placement.Move) string { return m.Reason }},
		})
	}
	for _, u := range p.Unplaced {
		fmt.Fprintf(w, "! HAVIP %s has no owner: %s\n", oneLine(u.HAVIP), oneLine(u.Reason))
	}
	if p.NMinusOne == nil {
		return
	}
	if len(p.Moves)+len(p.Unplaced) > 0 {
		fmt.Fprintln(w)
	}
	printTable(w, p.NMinusOne, []column[placement.Loss]{
		{"IF FAILS", func(l placement.Loss) string { return l.Node }},
		{"OWNS", func(l placement.Loss) string { return strconv.Itoa(l.Owns) }},
		{"MOVES", func(l placement.Loss) string { return strconv.Itoa(l.Moves) }},
		{"WITHOUT AN OWNER", func(l placement.Loss) string {
			var names []string
			for _, u := range l.Unplaced {
				names = append(names, u.HAVIP)
			}
			return strings.Join(names, ",")
		}},
	})
}

func newExplainCommand(g *globals) *cobra.Command {
	var epoch uint64
	var atText string
	var at time.Time
	c := verb("explain", "Why a HAVIP is where it is, or was, ENI by ENI", []string{"HAVIP"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		e, err := c.Explain(ctx, args[0], epoch, at)
		return emit(g, e, err, g.printExplanation)
	}))
	c.Flags().Uint64Var(&epoch, "epoch", 0, "the past decision with which this epoch began")
	c.Flags().StringVar(&atText, "at", "", "the past decision that held at this time, such as 2026-11-22T15:04:05Z")
	c.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		switch {
		case cmd.Flags().Changed("epoch") && epoch == 0:
			return usage("--epoch 0: epochs count from 1")
		case epoch != 0 && atText != "":
			return usage("--epoch and --at both name a decision: say one of them")
		case atText != "":
			if at, err = time.Parse(time.RFC3339Nano, atText); err != nil {
				return usage("--at %q is not a time such as 2026-11-22T15:04:05Z", atText)
			}
		}
		return nil
	}
	return c
}

// printExplanation tells a decision in words, one of the past as far as the journal goes.
func (g *globals) printExplanation(w io.Writer, e api.Explanation) {
	if e.Past {
		g.printPast(w, e)
		return
	}
	for l := range strings.Lines(e.Words()) {
		text := strings.TrimRight(l, "\n")
		indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
		fmt.Fprintln(w, indent+oneLine(strings.TrimLeft(text, " ")))
	}
	g.printChecks(w, e.Checks)
	if e.Change != "" {
		fmt.Fprintf(w, "For another outcome: %s.\n", oneLine(strings.TrimSuffix(e.Change, ".")))
	}
	if len(e.Candidates) == 0 {
		fmt.Fprintln(g.stderr, "No ENIs; the nodes report theirs when they start: `havip-cluster node list`.")
	}
}

func (g *globals) printPast(w io.Writer, e api.Explanation) {
	to := e.To
	if to == "" {
		to = "nobody"
	}
	fmt.Fprintf(w, "HAVIP %s (%s) went from %s to %s at %s (epoch %d, index %d): %s\n", oneLine(e.Name), e.HAVIP, cmp.Or(e.From, "nobody"), to,
		when(e.At), e.Epoch, e.Index, oneLine(e.Reason))
	if len(e.Candidates) == 0 {
		fmt.Fprintln(g.stderr, "The journal keeps no candidates of it: no placement decided it, or it was one of very many.")
		return
	}
	fmt.Fprintln(w)
	printTable(w, e.Candidates, []column[placement.Candidate]{
		{"ENI", func(c placement.Candidate) string { return c.ENI }},
		{"WAS", func(c placement.Candidate) string {
			switch {
			case c.ENI == e.To:
				return "chosen"
			case c.ENI == e.RunnerUp:
				return "next"
			case c.Eligible:
				return "eligible"
			}
			return "not eligible"
		}},
		{"SCORE", func(c placement.Candidate) string { return strconv.Itoa(c.Score) }},
		{"ON-NODE", func(c placement.Candidate) string { return strconv.Itoa(c.OnNode) }},
		{"RULE", func(c placement.Candidate) string { return c.Rule }},
	})
	if e.LeftOut > 0 {
		fmt.Fprintf(g.stderr, "The journal had no room for %d more.\n", e.LeftOut)
	}
}
