package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
)

const (
	waitPause   = 100 * time.Millisecond // between two looks of `wait`
	waitRequest = 2 * time.Second        // for one of them
)

func newWaitCommand(g *globals) *cobra.Command {
	c := group("wait", "Return when something is so, for scripts", newWaitHAVIPCommand(g), newWaitNodeCommand(g), newWaitClusterCommand(g))
	c.Long = c.Short + ". --timeout says how long to wait (10s); what is still missing then is on stderr, and the exit code is 1.\n" +
		"A leader or an agent that does not answer meanwhile is waited for, too; a name that does not exist ends it at once with 4."
	c.Example = "  havip-cluster wait havip web --owned\n  havip-cluster wait havip web --on node-2 --timeout 30s\n  havip-cluster wait node node-3 --drained --timeout 5m\n  havip-cluster wait cluster --healthy"
	return c
}

// waited is what `wait` prints when it is so.
type waited struct {
	Object string `json:"object"`
	State  string `json:"state"`
}

// condition is one look: "" when it is so, else what is missing.
type condition func(ctx context.Context, c *api.Client) (missing string, err error)

// await looks until it is so or the time is over.
func (g *globals) await(cmd *cobra.Command, object, state string, look condition) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	c.Timeout = min(waitRequest, g.timeout/2) // of one look
	interrupted, stop := interruptible(cmd.Context())
	defer stop()
	ctx, cancel := context.WithTimeout(interrupted, g.timeout)
	defer cancel()
	last := errors.New("nothing was heard yet")
	for {
		missing, err := look(ctx, c)
		switch {
		case err == nil && missing == "":
			return emit(g, waited{object, state}, nil, func(w io.Writer, v waited) { fmt.Fprintf(w, "%s is %s\n", oneLine(v.Object), oneLine(v.State)) })
		case err == nil:
			last = errors.New(missing)
		case api.ExitCode(err) == api.ExitUnreachable && !errors.Is(err, context.DeadlineExceeded):
			last = err
		case ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded):
			return err
		}
		select {
		case <-ctx.Done():
			if interrupted.Err() != nil {
				return fmt.Errorf("interrupted: %w", last)
			}
			// Not %w: the exit code is that of a wait that was in vain, whatever kept it.
			return fmt.Errorf("%s is not %s after %s: %v", object, state, g.timeout, last) //nolint:errorlint // see above
		case <-time.After(waitPause):
		}
	}
}

func newWaitHAVIPCommand(g *globals) *cobra.Command {
	var owned, unowned bool
	var on string
	c := verb("havip", "Until a HAVIP is served (--owned), on a node or ENI (--on), or has no owner (--unowned)", []string{"HAVIP"}, func(cmd *cobra.Command, args []string) error {
		state := "served"
		switch {
		case on != "":
			state = "served on " + on
		case unowned:
			state = "without an owner"
		}
		return g.await(cmd, "HAVIP "+args[0], state, func(ctx context.Context, c *api.Client) (string, error) {
			list, err := c.Placement(ctx, args, false)
			if err != nil || len(list) != 1 {
				return "its placement is not known", err
			}
			return placementMisses(list[0], unowned, on), nil
		})
	})
	c.Flags().BoolVar(&owned, "owned", false, "its owner serves it (AVAILABLE)")
	c.Flags().StringVar(&on, "on", "", "this node, or ENI, serves it")
	c.Flags().BoolVar(&unowned, "unowned", false, "it has no owner (UNBIND)")
	oneOf(c, "owned", "on", "unowned")
	return c
}

// placementMisses says what a HAVIP lacks: "" is nothing.
func placementMisses(p api.Placement, unowned bool, on string) string {
	switch {
	case unowned && p.Node == nil, !unowned && p.State == api.StateAvailable && (on == "" || on == text(p.Node) || on == text(p.ENI)):
		return ""
	case p.Node == nil:
		return "it has no owner: " + p.Reason
	case p.State == api.StatePending && !unowned:
		return fmt.Sprintf("%s owns it and has not said yet that it serves", text(p.ENI))
	}
	return fmt.Sprintf("%s owns it: %s", text(p.ENI), p.Reason)
}

func newWaitNodeCommand(g *globals) *cobra.Command {
	var alive, drained bool
	c := verb("node", "Until a node answers (--alive), or a drained or standby node owns nothing any more (--drained)", []string{"NODE"}, func(cmd *cobra.Command, args []string) error {
		state := "alive"
		if drained {
			state = "drained"
		}
		return g.await(cmd, "node "+args[0], state, func(ctx context.Context, c *api.Client) (string, error) {
			n, err := c.Node(ctx, args[0])
			if err != nil {
				return "", err
			}
			return nodeMisses(n, drained), nil
		})
	})
	c.Flags().BoolVar(&alive, "alive", false, "it answers, and has a session unless it is a witness")
	c.Flags().BoolVar(&drained, "drained", false, "it is drained or in standby, and owns nothing")
	oneOf(c, "alive", "drained")
	return c
}

func nodeMisses(n api.Node, drained bool) string {
	switch {
	case drained && !n.Draining && !n.Standby:
		return fmt.Sprintf("nothing was asked of it; `havip-cluster node drain %s`", n.Name)
	case drained && n.HAVIPs > 0:
		return "it still owns " + plural(n.HAVIPs, "HAVIP")
	case drained:
		return ""
	case n.Status != api.StatusAlive:
		return "it is " + n.Status
	case n.Session == 0 && n.Role != "witness":
		return "it has no session yet"
	}
	return ""
}

func newWaitClusterCommand(g *globals) *cobra.Command {
	var healthy bool
	c := verb("cluster", "Until the cluster is healthy (--healthy)", none, func(cmd *cobra.Command, _ []string) error {
		return g.await(cmd, "the cluster", "healthy", func(ctx context.Context, c *api.Client) (string, error) {
			st, err := c.Status(ctx, false)
			if err != nil || st.Health == api.HealthGreen {
				return "", err
			}
			return fmt.Sprintf("its health is %s: %s", st.Health, strings.Join(st.Problems, "; ")), nil
		})
	})
	c.Flags().BoolVar(&healthy, "healthy", false, "its health is green")
	oneOf(c, "healthy")
	return c
}

// oneOf lets a verb ask for exactly one of these flags.
func oneOf(c *cobra.Command, names ...string) {
	c.PreRunE = func(cmd *cobra.Command, _ []string) error {
		var given []string
		for _, n := range names {
			if cmd.Flags().Changed(n) {
				given = append(given, n)
			}
		}
		if len(given) != 1 {
			return usage("%s needs one of --%s", cmd.CommandPath(), strings.Join(names, ", --"))
		}
		if f := cmd.Flags().Lookup(given[0]); f.Value.Type() == "bool" && f.Value.String() == "false" || f.Value.String() == "" {
			return usage("--%s %q waits for nothing", given[0], f.Value.String())
		}
		return nil
	}
}
