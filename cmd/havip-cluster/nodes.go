package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/membership/identity"
)

func newNodeCommand(g *globals) *cobra.Command {
	return group("node", "Members of the cluster",
		newNodeAddCommand(g), newNodeReplaceCommand(g), newNodeRemoveCommand(g), newNodeDrainCommand(g), newNodeSetCommand(g),
		onOff(g, verb("maintenance", "Freeze what a node owns where it is, or end that", []string{"NODE", "on|off"}, nil),
			func(ctx context.Context, c *api.Client, args []string, on bool) error {
				n, err := c.UpdateNode(ctx, args[0], api.NodeChange{Maintenance: &on})
				return emitPairs(g, n, err, nodePairs)
			}),
		verb("list", "All nodes", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			nodes, err := c.Nodes(ctx)
			return emitList(g, nodes, err, "No nodes.", nodeColumns, nodeWide...)
		})),
		verb("show", "One node", []string{"NODE"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			n, err := c.Node(ctx, args[0])
			return emitPairs(g, n, err, nodePairs)
		})),
		verb("standby", "Let a node own nothing", []string{"NODE"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			on := true
			n, err := c.UpdateNode(ctx, args[0], api.NodeChange{Standby: &on})
			return emitPairs(g, n, err, nodePairs)
		})),
		verb("activate", "End standby and draining", []string{"NODE"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			n, err := c.ActivateNode(ctx, args[0])
			return emitPairs(g, n, err, nodePairs)
		})),
	)
}

func newNodeAddCommand(g *globals) *cobra.Command {
	var role string
	var ttl time.Duration
	c := verb("add", "Make a one-time token with which a new node joins", []string{"NAME"},
		g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			t, err := c.CreateToken(ctx, api.TokenSpec{Node: args[0], Role: role, TTLSeconds: int64(ttl / time.Second)})
			if err != nil {
				return err
			}
			err = emit(g, t, nil, func(w io.Writer, t api.Token) {
				printPairs(w, []pair{{"NODE", t.Node}, {"ROLE", t.Role}, {"EXPIRES", when(t.Expires)}, {"TOKEN", t.Token}, {"COMMAND", t.Command}})
			})
			g.next("at host %s, type the command above with the host's own address as --advertise; it reads the token from standard input", t.Node)
			return err
		}))
	c.Flags().StringVar(&role, "role", string(identity.RoleVoter), "voter, witness or agent")
	c.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the token is good for, 1m to 168h")
	c.PreRunE = func(_ *cobra.Command, args []string) error {
		if err := identity.CheckNodeName(args[0]); err != nil {
			return asUsage(err)
		}
		if _, err := identity.ParseRole(role); err != nil {
			return asUsage(err)
		}
		if ttl < time.Minute || ttl > 7*24*time.Hour {
			return usage("--ttl %s is not between 1m and 168h", ttl)
		}
		return nil
	}
	return c
}

func newNodeRemoveCommand(g *globals) *cobra.Command {
	var force, keepCA bool
	c := verb("remove", "Remove a node, after its session has ended", []string{"NODE"},
		g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			d, err := c.RemoveNode(ctx, args[0], force, keepCA)
			err = emit(g, d, err, func(w io.Writer, d api.Done) {
				fmt.Fprintln(w, cmp.Or(oneLine(d.Note), fmt.Sprintf("node %s is removed", args[0])))
			})
			if err == nil && d.Note == "" {
				g.tellRotation(ctx, c, args[0])
			}
			return err
		}))
	c.Flags().BoolVar(&keepCA, "keep-ca", false, "do not replace the CA although the node has its key")
	c.Flags().BoolVar(&force, "force", false, "also when too few other voters are seen alive for a majority, or a HAVIP loses its last possible owner")
	return c
}

// addressed says what comes after a node's address was set. Where its agent runs it cannot have been changed.
func (g *globals) addressed(n api.Node) {
	if n.Session != 0 {
		fmt.Fprintf(g.stderr, "node %s has this address, and its agent runs there: nothing was changed\n", n.Name)
		return
	}
	g.next("at host %s, `havip-cluster node set %s --address %s --local`, then start its agent", n.Name, n.Name, n.Address)
}

func newNodeSetCommand(g *globals) *cobra.Command {
	var capacity, state string
	var score int
	var change api.NodeChange
	var local bool
	set := g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		n, err := c.UpdateNode(ctx, args[0], change)
		err = emitPairs(g, n, err, nodePairs)
		if err == nil && change.Address != "" {
			g.addressed(n)
		}
		return err
	})
	c := verb("set", "Set a node's capacity, score, health or address", []string{"NODE"}, func(cmd *cobra.Command, args []string) error {
		if local {
			return g.moveHere(args[0], change.Address)
		}
		return set(cmd, args)
	})
	c.Long = "A node that has another address now, or shall have one, stays the same member: stop its agent, tell the cluster (--address, at any other node),\n" +
		"then the node itself (--address with --local, at its host), and start the agent. It gets a certificate for the new address by itself."
	c.Flags().StringVar(&change.Address, "address", "", "where the others reach the node from now on; by itself, while its agent is stopped")
	c.Flags().BoolVar(&local, "local", false, "with --address, on the node itself: change its data directory, and ask nobody")
	c.Flags().StringVar(&capacity, "capacity", "", "bound of the sum of the weights of what it owns, or none")
	c.Flags().IntVar(&score, "score", 0, "is added to the score of every HAVIP on this node")
	c.Flags().StringVar(&state, "health", "", "green, yellow (others come first) or red (it owns nothing); by itself")
	c.Flags().StringVar(&change.HealthReason, "reason", "", "why, with --health")
	c.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("health") {
			change.Health = &state
		}
		if cmd.Flags().Changed("score") {
			change.Score = &score
		}
		switch n, err := strconv.Atoi(capacity); {
		case capacity == "none":
			change.NoCapacity = true
		case cmd.Flags().Changed("capacity") && err != nil:
			return usage("--capacity %q is neither a whole number nor none", capacity)
		case capacity != "":
			change.Capacity = &n
		}
		if change.Address != "" {
			addr, err := netip.ParseAddr(change.Address)
			if err == nil {
				err = identity.CheckAdvertise(addr)
			}
			switch {
			case err != nil:
				return usage("--address %q is not an address at which others reach a node, such as 10.0.0.13", change.Address)
			case change != (api.NodeChange{Address: change.Address}):
				return usage("--address is set by itself; set the others in a second command")
			}
		}
		only := api.NodeChange{Health: change.Health, HealthReason: change.HealthReason}
		switch {
		case local && change.Address == "":
			return usage("--local goes with --address")
		case change == (api.NodeChange{}):
			return usage("say what to set: --capacity, --score, --health or --address")
		case change.Health == nil && change.HealthReason != "":
			return usage("--reason goes with --health")
		case change.Health != nil && change != only:
			return usage("--health is set by itself; set the others in a second command")
		}
		return nil
	}
	return c
}

var nodeColumns = []column[api.Node]{
	{"NAME", func(n api.Node) string { return n.Name }},
	{"ROLE", func(n api.Node) string { return n.Role }},
	{"ADDRESS", func(n api.Node) string { return n.Address }},
	{"STATUS", func(n api.Node) string { return n.Status }},
	{"LEADER", func(n api.Node) string { return map[bool]string{true: "yes"}[n.Leader] }},
	{"SESSION", session},
	{"LEASE", func(n api.Node) string { return map[bool]string{true: millis(n.LeaseRemainingMS)}[n.Session != 0] }},
	{"HAVIPS", func(n api.Node) string { return strconv.Itoa(n.HAVIPs) }},
	{"MODE", mode},
	{"VERSION", func(n api.Node) string { return n.Version }},
}

// nodeWide is what -o wide adds.
var nodeWide = []column[api.Node]{
	{"ID", func(n api.Node) string { return n.ID }},
	{"SUFFRAGE", func(n api.Node) string { return n.Suffrage }},
	{"HEALTH", health},
	{"WEIGHT", weight},
	{"SCORE", func(n api.Node) string { return strconv.Itoa(n.Score) }},
	{"PORTS", ports},
	{"JOINED", func(n api.Node) string { return when(n.Joined) }},
}

func session(n api.Node) string {
	if n.Session == 0 {
		return ""
	}
	return strconv.FormatUint(n.Session, 10)
}

// mode lists what sets a node aside.
func mode(n api.Node) string {
	var words []string
	for _, m := range []struct {
		on   bool
		word string
	}{{n.Standby, "standby"}, {n.Maintenance, "maintenance"}, {n.Draining, "draining"}, {n.Flapping, "flapping"}, {n.Removing, "removing"}} {
		if m.on {
			words = append(words, m.word)
		}
	}
	for i, name := range n.FailingChecks {
		if i == shownChecks {
			words = append(words, fmt.Sprintf("%d more", len(n.FailingChecks)-i))
			break
		}
		words = append(words, "fails:"+name)
	}
	return strings.Join(words, ",")
}

// shownChecks is how many failing checks of a node a list names.
const shownChecks = 3

func ports(n api.Node) string {
	text := fmt.Sprintf("api %d, raft %d, gossip %d", n.APIPort, n.RaftPort, n.GossipPort)
	if n.LeasePort != 0 {
		text += fmt.Sprintf(", lease %d", n.LeasePort)
	}
	return text
}

func nodePairs(n api.Node) []pair {
	return []pair{
		{"NAME", n.Name}, {"ID", n.ID}, {"ROLE", n.Role}, {"ADDRESS", n.Address},
		{"PORTS", ports(n)},
		{"STATUS", n.Status}, {"LEADER", yesNo(n.Leader)}, {"SESSION", session(n)}, {"LEASE", millis(n.LeaseRemainingMS)},
		{"MODE", mode(n)}, {"HAVIPS", strconv.Itoa(n.HAVIPs)}, {"WEIGHT", weight(n)}, {"SCORE", strconv.Itoa(n.Score)}, {"HEALTH", health(n)}, {"SUFFRAGE", n.Suffrage}, {"VERSION", n.Version}, {"JOINED", when(n.Joined)},
	}
}

// weight is what a node carries, of what it can.
func weight(n api.Node) string {
	if n.Capacity == nil {
		return fmt.Sprintf("%d, no limit", n.Carries)
	}
	return fmt.Sprintf("%d of %d", n.Carries, *n.Capacity)
}

func health(n api.Node) string {
	if n.HealthReason == "" {
		return n.Health
	}
	return n.Health + ": " + n.HealthReason
}
