package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
)

// completeWait is how long the shell waits for names.
const completeWait = time.Second

// lister gives the names of one kind of things.
type lister func(context.Context, *api.Client) ([]string, error)

func namesOf[T any](list func(*api.Client, context.Context) ([]T, error), name func(T) string) lister {
	return func(ctx context.Context, c *api.Client) ([]string, error) {
		all, err := list(c, ctx)
		var out []string
		for _, x := range all {
			out = append(out, name(x))
		}
		return out, err
	}
}

// things are what arguments and flags name, by the word in the usage line or the flag.
var things = map[string]lister{
	"NODE":   namesOf((*api.Client).Nodes, func(n api.Node) string { return n.Name }),
	"HAVIP":  namesOf((*api.Client).HAVIPs, func(v api.HAVIP) string { return v.Name }),
	"ENI":    namesOf((*api.Client).ENIs, func(e api.ENI) string { return e.ID }),
	"GROUP":  namesOf((*api.Client).Groups, func(x api.Group) string { return x.Name }),
	"SUBNET": namesOf((*api.Client).Subnets, func(x api.Subnet) string { return x.Name }),
}

// completedFlags are flags whose values are names.
var completedFlags = map[string]string{"to": "NODE", "node": "NODE", "havip": "HAVIP", "subnet": "SUBNET", "down": "NODE", "standby": "NODE", "drain": "NODE"}

// completeNames lets the shell complete the names of things wherever a verb takes one.
func completeNames(g *globals, c *cobra.Command) {
	words := strings.Fields(c.Use)
	if len(words) > 1 && c.ValidArgsFunction == nil {
		c.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			i := min(len(args)+1, len(words)-1)
			if len(args)+1 > i && !strings.HasSuffix(strings.TrimSuffix(words[i], "]"), "...") {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return g.names(cmd, thingOf(words[i]), begun)
		}
	}
	for flag, thing := range completedFlags {
		f := c.Flags().Lookup(flag)
		if f == nil || f.Value.Type() == "bool" || f.Value.Type() == "duration" {
			continue
		}
		// It can only fail for a flag that is there twice.
		_ = c.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
			return g.names(cmd, thing, begun)
		})
	}
	for _, sub := range c.Commands() {
		completeNames(g, sub)
	}
}

// thingOf is what a word of a usage line names, "" for something else.
func thingOf(word string) string {
	word = strings.TrimSuffix(strings.Trim(word, "[]"), "...")
	for thing := range things {
		if word == thing || strings.HasPrefix(word, thing+"|") {
			return thing
		}
	}
	return ""
}

// names asks the agent for what begins as the user has begun. An agent that does not answer gives
// none: the shell is no place for errors.
func (g *globals) names(cmd *cobra.Command, thing, begun string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	list, known := things[thing]
	if !known {
		return nil, cobra.ShellCompDirectiveDefault
	}
	if g.check(cmd.Flags().Changed("address")) != nil {
		return nil, none
	}
	c, err := g.client()
	if err != nil {
		return nil, none
	}
	defer c.Close()
	c.Timeout = completeWait
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	all, err := list(ctx, c)
	if err != nil {
		return nil, none
	}
	all = slices.DeleteFunc(all, func(n string) bool { return !strings.HasPrefix(n, begun) })
	slices.Sort(all)
	return all, none
}
