package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
)

func newCheckCommand(g *globals) *cobra.Command {
	remove := verb("delete", "Delete a check and what it said", []string{"CHECK"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		d, err := c.DeleteCheck(ctx, args[0])
		return emit(g, d, err, func(w io.Writer, _ api.Done) { fmt.Fprintf(w, "check %s is deleted\n", oneLine(args[0])) })
	}))
	remove.Example = "  havip-cluster check delete web-up"
	list := verb("list", "All checks, with how many nodes they pass on", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		list, err := c.Checks(ctx)
		return emitList(g, list, err, "No checks; create one with `havip-cluster check create NAME --type tcp --target 127.0.0.1:80`.", checkColumns)
	}))
	list.Example = "  havip-cluster check list\n  havip-cluster check list -o json"
	show := verb("show", "One check", []string{"CHECK"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		v, err := c.Check(ctx, args[0])
		return emitPairs(g, v, err, checkPairs)
	}))
	show.Example = "  havip-cluster check show web-up"
	return group("check", "Checks of services that steer where HAVIPs are", newCheckCreateCommand(g), list, show, newCheckUpdateCommand(g), remove, newCheckResultsCommand(g))
}

// checkFlags are those of create and update.
type checkFlags struct {
	spec api.CheckSpec
}

func (f *checkFlags) add(c *cobra.Command) {
	s, flags := &f.spec, c.Flags()
	flags.StringVar(&s.Type, "type", "", "tcp, http, exec, process, file, ping, arp or systemd")
	flags.StringVar(&s.Target, "target", "", "what it looks at: HOST:PORT, a URL, the name of a program, of a process or pidfile:PATH, a path, an address, a unit")
	flags.StringVar(&s.Interval, "interval", "", "from one run to the next (2s)")
	flags.StringVar(&s.Timeout, "timeout", "", "what answers later has failed (1s)")
	flags.IntVar(&s.Rise, "rise", 0, "good runs in a row until it passes (2)")
	flags.IntVar(&s.Fall, "fall", 0, "bad runs in a row until it fails (3)")
	flags.StringVar(&s.Grace, "grace", "", "for how long after its start on a node bad runs say nothing")
	flags.StringVar(&s.Effect, "effect", "", "bar: HAVIPs go elsewhere, if they can; or a score such as -50 (bar)")
	flags.StringSliceVar(&s.Nodes, "nodes", nil, "nodes that run it (all but witnesses)")
	flags.StringSliceVar(&s.HAVIPs, "havips", nil, "HAVIPs that it is about (all)")
	flags.StringVar(&s.WhenAllFail, "when-all-fail", "", "where it fails everywhere: keep the last good place, or drop the owner (keep)")
	flags.StringVar(&s.Status, "status", "", "http: statuses that are good (200-399)")
	flags.StringVar(&s.Body, "body", "", "http: text that the answer has to hold")
	flags.StringArrayVar(&s.Headers, "header", nil, "http: a header to send, `NAME: VALUE`; may be repeated")
	flags.StringVar(&s.SNI, "sni", "", "http: the TLS server name")
	flags.BoolVar(&s.Verify, "verify", false, "http: the certificate has to be one that the node trusts")
	flags.StringVar(&s.Content, "content", "", "file: text that it has to hold")
	flags.StringVar(&s.MaxAge, "max-age", "", "file: how long ago it may have been written")
}

func newCheckCreateCommand(g *globals) *cobra.Command {
	var f checkFlags
	c := verb("create", "Check a service on each node, and place HAVIPs by what it says", []string{"NAME"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		f.spec.Name = args[0]
		v, err := c.CreateCheck(ctx, f.spec)
		return emitPairs(g, v, err, checkPairs)
	}))
	f.add(c)
	c.Long = "Check a service on each node, and place HAVIPs by what it says.\n\nWhere it fails, HAVIPs go elsewhere if they can; where it fails everywhere, they stay where they are. The programs of type exec are those that root\nhas put into /etc/havip-cluster/checks.d on the node: see docs/checks.md."
	c.Example = `  havip-cluster check create web-up --type http --target http://127.0.0.1:80/health --havips web
  havip-cluster check create pg --type tcp --target 127.0.0.1:5432 --interval 1s --fall 2 --effect -50
  havip-cluster check create gateway --type ping --target 10.0.0.1 --effect -100
  havip-cluster check create haproxy --type process --target haproxy --fall 1`
	c.PreRunE = func(*cobra.Command, []string) error {
		if f.spec.Type == "" || f.spec.Target == "" {
			return usage("say what it checks: --type and --target")
		}
		return nil
	}
	return c
}

func newCheckUpdateCommand(g *globals) *cobra.Command {
	var f checkFlags
	c := verb("update", "Change a check; it begins anew on each node", []string{"CHECK"}, nil)
	f.add(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		change, any := f.change(cmd)
		if !any {
			return usage("say what to change, such as --interval 5s")
		}
		return g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			v, err := c.UpdateCheck(ctx, args[0], change)
			return emitPairs(g, v, err, checkPairs)
		})(cmd, args)
	}
	c.Example = "  havip-cluster check update web-up --interval 5s --fall 2\n  havip-cluster check update web-up --havips \"\" --effect -50"
	return c
}

// change is what the flags that were given say; any is false for none.
func (f *checkFlags) change(cmd *cobra.Command) (b api.CheckChange, any bool) {
	s := &f.spec
	given := func(name string) bool {
		changed := cmd.Flags().Changed(name)
		any = any || changed
		return changed
	}
	for name, x := range map[string]struct {
		to   **string
		from *string
	}{
		"type": {&b.Type, &s.Type}, "target": {&b.Target, &s.Target}, "interval": {&b.Interval, &s.Interval}, "timeout": {&b.Timeout, &s.Timeout}, "grace": {&b.Grace, &s.Grace},
		"effect": {&b.Effect, &s.Effect}, "when-all-fail": {&b.WhenAllFail, &s.WhenAllFail}, "status": {&b.Status, &s.Status}, "body": {&b.Body, &s.Body},
		"sni": {&b.SNI, &s.SNI}, "content": {&b.Content, &s.Content}, "max-age": {&b.MaxAge, &s.MaxAge},
	} {
		if given(name) {
			*x.to = x.from
		}
	}
	for name, x := range map[string]struct {
		to   **[]string
		from []string
	}{"nodes": {&b.Nodes, s.Nodes}, "havips": {&b.HAVIPs, s.HAVIPs}, "header": {&b.Headers, s.Headers}} {
		if given(name) {
			list := []string{}
			for _, text := range x.from {
				if text != "" { // one empty text is none at all
					list = append(list, text)
				}
			}
			*x.to = &list
		}
	}
	if given("rise") {
		b.Rise = &s.Rise
	}
	if given("fall") {
		b.Fall = &s.Fall
	}
	if given("verify") {
		b.Verify = &s.Verify
	}
	return b, any
}

func newCheckResultsCommand(g *globals) *cobra.Command {
	var node string
	c := verb("results", "What the checks say of each node, for how long, and their last output", []string{"[CHECK]"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		check := ""
		if len(args) > 0 {
			check = args[0]
		}
		list, err := c.CheckResults(ctx, node, check)
		return emitList(g, list, err, "No results; the checks there are: `havip-cluster check list`.", []column[api.CheckResult]{
			{"CHECK", func(r api.CheckResult) string { return r.Check }},
			{"NODE", func(r api.CheckResult) string { return r.Node }},
			{"STATE", func(r api.CheckResult) string { return r.State }},
			{"FOR", resultAge},
			{"OUTPUT", func(r api.CheckResult) string { return r.Output }},
			{"SAYS", func(r api.CheckResult) string { return r.Says }},
		})
	}))
	c.Flags().StringVar(&node, "node", "", "of one node alone")
	c.Example = "  havip-cluster check results\n  havip-cluster check results web-up\n  havip-cluster check results --node node-2 -o json"
	return c
}

func resultAge(r api.CheckResult) string {
	if r.AgeMS == nil {
		return ""
	}
	return (time.Duration(*r.AgeMS) * time.Millisecond).Round(time.Second).String()
}

var checkColumns = []column[api.Check]{
	{"NAME", func(k api.Check) string { return k.Name }},
	{"TYPE", func(k api.Check) string { return k.Type }},
	{"TARGET", func(k api.Check) string { return k.Target }},
	{"EVERY", func(k api.Check) string { return k.Interval }},
	{"EFFECT", func(k api.Check) string { return k.Effect }},
	{"HAVIPS", func(k api.Check) string { return orAll(k.HAVIPs) }},
	{"PASSING", func(k api.Check) string { return fmt.Sprintf("%d/%d", k.Passing, k.Passing+k.Failing+k.Unknown) }},
	{"FAILING", func(k api.Check) string { return strconv.Itoa(k.Failing) }},
}

func orAll(list []string) string {
	if len(list) == 0 {
		return "all"
	}
	return strings.Join(list, ",")
}

func checkPairs(k api.Check) []pair {
	out := []pair{
		{"NAME", k.Name}, {"TYPE", k.Type}, {"TARGET", k.Target}, {"INTERVAL", k.Interval}, {"TIMEOUT", k.Timeout},
		{"RISE", strconv.Itoa(k.Rise)}, {"FALL", strconv.Itoa(k.Fall)}, {"EFFECT", k.Effect}, {"NODES", orAll(k.Nodes)}, {"HAVIPS", orAll(k.HAVIPs)},
	}
	for _, p := range []pair{
		{"GRACE", k.Grace}, {"WHEN ALL FAIL", k.WhenAllFail}, {"STATUS", k.Status}, {"BODY", k.Body}, {"HEADERS", strings.Join(k.Headers, "; ")}, {"SNI", k.SNI},
		{"CONTENT", k.Content}, {"MAX AGE", k.MaxAge},
	} {
		if p.value != "" {
			out = append(out, p)
		}
	}
	return append(out, pair{"PASSING", strconv.Itoa(k.Passing)}, pair{"FAILING", strconv.Itoa(k.Failing)}, pair{"UNKNOWN", strconv.Itoa(k.Unknown)})
}

// printChecks tells what checks of a HAVIP do not pass, and whose fault that is.
func (g *globals) printChecks(w io.Writer, results []api.CheckResult) {
	for _, r := range results {
		fmt.Fprintf(w, "Check %s is %s on node %s", oneLine(r.Check), r.State, oneLine(r.Node))
		if age := resultAge(r); age != "" {
			fmt.Fprintf(w, " for %s", age)
		}
		if r.Output != "" {
			fmt.Fprintf(w, " (%s)", oneLine(r.Output))
		}
		if r.Says != "" {
			fmt.Fprintf(w, ": %s", oneLine(r.Says))
		}
		fmt.Fprintln(w, ".")
	}
}
