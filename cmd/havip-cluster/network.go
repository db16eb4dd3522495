package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"havip-cluster/api"
)

func newSubnetCommand(g *globals) *cobra.Command {
	return group("subnet", "Networks that hold HAVIPs",
		newSubnetCreateCommand(g),
		verb("list", "All subnets", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Subnets(ctx)
			return emitList(g, list, err, "No subnets; the nodes register those of their own ENIs when they start, `havip-cluster subnet create` makes others.", []column[api.Subnet]{
				{"NAME", func(n api.Subnet) string { return n.Name }},
				{"CIDR", func(n api.Subnet) string { return n.CIDR }},
				{"GATEWAY", func(n api.Subnet) string { return text(n.Gateway) }},
				{"VPC", func(n api.Subnet) string { return n.VPC }},
				{"HAVIPS", func(n api.Subnet) string { return strconv.Itoa(n.HAVIPs) }},
				{"AUTO", func(n api.Subnet) string { return yesNo(n.Auto) }},
			})
		})),
		verb("show", "One subnet", []string{"SUBNET"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			n, err := c.Subnet(ctx, args[0])
			return emitPairs(g, n, err, subnetPairs)
		})),
		verb("delete", "Delete a subnet without HAVIPs", []string{"SUBNET"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			d, err := c.DeleteSubnet(ctx, args[0])
			return emit(g, d, err, func(w io.Writer, _ api.Done) { fmt.Fprintf(w, "subnet %s is deleted\n", oneLine(args[0])) })
		})),
	)
}

func newSubnetCreateCommand(g *globals) *cobra.Command {
	var spec api.SubnetSpec
	c := verb("create", "Create a subnet", []string{"NAME"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		spec.Name = args[0]
		n, err := c.CreateSubnet(ctx, spec)
		return emitPairs(g, n, err, subnetPairs)
	}))
	c.Flags().StringVar(&spec.CIDR, "cidr", "", "its network, such as 10.0.0.0/24")
	c.Flags().StringVar(&spec.VPC, "vpc", "", "its VPC")
	c.Flags().StringVar(&spec.Gateway, "gateway", "", "its gateway, which no HAVIP gets")
	c.Flags().StringSliceVar(&spec.Reserved, "reserved", nil, "more addresses that no HAVIP gets")
	c.PreRunE = func(*cobra.Command, []string) error {
		if _, err := netip.ParsePrefix(spec.CIDR); err != nil {
			return usage("--cidr %q is not a network such as 10.0.0.0/24", spec.CIDR)
		}
		if _, err := netip.ParseAddr(spec.Gateway); spec.Gateway != "" && err != nil {
			return usage("--gateway %q is not an address such as 10.0.0.1", spec.Gateway)
		}
		for _, r := range spec.Reserved {
			if _, err := netip.ParseAddr(r); err != nil {
				return usage("--reserved %q is not an address such as 10.0.0.9", r)
			}
		}
		return nil
	}
	return c
}

func subnetPairs(n api.Subnet) []pair {
	return []pair{
		{"NAME", n.Name}, {"CIDR", n.CIDR}, {"GATEWAY", text(n.Gateway)}, {"RESERVED", strings.Join(n.Reserved, ", ")},
		{"VPC", n.VPC}, {"HAVIPS", strconv.Itoa(n.HAVIPs)}, {"AUTO", yesNo(n.Auto)},
	}
}

func newENICommand(g *globals) *cobra.Command {
	return group("eni", "Network interfaces of the nodes",
		newENISetCommand(g),
		verb("list", "All ENIs", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.ENIs(ctx)
			return emitList(g, list, err, "No ENIs; the nodes report theirs when they start: `havip-cluster node list`.", withCloud(list, []column[api.ENI]{
				{"ID", func(e api.ENI) string { return e.ID }},
				{"MAC", func(e api.ENI) string { return e.MAC }},
				{"SUBNET", func(e api.ENI) string { return text(e.Subnet) }},
				{"ADDRESSES", func(e api.ENI) string { return strings.Join(e.Addresses, ",") }},
				{"PRIMARY", func(e api.ENI) string { return yesNo(e.Primary) }},
				{"LINK", link},
				{"HAVIPS", func(e api.ENI) string { return strings.Join(e.HAVIPs, ",") }},
			}), eniWide...)
		})),
		verb("show", "One ENI", []string{"ENI"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			e, err := c.ENI(ctx, args[0])
			return emitPairs(g, e, err, eniPairs)
		})),
	)
}

// eniWide is what -o wide adds.
var eniWide = []column[api.ENI]{
	{"NODE", func(e api.ENI) string { return e.Node }},
	{"DEVICE", func(e api.ENI) string { return e.Device }},
	{"GATEWAY", func(e api.ENI) string { return text(e.Gateway) }},
	{"SET SUBNET", func(e api.ENI) string { return text(e.SetSubnet) }},
}

func newENISetCommand(g *globals) *cobra.Command {
	var subnet, primary string
	var change api.ENIChange
	c := verb("set", "Say what the inventory cannot know of an ENI", []string{"ENI"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		e, err := c.SetENI(ctx, args[0], change)
		return emitPairs(g, e, err, eniPairs)
	}))
	c.Flags().StringVar(&subnet, "subnet", "", "its subnet; empty: as its addresses say")
	c.Flags().StringVar(&primary, "primary", "", "true or false")
	c.PreRunE = func(cmd *cobra.Command, _ []string) error {
		set := cmd.Flags().Changed
		if !set("subnet") && !set("primary") {
			return usage("say what to set: --subnet or --primary")
		}
		if set("subnet") {
			change.Subnet = &subnet
		}
		if set("primary") {
			on, err := strconv.ParseBool(primary)
			if err != nil {
				return usage("--primary is true or false, not %q", primary)
			}
			change.Primary = &on
		}
		return nil
	}
	return c
}

func link(e api.ENI) string {
	switch {
	case e.Detached:
		return "detached"
	case e.Up:
		return "up"
	}
	return "down"
}

func eniPairs(e api.ENI) []pair {
	set := text(e.SetSubnet)
	if e.SetPrimary != nil {
		set = strings.TrimPrefix(set+", primary "+yesNo(*e.SetPrimary), ", ")
	}
	out := []pair{
		{"ID", e.ID}, {"NODE", e.Node}, {"DEVICE", e.Device}, {"MAC", e.MAC}, {"SUBNET", text(e.Subnet)},
		{"ADDRESSES", strings.Join(e.Addresses, ", ")}, {"GATEWAY", text(e.Gateway)}, {"PRIMARY", yesNo(e.Primary)},
		{"LINK", link(e)}, {"SET", set}, {"HAVIPS", strings.Join(e.HAVIPs, ", ")},
	}
	if e.CloudID != "" {
		out = append(out, pair{"CLOUD", strings.TrimSpace(e.CloudID + " " + e.CloudInstance + " " + e.CloudSubnet)})
	}
	return out
}

// withCloud adds what a cloud calls ENIs, where one has named any.
func withCloud(list []api.ENI, columns []column[api.ENI]) []column[api.ENI] {
	if !slices.ContainsFunc(list, func(e api.ENI) bool { return e.CloudID != "" }) {
		return columns
	}
	return slices.Insert(columns, 1, column[api.ENI]{"CLOUD", func(e api.ENI) string { return cmp.Or(e.CloudID, "-") }})
}
