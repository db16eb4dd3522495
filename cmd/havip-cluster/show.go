package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
)

func newPlacementCommand(g *globals) *cobra.Command {
	var stale bool
	c := verb("placement", "Who owns what", []string{"[HAVIP...]"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		list, err := c.Placement(ctx, args, stale)
		return emitList(g, list, err, "No HAVIPs; create one with `havip-cluster havip create NAME --ip ADDRESS`.", placementColumns, placementWide...)
	}))
	c.Flags().BoolVar(&stale, "stale", false, "what the asked node has applied, without asking the leader")
	return c
}

var placementColumns = []column[api.Placement]{
	{"NAME", func(p api.Placement) string { return p.Name }},
	{"IP", func(p api.Placement) string { return p.IP }},
	{"STATE", func(p api.Placement) string { return p.State }},
	{"ENI", func(p api.Placement) string { return text(p.ENI) }},
	{"NODE", func(p api.Placement) string { return text(p.Node) }},
	{"EPOCH", func(p api.Placement) string { return strconv.FormatUint(p.Epoch, 10) }},
	{"SINCE", func(p api.Placement) string { return when(p.Since) }},
	{"REASON", func(p api.Placement) string { return p.Reason }},
}

// placementWide is what -o wide adds.
var placementWide = []column[api.Placement]{
	{"ID", func(p api.Placement) string { return p.ID }},
	{"SUBNET", func(p api.Placement) string { return p.Subnet }},
	{"SESSION", func(p api.Placement) string { return strconv.FormatUint(p.Session, 10) }},
}

func newEventsCommand(g *globals) *cobra.Command {
	var follow, kept bool
	var f eventFilter
	c := verb("events", "What happened, oldest first", none, func(cmd *cobra.Command, _ []string) error {
		c, err := g.client()
		if err != nil {
			return err
		}
		defer c.Close()
		if follow {
			ctx, cancel := interruptible(cmd.Context())
			defer cancel()
			return c.Follow(ctx, f.havip, func(e api.Event) error {
				if !f.takes(e) {
					return nil
				}
				return line(g, e, printEvent)
			})
		}
		list, err := c.Events(cmd.Context(), f.havip, kept)
		list = slices.DeleteFunc(list, func(e api.Event) bool { return !f.takes(e) })
		return emit(g, list, err, func(w io.Writer, list []api.Event) {
			if len(list) == 0 {
				fmt.Fprintln(g.stderr, "No events.")
			}
			for _, e := range list {
				printEvent(w, e)
			}
		})
	})
	c.Example = "  havip-cluster events --havip web --since 1h\n  havip-cluster events --kind placed,gave-up --follow"
	c.Flags().BoolVar(&follow, "follow", false, "go on with those to come")
	c.Flags().BoolVar(&kept, "kept", false, "also those that only the files of the asked node still have")
	c.MarkFlagsMutuallyExclusive("follow", "kept")
	c.Flags().StringVar(&f.havip, "havip", "", "only those of this HAVIP")
	c.Flags().StringSliceVar(&f.kinds, "kind", nil, "only those of these kinds, such as placed or session-closed")
	c.Flags().StringVar(&f.node, "node", "", "only those of this node")
	c.Flags().StringVar(&f.sinceText, "since", "", "only those from this time on: a duration before now such as 1h, or a time such as 2026-01-31T12:00:00Z")
	c.PreRunE = func(*cobra.Command, []string) error { return f.check(time.Now()) }
	return c
}

// eventFilter says which events a person asked for; what is empty asks for all.
type eventFilter struct {
	havip, node, sinceText string
	kinds                  []string
	since                  time.Time
}

func (f *eventFilter) check(now time.Time) error {
	if f.sinceText == "" {
		return nil
	}
	if d, err := time.ParseDuration(f.sinceText); err == nil && d >= 0 {
		f.since = now.Add(-d)
		return nil
	}
	at, err := time.Parse(time.RFC3339, f.sinceText)
	if err != nil {
		return usage("--since %q is neither a duration such as 1h nor a time such as 2026-01-31T12:00:00Z", f.sinceText)
	}
	f.since = at
	return nil
}

func (f *eventFilter) takes(e api.Event) bool {
	return (len(f.kinds) == 0 || slices.Contains(f.kinds, e.Kind)) && (f.node == "" || e.Node == f.node) && !e.At.Before(f.since)
}

func printEvent(w io.Writer, e api.Event) {
	fmt.Fprintf(w, "%s  %6d  %-16s  %s\n", e.At.UTC().Format("2006-01-02T15:04:05.000Z"), e.Index, e.Kind, oneLine(e.Text))
}

// statusPatience is how long `status` waits for a leader before it asks without one.
const statusPatience = 2 * time.Second

// watchPause is how often `status --watch` looks.
const watchPause = time.Second

func newStatusCommand(g *globals) *cobra.Command {
	var watch, byHealth bool
	c := verb("status", "Health at a glance", none, func(cmd *cobra.Command, _ []string) error {
		c, err := g.client()
		if err != nil {
			return err
		}
		defer c.Close()
		if !watch {
			health, err := g.status(cmd.Context(), c)
			if err == nil && byHealth && health != api.HealthGreen {
				return healthExit(health)
			}
			return err
		}
		ctx, cancel := interruptible(cmd.Context())
		defer cancel()
		return g.watchStatus(ctx, c, watchPause)
	})
	c.Flags().BoolVar(&watch, "watch", false, "look again every second, at what the asked node knows; into a pipe one line when it has changed")
	c.Flags().BoolVar(&byHealth, "exit-code", false, "end with 0 when all is well, 5 when it is yellow, 6 when it is red, 3 when no leader or no agent answers")
	c.MarkFlagsMutuallyExclusive("watch", "exit-code")
	c.Example = "  havip-cluster status\n  havip-cluster status --exit-code >/dev/null || alert"
	return c
}

// healthExit is the exit code of a health that is not green; the status has said why.
type healthExit string

func (h healthExit) Error() string { return "the health is " + string(h) }

// ExitCode is asked by api.ExitCode.
func (h healthExit) ExitCode() int {
	if h == api.HealthYellow {
		return exitYellow
	}
	return exitRed
}

// Exit codes of `status --exit-code`, beside those of the API.
const (
	exitYellow = 5
	exitRed    = 6
)

// status prints the health. When no leader answers, it prints what the asked node knows,
// and the exit code says so: then it is needed most. That is asked first, so that a host
// without an agent is told at once.
func (g *globals) status(ctx context.Context, c *api.Client) (health string, err error) {
	c.Timeout = min(g.timeout, statusPatience)
	known, err := c.Status(ctx, true)
	if err != nil {
		return "", err
	}
	st, err := c.Status(ctx, false)
	if api.ExitCode(err) != api.ExitUnreachable {
		return st.Health, emit(g, st, err, g.printStatus)
	}
	if err := emit(g, known, nil, g.printStatus); err != nil {
		return "", err
	}
	return known.Health, fmt.Errorf("%w: no leader answers, so this is what the asked node knows; nothing can be changed until a majority of the voters is back", api.ErrNoLeader)
}

// havipsText counts the HAVIPs by what is known of their service. Without a leader that is what this node has
// applied, and how old it is: it cannot know who serves now.
func havipsText(st api.Status) string {
	if st.Leader == nil {
		when := "at the end of the log that this node has"
		if ms := st.Local.HeardMS; ms != nil {
			when = fmt.Sprintf("when this node last heard a leader, %s ago", (time.Duration(*ms) * time.Millisecond).Round(time.Second))
		}
		return fmt.Sprintf("%d; %d had an owner %s; who serves now it cannot know", st.HAVIPs, st.Owned, when)
	}
	text := fmt.Sprintf("%d, %d with an owner", st.HAVIPs, st.Owned)
	if st.Pending > 0 {
		text += fmt.Sprintf(", %d of them pending", st.Pending)
	}
	if st.Unowned > 0 {
		text += fmt.Sprintf(", %d enabled without one", st.Unowned)
	}
	return text
}

// printStatus is printStatus in colour, where the result goes to a terminal that wants it.
func (g *globals) printStatus(w io.Writer, st api.Status) {
	var plain strings.Builder
	printStatus(&plain, st)
	_, _ = io.WriteString(w, paintStatus(plain.String(), st.Health, colours(g.stdout)))
}

// paintStatus gives the health its colour, and its problems the same.
func paintStatus(text, health string, colours bool) string {
	code, known := map[string]string{api.HealthGreen: green, api.HealthYellow: yellow, api.HealthRed: red}[health]
	if !colours || !known {
		return text
	}
	var out strings.Builder
	for l := range strings.Lines(text) {
		l, _ = strings.CutSuffix(l, "\n")
		if name, word, health := strings.Cut(l, strings.ToUpper(health)); health && strings.HasPrefix(l, "HEALTH ") && word == "" {
			l = name + paint(code, strings.TrimPrefix(l, name))
		} else if strings.HasPrefix(l, "! ") {
			l = paint(code, l)
		}
		out.WriteString(l + "\n")
	}
	return out.String()
}

func printStatus(w io.Writer, st api.Status) {
	printPairs(w, []pair{
		{"HEALTH", strings.ToUpper(st.Health)},
		{"CLUSTER", fmt.Sprintf("%s, %s with %s, index %d", st.ID, plural(st.Nodes, "node"), plural(st.Voters, "voter"), st.Index)},
		{"LEADER", text(st.Leader)},
		{"LEASE", fmt.Sprintf("%s (profile %s)", millis(st.LeaseMS), st.Profile)},
		{"HAVIPS", havipsText(st)},
		{"THIS NODE", fmt.Sprintf("%s, fence %s, session %d, log %d KiB", st.Local.Node, fenceText(st.Local), st.Local.Session, st.Local.LogBytes>>10)},
		{"PLANE", planeText(st.Local.Plane)},
	})
	if st.Local.FenceNote != "" {
		printPairs(w, []pair{{"FENCE", oneLine(st.Local.FenceNote)}})
	}
	for _, p := range st.Problems {
		fmt.Fprintln(w, "! "+oneLine(p))
	}
	for _, n := range st.Notes {
		fmt.Fprintln(w, "- "+oneLine(n))
	}
	if len(st.Members) > 0 {
		fmt.Fprintln(w)
		printTable(w, st.Members, nodeColumns)
	}
}

// planeText says what the threads that renew and answer have of the host.
func planeText(p api.Plane) string {
	priority, memory := "ordinary priority", "memory not locked"
	if p.RealTime {
		priority = "real-time priority"
	}
	if p.MemoryLocked {
		memory = "memory locked"
	}
	text := priority + ", " + memory
	if p.Process != "" { // a version before does not say it
		text = "in the " + oneLine(p.Process) + ", " + text
	}
	if p.Acceptor == "kernel" {
		text += ", answers in the kernel on " + oneLine(p.AcceptorDevices)
	}
	if p.Refused != "" {
		text += ": " + oneLine(p.Refused)
	}
	if p.AcceptorRefused != "" {
		text += "; answers in the process: " + oneLine(p.AcceptorRefused)
	}
	if p.Throttled > 0 {
		text += fmt.Sprintf("; %s flooded and lost the priority for a second", times(p.Throttled))
	}
	return text
}

func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// fenceText is kind, hook and proof in words.
func fenceText(l api.LocalView) string {
	text := oneLine(l.Fence)
	if l.FenceHook != "" && l.FenceHook != l.Fence {
		text += " on " + oneLine(l.FenceHook)
	}
	if l.FenceProved {
		text += " (proved)"
	}
	return text
}
