package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// snapshotOf is what is told of a snapshot.
type snapshotOf struct {
	File     string `json:"file"`
	Bytes    int    `json:"bytes"`
	Cluster  string `json:"cluster"`
	Index    uint64 `json:"index"` // of the last command in it
	Revision uint64 `json:"revision"`
	Level    int    `json:"level"` // of commands
	Nodes    int    `json:"nodes"`
	ENIs     int    `json:"enis"`
	Subnets  int    `json:"subnets"`
	HAVIPs   int    `json:"havips"`
	Groups   int    `json:"groups"`
}

func describe(file string, data []byte, s *fsm.State) snapshotOf {
	return snapshotOf{
		File: file, Bytes: len(data), Cluster: s.Cluster.ID, Index: s.Index, Revision: s.Cluster.Revision, Level: s.Level(),
		Nodes: len(s.Nodes), ENIs: len(s.ENIs), Subnets: len(s.Subnets), HAVIPs: len(s.HAVIPs), Groups: len(s.Groups),
	}
}

func (s snapshotOf) pairs() []pair {
	return []pair{
		{"file", s.File}, {"bytes", fmt.Sprint(s.Bytes)}, {"cluster", s.Cluster}, {"index", fmt.Sprint(s.Index)}, {"revision", fmt.Sprint(s.Revision)},
		{"level", fmt.Sprint(s.Level)}, {"nodes", fmt.Sprint(s.Nodes)}, {"ENIs", fmt.Sprint(s.ENIs)}, {"subnets", fmt.Sprint(s.Subnets)},
		{"HAVIPs", fmt.Sprint(s.HAVIPs)}, {"groups", fmt.Sprint(s.Groups)},
	}
}

func newSnapshotCommand(g *globals) *cobra.Command {
	save := verb("save", "Write the whole replicated state into a file", []string{"FILE"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		if _, err := os.Lstat(args[0]); err == nil {
			return fmt.Errorf("%s is there already; name another file", args[0])
		}
		data, err := c.Snapshot(ctx)
		if err != nil {
			return err
		}
		s, err := fsm.ReadSnapshot(bytes.NewReader(data))
		if err != nil {
			return err
		}
		return emitPairs(g, describe(args[0], data, s), writeNew(args[0], data), snapshotOf.pairs)
	}))
	inspect := verb("inspect", "Say what is in a snapshot, and whether it is whole", []string{"FILE"}, func(_ *cobra.Command, args []string) error {
		data, s, err := readSnapshot(args[0])
		if err != nil {
			return err
		}
		return emitPairs(g, describe(args[0], data, s), nil, snapshotOf.pairs)
	})
	return group("snapshot", "The replicated state as a file", save, inspect, newSnapshotRestoreCommand(g), newSnapshotScheduleCommand(g), newSnapshotListCommand(g))
}

func newSnapshotRestoreCommand(g *globals) *cobra.Command {
	var o api.ApplyOptions
	var show showing
	var revision, from string
	c := verb("restore", "Make the configuration what it was in a snapshot", []string{"FILE"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		_, s, err := readSnapshot(args[0])
		if err != nil {
			return err
		}
		if err := sameCluster(ctx, c, s.Cluster.ID, from); err != nil {
			return err
		}
		file, err := g.restorable(ctx, c, s)
		if err != nil {
			return err
		}
		o.Prune, o.Note = true, "snapshot "+args[0]
		return g.change(ctx, c, o, show, -1, func(o api.ApplyOptions) (api.Applied, error) { return c.Apply(ctx, file, o) })
	}))
	c.Long = c.Short + ", whole or not at all, with a diff before the change.\n\n" +
		"Subnets, HAVIPs, groups, checks, webhooks, limits and the wishes about nodes come back, and what the snapshot does not name is deleted. Owners, sessions\n" +
		"and epochs never do: a cluster that went back in time could give a HAVIP two owners. `recover` is for the loss of the cluster.\n\n" + manyChanges
	show.register(c)
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what would change")
	c.Flags().StringVar(&revision, "expect", "", "refuse unless this is the present revision")
	c.Flags().StringVar(&from, "from-cluster", "", "take it although it is of this other cluster (its id), as after `recover`")
	c.PreRunE = func(*cobra.Command, []string) error { return expect(&o, revision) }
	return c
}

// sameCluster refuses the snapshot of another cluster, which would delete all that this one has, unless its id was typed.
func sameCluster(ctx context.Context, c *api.Client, of, from string) error {
	if from != "" && from != of {
		return usage("--from-cluster %s: the snapshot is of cluster %s", from, of)
	}
	here, err := c.Cluster(ctx)
	if err != nil {
		return err
	}
	if of != here.ID && from == "" {
		return fmt.Errorf("the snapshot is of cluster %s, and this is %s: what this one has would be deleted. If that is meant, as after `recover`, say --from-cluster %[1]s; --dry-run with it shows what would change", of, here.ID)
	}
	return nil
}

// restorable is the configuration of a state, fit for the cluster of today: nodes that have
// left are left out, and HAVIPs that were deleted since are made anew.
func (g *globals) restorable(ctx context.Context, c *api.Client, s *fsm.State) ([]byte, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	havips, err := c.HAVIPs(ctx)
	if err != nil {
		return nil, err
	}
	m := manifest.FromState(s, time.Now().UnixNano())
	m.Revision, m.ENIs = 0, nil
	m.Nodes = slices.DeleteFunc(m.Nodes, func(n manifest.Node) bool {
		gone := !slices.ContainsFunc(nodes, func(have api.Node) bool { return have.Name == n.Name })
		if gone {
			fmt.Fprintf(g.stderr, "node %s has left since; its wishes are left out\n", n.Name)
		}
		return gone
	})
	for i := range m.Webhooks { // no export has the secrets, the snapshot of an admin does
		h := s.Webhooks[m.Webhooks[i].Name]
		if m.Webhooks[i].Secret = h.Secret; h.Secret == "" && h.Signed() {
			fmt.Fprintf(g.stderr, "webhook %s was signed with a secret that this snapshot does not have; it must be there already\n", h.Name)
		}
	}
	for i := range m.HAVIPs {
		v := &m.HAVIPs[i]
		v.Owner, v.Last, v.Draining, v.Fails, v.FailEnds, v.GaveUp = "", "", 0, nil, nil, nil
		if !slices.ContainsFunc(havips, func(have api.HAVIP) bool { return have.ID == v.ID }) {
			v.ID = ""
		}
	}
	return m.YAML(), nil
}

func readSnapshot(file string) ([]byte, *fsm.State, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 2*fsm.MaxSnapshot))
	if err != nil {
		return nil, nil, err
	}
	s, err := fsm.ReadSnapshot(bytes.NewReader(data))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	return data, s, nil
}

// writeNew writes a file that must not exist, whole or not at all, for its owner alone.
func writeNew(file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	return nil
}
