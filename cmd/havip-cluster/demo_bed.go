package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"havip-cluster/api"
	"havip-cluster/testbed"
)

const (
	demoCLIWait  = 30 * time.Second      // one command; then it is killed
	demoPoll     = 20 * time.Millisecond // between two looks at what is awaited
	demoWatch    = 2 * time.Millisecond  // between two questions to each node
	demoAPIPort  = 7400
	demoWatchers = 2   // kind of the watchers' hardware addresses: no node, no client
	demoWatchAt  = 240 // last byte of the watchers' addresses, to which the node's number is added
)

// demoCluster runs this program as the agent of each host of a lab.
type demoCluster struct {
	lab    *testbed.Lab
	binary string
	dir    string // of the data directories and logs
	agents []*exec.Cmd
}

func (c *demoCluster) command(i int, args ...string) *exec.Cmd {
	return c.lab.Node(i).Command(c.binary, append([]string{"--data-dir", filepath.Join(c.dir, c.lab.Node(i).Name)}, args...)...)
}

// run runs a command at node i, against its agent, and returns what it printed.
func (c *demoCluster) run(i int, args ...string) ([]byte, error) {
	cmd := c.command(i, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := c.lab.Node(i).Start(cmd); err != nil {
		return nil, err
	}
	timer := time.AfterFunc(demoCLIWait, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("havip-cluster %s on %s: %w: %s", args[0], c.lab.Node(i).Name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// ask decodes the JSON that a command at node i prints.
func (c *demoCluster) ask(i int, answer any, args ...string) error {
	raw, err := c.run(i, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, answer)
}

// start starts the agent of node i. Its output is its log.
func (c *demoCluster) start(i int) error {
	log, err := os.Create(filepath.Join(c.dir, c.lab.Node(i).Name+".log"))
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own
	cmd := c.command(i, "agent")
	cmd.Stdout, cmd.Stderr = log, log
	if err := c.lab.Node(i).Start(cmd); err != nil {
		return err
	}
	c.agents = append(c.agents, cmd)
	return nil
}

// form bootstraps the first node and adds the others by tokens; it returns when all of them vote and
// have a session, for before that the cluster could not lose one.
func (c *demoCluster) form(ctx context.Context) (leader string, err error) {
	own := func(i int) []string {
		return []string{"--node", c.lab.Node(i).Name, "--advertise", c.lab.Node(i).IP(0).String()}
	}
	if _, err := c.run(1, append([]string{"bootstrap"}, own(1)...)...); err != nil {
		return "", err
	}
	if err := c.start(1); err != nil {
		return "", err
	}
	for i := 2; i <= len(c.lab.Nodes()); i++ {
		var added struct {
			Token string `json:"token"`
		}
		if err := c.await(ctx, "a leader", func() error { return c.ask(1, &added, "node", "add", c.lab.Node(i).Name) }); err != nil {
			return "", err
		}
		peer := netip.AddrPortFrom(c.lab.Node(1).IP(0), demoAPIPort).String()
		if _, err := c.run(i, append(append([]string{"join", "--token", added.Token}, own(i)...), peer)...); err != nil {
			return "", err
		}
		if err := c.start(i); err != nil {
			return "", err
		}
	}
	err = c.await(ctx, "three voters with a session", func() error {
		var status api.Status
		var nodes []api.Node
		if err := errors.Join(c.ask(1, &status, "status"), c.ask(1, &nodes, "node", "list")); err != nil {
			return err
		}
		ready := 0
		for _, n := range nodes {
			if n.Session != 0 {
				ready++
			}
			if n.Leader {
				leader = n.Name
			}
		}
		if status.Voters < len(c.lab.Nodes()) || ready < len(c.lab.Nodes()) {
			return fmt.Errorf("%d nodes vote, %d have a session", status.Voters, ready)
		}
		return nil
	})
	return leader, err
}

// owner is the node that owns the HAVIP, as node i says; "" for none.
func (c *demoCluster) owner(i int, name string) (string, error) {
	var list []api.Placement
	if err := c.ask(i, &list, "placement"); err != nil {
		return "", err
	}
	for _, p := range list {
		if p.Name == name && p.Node != nil {
			return *p.Node, nil
		}
	}
	return "", nil
}

// await repeats ready until it returns nil, at most demoWait.
func (c *demoCluster) await(ctx context.Context, what string, ready func() error) error {
	for end := time.Now().Add(demoWait); ; time.Sleep(demoPoll) {
		err := ready()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted: %w", ctx.Err())
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %s: %w", what, demoWait, err)
		}
	}
}

// close kills guards and agents, each pair a process group of its own, and waits for them.
func (c *demoCluster) close() error {
	for _, a := range c.agents {
		if err := syscall.Kill(-a.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		_ = a.Wait() // killed
	}
	return nil
}

// watch asks every node directly, all the time, whether it answers for an address. Each watcher is a
// host of its own that sends what is for the address to one node, whatever is announced.
type watch struct{ probers []*testbed.Prober }

// newWatch attaches watchers when it is called first; later it takes those.
func newWatch(ctx context.Context, lab *testbed.Lab, hosts *[]*testbed.Host, havip netip.Addr) (*watch, error) {
	for i := len(*hosts) + 1; i <= len(lab.Nodes()); i++ {
		h, err := lab.Attach(fmt.Sprintf("watcher-%d", i), demoWatchers, i, byte(demoWatchAt+i))
		if err != nil {
			return nil, err
		}
		err = h.Do(func() error {
			link, err := netlink.LinkByName(h.Device(0))
			if err != nil {
				return err
			}
			return netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: havip.AsSlice(), HardwareAddr: lab.Node(i).MAC(0)})
		})
		if err != nil {
			return nil, err
		}
		*hosts = append(*hosts, h)
	}
	w := &watch{}
	for _, h := range *hosts {
		p, err := lab.Probe(ctx, h, havip, demoPort, demoWatch)
		if err != nil {
			w.stop()
			return nil, err
		}
		w.probers = append(w.probers, p)
	}
	return w, nil
}

// stop ends the watch and says for how long two nodes answered.
func (w *watch) stop() (dual time.Duration, answers int) {
	var seen [][]testbed.Probe
	for _, p := range w.probers {
		p.Stop()
		seen = append(seen, p.Probes())
	}
	return dualOwner(seen)
}

// dualOwner is how long one node went on to answer after another one had begun to, in a time in
// which the address moves once at most: from the first answer of the later one, received, to the
// last question, sent, that the earlier one answered.
func dualOwner(seen [][]testbed.Probe) (dual time.Duration, answers int) {
	type span struct{ first, last int64 } // received, sent
	var spans []span
	for _, probes := range seen {
		var s span
		for _, p := range probes {
			if p.Answered == 0 {
				continue
			}
			answers++
			if s.first == 0 {
				s.first = p.Answered
			}
			s.last = p.Sent
		}
		if s.first != 0 {
			spans = append(spans, s)
		}
	}
	for i, a := range spans {
		for _, b := range spans[i+1:] {
			dual = max(dual, time.Duration(min(a.last, b.last)-max(a.first, b.first)))
		}
	}
	return dual, answers
}
