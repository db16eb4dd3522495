package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/testbed"
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
			code, done, err := testbed.Isolate()
			if err != nil {
				return err
			}
			if done {
				if code != 0 {
					return demoFailed(code)
				}
				return nil
			}
			testbed.RaisePriority()
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
	out      io.Writer
	start    time.Time
	lab      *testbed.Lab
	cluster  *demoCluster
	havip    netip.Addr
	prober   *testbed.Prober
	watchers []*testbed.Host
	watch    *watch
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
	if d.lab, err = testbed.New(testbed.Options{Nodes: demoNodes}); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.lab.Close())
		if err == nil {
			d.say("everything is gone again: namespaces, processes, files")
		}
	}()
	d.cluster = &demoCluster{lab: d.lab, binary: self, dir: dir}
	defer func() { err = errors.Join(err, d.cluster.close()) }()
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
func (d *demo) form(ctx context.Context) error {
	d.say("three hosts and a client on one switch, each in its own network namespace")
	leader, err := d.cluster.form(ctx)
	if err != nil {
		return err
	}
	var status api.Status
	if err := d.cluster.ask(1, &status, "status"); err != nil {
		return err
	}
	d.say("cluster formed: node-1 bootstrapped, node-2 and node-3 joined with one-time tokens; %s leads", leader)
	d.say("lease %d ms, fence: %s", status.LeaseMS, status.Local.Fence)
	return nil
}

// serve makes a HAVIP and starts those who look at it.
func (d *demo) serve(ctx context.Context) error {
	d.havip = d.lab.Address(100)
	if _, err := d.cluster.run(1, "havip", "create", "web", "--ip", d.havip.String(), "--no-range-limit"); err != nil {
		return err
	}
	for _, h := range d.lab.Nodes() {
		if _, err := h.Respond(demoPort); err != nil {
			return err
		}
	}
	owner, err := d.ownedBy(ctx, 1, func(node string) bool { return node != "" })
	if err != nil {
		return err
	}
	if err := d.measure(ctx); err != nil {
		return err
	}
	d.say("HAVIP web, %s, is on %s; a client asks it every millisecond", d.havip, owner)
	return d.show(1, "placement")
}

// measure starts the client and those who ask the nodes, and lets them see ordinary service.
func (d *demo) measure(ctx context.Context) (err error) {
	if d.prober, err = d.lab.Probe(ctx, d.lab.Client(), d.havip, demoPort, time.Millisecond); err != nil {
		return err
	}
	if d.watch, err = newWatch(ctx, d.lab, &d.watchers, d.havip); err != nil {
		return err
	}
	time.Sleep(demoSettle)
	return nil
}

// measured tells what was measured since.
func (d *demo) measured() error {
	d.prober.Stop()
	d.say("measured by the client: %s without an answer", d.prober.LongestGap().Round(100*time.Microsecond))
	dual, answers := d.watch.stop()
	switch {
	case dual > 0:
		return fmt.Errorf("two nodes answered for the HAVIP during %s: this must never be; please report it", dual)
	case answers == 0:
		return errors.New("no node answered those who watch it: nothing was measured")
	}
	d.say("measured at each node: 0 ms in which two of them answered (%d answers)", answers)
	return nil
}

// ownedBy waits, asking node i, until the owner of the HAVIP is as wanted.
func (d *demo) ownedBy(ctx context.Context, i int, wanted func(node string) bool) (owner string, err error) {
	err = d.cluster.await(ctx, "an owner of the HAVIP", func() error {
		owner, err = d.cluster.owner(i, "web") // an error: the leader may have been the one that was cut off
		if err == nil && !wanted(owner) {
			err = fmt.Errorf("its owner is %q", owner)
		}
		return err
	})
	return owner, err
}

// crash cuts the owner off and shows what the client saw.
func (d *demo) crash(ctx context.Context) error {
	old, err := d.cluster.owner(1, "web")
	if err != nil {
		return err
	}
	number := d.number(old)
	d.say("CRASH: the link of %s is cut", old)
	if err := d.lab.Node(number).SetLink(0, false); err != nil {
		return err
	}
	witness := number%demoNodes + 1
	now, err := d.ownedBy(ctx, witness, func(node string) bool { return node != "" && node != old })
	if err != nil {
		return err
	}
	time.Sleep(demoSettle)
	d.say("%s owns it now", now)
	if err := errors.Join(d.measured(), d.show(witness, "failovers", "web")); err != nil {
		return err
	}
	d.say("the link of %s is back", old)
	return d.lab.Node(number).SetLink(0, true)
}

// number is that of the node of a name.
func (d *demo) number(name string) int {
	return 1 + slices.IndexFunc(d.lab.Nodes(), func(h *testbed.Host) bool { return h.Name == name })
}

// move shows a planned move.
func (d *demo) move(ctx context.Context) error {
	old, err := d.cluster.owner(1, "web")
	if err == nil {
		err = d.measure(ctx)
	}
	if err != nil {
		return err
	}
	for i := 1; i <= demoNodes; i++ {
		target := d.lab.Node(i).Name
		if target == old {
			continue
		}
		if _, err = d.cluster.run(i, "havip", "move", "web", "--to", target); err == nil {
			d.say("PLANNED MOVE: havip-cluster havip move web --to %s", target)
			break
		}
	}
	if err != nil {
		return err
	}
	time.Sleep(demoSettle)
	return d.measured()
}

// show prints a command and its answer.
func (d *demo) show(i int, args ...string) error {
	table, err := d.cluster.run(i, args...)
	fmt.Fprintf(d.out, "\n         $ havip-cluster %s\n\n%s\n", strings.Join(args, " "), indent(table))
	return err
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
