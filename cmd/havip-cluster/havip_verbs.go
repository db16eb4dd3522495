package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/fsm"
	"havip-cluster/havip"
)

// havipFlags are what create and update share.
type havipFlags struct {
	rangeText string
	noLimit   bool
	verb      *cobra.Command
}

// isEmpty tells a flag that was typed with nothing in it, as of a script's variable that is not set, from one that
// was left out.
func isEmpty(c *cobra.Command, flag string) bool {
	f := c.Flags().Lookup(flag)
	return f.Changed && f.Value.String() == ""
}

// register makes the flags; those of the settings write into change what is typed.
func (f *havipFlags) register(c *cobra.Command, change *api.Change) {
	f.verb = c
	c.Flags().StringVar(&f.rangeText, "range", "", "who may own it: node:NODE,NODE (or cvm:, the same) or eni:ENI,ENI or any")
	c.Flags().BoolVar(&f.noLimit, "no-range-limit", false, "the range is a note only; any ENI of the subnet may own it")
	for i := range havip.Settings {
		s := &havip.Settings[i]
		if s.Flag() == "" {
			continue
		}
		flag := c.Flags().VarPF(s.Value(change), s.Flag(), "", s.Help())
		if s.Kind == havip.YesNo {
			flag.NoOptDefVal = "true"
		}
	}
}

// rangeSpec reads --range and --no-range-limit.
func (f *havipFlags) rangeSpec() (*api.RangeSpec, error) {
	if isEmpty(f.verb, "range") {
		return nil, usage("--range is empty; leave it out, or say any for every ENI of the subnet")
	}
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

// parseMembers reads node:N1,N2 (or cvm:) or eni:E1,E2.
func parseMembers(what, text string) (kind string, members []string, err error) {
	kind, names, ok := strings.Cut(text, ":")
	if kind == "node" { // what a LAN calls it; everywhere else it is cvm, as in the cloud
		kind = "cvm"
	}
	if !ok || kind != "cvm" && kind != "eni" {
		return "", nil, usage("%s %q is not a range: node:NODE,NODE (or cvm:) or eni:ENI,ENI", what, text)
	}
	members = strings.Split(names, ",")
	if slices.Contains(members, "") {
		return "", nil, usage("%s %q has an empty name in it", what, text)
	}
	return kind, members, nil
}

func newHAVIPCreateCommand(g *globals) *cobra.Command {
	var f havipFlags
	var spec api.HAVIPSpec
	c := verb("create", "Create a HAVIP", []string{"NAME"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		spec.Name = args[0]
		if err := g.fillIn(ctx, c, &spec); err != nil {
			return err
		}
		v, err := c.CreateHAVIP(ctx, spec)
		if err == nil {
			defer g.next("havip-cluster explain %s", v.ID)
		}
		return g.emitHAVIP(v, err)
	}))
	var disabled bool
	c.Flags().StringVar(&spec.IP, "ip", "", "the address (default: a free one of the subnet)")
	c.Flags().StringVar(&spec.Subnet, "subnet", "", "the subnet (default: the one that holds the address, or the only one)")
	c.Flags().StringVar(&spec.VPC, "vpc", "", "the VPC (default: that of the subnet)")
	c.Flags().StringVar(&spec.EIP, "eip", "", "record that it has this elastic address")
	c.Flags().BoolVar(&disabled, "disabled", false, "let nobody own it yet")
	c.Flags().BoolVar(&spec.ReuseNow, "reuse-now", false, "take the address although a deleted HAVIP had it a moment ago")
	c.Flags().BoolVar(&spec.Force, "force", false, "take the address although a station outside the cluster has it")
	f.register(c, &spec.Change)
	c.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		for _, f := range []struct{ flag, otherwise string }{
			{"ip", "an address that is chosen"}, {"subnet", "the one that holds the address, or the only one"}, {"vpc", "that of the subnet"}, {"eip", "none"},
		} {
			if isEmpty(cmd, f.flag) {
				return usage("--%s is empty; leave it out for %s", f.flag, f.otherwise)
			}
		}
		for flag, text := range map[string]string{"--ip": spec.IP, "--eip": spec.EIP} {
			if _, err := netip.ParseAddr(text); text != "" && err != nil {
				return usage("%s %q is not an address such as 10.0.0.100", flag, text)
			}
		}
		if on := false; disabled {
			spec.Enabled = &on
		}
		spec.Range, err = f.rangeSpec()
		return err
	}
	return c
}

func newHAVIPUpdateCommand(g *globals) *cobra.Command {
	var f havipFlags
	var change api.HAVIPChange
	var name string
	var evict bool
	c := verb("update", "Change a HAVIP; what is not named stays", []string{"HAVIP"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		v, err := c.UpdateHAVIP(ctx, args[0], change)
		return g.emitHAVIP(v, err)
	}))
	c.Flags().StringVar(&name, "name", "", "a new name")
	c.Flags().BoolVar(&evict, "evict", false, "an owner that leaves the range releases first")
	c.Flags().BoolVar(&change.Force, "force", false, "take the address although a station outside the cluster has it")
	f.register(c, &change.Change)
	c.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		set := cmd.Flags().Changed
		if set("no-range-limit") && !set("range") {
			return usage("--no-range-limit needs --range: say which members the range has")
		}
		if change.Range, err = f.rangeSpec(); err != nil {
			return err
		}
		if set("name") {
			change.Name = &name
		}
		if change == (api.HAVIPChange{}) {
			return usage("say what to change, such as --name, --range, --prefer, --failback or --priority")
		}
		if change.Evict = evict; evict && change.Range == nil {
			return usage("--evict needs --range: an owner is evicted by leaving the range")
		}
		return nil
	}
	return c
}

func newHAVIPDeleteCommand(g *globals) *cobra.Command {
	var release, force bool
	c := verb("delete", "Delete a HAVIP", []string{"HAVIP"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		d, err := c.DeleteHAVIP(ctx, args[0], release || force)
		return emit(g, d, err, func(w io.Writer, _ api.Done) { fmt.Fprintf(w, "HAVIP %s is deleted\n", oneLine(args[0])) })
	}))
	c.Flags().BoolVar(&release, "release", false, "delete it although it is owned; the owner releases it first")
	c.Flags().BoolVar(&force, "force", false, "the same as --release")
	return c
}

func newHAVIPMoveCommand(g *globals) *cobra.Command {
	var to string
	c := havipVerb(g, "move", "Move a HAVIP to a node or ENI", none, func(ctx context.Context, c *api.Client, args []string) (api.HAVIP, error) {
		return c.MoveHAVIP(ctx, args[0], to)
	})
	c.Flags().StringVar(&to, "to", "", "name of a node or id of an ENI")
	c.PreRunE = func(*cobra.Command, []string) error {
		if to == "" {
			return usage("say where to: --to NODE or --to ENI")
		}
		return nil
	}
	return c
}

const membersArgument = "node:NODE,NODE|eni:ENI,ENI"

// namedMembers reads the argument of `range add` and `range remove`, where the type may be left out: the
// id of an ENI has a slash, unless a provider names it.
func namedMembers(text string) (kind string, members []string, err error) {
	if !strings.Contains(text, ":") {
		kind = "node:"
		if strings.Contains(text, "/") {
			kind = "eni:"
		}
		text = kind + text
	}
	return parseMembers("argument", text)
}

func newRangeAddCommand(g *globals) *cobra.Command {
	var b api.RangeChange
	c := havipVerb(g, "add", "Let more nodes or ENIs own a HAVIP", []string{membersArgument}, func(ctx context.Context, c *api.Client, args []string) (api.HAVIP, error) {
		return c.ChangeRange(ctx, args[0], b)
	})
	c.PreRunE = func(_ *cobra.Command, args []string) (err error) {
		b.Type, b.Add, err = namedMembers(args[1])
		return err
	}
	return c
}

func newRangeRemoveCommand(g *globals) *cobra.Command {
	var b api.RangeChange
	c := havipVerb(g, "remove", "Take nodes or ENIs out of a range", []string{membersArgument}, func(ctx context.Context, c *api.Client, args []string) (api.HAVIP, error) {
		return c.ChangeRange(ctx, args[0], b)
	})
	c.Flags().BoolVar(&b.Evict, "evict", false, "an owner among them releases first; without it the change is refused")
	c.PreRunE = func(_ *cobra.Command, args []string) (err error) {
		b.Type, b.Remove, err = namedMembers(args[1])
		return err
	}
	return c
}

func newBanCommand(g *globals) *cobra.Command {
	var length time.Duration
	c := havipVerb(g, "ban", "Keep a HAVIP off a node or ENI", []string{"NODE|ENI"}, func(ctx context.Context, c *api.Client, args []string) (api.HAVIP, error) {
		return c.ChangeBans(ctx, args[0], api.BanChange{Add: []string{args[1]}, ForSeconds: int64(length / time.Second)})
	})
	c.Flags().DurationVar(&length, "for", 0, "how long, in whole seconds (default: until `havip unban`)")
	c.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("for") && (length < time.Second || length%time.Second != 0 || length > fsm.BanMax) {
			return usage("--for %s is not in whole seconds, from 1s to %s", length, fsm.BanMax)
		}
		return nil
	}
	return c
}

func newClearFailuresCommand(g *globals) *cobra.Command {
	var all bool
	c := verb("clear-failures", "Forget failures, and the pauses after them", []string{"[HAVIP]", "[NODE]"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		if all {
			args = append([]string{""}, args...)
		}
		args = append(args, "")
		d, err := c.ClearFailures(ctx, args[0], args[1])
		return emit(g, d, err, func(w io.Writer, _ api.Done) { fmt.Fprintln(w, "failures are forgotten") })
	}))
	c.Flags().BoolVar(&all, "all", false, "of every HAVIP, and the lost sessions that make a node count as flapping; then the argument is NODE")
	c.PreRunE = func(_ *cobra.Command, args []string) error {
		switch {
		case !all && len(args) == 0:
			return usage("say whose failures: a HAVIP, or --all")
		case all && len(args) > 1:
			return usage("--all is every HAVIP: only a node can be named with it")
		}
		return nil
	}
	return c
}
