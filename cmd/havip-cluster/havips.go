package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"havip-cluster/api"
)

func newHAVIPCommand(g *globals) *cobra.Command {
	enable := func(name, short string, on bool) *cobra.Command {
		return verb(name, short, []string{"HAVIP"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			v, err := c.EnableHAVIP(ctx, args[0], on)
			return emitPairs(g, v, err, havipPairs)
		}))
	}
	return group("havip", "Floating addresses",
		newHAVIPCreateCommand(g), newHAVIPUpdateCommand(g), newHAVIPDeleteCommand(g), newHAVIPMoveCommand(g),
		verb("list", "All HAVIPs", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.HAVIPs(ctx)
			return emitList(g, list, err, "No HAVIPs; create one with `havip-cluster havip create NAME --ip ADDRESS`.", havipColumns)
		})),
		verb("show", "One HAVIP", []string{"HAVIP"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			v, err := c.HAVIP(ctx, args[0])
			return emitPairs(g, v, err, havipPairs)
		})),
		enable("enable", "Let a HAVIP have an owner", true),
		enable("disable", "Let nobody own a HAVIP", false),
		group("range", "Who may own a HAVIP",
			rangeVerb(g, "add", "Let more nodes or ENIs own a HAVIP", func(m *api.Members, names []string) { m.Add = names }),
			rangeVerb(g, "remove", "Take nodes or ENIs out of a range", func(m *api.Members, names []string) { m.Remove = names })),
		banVerb(g, "ban", "Keep a HAVIP off a node or ENI", func(who string) api.Members { return api.Members{Add: []string{who}} }),
		banVerb(g, "unban", "End a ban", func(who string) api.Members { return api.Members{Remove: []string{who}} }),
	)
}

// havipFlags are what create and update share.
type havipFlags struct {
	rangeText string
	noLimit   bool
	prefer    []string
	failback  string
	priority  int
}

func (f *havipFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.rangeText, "range", "", "who may own it: cvm:NODE,NODE or eni:ENI,ENI or any")
	c.Flags().BoolVar(&f.noLimit, "no-range-limit", false, "the range is a note only; any ENI of the subnet may own it")
	c.Flags().StringArrayVar(&f.prefer, "prefer", nil, "NODE=SCORE or ENI=SCORE; may be given several times")
	c.Flags().StringVar(&f.failback, "failback", "", "never, immediate, or a delay such as 5m")
	c.Flags().IntVar(&f.priority, "priority", 0, "HAVIPs of higher priority are placed first")
}

// rangeSpec reads --range and --no-range-limit.
func (f *havipFlags) rangeSpec() (*api.RangeSpec, error) {
	if f.rangeText == "" && !f.noLimit {
		return nil, nil
	}
	limit := !f.noLimit
	if f.rangeText == "" || f.rangeText == "any" {
		open := false
		return &api.RangeSpec{Limit: &open}, nil
	}
	kind, members, err := parseMembers("--range", f.rangeText)
	return &api.RangeSpec{Type: kind, Members: members, Limit: &limit}, err
}

// parseMembers reads cvm:N1,N2 or eni:E1,E2.
func parseMembers(what, text string) (kind string, members []string, err error) {
	kind, names, ok := strings.Cut(text, ":")
	if !ok || kind != "cvm" && kind != "eni" {
		return "", nil, usage("%s %q is not a range: cvm:NODE,NODE or eni:ENI,ENI", what, text)
	}
	members = strings.Split(names, ",")
	if slices.Contains(members, "") {
		return "", nil, usage("%s %q has an empty name in it", what, text)
	}
	return kind, members, nil
}

func (f *havipFlags) scores() (map[string]int, error) {
	scores := map[string]int{}
	for _, p := range f.prefer {
		i := strings.LastIndex(p, "=")
		if i < 1 {
			return nil, usage("--prefer %q is not NODE=SCORE or ENI=SCORE", p)
		}
		n, err := strconv.Atoi(p[i+1:])
		if err != nil {
			return nil, usage("--prefer %q: %q is not a whole number", p, p[i+1:])
		}
		if _, twice := scores[p[:i]]; twice {
			return nil, usage("--prefer names %s twice", p[:i])
		}
		scores[p[:i]] = n
	}
	return scores, nil
}

func newHAVIPCreateCommand(g *globals) *cobra.Command {
	var f havipFlags
	var spec api.HAVIPSpec
	c := verb("create", "Create a HAVIP", []string{"NAME"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		spec.Name, spec.Failback, spec.Priority = args[0], f.failback, f.priority
		v, err := c.CreateHAVIP(ctx, spec)
		if err == nil {
			defer g.next("havip-cluster explain %s", v.ID)
		}
		return emitPairs(g, v, err, havipPairs)
	}))
	c.Flags().StringVar(&spec.IP, "ip", "", "the address (default: a free one of the subnet)")
	c.Flags().StringVar(&spec.Subnet, "subnet", "", "the subnet (default: the one that holds the address)")
	c.Flags().StringVar(&spec.VPC, "vpc", "", "the VPC (default: that of the subnet)")
	f.register(c)
	c.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		if spec.IP == "" && (spec.Subnet == "" || cmd.Flags().Changed("ip")) {
			return usage("say which address (--ip) or which subnet (--subnet)")
		}
		if spec.IP != "" {
			if _, err := netip.ParseAddr(spec.IP); err != nil {
				return usage("--ip %q is not an address such as 10.0.0.100", spec.IP)
			}
		}
		if spec.Range, err = f.rangeSpec(); err != nil {
			return err
		}
		spec.Prefer, err = f.scores()
		return err
	}
	return c
}

func newHAVIPUpdateCommand(g *globals) *cobra.Command {
	var f havipFlags
	var change api.HAVIPChange
	var name string
	c := verb("update", "Change a HAVIP; what is not named stays", []string{"HAVIP"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		v, err := c.UpdateHAVIP(ctx, args[0], change)
		return emitPairs(g, v, err, havipPairs)
	}))
	c.Flags().StringVar(&name, "name", "", "a new name")
	f.register(c)
	c.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		set := cmd.Flags().Changed
		if set("no-range-limit") && !set("range") {
			return usage("--no-range-limit needs --range: say which members the range has")
		}
		if change.Range, err = f.rangeSpec(); err != nil {
			return err
		}
		if set("prefer") {
			scores, err := f.scores()
			if err != nil {
				return err
			}
			change.Prefer = &scores
		}
		if set("name") {
			change.Name = &name
		}
		if set("failback") {
			change.Failback = &f.failback
		}
		if set("priority") {
			change.Priority = &f.priority
		}
		if change == (api.HAVIPChange{}) {
			return usage("say what to change: --name, --range, --prefer, --failback or --priority")
		}
		return nil
	}
	return c
}

func newHAVIPDeleteCommand(g *globals) *cobra.Command {
	var force bool
	c := verb("delete", "Delete a HAVIP", []string{"HAVIP"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		d, err := c.DeleteHAVIP(ctx, args[0], force)
		return emit(g, d, err, func(w io.Writer, _ api.Done) { fmt.Fprintf(w, "HAVIP %s is deleted\n", oneLine(args[0])) })
	}))
	c.Flags().BoolVar(&force, "force", false, "delete it although it is owned; the owner releases it first")
	return c
}

func newHAVIPMoveCommand(g *globals) *cobra.Command {
	var to string
	c := verb("move", "Move a HAVIP to a node or ENI", []string{"HAVIP"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		v, err := c.MoveHAVIP(ctx, args[0], to)
		return emitPairs(g, v, err, havipPairs)
	}))
	c.Flags().StringVar(&to, "to", "", "name of a node or id of an ENI")
	c.PreRunE = func(*cobra.Command, []string) error {
		if to == "" {
			return usage("say where to: --to NODE or --to ENI")
		}
		return nil
	}
	return c
}

func rangeVerb(g *globals, name, short string, set func(*api.Members, []string)) *cobra.Command {
	var m api.Members
	c := verb(name, short, []string{"HAVIP", "cvm:NODE,NODE|eni:ENI,ENI"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		v, err := c.ChangeRange(ctx, args[0], m)
		return emitPairs(g, v, err, havipPairs)
	}))
	c.PreRunE = func(_ *cobra.Command, args []string) error {
		kind, members, err := parseMembers("argument", args[1])
		m.Type = kind
		set(&m, members)
		return err
	}
	return c
}

func banVerb(g *globals, name, short string, members func(who string) api.Members) *cobra.Command {
	return verb(name, short, []string{"HAVIP", "NODE|ENI"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		v, err := c.ChangeBans(ctx, args[0], members(args[1]))
		return emitPairs(g, v, err, havipPairs)
	}))
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

// havipState is the state and what a person should know beside it.
func havipState(v api.HAVIP) string {
	switch {
	case v.Deleting:
		return v.State + " (deleting)"
	case !v.Enabled:
		return v.State + " (disabled)"
	}
	return v.State
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
	var prefer []string
	for _, who := range slices.Sorted(maps.Keys(v.Prefer)) {
		prefer = append(prefer, fmt.Sprintf("%s=%d", who, v.Prefer[who]))
	}
	return []pair{
		{"NAME", v.Name}, {"ID", v.ID}, {"IP", v.IP}, {"SUBNET", v.Subnet}, {"VPC", v.VPC}, {"STATE", havipState(v)},
		{"ENI", text(v.ENI)}, {"NODE", text(v.Node)}, {"EPOCH", strconv.FormatUint(v.Epoch, 10)}, {"SINCE", when(v.Since)}, {"REASON", v.Reason},
		{"RANGE", rangeText(v)}, {"PREFER", strings.Join(prefer, ", ")}, {"BANS", strings.Join(v.Bans, ", ")},
		{"FAILBACK", v.Failback}, {"PRIORITY", strconv.Itoa(v.Priority)}, {"EIP", text(v.EIP)},
		{"DRAINING", strings.Join(v.Draining, ", ")}, {"CREATED", when(v.Created)},
	}
}
