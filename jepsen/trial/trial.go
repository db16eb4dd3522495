// Package trial runs a cluster of the real binary through the faults of one seed, with clients and
// instruments at work all the time, and returns what happened as a history.
package trial

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/jepsen/history"
	"havip-cluster/jepsen/nemesis"
	"havip-cluster/jepsen/netns"
	"havip-cluster/jepsen/workload"
)

// Lease is that of profile lan, which the cluster uses unless Config says another.
const Lease = 500 * time.Millisecond

// Times and intervals.
const (
	formWait     = time.Minute // until a new cluster is whole
	recoverWait  = time.Minute // after a fault
	quietTime    = time.Second // of service before the faults of an episode
	observeEvery = 4 * time.Millisecond
	probeEvery   = time.Millisecond
	probeOther   = 5 * time.Millisecond // of the HAVIPs after the first
	sampleEvery  = 4 * time.Millisecond
	thinEvery    = 2 * time.Second
	clients      = 4
	clientPause  = 120 * time.Millisecond
	objects      = 3 // HAVIPs that come and go in each episode
)

// watched are the HAVIPs that live all the time; the first one's owner is what faults aim at.
var watched = []string{"web", "api"}

// Config says what a run consists of. Exactly one of Duration and Episodes limits it.
type Config struct {
	Binary   string // path of havip-cluster
	Dir      string // for data directories and logs
	Seed     uint64
	Nodes    int           // 3 to 9; 5 lets two of them be broken at the same time
	Lease    time.Duration // of the cluster; 0 = Lease
	Duration time.Duration
	Episodes int
	Kinds    []string // of faults; nil = all
	Env      []string // of the agents, in addition to this process's
	Command  string   // replays the run
	Log      func(format string, args ...any)
}

// episodesMax bounds a run that Duration limits: one is never shorter than 4 s.
const episodesMax = 20_000

// run is a run under way.
type run struct {
	Config
	lab     *netns.Lab
	cluster *netns.Cluster
	client  *workload.Client
	rec     *workload.Recorder
	world   *nemesis.World
	seen    *watcher
	havips  []netip.Addr

	observer *netns.Observer
	probers  []*netns.Prober
	sampler  *netns.Sampler
	capture  *netns.Capture
	stops    []func()

	usage []history.Usage
	marks []history.Mark

	changes []history.Change
}

// Run forms a cluster and leads it through the episodes of the seed. What was recorded is
// returned with an error, too: the error then is one of the laboratory, or a cluster that did not recover.
func Run(ctx context.Context, c Config) (*history.History, error) {
	if err := c.complete(); err != nil {
		return &history.History{}, err
	}
	lab, err := netns.New(netns.Options{Nodes: c.Nodes})
	if err != nil {
		return &history.History{}, err
	}
	r := &run{Config: c, lab: lab, cluster: netns.NewCluster(lab, c.Binary, c.Dir)}
	// A disk that failed is mounted anew, and that reaches nobody in a mount namespace of its own:
	// each copy keeps the file system that has been shut down.
	r.cluster.Environment = netns.InHost
	r.cluster.Env = c.Env
	r.cluster.Lease = c.Lease
	defer r.close()
	r.client = workload.NewClient(r.cluster)
	r.rec = workload.NewRecorder(lab.Now)
	r.seen = newWatcher(r.client, r.cluster)
	r.world = &nemesis.World{Cluster: r.cluster, Leader: r.seen.Leader, Owner: r.seen.Owner, Log: c.Log}
	start := time.Now()
	if err := r.form(); err != nil {
		return &history.History{}, fmt.Errorf("trial: form a cluster: %w", err)
	}
	if err := r.instruments(ctx); err != nil {
		return &history.History{}, fmt.Errorf("trial: instruments: %w", err)
	}
	err = r.episodes(ctx)
	return r.history(start), err
}

// complete fills in what is not given, and refuses what cannot be.
func (c *Config) complete() error {
	if c.Lease == 0 {
		c.Lease = Lease
	}
	if c.Kinds == nil {
		c.Kinds = nemesis.Names()
	}
	for _, kind := range c.Kinds {
		if !slices.Contains(nemesis.Names(), kind) {
			return fmt.Errorf("trial: no kind of fault is called %q; there are: %s", kind, strings.Join(nemesis.Names(), ", "))
		}
	}
	switch {
	case c.Nodes < 3 || c.Nodes > 9:
		return fmt.Errorf("trial: %d nodes, want 3 to 9", c.Nodes)
	case (c.Duration > 0) == (c.Episodes > 0):
		return fmt.Errorf("trial: a duration (%v) or a number of episodes (%d), one of them", c.Duration, c.Episodes)
	}
	return nil
}

func (r *run) close() {
	for i := len(r.stops) - 1; i >= 0; i-- {
		r.stops[i]()
	}
	err := r.cluster.Close()
	for _, d := range r.world.Disks {
		err = errors.Join(err, d.Close())
	}
	if err = errors.Join(err, r.lab.Close()); err != nil {
		r.Log("close: %v", err)
	}
}

// form makes a cluster of all nodes, each with a disk of its own, and the watched HAVIPs.
func (r *run) form() error {
	if err := r.cluster.Bootstrap(); err != nil {
		return err
	}
	if err := r.cluster.JoinAll(); err != nil {
		return err
	}
	for i := 1; i <= r.Nodes; i++ {
		disk, err := r.newDisk(i)
		if err != nil {
			return err
		}
		r.world.Disks = append(r.world.Disks, disk)
		if _, err := r.lab.Node(i).Respond(netns.DefaultPort); err != nil {
			return err
		}
	}
	if err := r.awaitWhole(formWait); err != nil {
		return err
	}
	// The clients give an address to the next HAVIP as soon as they have deleted the last one.
	if _, err := r.cluster.CLI(1, "cluster", "set", "quarantine=0s"); err != nil {
		return err
	}
	for i, name := range watched {
		r.havips = append(r.havips, r.lab.Address(byte(100+i)))
		op := r.client.Create(context.Background(), r.rec, "operator", name, r.havips[i].String(), 1, nil)
		if op.Outcome != history.OK {
			return fmt.Errorf("create %s: %s %s", name, op.Outcome, op.Code)
		}
	}
	return nil
}

// newDisk stops a node for as long as it takes to put its log on a disk.
func (r *run) newDisk(i int) (*netns.Disk, error) {
	if err := r.cluster.Stop(i); err != nil {
		return nil, err
	}
	disk, err := r.cluster.NewDisk(i)
	if err != nil {
		return nil, err
	}
	return disk, r.cluster.Start(i)
}

// instruments starts everything that watches, until the end of the run.
func (r *run) instruments(ctx context.Context) (err error) {
	if r.capture, err = r.lab.CaptureHAVIPs(r.havips); err != nil {
		return err
	}
	r.stops = append(r.stops, r.capture.Stop)
	if r.sampler, err = r.cluster.SampleFences(r.havips, sampleEvery); err != nil {
		return err
	}
	r.stops = append(r.stops, r.sampler.Stop)
	if r.observer, err = r.lab.Observe(ctx, r.havips, netns.DefaultPort, observeEvery); err != nil {
		return err
	}
	r.stops = append(r.stops, r.observer.Stop)
	for i, havip := range r.havips {
		every := probeEvery
		if i > 0 {
			every = probeOther
		}
		p, err := r.lab.Probe(ctx, r.lab.Client(), havip, netns.DefaultPort, every)
		if err != nil {
			return err
		}
		r.probers = append(r.probers, p)
		r.stops = append(r.stops, p.Stop)
	}
	thinning, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(thinEvery); ; {
			select {
			case <-thinning.Done():
				tick.Stop()
				return
			case <-tick.C:
				r.observer.Thin()
			}
		}
	}()
	r.seen.start()
	r.stops = append(r.stops, func() { stop(); <-done }, r.seen.stop)
	return nil
}

// history gathers what all have recorded.
func (r *run) history(start time.Time) *history.History {
	for i := len(r.stops) - 1; i >= 0; i-- { // so that nothing is under way any more
		r.stops[i]()
	}
	r.stops = nil
	r.observer.Thin()
	h := &history.History{Ops: r.rec.Ops(), Faults: r.world.Faults(), Usage: r.usage, Marks: append(r.seen.Marks(), r.marks...), Changes: r.changes}
	h.Series, h.Answers = r.observer.History()
	for _, p := range r.probers {
		series, probes := p.History()
		h.Series, h.Probes = append(h.Series, series), append(h.Probes, probes...)
	}
	series, kernel := r.sampler.History()
	h.Series, h.Kernel = append(h.Series, series...), kernel
	series, frames := r.capture.History()
	h.Series, h.Frames = append(h.Series, series...), frames
	about := history.Run{
		Seed: r.Seed, Lease: int64(r.Lease), Start: start.UTC().Format(time.RFC3339), End: r.lab.Now(),
		Command: r.Command, Machine: machine(), Binary: r.version(),
	}
	for i := range r.Nodes {
		about.Nodes = append(about.Nodes, r.cluster.NodeName(i+1))
	}
	for _, havip := range r.havips {
		about.HAVIPs = append(about.HAVIPs, havip.String())
	}
	h.Runs = []history.Run{about}
	return h
}

// version is what the binary says of itself.
func (r *run) version() string {
	out, err := r.cluster.CLI(1, "--version")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// machine names the kernel and the cores.
func machine() string {
	var name unix.Utsname
	kernel := "an unknown kernel"
	if unix.Uname(&name) == nil {
		release, _, _ := strings.Cut(unix.ByteSliceToString(name.Release[:]), "-")
		kernel = "Linux " + release
	}
	return fmt.Sprintf("%s, %d cores, %s", kernel, runtime.NumCPU(), runtime.GOARCH)
}
