package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/membership/identity"
)

// replaced is what `node replace` prints.
type replaced struct {
	Removed string   `json:"removed"`
	Ranges  []string `json:"ranges"` // HAVIPs whose range names the old node
	api.Token
}

func newNodeReplaceCommand(g *globals) *cobra.Command {
	var by string
	var ttl time.Duration
	c := verb("replace", "Remove a node that is lost for good, and let another take its place", []string{"NODE"},
		g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			r, err := replaceNode(ctx, c, args[0], by, ttl)
			if err != nil {
				return err
			}
			err = emit(g, r, nil, func(w io.Writer, r replaced) {
				printPairs(w, []pair{{"REMOVED", r.Removed}, {"NODE", r.Node}, {"ROLE", r.Role}, {"EXPIRES", when(r.Expires)}, {"TOKEN", r.Token.Token}, {"COMMAND", r.Command}})
			})
			g.tellRotation(ctx, c, args[0])
			for _, v := range r.Ranges {
				fmt.Fprintf(g.stderr, "HAVIP %s may not go to %s yet: havip-cluster havip range add %s %s, once it is a member\n", v, r.Node, v, r.Node)
			}
			g.next("at host %s, type the command above with the host's own address as --advertise; it reads the token from standard input", r.Node)
			return err
		}))
	c.Long = c.Short + ".\n\n" +
		"The node must be one that the others have lost: one that is there is drained and removed. Its role goes to the\n" +
		"new node, whose join token is printed, with the ranges of HAVIPs that named the old one. With three voters of which one is dead a second failure would cost the\n" +
		"majority, before and after the removal, until the new node votes: join it at once."
	c.Example = "  havip-cluster node replace node-3 --by node-4"
	c.Flags().StringVar(&by, "by", "", "name of the new node")
	c.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the token is good for, 1m to 168h")
	c.PreRunE = func(_ *cobra.Command, args []string) error {
		if by == "" {
			return usage("say who takes its place: --by NAME")
		}
		if err := identity.CheckNodeName(by); err != nil {
			return asUsage(err)
		}
		if by == args[0] {
			return usage("the new node needs another name than %s", args[0])
		}
		if ttl < time.Minute || ttl > 7*24*time.Hour {
			return usage("--ttl %s is not between 1m and 168h", ttl)
		}
		return nil
	}
	return c
}

// replaceNode removes the old node first: with it a majority of those that are left is no greater.
// Each step may be repeated after a failure.
func replaceNode(ctx context.Context, c *api.Client, old, by string, ttl time.Duration) (replaced, error) {
	r := replaced{Removed: old, Ranges: []string{}}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return r, err
	}
	i := slices.IndexFunc(nodes, func(n api.Node) bool { return n.Name == old || n.ID == old })
	switch {
	case i < 0:
		return r, fmt.Errorf("no node is called %q; `havip-cluster node list` shows those there are, and `havip-cluster node add %s` lets one in", old, by)
	case slices.ContainsFunc(nodes, func(n api.Node) bool { return n.Name == by }):
		return r, fmt.Errorf("node %s is a member already; name another one", by)
	case nodes[i].Status == api.StatusAlive || nodes[i].Session != 0:
		return r, fmt.Errorf("node %s is %s; this is for one that is lost for good. `havip-cluster node drain %s` and `havip-cluster node remove %s` let one go that is there", old, nodes[i].Status, old, old)
	}
	role := nodes[i].Role
	old = nodes[i].Name
	havips, err := c.HAVIPs(ctx)
	if err != nil {
		return r, err
	}
	for _, v := range havips {
		if v.Range.Type == "cvm" && slices.Contains(v.Range.Members, old) {
			r.Ranges = append(r.Ranges, v.Name)
		}
	}
	if r.Token, err = c.CreateToken(ctx, api.TokenSpec{Node: by, Role: role, TTLSeconds: int64(ttl / time.Second)}); err != nil {
		return r, err
	}
	if _, err := c.RemoveNode(ctx, old, false, false); err != nil {
		return r, errors.Join(err, fmt.Errorf("node %s is not removed, so nothing has changed but a token for %s", old, by))
	}
	return r, nil
}
