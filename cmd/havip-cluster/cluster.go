package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
)

func newClusterCommand(g *globals) *cobra.Command {
	return group("cluster", "The cluster as a whole", newClusterSetCommand(g),
		onOff(g, verb("maintenance", "Freeze every placement, failover included, or end that", []string{"on|off"}, nil), func(ctx context.Context, c *api.Client, _ []string, on bool) error {
			v, err := c.UpdateCluster(ctx, api.ClusterChange{Maintenance: &on}, false)
			return emitPairs(g, v, err, clusterPairs)
		}),
		verb("show", "The cluster", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			v, err := c.Cluster(ctx)
			return emitPairs(g, v, err, clusterPairs)
		})))
}

// onOff makes the last argument of a verb a switch.
func onOff(g *globals, c *cobra.Command, do func(ctx context.Context, c *api.Client, args []string, on bool) error) *cobra.Command {
	c.PreRunE = func(_ *cobra.Command, args []string) error {
		if word := args[len(args)-1]; word != "on" && word != "off" {
			return usage("%s is on or off, not %q", c.Name(), word)
		}
		return nil
	}
	c.RunE = g.ask(func(ctx context.Context, client *api.Client, args []string) error {
		return do(ctx, client, args, args[len(args)-1] == "on")
	})
	return c
}

// clusterSettings are the names of `cluster set`, and how their values are read.
var clusterSettings = []struct {
	name, form string
	read       func(b *api.ClusterChange, text string) bool
}{
	{"lease", "DURATION", func(b *api.ClusterChange, text string) bool { return readMillis(&b.LeaseMS, text, time.Millisecond) }},
	{"per-eni", "N", func(b *api.ClusterChange, text string) bool { return readCount(&b.PerENI, text) }},
	{"per-node", "N", func(b *api.ClusterChange, text string) bool { return readCount(&b.PerNode, text) }},
	{"rebalance", "never|even", func(b *api.ClusterChange, text string) bool { b.Rebalance = &text; return true }},
	{"provider", "lan|tencent", func(b *api.ClusterChange, text string) bool { b.Provider = &text; return true }},
	{"havips-per-vpc", "N", func(b *api.ClusterChange, text string) bool { return readCount(&b.HAVIPsPerVPC, text) }},
	{"havips-per-eni", "N", func(b *api.ClusterChange, text string) bool { return readCount(&b.HAVIPsPerENI, text) }},
	{"range-members", "N", func(b *api.ClusterChange, text string) bool { return readCount(&b.RangeMembers, text) }},
	{"announce-interval", "DURATION", func(b *api.ClusterChange, text string) bool { return readMillis(&b.AnnounceIntervalMS, text, 0) }},
	{"certificate-life", "DURATION", func(b *api.ClusterChange, text string) bool { return readSeconds(&b.CertificateLifeS, text) }},
	{"ca-holders", "N", func(b *api.ClusterChange, text string) bool { return readCount(&b.CAHolders, text) }},
	{"quarantine", "DURATION", func(b *api.ClusterChange, text string) bool { return readMillis(&b.QuarantineMS, text, 0) }},
}

func readCount(to **int, text string) bool {
	n, err := strconv.Atoi(text)
	*to = &n
	return err == nil && n >= 0
}

func readMillis(to **int64, text string, least time.Duration) bool {
	d, err := time.ParseDuration(text)
	ms := d.Milliseconds()
	*to = &ms
	return err == nil && d >= least && d%time.Millisecond == 0
}

func readSeconds(to **int64, text string) bool {
	d, err := time.ParseDuration(text)
	s := int64(d / time.Second)
	*to = &s
	return err == nil && d >= 0 && d%time.Second == 0
}

func settingNames() string {
	var names []string
	for _, s := range clusterSettings {
		names = append(names, s.name+"="+s.form)
	}
	return strings.Join(names, ", ")
}

func newClusterSetCommand(g *globals) *cobra.Command {
	var change api.ClusterChange
	force := false
	c := verb("set", "Change settings: lease, limits, rebalance, provider", []string{"NAME=VALUE..."}, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		v, err := c.UpdateCluster(ctx, change, force)
		return emitPairs(g, v, err, clusterPairs)
	}))
	c.Long = "The settings are " + settingNames() + ".\n\nlease is changed by itself. A provider brings its own settings; those that are named with it win.\n" +
		"A shorter lease is refused when a node would have lost it in its last 15 minutes; `calibrate` measures for longer."
	c.Flags().BoolVar(&force, "force", false, "set a lease also where a node would have lost it of late")
	c.PreRunE = func(_ *cobra.Command, args []string) error {
		seen := map[string]bool{}
		for _, a := range args {
			name, value, ok := strings.Cut(a, "=")
			name = strings.ReplaceAll(name, "_", "-")
			found := false
			for _, s := range clusterSettings {
				if found = ok && s.name == name; !found {
					continue
				}
				if !s.read(&change, value) {
					return usage("%s=%s is not %s=%s, such as %s", name, value, name, s.form, map[bool]string{true: "500ms, in whole milliseconds", false: "10"}[s.form == "DURATION"])
				}
				break
			}
			switch {
			case !found:
				return usage("%q is not a setting; there is %s", a, settingNames())
			case seen[name]:
				return usage("%s is there twice", name)
			}
			seen[name] = true
		}
		if seen["lease"] && len(seen) > 1 {
			return usage("lease is changed by itself; set the others in a second command")
		}
		return nil
	}
	return c
}

func clusterPairs(c api.Cluster) []pair {
	lease := millis(c.LeaseMS)
	if c.LeaseMaxMS != c.LeaseMS {
		lease += fmt.Sprintf(" (one of %s may still be running)", millis(c.LeaseMaxMS))
	}
	orNone := func(n int) string {
		if n == 0 {
			return "no limit"
		}
		return strconv.Itoa(n)
	}
	p := c.Provider
	out := []pair{
		{"ID", c.ID}, {"PROFILE", c.Profile}, {"LEASE", lease}, {"LEADER", text(c.Leader)},
		{"NODES", strconv.Itoa(c.Nodes)}, {"VOTERS", strconv.Itoa(c.Voters)}, {"HAVIPS", strconv.Itoa(c.HAVIPs)},
		{"MAINTENANCE", yesNo(c.Maintenance)}, {"HAVIPS PER ENI", orNone(c.Limits.PerENI)}, {"HAVIPS PER NODE", orNone(c.Limits.PerNode)},
		{"REBALANCE", c.Rebalance}, {"CA KEY", fmt.Sprintf("%s; at most %d are given it when they join", cmp.Or(strings.Join(c.CAHeldBy, ", "), "-"), c.CAHolders)},
		{"PROVIDER", fmt.Sprintf("%s: per VPC %s, per ENI %s (advice), range of %d, between announcements %s, quarantine %s", p.Name,
			orNone(p.HAVIPsPerVPC), orNone(p.HAVIPsPerENI), p.RangeMembers, millis(p.AnnounceIntervalMS), millis(p.QuarantineMS))},
		{"LEVEL", strconv.Itoa(c.Level)}, {"REVISION", strconv.FormatUint(c.Revision, 10)}, {"INDEX", strconv.FormatUint(c.Index, 10)},
	}
	if c.SnapshotEveryS != 0 {
		out = append(out, pair{"SNAPSHOTS", fmt.Sprintf("each voter saves one every %s and keeps %d", time.Duration(c.SnapshotEveryS)*time.Second, c.SnapshotKeep)})
	}
	if c.CertificateLifeS != 0 {
		out = append(out, pair{"CERTIFICATES", "made for " + (time.Duration(c.CertificateLifeS) * time.Second).String()})
	}
	return out
}
