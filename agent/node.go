package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"havip-cluster/agent/autosave"
	"havip-cluster/agent/chronicle"
	"havip-cluster/agent/guard"
	"havip-cluster/agent/hooks"
	"havip-cluster/agent/logs"
	"havip-cluster/agent/webhook"
	"havip-cluster/api"
	"havip-cluster/api/console"
	"havip-cluster/failover"
	"havip-cluster/failover/lease/shell"
	"havip-cluster/failover/plane"
	"havip-cluster/failover/ports"
	"havip-cluster/fsm"
	"havip-cluster/health"
	"havip-cluster/internal/realtime"
	"havip-cluster/membership"
	"havip-cluster/membership/identity"
	"havip-cluster/netdev/fence"
	"havip-cluster/provider/claimer"
)

const (
	handOverWait = 40 * time.Second // for all HAVIPs to leave, at SIGTERM; thousands take that long on a slow host
	agentScore   = -900             // oom_score_adj: after the guard, before the host is lost
	watchdogTick = time.Second
)

// Options say how a node runs.
type Options struct {
	Dir     string       // its data directory, which bootstrap or join made
	Version string       // of the program
	Log     *slog.Logger // nil: nothing is logged
	// Level is that of Log, and follows the configuration; nil: it stays. Floor is the least that is asked for.
	Level *slog.LevelVar
	Floor slog.Level
	// Sink is where Log writes to: its format follows the configuration, its newest lines go into
	// bundles; nil: neither.
	Sink *logs.Sink
	// ConfigFile is read at the start and at SIGHUP; "": the defaults.
	ConfigFile string
	Fence      fence.Choice
	NoFence    bool // only this process then ends a lease in time
}

// Run runs the node of a data directory until the context ends, a signal comes or the node is removed.
// At SIGTERM and SIGINT it hands over first. One process runs one node.
func Run(ctx context.Context, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Level == nil {
		o.Level = new(slog.LevelVar)
	}
	// A hangup is no end, before this node runs and while it closes neither; so it is taken before the file
	// is read, and never let go.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	config, err := LoadConfig(o.ConfigFile)
	if err != nil {
		return err
	}
	tuneRuntime(o.Log)
	a := &node{options: o, log: o.Log, hangups: hangups, plane: realtime.New(), figures: newFigures()}
	return identity.Explain(o.Dir, a.start(ctx, config))
}

// Bootstrap writes the first Raft configuration of a cluster into a data directory, with its node
// as the only voter.
func Bootstrap(dir string) error {
	id, err := identity.Load(dir)
	if err != nil {
		return err
	}
	return membership.Bootstrap(identity.RaftDir(dir), id.NodeID, raftAddress(id.Settings))
}

// Prepare makes the empty log of a node that joins the voters.
func Prepare(dir string, voters []api.RaftVoter) error {
	var sponsors []raft.Server
	for _, v := range voters {
		sponsors = append(sponsors, raft.Server{ID: raft.ServerID(v.Node), Address: raft.ServerAddress(v.Address)})
	}
	return membership.Prepare(identity.RaftDir(dir), sponsors)
}

// Survivor is what a recovered log holds.
type Survivor = membership.Survivor

// Recover makes a copied log, in the data directory of a node s, that of the cluster of s with
// this node alone.
func Recover(dir string, s identity.Settings) (Survivor, error) {
	return membership.Recover(identity.RaftDir(dir), s.NodeID, raftAddress(s), s.ClusterID)
}

// node is everything that runs in a node, in the order in which it starts.
type node struct {
	options Options
	log     *slog.Logger // with the node's name, once that is known
	hangups <-chan os.Signal

	id        *identity.Identity
	guard     *guard.Client // nil: no guard
	plane     *realtime.Plane
	fence     fence.Fence // nil: none
	proved    bool        // it outlives its process, as was shown at the start
	edge      *Edge       // nil in a witness
	node      *membership.Node
	gossip    *membership.Gossip
	replica   *raftLog
	datagrams carrier
	apart     *plane.Client // the lease plane in the guard; nil: this process renews and answers
	member    *failover.Member
	backend   *backend
	hooks     *hooks.Hooks
	health    *health.Runner   // the checks of services; nil in a witness
	cloud     *cloud           // the provider, which may be none
	claims    *claimer.Claimer // the calls that move addresses, where the provider has such
	server    *api.Server
	public    net.Listener
	local     net.Listener
	founding  *fsm.InitCluster
	webhooks  *webhook.Sender
	kept      *chronicle.Chronicle
	// webhookAllow is of the configuration file.
	webhookAllow atomic.Pointer[[]netip.Prefix]
	figures      *figures
	saver        *autosave.Saver
	// handedOver: its session was closed by its own word.
	handedOver atomic.Bool
	stopping   atomic.Bool // it hands its vote over, or has
}

// start runs the agent of a data directory until it ends.
func (a *node) start(ctx context.Context, config Config) error {
	log, dir := a.log, a.options.Dir
	parent, err := guard.NewClient()
	if err != nil {
		return err
	}
	id, err := identity.Load(dir)
	if err != nil {
		return err
	}
	unlock, err := identity.Lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if parent == nil { // a guard has it for its agent
		release, err := identity.LockPlane(dir)
		if err != nil {
			return err
		}
		defer release()
	}
	if err := guard.RaisePriority(); err != nil {
		log.Warn("this process keeps its ordinary priority: on a busy host it may renew too late", "err", err)
	}
	if parent != nil {
		if err := guard.SetOOMScore(agentScore); err != nil {
			log.Debug("this process may be killed for memory like any other", "err", err)
		}
	}
	a.log, a.id, a.guard = log.With("node", id.Name), id, parent
	a.hooks = hooks.New(a.log, func(havip, text string) { a.member.Agent.ReportFault(havip, text) })
	defer a.finishHooks()
	defer a.close()
	if err := a.open(dir); err != nil {
		return err
	}
	a.configure(config)
	return a.run(ctx)
}

// open starts what the others need, first things first.
func (a *node) open(dir string) error {
	// The own side is made clean before this node says a word to anyone: an earlier
	// life may have left an address that another node owns by now.
	if err := a.openEdge(dir); err != nil {
		return err
	}
	elsewhere, err := answeredElsewhere(a.id, a.log)
	if errors.Is(err, shell.ErrDuplicateNode) {
		return err
	}
	if err != nil {
		a.log.Warn("cannot ask whether another host has this node's address", "err", err)
	}
	if elsewhere != "" {
		a.log.Warn(elsewhere)
	}
	if a.guard != nil { // before anything is attached: the guard opens the same fence
		a.guard.Send(guard.Message{Fence: a.fenceKind()})
	}
	if a.public, err = net.Listen("tcp", a.listen(a.id.Ports.API).String()); err != nil {
		return fmt.Errorf("listen for the API: %w; is another agent running, or is %s no address of this host any more? If it has another one now: `havip-cluster node set %[3]s --address NEW` at another node, then `havip-cluster node set %[3]s --address NEW --local` here, and start it again", err, a.id.Advertise, a.id.Name)
	}
	if a.local, err = api.ListenLocal(identity.SocketPath(dir)); err != nil {
		return err
	}
	timers := a.id.Timers()
	a.node, err = membership.Open(membership.Config{
		Dir: identity.RaftDir(dir), Node: a.id.NodeID, Listen: a.listen(a.id.Ports.Raft),
		Server: a.id.ServerTLS(true), Client: a.id.ClientTLSTo,
		Heartbeat: timers.RaftHeartbeat, LeaderLease: timers.RaftLeaderLease, Lease: timers.Lease, Logger: a.log,
		Measure: membership.Measure{Wrote: a.figures.wrote, Applied: a.figures.applied, LeaderChanged: a.figures.leaders.Inc},
	})
	if err != nil {
		return err
	}
	a.replica = &raftLog{Node: a.node}
	a.backend = &backend{id: a.id, version: a.options.Version, node: a.node, edge: a.edge, fence: a.fenceName(), hook: a.fenceHook(), proved: a.proved, plane: a.ownPlane, elsewhere: elsewhere, clients: map[string]connection{}}
	if err := errors.Join(a.openGossip(), a.openDatagrams()); err != nil {
		return err
	}
	a.openMember()
	return nil
}

func (a *node) openEdge(dir string) error {
	if a.id.Role == identity.RoleWitness {
		return nil
	}
	why := "switched off by --no-fence"
	if !a.options.NoFence {
		// Before this node says a word it is proved that silence outlives the process.
		cfg := a.options.Fence.On(guard.FenceConfig(dir, a.id.NodeID))
		cfg.Prove = true
		f, reason, err := fence.New(cfg)
		if err != nil {
			return fmt.Errorf("no fence is possible on this kernel: %w; --no-fence does without, at the risk that its help text names", err)
		}
		a.fence, why = f, reason
		a.proved = !strings.Contains(reason, fence.Unproved)
	}
	a.log.Info("fence", "kind", a.fenceName(), "why", why)
	var err error
	if a.edge, err = NewEdge(a.log, a.id.NodeID, a.fence); err != nil {
		return err
	}
	return a.edge.Clean()
}

// openMember makes the part that owns HAVIPs.
func (a *node) openMember() {
	cfg := failover.Config{
		Node: a.id.NodeID, Log: a.replica, Submit: a.backend.submit, Post: a.datagrams, Gossip: a.gossip, Clock: ports.Boot,
		Logger: a.log, Owner: a.edge != nil, Lease: a.id.Lease, Plane: a.plane,
		Stand: a.node.Stand, Yield: a.node.YieldTo,
		Changed: a.changed, Sent: a.sent,
		Measure: a.figures.measure(), Claimed: a.figures.claims.Inc,
	}
	a.setApart(&cfg)
	if a.edge != nil {
		cfg.Edge = a.edge
		a.health = health.NewRunner(health.Config{Neighbour: askNeighbour, Log: a.log})
		a.backend.health = a.health
	}
	a.member = failover.New(cfg)
	a.backend.gossip, a.backend.datagrams, a.backend.member = a.gossip, a.datagrams, a.member
	a.backend.prober = a.backend.newProber()
	a.saver = &autosave.Saver{Dir: a.id.Dir, State: a.node.State, Node: a.id.NodeID, Log: a.log}
	a.backend.saver, a.backend.wall = a.saver, a.newWallClock()
	a.backend.running.Store(a.member)
	registry := prometheus.NewRegistry()
	a.figures.register(registry)
	registry.MustRegister(metrics{a.backend, a.fence, a.figures}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.webhooks, a.cloud = a.newWebhooks(), a.newCloud()
	registry.MustRegister(cloudMetrics{a.cloud})
	a.claims = a.newClaims()
	a.backend.unsent = a.claimWarnings
	registry.MustRegister(claimMetrics{a.claims})
	a.kept = chronicle.New(filepath.Join(a.id.Dir, chronicleDir), a.node.State, a.node.Watch, a.log)
	a.server = api.New(api.Config{Backend: a.backend, Kept: a.kept.Read, TestWebhook: a.webhooks.Test, Identity: a.id, Keys: keyGiver{a.id}, Version: a.options.Version, Registry: registry, Series: &havipMetrics{b: a.backend}, Log: a.log, LogTail: a.logTail, Snapshots: a.snapshots, Cloud: a.cloud, Console: console.Mount(a.log)})
	a.founding = &fsm.InitCluster{
		ID: a.id.ClusterID, Profile: string(a.id.Profile), Lease: a.id.Lease,
		Node: a.introduced(fsm.Node{
			Version: fsm.VersionWithLevel(a.options.Version),
			ID:      a.id.NodeID, Name: a.id.Name, Address: a.id.Advertise.String(), Role: fsm.Role(a.id.Role),
			APIPort: a.id.Ports.API, RaftPort: a.id.Ports.Raft, GossipPort: a.id.Ports.Gossip,
		}),
	}
}

// versionOf is what a node says of its program, for the state.
func (a *node) versionOf(node string) string {
	if node == a.id.NodeID {
		return fsm.VersionWithLevel(a.options.Version)
	}
	return a.gossip.Version(node)
}

// run works until a signal, an error of one part, or the removal of this node.
func (a *node) run(parent context.Context) error {
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	if a.guard != nil {
		signal.Notify(signals, guard.StopNow)
	}
	defer signal.Stop(signals)

	var parts sync.WaitGroup
	part := func(name string, run func(context.Context) error) {
		parts.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				stop(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	part("api", func(ctx context.Context) error { return a.server.Run(ctx, a.public, a.local) })
	part("failover", a.member.Run)
	part("watch", a.watch)
	part("timers", a.followLease)
	part("webhooks", func(ctx context.Context) error { a.webhooks.Run(ctx); return nil })
	part("chronicle", func(ctx context.Context) error { a.kept.Run(ctx); return nil })
	part("guard", a.reportToGuard)
	part("clock", a.backend.wall.run)
	part("claims", func(ctx context.Context) error { a.claims.Run(ctx); return nil })
	part("cloud", func(ctx context.Context) error { a.cloud.run(ctx); return nil })
	part("memory", a.keepMemory)
	part("snapshots", func(ctx context.Context) error { a.saver.Run(ctx); return nil })
	if a.edge != nil {
		part("edge", func(ctx context.Context) error { a.edge.Run(ctx, a.member.Agent); return nil })
	}
	if a.health != nil {
		part("checks", func(ctx context.Context) error {
			c := checks{node: a.id.NodeID, state: a.node.State, watch: a.node.Watch, submit: a.backend.submit, runner: a.health, log: a.log}
			c.run(ctx)
			return nil
		})
	}
	a.runDatagrams(part)
	part("vote", a.takeVoteBack)
	part("membership", func(ctx context.Context) error {
		r := membership.Reconciler{Node: a.node, Founder: a.founding, Alive: a.gossip.Alive, Applied: a.member.Controller.Applied, Version: a.versionOf}
		r.Run(ctx)
		return nil
	})
	part("certificates", func(ctx context.Context) error {
		k := membership.KeyRotator{
			Node: a.node, Identity: a.id, Submit: a.backend.submit, Alive: a.gossip.Alive, Ring: a.gossip.SetKeys, Log: a.log,
			Renewed: a.backend.reconnect,
			Peer:    func(n fsm.Node) membership.KeyPeer { return a.backend.client(n) },
		}
		k.Run(ctx)
		return nil
	})
	a.log.Info("agent runs", "cluster", a.id.ClusterID, "id", a.id.NodeID, "version", a.options.Version,
		"next", "havip-cluster --data-dir "+a.id.Dir+" status")
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)

	a.awaitEnd(ctx, signals)
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	stop(nil)
	parts.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// awaitEnd returns when the node may stop: after a signal, when it has handed over.
func (a *node) awaitEnd(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.hangups:
			a.reload()
		case sig := <-signals:
			if sig == guard.StopNow {
				return
			}
			a.log.Info("stopping: handing over first; a second signal stops at once", "signal", sig.String())
			a.handOver(ctx, signals)
			return
		}
	}
}

// handOver gives the HAVIPs away, then the vote and leadership: in this order, because the hand-over
// needs a leader. Each step has a limit, and a second signal ends the wait.
func (a *node) handOver(ctx context.Context, signals <-chan os.Signal) {
	ctx, cancel := context.WithTimeout(ctx, handOverWait)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if a.member.Session != nil {
			err := a.member.Session.Close(ctx)
			a.handedOver.Store(err == nil)
			if err != nil {
				a.log.Warn("not everything could be handed over; what is left fails over when the lease ends", "err", err)
			}
		}
		a.handOverVote(ctx)
	}()
	for {
		select {
		case <-done:
			return
		case sig := <-signals:
			if a.atOnce(sig) {
				a.log.Warn("second signal: stopping at once")
				cancel()
				return
			}
		}
	}
}

// atOnce reports whether a signal during the hand-over ends it. Under a guard only the
// guard's word does: any other may be the first one, sent to both processes.
func (a *node) atOnce(sig os.Signal) bool {
	return a.guard == nil || sig == guard.StopNow
}

// watch ends the agent when its state machine or Raft has stopped: a node that cannot
// follow the log must not look alive. The first wakes it, the second is looked for.
func (a *node) watch(ctx context.Context) error {
	changed, stop := a.node.Watch()
	defer stop()
	tick := time.NewTicker(watchdogTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
		if err := a.node.Halted(); err != nil {
			return err
		}
		if a.node.Stopped() {
			return shell.ErrRemoved
		}
	}
}

func (a *node) fenceName() string {
	if a.fence == nil {
		return string(fence.None)
	}
	return string(a.fence.Kind())
}

// fenceHook is where the fence meets the frames; "" without one.
func (a *node) fenceHook() string {
	if a.fence == nil {
		return ""
	}
	return a.fence.Hook()
}

// fenceKind is for the guard: "" says that this node puts nothing on its interfaces.
func (a *node) fenceKind() fence.Kind {
	if a.edge == nil {
		return ""
	}
	return fence.Kind(a.fenceName())
}

func (a *node) listen(port int) netip.AddrPort {
	return netip.AddrPortFrom(a.id.Advertise, uint16(port))
}

func raftAddress(s identity.Settings) raft.ServerAddress {
	return membership.RaftAddress(fsm.Node{Address: s.Advertise.String(), RaftPort: s.Ports.Raft})
}
