package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"havip-cluster/edge"
	"havip-cluster/failover"
	"havip-cluster/failover/lease"
	"havip-cluster/failover/lease/shell"
	"havip-cluster/failover/owner"
	"havip-cluster/fsm"
	"havip-cluster/membership"
)

// host is one machine: a clock, a disk, a kernel, and perhaps a process.
type host struct {
	w       *World
	index   int
	name    string
	address string
	role    fsm.Role
	ppm     int64

	// Below: guarded by the world's lock.
	rng       dice
	data      *disk
	disk      condition
	kernel    *kernel
	powered   bool
	booted    time.Time
	offset    time.Duration // what CLOCK_BOOTTIME showed at booted
	wallStep  time.Duration
	offFabric int
	lies      int // faults that make gossip lie here
	proc      *process
	node      string // id, "" before it joined and after it was removed
	lives     int    // ids given out
	founder   *fsm.InitCluster
	old       bool // the program on its disk reads level 1 only
	turns     int  // of the edge, and its readings of the kernel
	readings  int
	recalled  int           // words that asked it about claims that it does not serve
	down      int           // faults that keep the process down
	off       int           // of these, those that cut the power
	paused    bool          // see pauseHost
	wakes     time.Duration // until when it may answer for what others own, after it was paused
	hindered  time.Duration // when it was last stopped, or an operation of its edge failed, or its fence was damaged
}

// process is one life of the agent.
type process struct {
	h        *host
	node     string
	old      bool // of host, when it began
	gate     *gate
	cancel   context.CancelFunc
	ended    chan struct{} // closed when nothing of it runs any more
	wire     atomic.Pointer[wire]
	raft     atomic.Pointer[membership.Node]
	changes  chan struct{}
	stopping atomic.Bool // it was asked to stop

	// Below: guarded by the world's lock.
	edge     *simEdge
	wanted   map[netip.Addr]owner.Activation // only the goroutine of the Agent
	seen     *edge.Reading                   // the last one; the same
	member   *failover.Member
	inbox    []parcel
	lateRPCs int
	frozenAt lease.Instant
}

const (
	raftPort     = ":7401"
	leasePort    = 7403
	bootTime     = 10 * time.Second       // what a host's clock shows when its agent starts after a reboot
	restartAfter = 500 * time.Millisecond // the service manager
	watchdogTick = 200 * time.Millisecond // of cmd/havip-cluster
)

func (w *World) addHost(i int, role string) {
	h := &host{
		w: w, index: i, name: string(rune('a' + i)), address: fmt.Sprintf("10.9.0.%d", i+1), role: fsm.Role(role),
		ppm: int64(w.sched.Rates[i]), rng: newDice(w.sched.Seed, uint64(100+i)), data: newDisk(), kernel: newKernel(w.sched.ENIs),
		powered: true, booted: time.Now(), old: w.sched.Old,
	}
	h.offset = time.Hour + h.rng.between(0, 1000*time.Hour)
	w.hosts = append(w.hosts, h)
}

// clockLocked is CLOCK_BOOTTIME of the host; with the world's lock held.
func (h *host) clockLocked() lease.Instant {
	t := int64(time.Since(h.booted))
	return lease.Instant(int64(h.offset) + t + t/1_000_000*h.ppm + t%1_000_000*h.ppm/1_000_000)
}

// clock is what the process reads: nothing moves for it while it is stopped.
func (p *process) clock() lease.Instant {
	p.h.w.mu.Lock()
	defer p.h.w.mu.Unlock()
	if p.gate.frozen.Load() {
		return p.frozenAt
	}
	return p.h.clockLocked()
}

func (p *process) wall() time.Time {
	p.h.w.mu.Lock()
	defer p.h.w.mu.Unlock()
	return time.Now().Add(p.h.wallStep)
}

// asNode is the host as a member, under a new id.
func (h *host) asNode() fsm.Node {
	n := fsm.Node{
		ID: h.node, Name: h.name, Address: h.address, APIPort: 7400, RaftPort: 7401, GossipPort: 7402,
		Role: h.role, KeyHash: h.node, Version: versionOf(h.old),
	}
	if !h.old {
		n.LeasePort, n.Keys = leasePort, []fsm.NodeKey{nodeKey(h.node)}
	}
	return n
}

// versionOf is what a program tells of itself.
func versionOf(old bool) string {
	if old {
		return "sim"
	}
	return fsm.VersionWithLevel("sim")
}

// boot starts a process, unless one runs or a fault keeps it down.
func (h *host) boot() {
	w := h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if h.proc != nil || h.down > 0 || !h.powered || h.node == "" || w.over {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{h: h, node: h.node, old: h.old, cancel: cancel, ended: make(chan struct{}), changes: make(chan struct{}, 1)}
	p.gate = newGate(func(d time.Duration) { w.freeze(p, d) })
	h.proc = p
	w.procs = append(w.procs, p)
	st := &store{p, h.data}
	w.wg.Go(func() { p.run(ctx, st) })
}

// kill ends the process as SIGKILL does. keep says what became of writes under way.
func (h *host) kill(keep bool) {
	h.w.mu.Lock()
	p := h.proc
	if p == nil {
		h.w.mu.Unlock()
		return
	}
	h.data = h.data.crash(keep)
	h.kernel.hangUp()
	h.proc, p.member, p.inbox = nil, nil, nil
	close(p.gate.dead)
	h.w.mu.Unlock()
	p.cancel()
}

// run is the agent's life, as cmd/havip-cluster wires it.
func (p *process) run(ctx context.Context, st *store) {
	err := p.live(ctx, st)
	h, w := p.h, p.h.w
	w.mu.Lock()
	mine := h.proc == p
	if mine { // it ended by itself
		h.data = h.data.crash(true)
		h.kernel.hangUp()
		h.proc, p.member = nil, nil
		close(p.gate.dead)
		w.stats.Restarts++
		w.notef("%s: the process ended: %v", h.name, err)
		if errors.Is(err, shell.ErrRemoved) {
			h.node = "" // its data directory is moved away
			h.data = newDisk()
		}
	}
	close(p.ended)
	w.mu.Unlock()
	p.cancel()
	if mine {
		time.AfterFunc(restartAfter, h.boot)
	}
}

func (p *process) live(ctx context.Context, st *store) error {
	p.edge = newSimEdge(p)
	if err := p.edge.clean(); err != nil {
		return err
	}
	w, prof := p.h.w, profiles[p.h.w.sched.Profile]
	logger := slog.New(logGate{p})
	tr := newWire(p, max(time.Second, 4*prof.heartbeat))
	p.h.bootstrap(st, tr)
	node, err := membership.OpenOn(membership.Config{
		Dir: "sim", Node: p.node, Heartbeat: prof.heartbeat, LeaderLease: prof.leaderLease, Lease: prof.lease, Logger: logger, Wall: p.wall,
	}, membership.Parts{Store: st, Snapshots: st, Transport: tr, Tune: w.tune})
	if err != nil {
		return err
	}
	p.raft.Store(node)
	p.wire.Store(tr)
	cfg := failover.Config{
		Node: p.node, Log: port{node, p}, Submit: p.submit, Post: p, Gossip: byGossip{p}, Clock: p.clock, Wall: func() int64 { return p.wall().UnixNano() },
		Logger: logger, Owner: p.h.role != fsm.RoleWitness, Lease: w.sched.Lease,
		Stand: func(leader string, later time.Duration) bool {
			return p.gate.pass("stand") && node.Stand(leader, later)
		},
		Yield: func(to string) error {
			if !p.gate.pass("yield") {
				return errDead
			}
			return node.YieldTo(to)
		},
	}
	if cfg.Owner {
		cfg.Edge = p.edge
	}
	member := failover.New(cfg)
	w.mu.Lock()
	if !p.gate.isDead() {
		p.member = member
	}
	w.mu.Unlock()
	err = p.parts(ctx, node, member)
	err = errors.Join(err, node.Close())
	if cleanErr := p.edge.clean(); cleanErr != nil && !p.gate.isDead() {
		w.notef("%s: cannot clean at the end: %v", p.h.name, cleanErr)
	}
	return err
}

// bootstrap makes the log of the cluster's first node, once.
func (h *host) bootstrap(st *store, tr *wire) {
	if h.founder == nil {
		return
	}
	if last, _ := st.LastIndex(); last != 0 {
		return
	}
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(h.node)
	conf.Logger = nil
	conf.LogOutput = discard{}
	err := raft.BootstrapCluster(conf, st, st, st, tr, raft.Configuration{
		Servers: []raft.Server{{Suffrage: raft.Voter, ID: conf.LocalID, Address: tr.LocalAddr()}},
	})
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		h.w.notef("%s: bootstrap: %v", h.name, err)
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// parts runs what a node consists of until ctx ends or one of them fails.
func (p *process) parts(ctx context.Context, node *membership.Node, member *failover.Member) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	done := make(chan struct{}, 4)
	part := func(run func(context.Context) error) {
		p.h.w.wg.Go(func() {
			defer func() { done <- struct{}{} }()
			if err := run(ctx); err != nil && ctx.Err() == nil {
				stop(err)
			}
		})
	}
	part(member.Run)
	part(func(ctx context.Context) error {
		r := membership.Reconciler{Node: node, Founder: p.h.founder, Alive: p.alive, Applied: member.Controller.Applied, Version: p.versionOf}
		r.Run(ctx)
		return nil
	})
	part(func(ctx context.Context) error { return p.watchdog(ctx, node) })
	part(func(ctx context.Context) error { p.register(ctx, node); return nil })
	part(func(ctx context.Context) error { p.h.w.follow(ctx, p, node); return nil })
	part(func(ctx context.Context) error { p.takeVoteBack(ctx, node); return nil })
	for range 6 {
		<-done
	}
	return context.Cause(ctx)
}

// register keeps this node's key in the state; a program of before has none.
func (p *process) register(ctx context.Context, node *membership.Node) {
	if p.old {
		<-ctx.Done()
		return
	}
	r := membership.Registrar{
		Node: p.node, State: node.State, Watch: node.Watch, Submit: p.submit, Logger: slog.New(slog.DiscardHandler),
		Key: func() (fsm.NodeKey, int, error) { return nodeKey(p.node), leasePort, nil },
	}
	r.Run(ctx)
}

// takeVoteBack is what the agent does: from its start to its stop.
func (p *process) takeVoteBack(ctx context.Context, node *membership.Node) {
	node.TakeVoteBack(ctx, func(ctx context.Context, body fsm.Body) (fsm.Result, error) {
		if p.stopping.Load() {
			return fsm.Result{}, errDead
		}
		return p.submit(ctx, body)
	})
}

func (p *process) watchdog(ctx context.Context, node *membership.Node) error {
	tick := time.NewTicker(watchdogTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := node.Halted(); err != nil {
			return err
		}
		if node.Stopped() {
			return shell.ErrRemoved
		}
	}
}

// logGate is where raft's main goroutine stands still while the process is stopped: it
// logs before each change of its role.
type logGate struct{ p *process }

func (l logGate) Enabled(context.Context, slog.Level) bool {
	l.p.gate.pass("log")
	return l.p.h.w.Trace != nil
}

func (l logGate) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	l.p.h.w.notef("%s: %s", l.p.h.name, text)
	return nil
}
func (l logGate) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l logGate) WithGroup(string) slog.Handler      { return l }
