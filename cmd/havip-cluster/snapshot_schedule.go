package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
)

func newSnapshotScheduleCommand(g *globals) *cobra.Command {
	var every time.Duration
	var keep int
	c := verb("schedule", "Let each voter save a snapshot by itself", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		seconds := int64(every / time.Second)
		change := api.ClusterChange{SnapshotEveryS: &seconds}
		if every != 0 {
			change.SnapshotKeep = &keep
		}
		v, err := c.UpdateCluster(ctx, change, false)
		return emit(g, v, err, func(w io.Writer, v api.Cluster) {
			if v.SnapshotEveryS == 0 {
				fmt.Fprintln(w, "no voter saves snapshots by itself")
				return
			}
			fmt.Fprintf(w, "each voter saves a snapshot every %s and keeps %d\n", time.Duration(v.SnapshotEveryS)*time.Second, v.SnapshotKeep)
		})
	}))
	c.Long = c.Short + ", below its data directory (snapshots/). The plan is the cluster's, so it holds for voters that come later too.\n\n" +
		"What would leave less than 64 MiB free is not written; `status` of that node then says so. Copy the files elsewhere: a host that burns\n" +
		"takes its snapshots along."
	c.Example = "  havip-cluster snapshot schedule --every 6h --keep 28\n  havip-cluster snapshot schedule --every 0"
	c.Flags().DurationVar(&every, "every", 0, "time between two, 1m to 744h; 0 ends it")
	c.Flags().IntVar(&keep, "keep", 7, "how many each voter keeps, 1 to 1000")
	c.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.Flags().Changed("every") {
			return usage("say how often: --every 6h, or --every 0 for never")
		}
		if every < 0 || every%time.Second != 0 {
			return usage("--every %s is no time in whole seconds", every)
		}
		return nil
	}
	return c
}

func newSnapshotListCommand(g *globals) *cobra.Command {
	c := verb("list", "The snapshots that the node which is asked has saved by itself", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		list, err := c.Snapshots(ctx)
		return emitList(g, list, err, "no snapshot was saved here yet; havip-cluster snapshot schedule --every 6h --keep 28", snapshotColumns)
	}))
	c.Example = "  havip-cluster snapshot list\n  havip-cluster snapshot list -o name"
	return c
}

var snapshotColumns = []column[api.SavedSnapshot]{
	{"FILE", func(s api.SavedSnapshot) string { return s.File }},
	{"MADE", func(s api.SavedSnapshot) string { return when(s.Made) }},
	{"INDEX", func(s api.SavedSnapshot) string { return strconv.FormatUint(s.Index, 10) }},
	{"BYTES", func(s api.SavedSnapshot) string { return strconv.FormatInt(s.Bytes, 10) }},
}
