package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"havip-cluster/api"
)

func newGroupCommand(g *globals) *cobra.Command {
	return group("group", "HAVIPs that are placed together or apart",
		newGroupCreateCommand(g),
		verb("list", "All groups", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Groups(ctx)
			return emitList(g, list, err, "No groups; create one with `havip-cluster group create NAME --apart HAVIP HAVIP`.", []column[api.Group]{
				{"NAME", func(v api.Group) string { return v.Name }},
				{"KIND", func(v api.Group) string { return v.Kind }},
				{"RULE", groupRule},
				{"KEPT", func(v api.Group) string { return yesNo(v.Kept) }},
				{"HAVIPS", func(v api.Group) string { return strings.Join(v.HAVIPs, ",") }},
			})
		})),
		verb("show", "One group", []string{"GROUP"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			v, err := c.Group(ctx, args[0])
			return emitPairs(g, v, err, groupPairs)
		})),
		verb("delete", "Delete a group; its HAVIPs stay", []string{"GROUP"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			d, err := c.DeleteGroup(ctx, args[0])
			return emit(g, d, err, func(w io.Writer, _ api.Done) { fmt.Fprintf(w, "group %s is deleted\n", oneLine(args[0])) })
		})),
	)
}

func newGroupCreateCommand(g *globals) *cobra.Command {
	var together, apart, soft bool
	c := verb("create", "Place HAVIPs together on one node, or no two on the same", []string{"NAME", "HAVIP", "HAVIP..."}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		hard, kind := !soft, "apart"
		if together {
			kind = "together"
		}
		v, err := c.CreateGroup(ctx, api.GroupSpec{Name: args[0], Kind: kind, Hard: &hard, HAVIPs: args[1:]})
		return emitPairs(g, v, err, groupPairs)
	}))
	c.Flags().BoolVar(&together, "together", false, "on one node")
	c.Flags().BoolVar(&apart, "apart", false, "no two on one node")
	c.Flags().BoolVar(&soft, "soft", false, "a wish: rather against the group than without an owner")
	c.PreRunE = func(*cobra.Command, []string) error {
		if together == apart {
			return usage("say which: --together or --apart")
		}
		return nil
	}
	return c
}

func groupRule(v api.Group) string {
	if v.Hard {
		return "hard"
	}
	return "soft"
}

func groupPairs(v api.Group) []pair {
	return []pair{{"NAME", v.Name}, {"KIND", v.Kind}, {"RULE", groupRule(v)}, {"KEPT", yesNo(v.Kept)}, {"HAVIPS", strings.Join(v.HAVIPs, ", ")}}
}
