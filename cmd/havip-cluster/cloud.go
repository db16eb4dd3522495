package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/provider"
)

func newProviderCommand(g *globals) *cobra.Command {
	show := verb("show", "The provider, what it can do, and how log and cloud differ", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		v, err := c.Provider(ctx)
		return emit(g, v, err, printProvider)
	}))
	show.Example = "  havip-cluster provider show\n  havip-cluster provider show -o json"
	test := verb("test", "Ask the cloud once, from the node that is asked", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		v, err := c.TestProvider(ctx)
		return emitPairs(g, v, err, func(v api.ProviderTest) []pair {
			return []pair{
				{"PROVIDER", v.Kind}, {"NODE", v.Node}, {"ENDPOINT", v.Endpoint}, {"CREDENTIALS", v.Credentials}, {"REGION", v.Region}, {"ZONE", v.Zone},
				{"VPC", v.VPC}, {"INSTANCE", v.Instance}, {"TOOK", (time.Duration(v.TookMS) * time.Millisecond).String()},
			}
		})
	}))
	test.Long = "Asks the cloud once, without a change, with the credentials of the node that is asked. Each node has its own: ask each, because any of them may lead."
	test.Example = "  havip-cluster provider test\n  havip-cluster --address https://10.0.0.12:7400 provider test"
	return group("provider", "The cloud beside the cluster", show, test, newProviderSyncCommand(g))
}

func newProviderSyncCommand(g *globals) *cobra.Command {
	var to, from bool
	var body api.SyncRequest
	c := verb("sync", "Make cloud and log agree", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		body.Direction = "to-cloud"
		if from {
			body.Direction = "from-cloud"
		}
		list, err := c.SyncProvider(ctx, body)
		err = emitList(g, list, err, "Nothing to do: log and cloud agree.", []column[provider.Outcome]{
			{"HAVIP", func(o provider.Outcome) string { return o.HAVIP }},
			{"ADDRESS", func(o provider.Outcome) string { return o.Address.String() }},
			{"STEP", func(o provider.Outcome) string { return string(o.Op) }},
			{"WHAT", func(o provider.Outcome) string { return o.Text }},
			{"RESULT", func(o provider.Outcome) string {
				return strings.TrimSuffix(o.Result+": "+o.Error, ": ")
			}},
		})
		if err != nil {
			return err
		}
		return unfinished(list)
	}))
	c.Long = "Makes cloud and log agree, as the plan says that --dry-run prints.\n\n" +
		"--to-cloud makes in the cloud what is missing there: HAVIPs, members of ranges, names, EIPs. It takes nothing away there without --prune.\n" +
		"--from-cloud makes here what the cloud has and the cluster has not, and takes ranges and EIPs over. It deletes nothing.\n" +
		"Nothing does this by itself. The exit code is 1 when a step failed, or cannot be done."
	c.Example = "  havip-cluster provider sync --to-cloud --dry-run\n  havip-cluster provider sync --to-cloud\n  havip-cluster provider sync --to-cloud --prune --dry-run\n  havip-cluster provider sync --from-cloud"
	c.Flags().BoolVar(&to, "to-cloud", false, "the log is right: change the cloud")
	c.Flags().BoolVar(&from, "from-cloud", false, "the cloud is right: change the log")
	c.Flags().BoolVar(&body.DryRun, "dry-run", false, "only say what would be done")
	c.Flags().BoolVar(&body.Prune, "prune", false, "with --to-cloud: take away there what is not here")
	c.PreRunE = func(*cobra.Command, []string) error {
		if to == from {
			return usage("say which of the two is right: --to-cloud changes the cloud, --from-cloud changes the log")
		}
		if from && body.Prune {
			return usage("--prune is for --to-cloud: what the cloud does not have is not deleted here")
		}
		return nil
	}
	return c
}

// unfinished is an error where not everything could be done.
func unfinished(list []provider.Outcome) error {
	count := map[string]int{}
	for _, o := range list {
		count[o.Result]++
	}
	if n := count["failed"] + count["left"]; n > 0 {
		return fmt.Errorf("%d of %d steps were not done; the same command tries again", n, len(list))
	}
	if n := count["blocked"]; n > 0 {
		return fmt.Errorf("%d of %d steps cannot be done; the table says why", n, len(list))
	}
	return nil
}

func printProvider(w io.Writer, v api.ProviderView) {
	can := []string{}
	for _, c := range []struct {
		yes  bool
		name string
	}{
		{v.Capabilities.Describe, "describe"}, {v.Capabilities.Keep, "keep HAVIPs"}, {v.Capabilities.Range, "keep ranges"}, {v.Capabilities.EIP, "bind EIPs"},
		{v.Capabilities.ClaimByAPI, "claim by call"},
	} {
		if c.yes {
			can = append(can, c.name)
		}
	}
	seen := "not yet"
	if v.AgeMS != nil {
		seen = (time.Duration(*v.AgeMS) * time.Millisecond).Round(100*time.Millisecond).String() + " ago"
	}
	pairs := []pair{
		{"PROVIDER", v.Kind}, {"LOOKS", fmt.Sprintf("%s, every %s", v.Node, time.Duration(v.PollMS)*time.Millisecond)}, {"CAN", strings.Join(can, ", ")},
		{"SEEN", seen}, {"HAVIPS", strconv.Itoa(v.HAVIPs)},
	}
	if v.Error != "" {
		pairs = append(pairs, pair{"FAILS", v.Error})
	}
	printRows(w, pairs, []column[pair]{{"", func(p pair) string { return p.name }}, {"", func(p pair) string { return p.value }}}, false)
	fmt.Fprintln(w)
	printTable(w, v.ENIs, []column[api.CloudENI]{
		{"ENI", func(e api.CloudENI) string { return e.ENI }},
		{"MAC", func(e api.CloudENI) string { return e.MAC }},
		{"CLOUD", func(e api.CloudENI) string { return cloudOf(e, func(c api.CloudInterface) string { return c.ID }) }},
		{"INSTANCE", func(e api.CloudENI) string {
			return cloudOf(e, func(c api.CloudInterface) string { return c.Instance })
		}},
		{"SUBNET", func(e api.CloudENI) string { return cloudOf(e, func(c api.CloudInterface) string { return c.Subnet }) }},
	})
	fmt.Fprintln(w)
	printDrift(w, v.Drift)
}

func cloudOf(e api.CloudENI, field func(api.CloudInterface) string) string {
	if e.Cloud == nil {
		return "-"
	}
	return cmp.Or(field(*e.Cloud), "-")
}

func printDrift(w io.Writer, list []provider.Warning) {
	if len(list) == 0 {
		fmt.Fprintln(w, "Log and cloud agree.")
		return
	}
	for _, d := range list {
		name := ""
		if d.HAVIP != "" {
			name = "HAVIP " + oneLine(d.HAVIP) + ": "
		}
		fmt.Fprintf(w, "%s: %s%s\n", d.Code, name, oneLine(d.Message))
		if d.Command != "" {
			fmt.Fprintf(w, "  %s\n", oneLine(d.Command))
		}
	}
}

func newHAVIPObservedCommand(g *globals) *cobra.Command {
	c := verb("observed", "What log, lease and cloud say of a HAVIP, side by side", []string{"[HAVIP]"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		if len(args) > 0 {
			v, err := c.ObservedOf(ctx, args[0])
			return emit(g, v, err, func(w io.Writer, v api.ObservedHAVIP) { printObserved(w, []api.ObservedHAVIP{v}) })
		}
		list, err := c.Observed(ctx)
		if len(list) == 0 {
			return emitList(g, list, err, "No HAVIPs; create one with `havip-cluster havip create NAME --ip A`.", observedColumns)
		}
		return emit(g, list, err, printObserved)
	}))
	c.Long = "What the log wants, who has the lease to answer, and whom the cloud sends the traffic to. The cloud is asked by the leader, every few seconds; its column tells of\n" +
		"the last announcement that it took, not of whether the owner lives."
	c.Example = "  havip-cluster havip observed\n  havip-cluster havip observed web\n  havip-cluster havip observed web -o json"
	return c
}

var observedColumns = []column[api.ObservedHAVIP]{
	{"NAME", func(o api.ObservedHAVIP) string { return o.Name }},
	{"IP", func(o api.ObservedHAVIP) string { return o.IP }},
	{"DESIRED", func(o api.ObservedHAVIP) string { return text(o.Desired.ENI) }},
	{"LEASED", func(o api.ObservedHAVIP) string {
		switch {
		case o.Leased == nil:
			return "-"
		case !o.Leased.Serving:
			return o.Leased.ENI + " (pending)"
		}
		return o.Leased.ENI
	}},
	{"OBSERVED", func(o api.ObservedHAVIP) string {
		switch {
		case o.Seen == nil:
			return "not in the cloud"
		case o.Seen.State == provider.Unbound || o.Seen.ENI == "":
			return "-"
		case o.Seen.Node != nil:
			return fmt.Sprintf("%s (%s, %s)", o.Seen.ENI, o.Seen.Instance, *o.Seen.Node)
		}
		return fmt.Sprintf("%s (%s, none of ours)", o.Seen.ENI, o.Seen.Instance)
	}},
	{"FLUSHED", func(o api.ObservedHAVIP) string {
		if o.Seen == nil {
			return "-"
		}
		return cmp.Or(o.Seen.Flushed, "never")
	}},
	{"DRIFT", func(o api.ObservedHAVIP) string {
		var codes []string
		for _, d := range o.Drift {
			codes = append(codes, string(d.Code))
		}
		return cmp.Or(strings.Join(slices.Compact(codes), ","), "none")
	}},
}

func printObserved(w io.Writer, list []api.ObservedHAVIP) {
	printTable(w, list, observedColumns)
	for _, o := range list {
		if len(o.Drift) > 0 {
			fmt.Fprintln(w)
			printDrift(w, o.Drift)
		}
	}
}
