package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/fsm"
)

// havipFlags are what create and update share.
type havipFlags struct {
	rangeText string
	noLimit   bool
	prefer    []string
	require   []string
	forbid    []string
	failback  string
	numbers   [4]int // by havipNumbers
	managed   bool
}

// havipNumbers are the flags that take a whole number.
var havipNumbers = [...]struct {
	name, help string
	spec       func(*api.HAVIPSpec) **int
	change     func(*api.HAVIPChange) **int
}{
	{"priority", "HAVIPs of higher priority are placed first", nil, func(b *api.HAVIPChange) **int { return &b.Priority }},
	{"stickiness", "the gain of score that is worth a move (default 1)",
		func(s *api.HAVIPSpec) **int { return &s.Stickiness }, func(b *api.HAVIPChange) **int { return &b.Stickiness }},
	{"weight", "what it takes of a node's capacity (default 1)",
		func(s *api.HAVIPSpec) **int { return &s.Weight }, func(b *api.HAVIPChange) **int { return &b.Weight }},
	{"fail-limit", "failures on a node that bar it; 0: none do (default 3)",
		func(s *api.HAVIPSpec) **int { return &s.FailLimit }, func(b *api.HAVIPChange) **int { return &b.FailLimit }},
}

func (f *havipFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.rangeText, "range", "", "who may own it: cvm:NODE,NODE or eni:ENI,ENI or any")
	c.Flags().BoolVar(&f.noLimit, "no-range-limit", false, "the range is a note only; any ENI of the subnet may own it")
	c.Flags().StringArrayVar(&f.prefer, "prefer", nil, "NODE=SCORE or ENI=SCORE; may be given several times")
	c.Flags().StringSliceVar(&f.require, "require", nil, "nodes or ENIs; nobody else may own it")
	c.Flags().StringSliceVar(&f.forbid, "forbid", nil, "nodes or ENIs that never may own it")
	c.Flags().StringVar(&f.failback, "failback", "", "never, immediate, a delay such as 5m, or a daily window in UTC such as 02:00-04:00")
	c.Flags().BoolVar(&f.managed, "managed", true, "false: leave it where it is, whatever happens")
	for i, n := range havipNumbers {
		c.Flags().IntVar(&f.numbers[i], n.name, 0, n.help)
	}
}

// check looks at what was typed, as far as that needs no cluster.
func (f *havipFlags) check() error {
	if _, refusal := fsm.ParseFailback(f.failback); refusal != nil {
		return usage("--failback: %s", refusal.Message)
	}
	for name, list := range map[string][]string{"--require": f.require, "--forbid": f.forbid} {
		if slices.Contains(list, "") && len(list) > 1 {
			return usage("%s has an empty name in it", name)
		}
	}
	return nil
}

// listed is a list of names that was typed; one empty name empties the list.
func listed(names []string) []string {
	if len(names) == 1 && names[0] == "" {
		return []string{}
	}
	return append([]string{}, names...)
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

// scores reads --prefer; one empty text is no preference at all.
func (f *havipFlags) scores() (map[string]int, error) {
	scores := map[string]int{}
	if len(f.prefer) == 1 && f.prefer[0] == "" {
		return scores, nil
	}
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
		spec.Name = args[0]
		v, err := c.CreateHAVIP(ctx, spec)
		if err == nil {
			defer g.next("havip-cluster explain %s", v.ID)
		}
		return g.emitHAVIP(v, err)
	}))
	var disabled bool
	c.Flags().StringVar(&spec.IP, "ip", "", "the address (default: a free one of the subnet)")
	c.Flags().StringVar(&spec.Subnet, "subnet", "", "the subnet (default: the one that holds the address)")
	c.Flags().StringVar(&spec.VPC, "vpc", "", "the VPC (default: that of the subnet)")
	c.Flags().StringVar(&spec.EIP, "eip", "", "record that it has this elastic address")
	c.Flags().BoolVar(&disabled, "disabled", false, "let nobody own it yet")
	c.Flags().BoolVar(&spec.ReuseNow, "reuse-now", false, "take the address although a deleted HAVIP had it a moment ago")
	c.Flags().BoolVar(&spec.Force, "force", false, "take the address although a station outside the cluster has it")
	f.register(c)
	c.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		if spec.IP == "" && (spec.Subnet == "" || cmd.Flags().Changed("ip")) {
			return usage("say which address (--ip) or which subnet (--subnet)")
		}
		for flag, text := range map[string]string{"--ip": spec.IP, "--eip": spec.EIP} {
			if _, err := netip.ParseAddr(text); text != "" && err != nil {
				return usage("%s %q is not an address such as 10.0.0.100", flag, text)
			}
		}
		if err := f.check(); err != nil {
			return err
		}
		spec.Failback, spec.Priority = f.failback, f.numbers[0]
		spec.Require, spec.Forbid = listed(f.require), listed(f.forbid)
		for i, n := range havipNumbers {
			if n.spec != nil && cmd.Flags().Changed(n.name) {
				*n.spec(&spec) = &f.numbers[i]
			}
		}
		if cmd.Flags().Changed("managed") {
			spec.Managed = &f.managed
		}
		if on := false; disabled {
			spec.Enabled = &on
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
	var evict bool
	c := verb("update", "Change a HAVIP; what is not named stays", []string{"HAVIP"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		v, err := c.UpdateHAVIP(ctx, args[0], change)
		return g.emitHAVIP(v, err)
	}))
	c.Flags().StringVar(&name, "name", "", "a new name")
	c.Flags().BoolVar(&evict, "evict", false, "an owner that leaves the range releases first")
	c.Flags().BoolVar(&change.Force, "force", false, "take the address although a station outside the cluster has it")
	f.register(c)
	c.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		set := cmd.Flags().Changed
		if set("no-range-limit") && !set("range") {
			return usage("--no-range-limit needs --range: say which members the range has")
		}
		if err := f.check(); err != nil {
			return err
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
		for flag, to := range map[string]struct {
			names []string
			field **[]string
		}{"require": {f.require, &change.Require}, "forbid": {f.forbid, &change.Forbid}} {
			if names := listed(to.names); set(flag) {
				*to.field = &names
			}
		}
		if set("name") {
			change.Name = &name
		}
		if set("failback") {
			change.Failback = &f.failback
		}
		if set("managed") {
			change.Managed = &f.managed
		}
		for i, n := range havipNumbers {
			if set(n.name) {
				*n.change(&change) = &f.numbers[i]
			}
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

const membersArgument = "cvm:NODE,NODE|eni:ENI,ENI"

func newRangeAddCommand(g *globals) *cobra.Command {
	var b api.RangeChange
	c := havipVerb(g, "add", "Let more nodes or ENIs own a HAVIP", []string{membersArgument}, func(ctx context.Context, c *api.Client, args []string) (api.HAVIP, error) {
		return c.ChangeRange(ctx, args[0], b)
	})
	c.PreRunE = func(_ *cobra.Command, args []string) (err error) {
		b.Type, b.Add, err = parseMembers("argument", args[1])
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
		b.Type, b.Remove, err = parseMembers("argument", args[1])
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
