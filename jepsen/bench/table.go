package bench

import (
	"fmt"
	"slices"
	"strings"
)

// page is docs/bench/README.md.
func (r *results) page() string {
	var b strings.Builder
	b.WriteString("# Figures\n\n")
	fmt.Fprintf(&b, "Written by `make bench SET=%s RUNS=%d` on %s, commit %s; do not edit. [What is alike for all, and what a gap is](../../jepsen/bench/DESIGN.md).\n\n", r.Set, r.Runs, r.Date, r.Commit)
	b.WriteString(r.markdown())
	if len(r.Rows) > 0 {
		b.WriteString("\n![Gaps by fault](gaps.svg)\n")
	}
	if r.sized() {
		b.WriteString("\n![Gap after a host loss by number of addresses](sizes.svg)\n")
	}
	if len(r.Costs) > 0 {
		b.WriteString("\n![CPU at rest](cost.svg)\n")
	}
	return b.String()
}

// sized: more than one number of addresses was measured.
func (r *results) sized() bool {
	return slices.ContainsFunc(r.Rows, func(w row) bool { return w.HAVIPs > 1 && w.Fault == hostLoss })
}

// markdown has times in ms.
func (r *results) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Linux %s, %d cores (%s); %s. All nodes, the client and the switch are on this one machine.\n\n", r.Kernel, r.Cores, r.CPU, r.Keepalived)
	b.WriteString("| fault | contender | nodes | addresses | runs | gap p50, ms | gap max, ms | two owners max, ms | suspect max, ms | changes of owner max | in all |\n")
	b.WriteString("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	var missed uint64
	runs := 0
	for _, f := range faults {
		for _, w := range r.Rows {
			if w.Fault != f.name {
				continue
			}
			name := w.Contender
			if w.Busy {
				name += ", busy"
			}
			all := "" // results of before have none
			if w.AllChange >= w.Changes {
				all = fmt.Sprint(w.AllChange)
			}
			fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %.1f | %.1f | %.1f | %.1f | %d | %s |\n", w.Fault, name, w.Voters, w.HAVIPs, len(w.GapsMS),
				w.quantile(0.5), w.quantile(1), w.TwoMS, w.SuspectMS, w.Changes, all)
			missed += w.Missed
			runs += len(w.GapsMS)
		}
	}
	fmt.Fprintf(&b, "\nThe instruments missed %d ticks in %d runs: many mean a machine that did other work.\n", missed, runs)
	r.costTable(&b)
	for _, s := range r.Refused {
		fmt.Fprintf(&b, "\nNot measured: %s, because it was refused: %s\n", s.Scene, s.Reason)
	}
	if len(r.Gates) > 0 {
		b.WriteString("\n| gate | measured | limit | holds |\n|---|---:|---:|---|\n")
		for _, g := range r.Gates {
			holds := "yes"
			if !g.Holds {
				holds = "**no**"
			}
			fmt.Fprintf(&b, "| %s | %.2f | %.2f | %s |\n", g.Name, g.Measured, g.Limit, holds)
		}
	}
	return b.String()
}

func (r *results) costTable(b *strings.Builder) {
	if len(r.Costs) == 0 {
		return
	}
	b.WriteString("\nAt rest, the node that needs most:\n\n")
	b.WriteString("| contender | nodes | addresses | CPU, % of a core | RSS, MB | PSS, MB | packets/s | kB/s | written, MB a day |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, c := range r.Costs {
		fmt.Fprintf(b, "| %s | %d | %d | %.1f | %.0f | %.0f | %.0f | %.1f | %.0f |\n", c.Contender, c.Voters, c.HAVIPs, c.CPU, c.RSS, c.PSS, c.Packets, c.Bytes/1e3, c.Written)
	}
}
