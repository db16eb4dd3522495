package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"havip-cluster/api"
)

// What `havip create` fills in where nothing is said: the only subnet, and a range of the nodes that
// are there. Both are told, and neither is a rule of the API, where what is not said stays open.

// fillIn completes a new HAVIP from what the cluster has.
func (g *globals) fillIn(ctx context.Context, c *api.Client, spec *api.HAVIPSpec) error {
	subnets, err := g.subnets(ctx, c, *spec)
	if err != nil {
		return err
	}
	if spec.IP == "" && spec.Subnet == "" {
		if spec.Subnet, err = onlySubnet(subnets, spec.VPC); err != nil {
			return err
		}
		fmt.Fprintf(g.stderr, "The address is taken from %s, the only subnet.\n", oneLine(spec.Subnet))
	}
	if spec.Range != nil {
		return nil
	}
	subnet, found := subnetOf(subnets, *spec)
	if !found {
		return nil // the cluster refuses it, with the reason
	}
	members, err := g.present(ctx, c, subnet)
	if err != nil {
		return err
	}
	cluster, err := c.Cluster(ctx)
	if err != nil {
		return err
	}
	switch most := cluster.Provider.RangeMembers; {
	case len(members) == 0:
		fmt.Fprintf(g.stderr, "No node is in subnet %s yet, so any node that comes may own %s.\n", oneLine(subnet.Name), oneLine(spec.Name))
	case len(members) > most:
		fmt.Fprintf(g.stderr, "%d nodes are more than the %d that a range holds, so any node of subnet %s may own %s; --range names some.\n", len(members), most, oneLine(subnet.Name), oneLine(spec.Name))
	default:
		limit := true
		spec.Range = &api.RangeSpec{Type: "cvm", Members: members, Limit: &limit}
		fmt.Fprintf(g.stderr, "%s is limited to the nodes of today: %s. For one that joins later: `havip-cluster havip range add %s node:NAME`; --no-range-limit lets any node own it.\n",
			oneLine(spec.Name), oneLine(strings.Join(members, ", ")), oneLine(spec.Name))
	}
	return nil
}

// subnetPoll is how often it is looked for the subnet of a new HAVIP.
const subnetPoll = 100 * time.Millisecond

// subnets are those of the cluster. While that of a new HAVIP is not among them and a node has not told of its networks, as in the
// first second after `bootstrap`, it is waited for.
func (g *globals) subnets(ctx context.Context, c *api.Client, spec api.HAVIPSpec) ([]api.Subnet, error) {
	for end := time.Now().Add(api.SubnetWait); ; {
		subnets, err := c.Subnets(ctx)
		if err != nil {
			return nil, err
		}
		_, found := subnetOf(subnets, spec)
		if found || spec.IP == "" && spec.Subnet == "" && len(subnets) > 0 || time.Now().After(end) {
			return subnets, nil
		}
		waits, err := untold(ctx, c)
		if err != nil {
			return nil, err
		}
		if !waits {
			return c.Subnets(ctx) // it may have told between the two questions
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(subnetPoll):
		}
	}
}

// untold reports whether a node that may own something has told of no ENI yet.
func untold(ctx context.Context, c *api.Client) (bool, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return false, err
	}
	enis, err := c.ENIs(ctx)
	return slices.ContainsFunc(nodes, func(n api.Node) bool {
		return n.Role != "witness" && !slices.ContainsFunc(enis, func(e api.ENI) bool { return e.Node == n.Name })
	}), err
}

// onlySubnet is the name of the one subnet, of a VPC if that is named.
func onlySubnet(subnets []api.Subnet, vpc string) (string, error) {
	var names []string
	for _, s := range subnets {
		if vpc == "" || s.VPC == vpc {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	switch len(names) {
	case 1:
		return names[0], nil
	case 0:
		return "", errors.New("there is no subnet to take an address from: a node registers its own once its agent runs, and `havip-cluster subnet create` makes one")
	}
	return "", fmt.Errorf("say from which subnet the address is taken (--subnet), or which one it is (--ip): there are %s", strings.Join(names, ", "))
}

// subnetOf is the subnet that a new HAVIP will be in, as far as it can be told here.
func subnetOf(subnets []api.Subnet, spec api.HAVIPSpec) (api.Subnet, bool) {
	ip, _ := netip.ParseAddr(spec.IP)
	for _, s := range subnets {
		cidr, err := netip.ParsePrefix(s.CIDR)
		switch {
		case spec.Subnet != "" && s.Name != spec.Subnet, spec.VPC != "" && s.VPC != spec.VPC:
		case spec.Subnet != "", err == nil && cidr.Contains(ip):
			return s, true
		}
	}
	return api.Subnet{}, false
}

// present are the nodes that may own what is in a subnet: those with an ENI there, and those that have
// not told of theirs yet. A witness owns nothing.
func (g *globals) present(ctx context.Context, c *api.Client, subnet api.Subnet) ([]string, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	enis, err := c.ENIs(ctx)
	if err != nil {
		return nil, err
	}
	told, here := map[string]bool{}, map[string]bool{}
	for _, e := range enis {
		told[e.Node] = true
		here[e.Node] = here[e.Node] || inSubnet(e, subnet)
	}
	var out []string
	for _, n := range nodes {
		if n.Role != "witness" && (here[n.Name] || !told[n.Name]) {
			out = append(out, n.Name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// inSubnet reports whether an ENI can carry what is in a subnet, as the cluster judges it.
func inSubnet(e api.ENI, subnet api.Subnet) bool {
	if e.Detached {
		return false
	}
	if set := cmp.Or(text(e.SetSubnet), text(e.Subnet)); set == subnet.Name || e.SetSubnet != nil {
		return set == subnet.Name
	}
	cidr, err := netip.ParsePrefix(subnet.CIDR)
	return err == nil && slices.ContainsFunc(e.Addresses, func(a string) bool {
		p, err := netip.ParsePrefix(a)
		return err == nil && cidr.Contains(p.Addr())
	})
}
