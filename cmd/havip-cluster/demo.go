package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/jepsen/netns"
)

const (
	demoPort   = 7007
	demoNodes  = 3
	demoSettle = 700 * time.Millisecond // of ordinary service before and after a fault
	demoWait   = 15 * time.Second
)

func newDemoCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "A three-node cluster in private network namespaces, the crash of an owner, the measured gap",
		Long: "Run a three-node cluster on real kernel interfaces in private network namespaces of this machine,\n" +
			"cut the link of a HAVIP's owner, measure how long a client that asks every millisecond gets no answer,\n" +
			"and clean up. Needs root, or a kernel that allows user namespaces.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			code, done, err := netns.Isolate()
			if err != nil {
				return err
			}
			if done {
				if code != 0 {
					return demoFailed(code)
				}
				return nil
			}
			netns.RaisePriority()
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return runDemo(ctx, g.stdout)
		},
	}
}

// demoFailed passes the exit code of the inner process on; it has said why.
type demoFailed int

func (d demoFailed) Error() string { return "the demo failed" }
func (d demoFailed) ExitCode() int { return int(d) }

// demo is a running demonstration.
type demo struct {
	out     io.Writer
	start   time.Time
	lab     *netns.Lab
	cluster *netns.Cluster
	havip   netip.Addr
	prober  *netns.Prober
	watcher *netns.Observer
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "%6.2fs  %s\n", time.Since(d.start).Seconds(), fmt.Sprintf(format, args...))
}

func runDemo(ctx context.Context, out io.Writer) (err error) {
	d := &demo{out: out, start: time.Now()}
	dir, err := os.MkdirTemp("", "havip-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if d.lab, err = netns.New(netns.Options{Nodes: demoNodes}); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.lab.Close())
		if err == nil {
			d.say("everything is gone again: namespaces, processes, files")
		}
	}()
	d.cluster = netns.NewCluster(d.lab, self, dir)
	d.cluster.Environment = netns.InHost // this program is no way into another one
	defer func() { err = errors.Join(err, d.cluster.Close()) }()
	for _, step := range []func(context.Context) error{d.form, d.serve, d.crash, d.move} {
		if err := step(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted: %w", ctx.Err())
		}
	}
	return nil
}

// form builds the cluster.
func (d *demo) form(context.Context) error {
	d.say("three hosts and a client on one switch, each in its own network namespace")
	if err := d.cluster.Bootstrap(); err != nil {
		return err
	}
	if err := d.cluster.JoinAll(); err != nil {
		return err
	}
	if err := d.complete(); err != nil {
		return err
	}
	leader, err := d.cluster.Leader()
	if err != nil {
		return err
	}
	status, err := d.status()
	if err != nil {
		return err
	}
	d.say("cluster formed: node-1 bootstrapped, node-2 and node-3 joined with one-time tokens; node-%d leads", leader)
	d.say("lease %d ms, fence: %s", status.LeaseMS, status.Local.Fence)
	return nil
}

// complete waits until every node votes and has a session: before that the cluster could
// not lose one.
func (d *demo) complete() error {
	for end := time.Now().Add(demoWait); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		voters, err := d.cluster.Voters()
		if err != nil || voters < demoNodes {
			continue
		}
		nodes, err := d.cluster.Nodes()
		ready := 0
		for _, n := range nodes {
			if n.Session != 0 {
				ready++
			}
		}
		if err == nil && ready == demoNodes {
			return nil
		}
	}
	return fmt.Errorf("not all of the %d nodes had joined within %s", demoNodes, demoWait)
}

func (d *demo) status() (api.Status, error) {
	var s api.Status
	raw, err := d.cluster.CLI(1, "status", "-o", "json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(raw, &s)
}

// serve makes a HAVIP and starts those who look at it.
func (d *demo) serve(ctx context.Context) error {
	d.havip = d.lab.Address(100)
	if _, err := d.cluster.CLI(1, "havip", "create", "web", "--ip", d.havip.String(), "--no-range-limit"); err != nil {
		return err
	}
	for _, h := range d.lab.Nodes() {
		if _, err := h.Respond(demoPort); err != nil {
			return err
		}
	}
	if _, err := d.cluster.WaitOwned("web", demoWait); err != nil {
		return err
	}
	var err error
	if d.prober, err = d.lab.Probe(ctx, d.lab.Client(), d.havip, demoPort, time.Millisecond); err != nil {
		return err
	}
	if d.watcher, err = d.lab.Observe(ctx, []netip.Addr{d.havip}, demoPort, 2*time.Millisecond); err != nil {
		return err
	}
	time.Sleep(demoSettle)
	p, err := d.owner()
	if err != nil {
		return err
	}
	d.say("HAVIP web, %s, is on %s; a client asks it every millisecond", d.havip, p)
	fmt.Fprintf(d.out, "\n         %s\n\n", "$ havip-cluster placement")
	table, err := d.cluster.CLI(1, "placement")
	fmt.Fprintf(d.out, "%s\n", indent(table))
	return err
}

// owner is the name of the node that owns the HAVIP.
func (d *demo) owner() (string, error) {
	list, err := d.cluster.Placement()
	if err != nil {
		return "", err
	}
	for _, p := range list {
		if p.Name == "web" && p.Node != nil {
			return *p.Node, nil
		}
	}
	return "", errors.New("the HAVIP has no owner")
}

// crash cuts the owner off and shows what the client saw.
func (d *demo) crash(context.Context) error {
	old, err := d.owner()
	if err != nil {
		return err
	}
	number := 0
	for i := 1; i <= demoNodes; i++ {
		if d.cluster.NodeName(i) == old {
			number = i
		}
	}
	d.say("CRASH: the link of %s is cut", old)
	if err := d.lab.Node(number).SetLink(0, false); err != nil {
		return err
	}
	witness := number%demoNodes + 1
	now, err := d.newOwner(witness, old)
	if err != nil {
		return err
	}
	time.Sleep(demoSettle)
	d.say("%s owns it now", now)
	d.say("measured by the client: %s without an answer", d.gap())
	if dual := d.watcher.Report().Dual; dual.Certain > 0 {
		return fmt.Errorf("two nodes answered for the HAVIP during %s: this must never be; please report it", dual.Certain)
	}
	d.say("measured on the wire: 0 ms in which two nodes answered")
	fmt.Fprintf(d.out, "\n         %s\n\n", "$ havip-cluster failovers web")
	table, err := d.cluster.CLI(witness, "failovers", "web")
	fmt.Fprintf(d.out, "%s\n", indent(table))
	if err != nil {
		return err
	}
	d.say("the link of %s is back", old)
	return d.lab.Node(number).SetLink(0, true)
}

func (d *demo) newOwner(at int, old string) (string, error) {
	for end := time.Now().Add(demoWait); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		list, err := d.cluster.PlacementAt(at, false)
		if err != nil {
			continue // the leader may have been the one that was cut off
		}
		for _, p := range list {
			if p.Name == "web" && p.Node != nil && *p.Node != old {
				return *p.Node, nil
			}
		}
	}
	return "", fmt.Errorf("no other node owned the HAVIP within %s", demoWait)
}

// gap is the longest time without an answer since the last call.
func (d *demo) gap() time.Duration {
	var worst time.Duration
	for _, g := range d.prober.Gaps(2 * time.Millisecond) {
		worst = max(worst, g.Duration)
	}
	return worst.Round(100 * time.Microsecond)
}

// move shows a planned move.
func (d *demo) move(ctx context.Context) error {
	old, err := d.owner()
	if err != nil {
		return err
	}
	d.prober.Stop()
	if d.prober, err = d.lab.Probe(ctx, d.lab.Client(), d.havip, demoPort, time.Millisecond); err != nil {
		return err
	}
	time.Sleep(demoSettle)
	for i := 1; i <= demoNodes; i++ {
		target := d.cluster.NodeName(i)
		if target == old {
			continue
		}
		if _, err = d.cluster.CLI(i, "havip", "move", "web", "--to", target); err == nil {
			d.say("PLANNED MOVE: havip-cluster havip move web --to %s", target)
			break
		}
	}
	if err != nil {
		return err
	}
	time.Sleep(demoSettle)
	d.prober.Stop()
	d.watcher.Stop()
	d.say("measured by the client: %s without an answer", d.gap())
	if dual := d.watcher.Report().Dual; dual.Certain > 0 {
		return fmt.Errorf("two nodes answered for the HAVIP during %s: this must never be; please report it", dual.Certain)
	}
	d.say("measured on the wire: 0 ms in which two nodes answered")
	return nil
}

func indent(table []byte) []byte {
	out := []byte("         ")
	for i, b := range table {
		out = append(out, b)
		if b == '\n' && i < len(table)-1 {
			out = append(out, "         "...)
		}
	}
	return out
}
