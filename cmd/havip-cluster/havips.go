package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/havip"
)

func newHAVIPCommand(g *globals) *cobra.Command {
	enable := func(name, short string, on bool) *cobra.Command {
		return havipVerb(g, name, short, none, func(ctx context.Context, c *api.Client, args []string) (api.HAVIP, error) {
			return c.EnableHAVIP(ctx, args[0], on)
		})
	}
	return group("havip", "Floating addresses",
		newHAVIPCreateCommand(g), newHAVIPObservedCommand(g), newHAVIPUpdateCommand(g), newHAVIPDeleteCommand(g), newHAVIPMoveCommand(g),
		verb("list", "All HAVIPs", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.HAVIPs(ctx)
			return emitList(g, list, err, "No HAVIPs; create one with `havip-cluster havip create NAME --ip ADDRESS`.", havipColumns, havipWide...)
		})),
		verb("show", "One HAVIP", []string{"HAVIP"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			v, err := c.HAVIP(ctx, args[0])
			return emitPairs(g, v, err, havipPairs)
		})),
		enable("enable", "Let a HAVIP have an owner", true),
		enable("disable", "Let nobody own a HAVIP", false),
		havipVerb(g, "rename", "Give a HAVIP another name", []string{"NAME"}, func(ctx context.Context, c *api.Client, args []string) (api.HAVIP, error) {
			return c.UpdateHAVIP(ctx, args[0], api.HAVIPChange{Name: &args[1]})
		}),
		onOff(g, verb("maintenance", "Freeze a HAVIP where it is, or end that", []string{"HAVIP", "on|off"}, nil),
			func(ctx context.Context, c *api.Client, args []string, on bool) error {
				v, err := c.UpdateHAVIP(ctx, args[0], api.HAVIPChange{Change: api.Change{Maintenance: &on}})
				return g.emitHAVIP(v, err)
			}),
		group("range", "Who may own a HAVIP", newRangeAddCommand(g), newRangeRemoveCommand(g)),
		newBanCommand(g),
		havipVerb(g, "unban", "End a ban", []string{"NODE|ENI"}, func(ctx context.Context, c *api.Client, args []string) (api.HAVIP, error) {
			return c.ChangeBans(ctx, args[0], api.BanChange{Remove: []string{args[1]}})
		}),
		havipVerb(g, "bind-eip", "Give a HAVIP an elastic address: here, then in the cloud where there is a provider", []string{"ADDRESS"}, func(ctx context.Context, c *api.Client, args []string) (api.HAVIP, error) {
			return c.BindEIP(ctx, args[0], args[1])
		}),
		havipVerb(g, "unbind-eip", "Take its elastic address away: here, then in the cloud where there is a provider", none, func(ctx context.Context, c *api.Client, args []string) (api.HAVIP, error) {
			return c.UnbindEIP(ctx, args[0])
		}),
		newClearFailuresCommand(g),
	)
}

// havipVerb is a change of one HAVIP, which is shown afterwards; more are the arguments
// after its name.
func havipVerb(g *globals, name, short string, more []string, do func(ctx context.Context, c *api.Client, args []string) (api.HAVIP, error)) *cobra.Command {
	return verb(name, short, append([]string{"HAVIP"}, more...), g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		v, err := do(ctx, c, args)
		return g.emitHAVIP(v, err)
	}))
}

// emitHAVIP prints a HAVIP after a change, and what is probably not meant.
func (g *globals) emitHAVIP(v api.HAVIP, err error) error {
	if err == nil {
		for _, w := range v.Warnings {
			fmt.Fprintln(g.stderr, "Warning: "+oneLine(w))
		}
	}
	return emitPairs(g, v, err, havipPairs)
}

var havipColumns = []column[api.HAVIP]{
	{"NAME", func(v api.HAVIP) string { return v.Name }},
	{"IP", func(v api.HAVIP) string { return v.IP }},
	{"STATE", havipState},
	{"ENI", func(v api.HAVIP) string { return text(v.ENI) }},
	{"SUBNET", func(v api.HAVIP) string { return v.Subnet }},
	{"RANGE", rangeText},
	{"ID", func(v api.HAVIP) string { return v.ID }},
}

// havipWide is what -o wide adds.
var havipWide = []column[api.HAVIP]{
	{"VPC", func(v api.HAVIP) string { return v.VPC }},
	{"EPOCH", func(v api.HAVIP) string { return strconv.FormatUint(v.Epoch, 10) }},
	{"SINCE", func(v api.HAVIP) string { return when(v.Since) }},
	{"EIP", func(v api.HAVIP) string { return text(v.EIP) }},
	{"GROUPS", func(v api.HAVIP) string { return strings.Join(v.Groups, ",") }},
	{"CREATED", func(v api.HAVIP) string { return when(v.Created) }},
	{"REASON", func(v api.HAVIP) string { return v.Reason }},
}

// havipState is the state and what a person should know beside it.
func havipState(v api.HAVIP) string {
	var words []string
	if v.Deleting {
		words = append(words, "deleting")
	}
	for i := range havip.Settings {
		if s := &havip.Settings[i]; s.Mark != "" && s.Print(&v.View) != s.Default {
			words = append(words, s.Mark)
		}
	}
	if len(words) == 0 {
		return v.State
	}
	return v.State + " (" + strings.Join(words, ", ") + ")"
}

func rangeText(v api.HAVIP) string {
	text := v.Range.Type + ":" + strings.Join(v.Range.Members, ",")
	switch {
	case len(v.Range.Members) == 0 && v.Range.Limit:
		return "nobody"
	case len(v.Range.Members) == 0:
		return "any"
	case !v.Range.Limit:
		return text + " (not enforced)"
	}
	return text
}

func havipPairs(v api.HAVIP) []pair {
	var bans, fails []string
	for _, who := range v.Bans {
		if end, ends := v.BanEnds[who]; ends {
			who += " until " + when(end)
		}
		bans = append(bans, who)
	}
	for _, node := range slices.Sorted(maps.Keys(v.Fails)) {
		fails = append(fails, fmt.Sprintf("%s %d of %d", node, v.Fails[node], v.FailLimit))
	}
	for _, eni := range slices.Sorted(maps.Keys(v.GaveUp)) {
		fails = append(fails, fmt.Sprintf("%s pauses until %s (%s)", eni, when(v.GaveUp[eni].Until), v.GaveUp[eni].Reason))
	}
	out := []pair{
		{"NAME", v.Name}, {"ID", v.ID}, {"IP", v.IP}, {"SUBNET", v.Subnet}, {"VPC", v.VPC}, {"STATE", havipState(v)},
		{"ENI", text(v.ENI)}, {"NODE", text(v.Node)}, {"EPOCH", strconv.FormatUint(v.Epoch, 10)}, {"SINCE", when(v.Since)}, {"REASON", v.Reason},
		{"RANGE", rangeText(v)},
	}
	settings := func(targets bool) {
		for i := range havip.Settings { // one of yes or no is in the state, and a text or a number is there or not
			s := &havip.Settings[i]
			value := s.Print(&v.View)
			if s.Kind != havip.YesNo && (s.Kind == havip.Targets) == targets && (value != "" || s.Kind != havip.Text && s.Kind != havip.Number) {
				out = append(out, pair{s.Head(), value})
			}
		}
	}
	settings(true)
	out = append(out, pair{"BANS", strings.Join(bans, ", ")})
	settings(false)
	return append(out, []pair{
		{"FAILURES", strings.Join(fails, ", ")}, {"GROUPS", strings.Join(v.Groups, ", ")},
		{"EIP", text(v.EIP)}, {"WAITS FOR", strings.Join(v.Waits, ", ")}, {"DRAINING", strings.Join(v.Draining, ", ")}, {"CREATED", when(v.Created)}, {"WARNINGS", strings.Join(v.Warnings, "; ")},
	}...)
}
