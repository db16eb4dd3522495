package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
)

// barWidth is how many columns the bar of a timeline has.
const barWidth = 32

func newFailoversCommand(g *globals) *cobra.Command {
	c := verb("failovers", "The timeline of each change of owner", []string{"[HAVIP]"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		list, err := c.Failovers(ctx, strings.Join(args, ""))
		return emit(g, list, err, func(w io.Writer, list []api.Failover) {
			if len(list) == 0 {
				fmt.Fprintln(g.stderr, "No failovers.")
			}
			for _, f := range list {
				printFailover(w, f)
			}
		})
	}))
	c.Long = "Shows each change of owner that the log remembers, oldest first: why it came, and step by step who did what when, as a bar from the step before to this one.\n" +
		"The times are on the leader's clock. Those of another node were brought onto it; how well the two clocks are known to agree stands below.\n" +
		"-o json has everything."
	c.Example = "  havip-cluster failovers\n  havip-cluster failovers web\n  havip-cluster failovers -o json"
	return c
}

func printFailover(w io.Writer, f api.Failover) {
	fmt.Fprintf(w, "%s  HAVIP %s, epoch %d: %s -> %s, %s", f.At.UTC().Format("2006-01-02T15:04:05.000Z"),
		oneLine(f.HAVIP), f.Epoch, cmp.Or(oneLine(f.From), "nobody"), cmp.Or(oneLine(f.To), "nobody"), micros(f.TotalUS))
	if f.Kind != "" {
		fmt.Fprintf(w, " (%s)", oneLine(f.Kind))
	}
	fmt.Fprintln(w)
	if f.Reason != "" {
		fmt.Fprintf(w, "  why: %s\n", oneLine(f.Reason))
	}
	wide := 0
	for _, s := range f.Steps {
		wide = max(wide, len(oneLine(s.Node)))
	}
	last := int64(0)
	for _, s := range f.Steps {
		fmt.Fprintf(w, "  %12s  %s  %-*s  %s\n", "+"+micros(s.AfterUS), bar(last, s.AfterUS, f.TotalUS), wide, oneLine(s.Node), oneLine(s.What))
		last = s.AfterUS
	}
	for _, c := range f.Clocks {
		fmt.Fprintf(w, "  clock of %s: %s against that of %s, known to %s\n", oneLine(c.Node), signed(c.OffsetUS), oneLine(f.Leader), micros(c.BoundUS))
	}
}

// bar draws the time from one step to the next on a line that is total microseconds long. A step that
// took less than a column is a mark.
func bar(from, to, total int64) string {
	if total <= 0 {
		return "|" + strings.Repeat(" ", barWidth) + "|"
	}
	at := func(us int64) int { return int(min(max(us, 0), total) * barWidth / total) }
	a, b := at(from), at(to)
	body := strings.Repeat("=", b-a)
	if a == b {
		a, body = min(a, barWidth-1), "'"
	}
	return "|" + strings.Repeat(" ", a) + body + strings.Repeat(" ", barWidth-a-len(body)) + "|"
}

func micros(us int64) string { return fmt.Sprintf("%.3fms", float64(us)/1000) }

// signed is a difference of clocks in words that stay short however far they are apart.
func signed(us int64) string {
	d := time.Duration(us) * time.Microsecond
	if d >= 0 {
		return "+" + d.String()
	}
	return d.String()
}
